"""A clock that tests move."""

# 2026-11-28 12:00 UTC.
NOON = 1_795_867_200.0


class Clock:
    """Monotonic when called; `wall` is the same moment in seconds since the epoch."""

    def __init__(self, now: float = 1_000.0, wall: float = NOON) -> None:
        self.now = now
        self._offset = wall - now

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now + self._offset

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def set_wall(self, wall: float) -> None:
        """Set the time of day, as an administrator does: the monotonic clock knows nothing of it."""
        self._offset = wall - self.now
