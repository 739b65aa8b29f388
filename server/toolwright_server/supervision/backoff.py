"""How long to wait before a process that ended is started again. Knows no clock: it is told how long it served."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """The first pause, doubled with every further end, up to the longest. Who served for `steady_seconds` was well."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    steady_seconds: float = 30.0


class Backoff:
    """Of one process and those that take its place."""

    def __init__(self, options: BackoffOptions) -> None:
        self._options = options
        # Ends since one of them served steadily.
        self._ends = 0

    def after(self, served_seconds: float) -> float:
        """The pause, in seconds, after a process that served for so long; 0 for one that never served.

        The first one is replaced at once: a single crash should not take a share of the port away.
        """
        if served_seconds >= self._options.steady_seconds:
            self._ends = 0
        self._ends += 1
        if self._ends == 1:
            return 0.0
        # Bounded before it is a float: a loop that goes on for days has a large exponent.
        doublings = min(self._ends - 2, 64)
        return min(self._options.longest_seconds, self._options.first_seconds * 2.0**doublings)
