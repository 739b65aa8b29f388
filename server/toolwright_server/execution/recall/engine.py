"""Finds what answers a call without calling its tool: a kept answer, or the same call in flight. Calls no tool.

Asked for tools with a cache policy alone. A call without a double costs two looks into dicts.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeGuard

from toolwright_server.catalog.model import Tool
from toolwright_server.execution.deadline import Deadline
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.model import CacheMode, Invocation, Source, State
from toolwright_server.execution.recall.key import Key, key_of
from toolwright_server.execution.recall.shared import Seat, Shared, Told
from toolwright_server.execution.recall.store import ImmediateResultStore, Kept, ResultStore
from toolwright_server.execution.retrying import allowed_attempts
from toolwright_server.telemetry.caching import CacheMetrics

HIT: Final = "hit"
MISS: Final = "miss"
JOINED: Final = "joined"


@dataclass(frozen=True, slots=True)
class Results:
    """Where answers are kept: in this process and, if there is one, in a store that all servers share.

    What a tool's schemas mark as secret, and what its history does not keep, stays in this process. `limit_bytes`: the
    largest answer that is kept.
    """

    own: ImmediateResultStore
    shared: ResultStore | None = None
    limit_bytes: int = 256 * 1024

    def shared_for(self, tool: Tool) -> ResultStore | None:
        """The store in which answers of this tool are kept; None: in this process."""
        if self.shared is None or tool.has_secrets or not (tool.keep_arguments and tool.keep_result):
            return None
        return self.shared


class Recall:
    """See the module. `flights` are the executions that run here, by id; `clock` is the wall's."""

    def __init__(
        self,
        results: Results,
        flights: Mapping[str, Flight],
        counts: CacheMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._results = results
        self._flights = flights
        self._counts = counts
        self._clock = clock
        self._calls: dict[Key, Shared] = {}

    @property
    def calls(self) -> int:
        """How many calls are being made that others may join."""
        return len(self._calls)

    async def find(self, invocation: Invocation, tool: Tool, deadline: Deadline) -> Told | Seat | None:
        """What came of it already, or a part in the shared call; None: the call is to be made by itself."""
        key, elsewhere = key_of(invocation, tool), self._results.shared_for(tool)
        if invocation.cache_mode is CacheMode.REFRESH:
            return self._first(key, tool, invocation, deadline)
        kept = self._results.own.get_now(key) if elsewhere is None else None
        if self._is_fresh(kept, tool):
            return self._hit(kept, tool)
        shared = self._calls.get(key)
        if shared is not None and not shared.is_ending:
            if not self._may_join(shared, invocation):
                self._counts.recalled(tool.name, MISS)
                return None
            self._counts.recalled(tool.name, JOINED)
            return shared.sit(invocation, deadline)
        seat = self._first(key, tool, invocation, deadline)
        if elsewhere is None or not _ttl(tool):
            return seat
        return await self._looked_up(seat, elsewhere, tool)

    async def _looked_up(self, seat: Seat, store: ResultStore, tool: Tool) -> Told | Seat:
        """One look into the shared store, for all who ask the same meanwhile."""
        try:
            kept = await store.get(seat.shared.key)
        except BaseException:
            seat.leave()
            raise
        if not self._is_fresh(kept, tool):
            return seat
        told = self._hit(kept, tool)
        seat.shared.tell(told)
        return told

    def _first(self, key: Key, tool: Tool, invocation: Invocation, deadline: Deadline) -> Seat:
        """The call is to be made, and others may join it. One that is being made already goes on for those who wait."""
        earlier = self._calls.get(key)
        if earlier is not None:
            earlier.is_superseded = True
        shared = self._calls[key] = Shared(key, tool, self._over)
        self._counts.recalled(tool.name, MISS)
        return shared.sit(invocation, deadline)

    def _over(self, shared: Shared, flight: Flight | None) -> None:
        if self._calls.get(shared.key) is shared:
            del self._calls[shared.key]
        if flight is None or shared.is_superseded or not _ttl(shared.tool):
            return
        execution, answer = flight.execution, flight.whole
        if execution.state is not State.SUCCEEDED or execution.source is not Source.TOOL:
            return
        if answer is not None and len(answer) <= self._results.limit_bytes:
            kept = Kept(answer, execution.end_time or self._clock(), execution.execution_id, execution.caller.user)
            store = self._results.shared_for(shared.tool) or self._results.own
            store.put(shared.key, kept, _ttl(shared.tool))

    def _is_fresh(self, kept: Kept | None, tool: Tool) -> TypeGuard[Kept]:
        """By what the tool says now: what was kept under a longer time is as old as it is."""
        return kept is not None and self._clock() - kept.time < _ttl(tool)

    def _hit(self, kept: Kept, tool: Tool) -> Told:
        self._counts.recalled(tool.name, HIT)
        return Told(
            execution_id=kept.execution_id,
            user=kept.user,
            result=kept.result,
            source=Source.CACHE,
            cached_time=kept.time,
        )

    def _may_join(self, shared: Shared, invocation: Invocation) -> bool:
        """Not so for a step that would wait for one that waits for it, or for a place that its ancestors may hold; nor
        for a call that might be answered in the tool's place where it asked for the tool alone, or that allows more
        attempts: another caller's haste is not its own.
        """
        if invocation.allow_fallback != shared.allow_fallback:
            return False
        if allowed_attempts(shared.tool, invocation) > shared.attempts:
            return False
        if invocation.depth > 0 and not shared.nested:
            return False
        parent, leader = invocation.parent_execution_id, shared.leader
        return not parent or leader is None or not self._waits(leader, parent)

    def _waits(self, leader: Flight, execution_id: str) -> bool:
        """Whether the leader waits for an execution: for a step of its own, or a call that one of them has joined."""
        asked, seen = [execution_id], set[str]()
        while asked:
            flight = self._flights.get(asked.pop())
            if flight is leader:
                return True
            if flight is None or flight.execution.execution_id in seen:
                continue
            seen.add(flight.execution.execution_id)
            asked.append(flight.execution.parent_execution_id)
            if flight.followers is not None:
                asked += (waiting.parent_execution_id for waiting in flight.followers.waiting)
        return False


def _ttl(tool: Tool) -> float:
    return tool.cache.ttl_seconds if tool.cache is not None else 0.0
