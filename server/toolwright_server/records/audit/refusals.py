"""Refusals as audit entries: the first of a kind each on its own, a flood as one entry with its count."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from toolwright_server.errors import Reason
from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Entry, Fact, Kind

# Nobody's refusal: the caller is not known, left, or was told that the server cannot do it now, or did not begin it.
UNAUDITED = frozenset(
    reason.name
    for reason in (
        Reason.UNAUTHENTICATED,
        Reason.CANCELLED,
        Reason.CLIENT_DEADLINE,
        Reason.SERVER_DRAINING,
        Reason.STORE_UNAVAILABLE,
        Reason.RECORD_FAILED,
        Reason.INTERNAL,
        Reason.BATCH_STOPPED,
    )
)
# What a client may make an entry hold of its own text.
_TEXT_LIMIT = 128


@dataclass(frozen=True, slots=True)
class RefusalOptions:
    """`each` refusals of one principal for one reason are entries of their own, per window; more are counted.

    Beyond `kinds` of principals and reasons in a window, principals are counted together.
    """

    each: int = 10
    window_seconds: float = 60.0
    kinds: int = 10_000


@dataclass(slots=True)
class _Window:
    since: float
    count: int = 0
    last: float = 0.0


class Refusals:
    """`emit` keeps an entry some time soon and never waits. `tick` it every second or so, `flush` it at the end."""

    def __init__(
        self,
        emit: Callable[[Entry], None],
        options: RefusalOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._emit = emit
        self._options = options or RefusalOptions()
        self._clock = clock
        # By tenant, principal and reason; oldest window first.
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def refused(self, caller: Caller, reason: str, method: str, tool: str = "", execution_id: str = "") -> None:
        """A call of `method` (`toolwright.v1.ToolExecution/Execute`) was refused, and nothing was begun."""
        if reason in UNAUDITED:
            return
        now = self._clock()
        window = self._window(caller, reason, now)
        window.count += 1
        window.last = now
        if window.count > self._options.each:
            return
        facts: dict[str, Fact] = {"reason": reason, "method": method}
        if tool:
            facts["tool"] = tool[:_TEXT_LIMIT]
        self._emit(
            Entry(Kind.REFUSAL, caller.tenant, caller.principal, caller.user, now, execution_id[:_TEXT_LIMIT], facts)
        )

    def tick(self) -> None:
        """Write down the floods whose window is over."""
        until = self._clock() - self._options.window_seconds
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if window.since > until:
                return
            self._end(key, window)

    def flush(self) -> None:
        """Write down all that is only counted so far."""
        for key, window in tuple(self._windows.items()):
            self._end(key, window)

    def _window(self, caller: Caller, reason: str, now: float) -> _Window:
        key = caller.tenant, caller.principal, reason
        window = self._windows.get(key)
        if window is not None and now - window.since >= self._options.window_seconds:
            self._end(key, window)
            window = None
        if window is None:
            if len(self._windows) >= self._options.kinds:
                key = caller.tenant, "", reason
            window = self._windows.setdefault(key, _Window(now))
        return window

    def _end(self, key: tuple[str, str, str], window: _Window) -> None:
        del self._windows[key]
        more = window.count - self._options.each
        if more <= 0:
            return
        tenant, principal, reason = key
        facts: dict[str, Fact] = {
            "reason": reason,
            "count": more,
            "since": round(window.since * 1_000_000),
            "until": round(window.last * 1_000_000),
        }
        self._emit(Entry(Kind.REFUSALS, tenant, principal, "", window.last, facts=facts))
