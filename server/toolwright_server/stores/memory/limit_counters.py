"""One counter of each kind, on instants of a monotonic clock. Knows neither keys nor what else a call takes."""

from calendar import timegm
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, overload

from toolwright_server.limits.model import Check, Kind, Reading

_DAY_SECONDS = 86_400
# A clock that is set back by less than this does not bring yesterday back, nor what was left of it.
_SET_BACK_SECONDS = 3_600


class Counter(Protocol):
    """What a store does with a counter. `wait` first, for all; then `take`, for all or none."""

    def wait(self, limit: int, now: float) -> float | None:
        """None when one more fits; otherwise the seconds until it does, 0 when nobody knows."""
        ...

    def take(self, now: float, token: str) -> int:
        """Returns how much is used then."""
        ...

    def give_back(self, taken: float, token: str) -> None:
        """Undo what was taken at `taken`."""
        ...

    def release(self, token: str) -> None: ...

    def reading(self, check: Check, now: float) -> Reading: ...

    def idle(self, now: float) -> bool:
        """Whether it says no more than a new one would."""
        ...


class Window:
    """When the last calls began: one more fits unless the `limit`-th before it began less than a window ago.

    Keeps no more instants than the limit, and a lower limit counts those that a higher one let in.
    """

    __slots__ = ("_seconds", "_starts")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._starts: deque[float] = deque()

    def wait(self, limit: int, now: float) -> float | None:
        starts, seconds = self._starts, self._seconds
        while starts and starts[0] + seconds <= now:
            starts.popleft()
        if len(starts) < limit:
            return None
        return starts[len(starts) - limit] + seconds - now if limit > 0 else seconds

    def take(self, now: float, token: str) -> int:
        self._starts.append(now)
        return len(self._starts)

    def give_back(self, taken: float, token: str) -> None:
        starts = self._starts
        # From the end: what is given back was mostly taken a moment ago.
        for index in range(len(starts) - 1, -1, -1):
            if starts[index] <= taken:
                if starts[index] == taken:
                    del starts[index]
                return

    def release(self, token: str) -> None:
        """Nothing: the call was begun."""

    def reading(self, check: Check, now: float) -> Reading:
        wait = self.wait(check.limit, now)
        return Reading(check, len(self._starts), 0.0 if wait is None else wait)

    def idle(self, now: float) -> bool:
        return not self._starts or self._starts[-1] + self._seconds <= now


class Running:
    """Which calls run at the moment."""

    __slots__ = ("_tokens",)

    def __init__(self) -> None:
        self._tokens: set[str] = set()

    def wait(self, limit: int, now: float) -> float | None:
        return None if len(self._tokens) < limit else 0.0

    def take(self, now: float, token: str) -> int:
        self._tokens.add(token)
        return len(self._tokens)

    def give_back(self, taken: float, token: str) -> None:
        self._tokens.discard(token)

    def release(self, token: str) -> None:
        self._tokens.discard(token)

    def reading(self, check: Check, now: float) -> Reading:
        return Reading(check, len(self._tokens), 0.0)

    def idle(self, now: float) -> bool:
        return not self._tokens


class Calendar:
    """Which day and which month it is (UTC)."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._day_begins = self._day_ends = self._month_ends = 0
        self._month = (0, 0)

    def period(self, kind: Kind) -> tuple[object, float]:
        """What names the day or the month, and the seconds until it ends."""
        now = self._wall()
        if not self._day_begins - _SET_BACK_SECONDS <= now < self._day_ends:
            self._turn(now)
        if kind is Kind.DAY:
            return self._day_begins, self._day_ends - now
        return self._month, self._month_ends - now

    def _turn(self, now: float) -> None:
        self._day_begins = int(now // _DAY_SECONDS) * _DAY_SECONDS
        self._day_ends = self._day_begins + _DAY_SECONDS
        today = datetime.fromtimestamp(self._day_begins, UTC)
        self._month = (today.year, today.month)
        after = (today.year + today.month // 12, today.month % 12 + 1)
        self._month_ends = timegm((*after, 1, 0, 0, 0))


class Quota:
    """How many calls began on this day, or in this month."""

    __slots__ = ("_calendar", "_count", "_kind", "_period", "_since")

    def __init__(self, calendar: Calendar, kind: Kind) -> None:
        self._calendar = calendar
        self._kind = kind
        self._count = 0
        self._period: object = None
        # When the first call of the period began, on the clock: what was taken before is none of it.
        self._since = 0.0

    def wait(self, limit: int, now: float) -> float | None:
        period, left = self._calendar.period(self._kind)
        if period != self._period:
            self._period, self._count, self._since = period, 0, now
        return None if self._count < limit else left

    def take(self, now: float, token: str) -> int:
        self._count += 1
        return self._count

    def give_back(self, taken: float, token: str) -> None:
        period, _ = self._calendar.period(self._kind)
        if taken >= self._since and period == self._period:
            self._count -= 1

    def release(self, token: str) -> None:
        """Nothing: the call was begun."""

    def reading(self, check: Check, now: float) -> Reading:
        period, left = self._calendar.period(self._kind)
        return Reading(check, self._count if period == self._period else 0, left)

    def idle(self, now: float) -> bool:
        return not self._count or self._calendar.period(self._kind)[0] != self._period


class Readings(Sequence[Reading]):
    """Readings as of one taking, made when somebody looks: mostly nobody does, and they cost more than the taking."""

    __slots__ = ("_checks", "_counters", "_now", "_used")

    def __init__(self, checks: Sequence[Check], counters: Sequence[Counter], used: Sequence[int], now: float) -> None:
        self._checks = checks
        self._counters = counters
        self._used = used
        self._now = now

    @overload
    def __getitem__(self, index: int) -> Reading: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Reading]: ...
    def __getitem__(self, index: int | slice) -> Reading | Sequence[Reading]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        check = self._checks[index]
        return Reading(check, self._used[index], self._counters[index].reading(check, self._now).reset_seconds)

    def __len__(self) -> int:
        return len(self._used)
