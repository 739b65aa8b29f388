"""What usage needs of a store: a Protocol of one verb. What is summed, stores take from outcomes themselves."""

from collections.abc import Mapping
from typing import Protocol

from toolwright_server.errors import ToolwrightError, invalid
from toolwright_server.records.usage.model import MOST_ROWS, Figures, Group, UsageQuery


class UsageStore(Protocol):
    """Sums of executions that have ended, as of the last commit."""

    async def summed(self, query: UsageQuery) -> Mapping[Group, Figures]:
        """The sum of each group that has any call. Raises STORE_UNAVAILABLE, and INVALID_ARGUMENTS for more groups
        than MOST_ROWS.
        """
        ...


def too_many() -> ToolwrightError:
    """There are more groups than are answered."""
    return invalid("group_by", f"comes to more than {MOST_ROWS:,} rows: narrow the period, or filter")
