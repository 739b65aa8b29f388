"""Figures of usage in memory, for servers that keep nothing beyond their own life. The oldest hours go first."""

from collections.abc import Mapping
from typing import Final

from toolwright_server.records.usage.model import DAY_HOURS, MOST_ROWS, Dimension, Figures, Group, UsageQuery, Use
from toolwright_server.records.usage.store import too_many

ROWS_KEPT: Final = 20_000

# Tenant, user, agent, tool and category, as in a Use.
_Key = tuple[str | int, ...]
_FIELDS: Final = {
    Dimension.TENANT: 0,
    Dimension.USER: 1,
    Dimension.AGENT: 2,
    Dimension.TOOL: 3,
    Dimension.CATEGORY: 4,
}


class MemoryUsage:
    """A UsageStore of one server."""

    def __init__(self, rows_kept: int = ROWS_KEPT) -> None:
        self._rows_kept = rows_kept
        self._hours: dict[int, dict[_Key, Figures]] = {}
        self._rows = 0

    def count(self, use: Use) -> None:
        """An execution has ended."""
        rows = self._hours.setdefault(use.hour, {})
        key = use[1:6]
        figures = rows.get(key)
        if figures is None:
            figures = rows[key] = Figures()
            self._rows += 1
            self._forget()
        figures.add(use)

    async def summed(self, query: UsageQuery) -> Mapping[Group, Figures]:
        """See UsageStore."""
        found: dict[Group, Figures] = {}
        wanted = [
            (number, value)
            for number, value in enumerate((query.tenant, query.user, query.agent, query.tool, query.category))
            if value
        ]
        for hour in [each for each in self._hours if query.since <= each < query.until]:
            for key, figures in self._hours[hour].items():
                if all(key[number] == value for number, value in wanted):
                    found.setdefault(_group(query, hour, key), Figures()).merge(figures)
            if len(found) > MOST_ROWS:
                raise too_many()
        return found

    def _forget(self) -> None:
        while self._rows > self._rows_kept and len(self._hours) > 1:
            self._rows -= len(self._hours.pop(min(self._hours)))


def _group(query: UsageQuery, hour: int, key: _Key) -> Group:
    times = {Dimension.HOUR: hour, Dimension.DAY: hour // DAY_HOURS}
    return tuple(times[each] if each in times else key[_FIELDS[each]] for each in query.dimensions)
