"""Figures of usage in memory, for servers that keep nothing beyond their own life. The oldest go first."""

import asyncio
from collections.abc import Mapping
from typing import Final

from toolwright_server.records.usage.model import (
    DAY_HOURS,
    MOST_ROWS,
    PART_ROWS,
    Dimension,
    Figures,
    Group,
    UsageQuery,
    Use,
)
from toolwright_server.records.usage.store import too_many

ROWS_KEPT: Final = 20_000

# Hour, tenant, user, agent, tool and category, as in a Use.
_Key = tuple[int, str, str, str, str, str]


class MemoryUsage:
    """A UsageStore of one server."""

    def __init__(self, rows_kept: int = ROWS_KEPT) -> None:
        self._rows_kept = rows_kept
        # In the order in which they were begun: a call of an earlier hour that ends late is not what goes next.
        self._rows: dict[_Key, Figures] = {}

    def count(self, use: Use) -> None:
        """An execution has ended."""
        key = use[:6]
        figures = self._rows.get(key)
        if figures is None:
            figures = self._rows[key] = Figures()
            if len(self._rows) > self._rows_kept:
                del self._rows[next(iter(self._rows))]
        figures.add(use)

    async def summed(self, query: UsageQuery) -> Mapping[Group, Figures]:
        """See UsageStore."""
        found: dict[Group, Figures] = {}
        wanted = [
            (number, value)
            for number, value in enumerate((query.tenant, query.user, query.agent, query.tool, query.category), 1)
            if value
        ]
        for number, (key, figures) in enumerate(list(self._rows.items()), 1):
            if query.since <= key[0] < query.until and all(key[at] == value for at, value in wanted):
                found.setdefault(_group(query, key), Figures()).merge(figures)
                if len(found) > MOST_ROWS:
                    raise too_many()
            if number % PART_ROWS == 0:
                await asyncio.sleep(0)
        return found


def _group(query: UsageQuery, key: _Key) -> Group:
    hour, tenant, user, agent, tool, category = key
    values: dict[Dimension, str | int] = {
        Dimension.TOOL: tool,
        Dimension.CATEGORY: category,
        Dimension.TENANT: tenant,
        Dimension.USER: user,
        Dimension.AGENT: agent,
        Dimension.DAY: hour // DAY_HOURS,
        Dimension.HOUR: hour,
    }
    return tuple(values[each] for each in query.dimensions)
