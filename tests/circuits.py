"""A circuit told in the plainest way, and stories of calls that any real one must tell alike. Times in seconds."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from toolwright_server.catalog.model import CircuitPolicy
from toolwright_server.execution.circuits.model import Circuit, CircuitState, Entry, Report, Sign

FAILED, ANSWERED, NOTHING = Report(Sign.FAILED), Report(Sign.ANSWERED), Report(Sign.NOTHING)
SLOW, SLOW_FAILED = Report(Sign.ANSWERED, slow=True), Report(Sign.FAILED, slow=True)
# All times of stories are multiples of a slice: a real clock, which goes on meanwhile, makes no difference then.
SLICE = 100.0
LEASE = 300.0


def circuit(**given: Any) -> Circuit:
    policy: dict[str, Any] = {
        "failure_ratio": 0.5,
        "window_seconds": 10 * SLICE,
        "minimum_calls": 2,
        "open_seconds": 2 * SLICE,
        "max_open_seconds": 7 * SLICE,
    }
    return Circuit("upstream", CircuitPolicy(**{**policy, **given}))


@dataclass
class Plain:
    """Keeps every call that ever ended, and looks at all of them each time."""

    policy: CircuitPolicy
    now: float = 0.0
    # Of each call since the last change: its slice, and how it ended.
    ended: list[tuple[float, Report]] = field(default_factory=list[tuple[float, Report]])
    opened: list[float] = field(default_factory=list[float])
    closed_at: float = float("-inf")
    is_open: bool = False
    epoch: int = 0
    probe: str = ""
    probe_ends: float = 0.0

    def enter(self, token: str) -> tuple[CircuitState, bool, bool, float]:
        """State, whether let through, whether as a probe, and the wait."""
        if not self.is_open:
            return CircuitState.CLOSED, True, False, 0.0
        wait = self.until - self.now
        if wait > 0:
            return CircuitState.OPEN, False, False, wait
        if self.probe and self.probe_ends > self.now:
            return CircuitState.HALF_OPEN, False, False, self.probe_ends - self.now
        self.probe, self.probe_ends = token, self.now + LEASE
        return CircuitState.HALF_OPEN, True, True, 0.0

    def record(self, token: str, epoch: int, report: Report) -> None:
        if self.is_open:
            if token == self.probe:
                self.probe = ""
                if report.is_bad:
                    self._open()
                elif report.sign is Sign.ANSWERED:
                    self.is_open, self.closed_at, self.epoch, self.ended = False, self.now, self.epoch + 1, []
            return
        if epoch != self.epoch or report.sign is Sign.NOTHING:
            return
        self.ended.append((self.now // SLICE, report))
        counted = [each for at, each in self.ended if at > self.now // SLICE - 10]
        failures = sum(each.sign is Sign.FAILED for each in counted)
        slow = sum(each.slow for each in counted)
        bad = failures / len(counted) >= self.policy.failure_ratio
        bad = bad or (self.policy.slow_call_seconds is not None and slow / len(counted) >= self.policy.slow_ratio)
        if bad and len(counted) >= self.policy.minimum_calls:
            if self.now - self.closed_at >= self.policy.window_seconds:
                self.opened = []
            self._open()

    def renew(self, token: str) -> None:
        if token == self.probe:
            self.probe_ends = self.now + LEASE

    @property
    def until(self) -> float:
        """When the last opening ends."""
        grown = self.policy.open_seconds * 2 ** (len(self.opened) - 1)
        return self.opened[-1] + min(grown, self.policy.max_open_seconds)

    def _open(self) -> None:
        self.opened.append(self.now)
        self.is_open, self.epoch, self.ended, self.probe = True, self.epoch + 1, [], ""


# What happens next: a whole call; somebody comes; the oldest or newest call that runs ends or is renewed; time passes.
_ENDS = (FAILED, FAILED, SLOW_FAILED, ANSWERED, SLOW, NOTHING)
STEPS = st.sampled_from(
    [
        *(("call", report) for report in _ENDS for _ in range(3)),
        *(("enter",) for _ in range(6)),
        *(("end", which, report) for which in (0, -1) for report in _ENDS),
        *(("renew", which) for which in (0, -1)),
        *(("pass", slices) for slices in (1, 1, 2, 2, 3, 4, 7, 9, 10, 11)),
    ]
)
STORIES = st.lists(STEPS, min_size=30, max_size=80)
POLICIES = st.builds(
    circuit,
    failure_ratio=st.sampled_from([0.3, 0.5, 1.0]),
    slow_call_seconds=st.sampled_from([None, 1.0]),
    slow_ratio=st.sampled_from([0.5, 1.0]),
    minimum_calls=st.integers(1, 4),
)


@dataclass
class Told:
    """A circuit as a story sees it."""

    enter: Callable[[Circuit, str], Awaitable[Entry]]
    record: Callable[[Entry, Report], None]
    renew: Callable[[Entry], None]
    passes: Callable[[float], Awaitable[None]]


async def told_alike(real: Told, story: list[tuple[Any, ...]], about: Circuit, tolerance: float) -> None:
    """Live the story with the real circuit and with the plain one; they must let the same calls through."""
    plain = Plain(about.policy)
    running: list[tuple[Entry, int]] = []
    for number, (what, *more) in enumerate(story):
        if what in ("enter", "call"):
            token = f"call-{number}"
            state, admitted, is_probe, wait = plain.enter(token)
            entry = await real.enter(about, token)
            assert (entry.state, entry.admitted, entry.is_probe) == (state, admitted, is_probe), (number, entry)
            assert abs(entry.retry_seconds - wait) <= tolerance, (number, entry, wait)
            if admitted and what == "call":
                plain.record(token, plain.epoch, more[0])
                real.record(entry, more[0])
            elif admitted:
                running.append((entry, plain.epoch))
        elif what == "pass":
            plain.now += more[0] * SLICE
            await real.passes(more[0] * SLICE)
        elif running and what == "end":
            entry, epoch = running.pop(more[0])
            plain.record(entry.token, epoch, more[1])
            real.record(entry, more[1])
        elif running:
            which: int = more[0]
            entry = running[which][0]
            plain.renew(entry.token)
            real.renew(entry)
