"""How calls ended of late: counted in slices of a window, of which the oldest go as time passes."""

from collections import deque
from typing import Final

from toolwright_server.execution.circuits.model import Report, Sign, Tally

# A call counts until its slice leaves: between nine tenths of the window and all of it. So in circuits.lua.
SLICES: Final = 10


class Window:
    """See the module. Instants are seconds on any clock that does not go back."""

    __slots__ = ("_slice_seconds", "_slices")

    def __init__(self, seconds: float) -> None:
        self._slice_seconds = seconds / SLICES
        self._slices: deque[tuple[int, Tally]] = deque(maxlen=SLICES)

    def add(self, now: float, report: Report) -> None:
        """Count one call."""
        number = int(now // self._slice_seconds)
        tally = Tally()
        if self._slices and self._slices[-1][0] == number:
            tally = self._slices.pop()[1]
        failed = report.sign is Sign.FAILED
        self._slices.append((number, Tally(tally.calls + 1, tally.failures + failed, tally.slow + report.slow)))

    def tally(self, now: float) -> Tally:
        """All that still counts."""
        oldest = int(now // self._slice_seconds) - SLICES
        counted = [tally for number, tally in self._slices if number > oldest]
        return Tally(*(sum(column) for column in zip(*counted, strict=True))) if counted else Tally()

    def clear(self) -> None:
        """Begin anew."""
        self._slices.clear()
