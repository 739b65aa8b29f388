"""Follows the spans of a run to the sink: throughput counts only beside the share of spans that arrived."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.contenders import SAMPLES
from benchmarks.rounds import Run
from benchmarks.servers import Sink

# One of the server, one of the tool.
SPANS_PER_CALL = 2
# An exporter sends a batch every few seconds when it has little to send.
QUIET_SECONDS = 7.0
POLL_SECONDS = 0.1


@dataclass
class Traced:
    """Wraps the runs of a server that traces every call."""

    sink: Sink
    expected: int = 0
    arrived: int = 0
    lags: list[float] = field(default_factory=list[float])

    def following(self, run: Callable[[], Run]) -> Callable[[], Run]:
        """The same run; it returns when its spans have arrived, or nothing came for a while."""

        def followed() -> Run:
            before = self.sink.spans()
            seen = run()
            wanted = SPANS_PER_CALL * (seen.units + 2 * SAMPLES)
            self._await_spans(before, wanted)
            return seen

        return followed

    def settle(self) -> None:
        """Waits until nothing more comes of what was called before the first round."""
        self._await_quiet(0, None)

    def _await_spans(self, before: int, wanted: int) -> None:
        """Waits for the spans; what has not come when the sink has been quiet for a while is lost."""
        ended = time.monotonic()
        arrived, newest = self._await_quiet(before, wanted)
        self.expected += wanted
        self.arrived += arrived
        self.lags.append(max(0.0, newest - ended))

    def _await_quiet(self, before: int, wanted: int | None) -> tuple[int, float]:
        """How many spans more than `before` came, and when the last one was seen."""
        newest = time.monotonic()
        arrived = self.sink.spans() - before
        while (wanted is None or arrived < wanted) and time.monotonic() - newest < QUIET_SECONDS:
            time.sleep(POLL_SECONDS)
            now = self.sink.spans() - before
            newest = time.monotonic() if now > arrived else newest
            arrived = now
        return arrived, newest

    @property
    def complete(self) -> bool:
        """Whether every span arrived, once."""
        return self.arrived == self.expected

    def note(self) -> str:
        """What became of the spans, in one line."""
        share = self.arrived / self.expected
        return (
            f"spans       {self.arrived} of {self.expected} reached the sink ({share:.2%}), the last one "
            f"at most {max(self.lags):.1f} s after its run"
        )
