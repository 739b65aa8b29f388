"""Whether a call may begin: takes from every counter that a rule names for it, waits for a place, says why not.

Knows neither where counters are kept nor what is called. Used on the event loop only.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from toolwright_server.errors import ToolwrightError
from toolwright_server.limits.line import Line, Shed
from toolwright_server.limits.model import Check, Kind, Reading, Taking
from toolwright_server.limits.refusal import LimitWarning, refusal, uncounted, warnings_of
from toolwright_server.limits.rulebook import Checks, Rulebook
from toolwright_server.limits.rules import CostLimits
from toolwright_server.limits.shadow import ShadowLog
from toolwright_server.limits.store import ImmediateStore, LimitStore
from toolwright_server.telemetry import Metrics

_logger = logging.getLogger(__name__)

_NOTHING: Final = Taking(())
_LINE_FULL: Final = ", and as many wait as may"
_TOO_LATE: Final = ", and none ended in time"


class Asked(NamedTuple):
    """A call that wants to be let in; as `Rulebook.checks_for` takes it."""

    tenant: str
    user: str
    tool: str
    category: str
    overrides: Mapping[Kind, int] | None = None
    nested: bool = False


class Admission:
    """A call that was let in. Ends with `release` or `give_back`, whichever comes first; the other then does nothing.

    `warnings` are the limits that this call brought near their end.
    """

    __slots__ = ("_ended", "_limiter", "_taking", "checks", "token", "warnings")

    def __init__(
        self, limiter: "Limiter", checks: Checks, token: str, taking: Taking, warnings: tuple[LimitWarning, ...]
    ) -> None:
        self.checks = checks
        self.token = token
        self.warnings = warnings
        self._taking = taking
        self._limiter = limiter
        self._ended = False

    @property
    def readings(self) -> Sequence[Reading]:
        """What is used, and when more fits: one for each check, as this call left them. Made when first looked at."""
        return self._taking.readings

    @property
    def tightest(self) -> Reading | None:
        """Of the limits that hold, running calls aside, the one with fewest calls left; None when there is none."""
        taking, best, least = self._taking, -1, 0
        used = taking.used if taking.used is not None else [reading.used for reading in taking.readings]
        for index, (check, count) in enumerate(zip(self.checks, used, strict=True)):
            left = check.limit - count
            if (best < 0 or left < least) and check.kind is not Kind.RUNNING and not check.shadow:
                best, least = index, left
        return None if best < 0 else taking.readings[best]

    @property
    def over(self) -> Sequence[Reading]:
        """What rules in shadow would have refused."""
        return self._taking.over

    def release(self) -> None:
        """The call has ended. Never waits and never raises."""
        self._end(gave_back=False)

    def give_back(self) -> None:
        """Nothing ran: the call costs nothing. Never waits and never raises."""
        self._end(gave_back=True)

    def _end(self, *, gave_back: bool) -> None:
        if self._ended:
            return
        self._ended = True
        if self.checks:
            self._limiter.ended(self, gave_back=gave_back)


class Limiter:
    """Admits calls by the rules of a Rulebook, counted in a store.

    `clock` is monotonic. Places in a shared store are renewed every `renew_seconds` while their calls run.
    """

    def __init__(
        self,
        store: LimitStore,
        rulebook: Rulebook,
        line: Line,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        renew_seconds: float = 10.0,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._immediate = store if isinstance(store, ImmediateStore) else None
        self._rulebook = rulebook
        self._line = line
        self._metrics = metrics
        self._clock = clock
        self._renew_seconds = renew_seconds
        self._pause = pause
        self._shadows = ShadowLog(clock)
        # Calls that have ended.
        self._ends = 0
        # Calls that hold places in a shared store.
        self._holding: dict[str, Admission] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing: asyncio.Task[None] | None = None
        rulebook.when_replaced(line.wake_all)
        metrics.observe("toolwright.limits.waiting", lambda: line.waiting)

    def cost_limits(self, tenant: str) -> CostLimits:
        """What calls of a tenant may cost; see Rulebook."""
        return self._rulebook.cost_limits(tenant)

    def checks_for(self, asked: Asked) -> Checks:
        """What a call takes from; see Rulebook."""
        tenant, user, tool, category, overrides, nested = asked
        return self._rulebook.checks_for(tenant, user, tool, category, overrides, nested=nested)

    def admit_now(self, checks: Checks, token: str, *, may_wait: bool = True) -> Admission | None:
        """Let a call in at once; None when that takes `admit`: it must wait, or the counters are elsewhere.

        `token` names the call, here and on all servers that share the counters. Raises ToolwrightError (RATE_LIMITED),
        and CONCURRENCY_LIMITED for calls that may not wait.
        """
        if not checks:
            return Admission(self, checks, token, _NOTHING, ())
        store = self._immediate
        if store is None or (may_wait and self._line.waiting and self._line.holds(_places(checks))):
            return None
        taking = store.take_now(checks, token)
        refused = taking.refused
        if refused is None:
            return self._let_in(checks, token, taking)
        if may_wait and refused.check.kind is Kind.RUNNING:
            return None
        raise self._refused(refused)

    async def admit(self, asked: Asked, token: str, wait_seconds: float) -> Admission:
        """Let a call in, if need be after waiting for a place, at most so long; nested calls never wait.

        Cancelled, it leaves nothing behind. Raises ToolwrightError: RATE_LIMITED, or CONCURRENCY_LIMITED when as many
        wait as may, or no place came free in time.
        """
        checks = self.checks_for(asked)
        may_wait = wait_seconds > 0 and not asked.nested
        before = self._line.holds(_places(checks)) if may_wait else None
        if before is not None:
            full = next(check for check in checks if check.key == before)
            return await self._in_line(asked, token, wait_seconds, Reading(full, full.limit, 0.0), self._ends)
        ends = self._ends
        taking = await self._take(checks, token)
        refused = taking.refused
        if refused is None:
            return self._let_in(checks, token, taking)
        if may_wait and refused.check.kind is Kind.RUNNING:
            return await self._in_line(asked, token, wait_seconds, refused, ends)
        raise self._refused(refused)

    async def quota(self, tenant: str, user: str, tools: Iterable[tuple[str, str]] = ()) -> Sequence[Reading]:
        """Every limit that holds for a caller as it stands: those by category, and those of `tools`, (name, category).

        Takes nothing.
        """
        return await self._store.read(self._rulebook.standing(tenant, user, tools))

    def start(self) -> None:
        """Begin to renew places, where they would run out by themselves."""
        if self._immediate is None:
            self._renewing = asyncio.get_running_loop().create_task(self._keep_renewing(), name="limits")

    async def close(self) -> None:
        """Tell the store of the last calls that have ended. Bounded by the store's own time limit."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait((self._renewing,))
        while self._tasks:
            await asyncio.wait(tuple(self._tasks))

    def ended(self, admission: Admission, *, gave_back: bool) -> None:
        """What an Admission says at its end."""
        checks, token = admission.checks, admission.token
        if self._immediate is None:
            self._holding.pop(token, None)
            verb = self._store.give_back if gave_back else self._store.release
            self._in_background(self._told(verb(checks, token), checks))
            return
        if gave_back:
            self._immediate.give_back_now(checks, token)
        else:
            self._immediate.release_now(checks, token)
        self._wake(checks)

    async def renew(self) -> None:
        """Say of every call that holds places that it still runs."""
        by_checks: dict[Checks, list[str]] = {}
        for token, admission in self._holding.items():
            by_checks.setdefault(admission.checks, []).append(token)
        for checks, tokens in by_checks.items():
            await self._store.renew([check for check in checks if check.kind is Kind.RUNNING], tokens)

    async def _in_line(self, asked: Asked, token: str, wait_seconds: float, reading: Reading, seen: int) -> Admission:
        """Wait for the place that `reading` says is missing, or for whatever turns out to be missing then.

        `seen` are the ends of calls that the reading can know of.
        """
        until = self._clock() + wait_seconds
        try:
            place = self._line.join(asked.tenant, reading.check.key)
        except Shed:
            raise self._refused(reading, _LINE_FULL) from None
        try:
            if self._ends != seen:
                # One ended while the store was being asked: nobody was in line to be woken.
                self._line.wake(reading.check.key)
            while await place.turn(until - self._clock()):
                # Anew, as the rules may have changed.
                checks = self.checks_for(asked)
                taking = await self._take(checks, token)
                if taking.refused is None:
                    place.leave(served=True)
                    return self._let_in(checks, token, taking)
                reading = taking.refused
                if reading.check.kind is not Kind.RUNNING:
                    raise self._refused(reading)
                place.wait_for(reading.check.key)
        except Shed:
            raise self._refused(reading, _LINE_FULL) from None
        finally:
            place.leave()
        raise self._refused(reading, _TOO_LATE)

    async def _take(self, checks: Checks, token: str) -> Taking:
        if not checks:
            return _NOTHING
        if self._immediate is not None:
            return self._immediate.take_now(checks, token)
        try:
            taking = await self._store.take(checks, token)
        except asyncio.CancelledError:
            # Nobody knows whether it was taken; nobody will run.
            self._in_background(self._store.give_back(checks, token))
            raise
        if taking.refused is not None and taking.unavailable:
            # Whatever the rule counts: waiting in line for a place would be in vain.
            raise ToolwrightError.of(uncounted(taking.refused))
        return taking

    async def _told(self, telling: Awaitable[None], checks: Checks) -> None:
        try:
            await telling
        finally:
            # Not before: who is woken asks at once.
            self._wake(checks)

    def _wake(self, checks: Checks) -> None:
        self._ends += 1
        if self._line.waiting:
            for key in _places(checks):
                self._line.wake(key)

    def _let_in(self, checks: Checks, token: str, taking: Taking) -> Admission:
        admission = Admission(self, checks, token, taking, warnings_of(checks, taking))
        if self._immediate is None and any(True for _ in _places(checks)):
            self._holding[token] = admission
        for reading in taking.over:
            self._metrics.limit_reached(reading.check.rule, shadow=True)
            self._shadows.tell(reading)
        return admission

    def _refused(self, reading: Reading, because: str = "") -> ToolwrightError:
        self._metrics.limit_reached(reading.check.rule, shadow=False)
        return ToolwrightError.of(refusal(reading, because=because))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="limits")
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _logger.error("the end of a call could not be counted", exc_info=task.exception())

    async def _keep_renewing(self) -> None:
        while True:
            await self._pause(self._renew_seconds)
            try:
                await self.renew()
            except Exception:
                # A defect must not let the places of all calls run out.
                _logger.exception("places of running calls could not be renewed")


def _places(checks: Sequence[Check]) -> Iterator[str]:
    """The counters of running calls that may keep a call waiting."""
    for check in checks:
        if check.kind is Kind.RUNNING and not check.shadow:
            yield check.key
