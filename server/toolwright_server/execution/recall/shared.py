"""One call of a tool for all who ask the same while it is being made. Decides who makes it; makes none itself.

Whoever comes first leads: its execution calls the tool. The others sit and wait for what comes of it. While anybody
sits, the leader's caller may leave without ending it. If the leader ends for reasons of its own, or is refused before
it begins, one of those who sit leads in its place, each at most once. What the tool wrote as artifacts is the leader's
own: then those who sit make the call each for itself.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.model import Fallback, Invocation, Source, State
from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.retrying import allowed_attempts

# Ends that say something of the tool, and not only of the call that had them.
_SHARED_ENDS: Final = frozenset({State.SUCCEEDED, State.FAILED, State.REJECTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it, for everybody: `result`, or else `failure`. `rejected`: nothing was started.

    `execution_id` had it from the tool, for `user`; `cached_time`: when, if it was a kept answer.
    """

    execution_id: str
    user: str
    result: bytes | None = None
    failure: Failure | None = None
    rejected: bool = False
    source: Source = Source.JOINED
    cached_time: float | None = None
    # With the source FALLBACK: what was answered in the tool's place, and why.
    fallback: Fallback | None = None


class Seat:
    """One caller's part in a shared call; ends with `leave`, or when it leads. `leads`: it is to make the call."""

    __slots__ = ("_future", "deadline", "has_led", "invocation", "is_held", "leads", "shared", "told")

    def __init__(self, shared: "Shared", invocation: Invocation, deadline: Deadline, *, leads: bool) -> None:
        self.shared = shared
        self.invocation = invocation
        self.deadline = deadline
        self.leads = leads
        # An execution has taken it over, and ends it.
        self.is_held = False
        # It has made the call in the place of another one, and what came of that was not for all.
        self.has_led = False
        self.told: Told | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def nested(self) -> bool:
        """Whether the call is a step in another one."""
        return self.invocation.depth > 0

    @property
    def attempts(self) -> int:
        """How many the call allows."""
        return allowed_attempts(self.shared.tool, self.invocation)

    async def begun(self) -> bool:
        """Wait until the call is on its way or over. True: it is not, and this one is to make it."""
        while not self.leads and self.shared.leader is None and not self.is_over:
            await self._wait()
        return self.leads

    async def outcome(self) -> Told | None:
        """Wait for what comes of it. None: this one is to make the call, for all or (`is_apart`) for itself."""
        while not self.leads and not self.is_over:
            await self._wait()
        return None if self.leads else self.told or self.shared.told

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.told is not None or self.shared.told is not None or self.shared.is_apart

    def lead(self, flight: Flight) -> None:
        """The execution that makes the call is on its way."""
        self.shared.led_by(flight, self)

    def leave(self) -> None:
        """The caller waits no more. Whoever was to lead and did not lets another one; twice is once."""
        self.shared.left(self)

    def wake(self) -> None:
        """Let it look again."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def _wait(self) -> None:
        self._future = asyncio.get_running_loop().create_future()
        await self._future


class Shared:
    """See the module. `over` is called at its end, with the execution that made the call, if one did."""

    __slots__ = (
        "_leading",
        "_over",
        "_seats",
        "allow_fallback",
        "attempts",
        "is_apart",
        "is_superseded",
        "key",
        "leader",
        "nested",
        "told",
        "tool",
    )

    def __init__(self, key: Key, tool: Tool, over: "Callable[[Shared, Flight | None], None]") -> None:
        self.key = key
        self.tool = tool
        self._over = over
        self._seats: dict[Seat, None] = {}
        # Whether whoever leads is a step in another call: it never waits for a place.
        self.nested = False
        # Whether it may end with an answer in the tool's place; see Invocation.
        self.allow_fallback: bool | None = None
        # How many attempts whoever leads allows.
        self.attempts = 0
        self.leader: Flight | None = None
        # In whose place the leader makes the call, if not its own.
        self._leading: Seat | None = None
        self.told: Told | None = None
        # Each makes the call for itself.
        self.is_apart = False
        # A call that came later wants a fresh answer, which is the one to keep.
        self.is_superseded = False

    @property
    def waiting(self) -> Iterator[Invocation]:
        """The calls of those who sit."""
        return (seat.invocation for seat in self._seats)

    @property
    def is_ending(self) -> bool:
        """Whether the leader was told to stop and nobody is there who would go on."""
        return self.leader is not None and self.leader.stop_reason is not None and not self._seats

    def sit(self, invocation: Invocation, deadline: Deadline) -> Seat:
        """One caller more. The first one leads."""
        leads = not self._seats and self.leader is None
        seat = Seat(self, invocation, deadline, leads=leads)
        self._seats[seat] = None
        if leads:
            self.nested, self.allow_fallback, self.attempts = seat.nested, invocation.allow_fallback, seat.attempts
        if self.leader is not None:
            self.leader.attend()
        return seat

    def led_by(self, flight: Flight, seat: Seat) -> None:
        """The call is on its way. Whoever began it for its own execution stays, to be told as the others are."""
        self.leader, seat.leads = flight, False
        self._leading = None if flight.is_of(seat.invocation) else seat
        flight.followers = self
        if flight.is_of(seat.invocation):
            del self._seats[seat]
        for _ in self._seats:
            flight.attend()
        if not flight.is_of(seat.invocation) and flight.leave():
            flight.stop(Stop.CLIENT_LEFT)
        self._wake()

    def left(self, seat: Seat) -> None:
        """A caller is gone; the last one takes the call along."""
        if seat not in self._seats:
            return
        del self._seats[seat]
        if self.leader is not None:
            if self.leader.leave():
                self.leader.stop(Stop.CLIENT_LEFT)
        elif seat.leads and self.told is None:
            self._vacant()

    def tell(self, told: Told, flight: Flight | None = None) -> None:
        """It is over, for everybody; `flight` made the call."""
        self.told = told
        self._over(self, flight)
        self._wake()

    def landed(self, flight: Flight) -> None:
        """The execution that makes the call has ended and is in the record."""
        self.leader = None
        if not all(each.is_value for each in flight.execution.artifacts):
            self._part()
        elif _is_for_all(flight):
            self.tell(told_of(flight), flight)
        else:
            self._tell_leading(flight)
            self._vacant()

    def _part(self) -> None:
        """What the tool wrote is the execution's own: nobody else can have it."""
        self.is_apart = True
        self._over(self, None)
        self._wake()

    def _tell_leading(self, flight: Flight) -> None:
        """Who made the call for all makes it once: an end of its step that says nothing to the others is its own."""
        seat = self._leading
        if seat is None or seat not in self._seats:
            return
        seat.has_led = True
        # Its own time is up in the same moment as its step's.
        if flight.execution.state is not State.TIMED_OUT:
            del self._seats[seat]
            seat.told = told_of(flight)
            seat.wake()

    def _vacant(self) -> None:
        """Who allows most attempts leads, and of these who has most time; steps come first, because they must never
        wait for one that waits for a place.
        """
        able = (seat for seat in self._seats if not seat.has_led)
        best = max(able, key=lambda seat: (seat.nested, seat.attempts, seat.deadline.remaining()), default=None)
        if best is None:
            self._over(self, None)
            return
        self.nested, self.attempts, best.leads = best.nested, best.attempts, True
        best.wake()

    def _wake(self) -> None:
        for seat in self._seats:
            seat.wake()


def _is_for_all(flight: Flight) -> bool:
    """Not so: a deadline, an order to stop, that a step found no place at once, where others would wait."""
    execution = flight.execution
    crowded = execution.failure is not None and execution.failure.reason is Reason.CONCURRENCY_LIMITED
    return execution.state in _SHARED_ENDS and not (crowded and flight.invocation.depth > 0)


def told_of(flight: Flight) -> Told:
    """What came of a call that has ended, for others."""
    execution = flight.execution
    return Told(
        execution_id=execution.execution_id,
        user=execution.caller.user,
        result=flight.whole,
        failure=execution.failure,
        rejected=execution.state is State.REJECTED,
        source=Source.JOINED if execution.fallback is None else Source.FALLBACK,
        fallback=execution.fallback,
    )
