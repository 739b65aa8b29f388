"""What the figures of usage cost beside the history, and how long questions about them take."""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import sqlalchemy as sa

from toolwright_server.execution.model import Execution
from toolwright_server.execution.usage import used
from toolwright_server.identity import Caller, Role
from toolwright_server.records.usage.model import Dimension, Order, Use
from toolwright_server.records.usage.usage import Asked, Usage
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.tables import usage_by_tool, usage_by_user
from toolwright_server.stores.sql.usage import SqlUsage
from toolwright_server.stores.sql.writer import Writer

ADMIN = Caller("tenant-3", "key-1", "user-7", Role.ADMIN)
OPERATOR = Caller("tenant-3", "key-1", "user-7", Role.OPERATOR)
AGENT = Caller("tenant-3", "key-1", "user-7")

Timed = Callable[[Callable[[], Awaitable[object]]], Awaitable[float]]


async def report_costs(writer: Writer, made: Sequence[Execution], group: int) -> None:
    """CPU for each call of a group's sums, once counted and then taken back: of these calls, and of one user's."""
    for name, calls in (("users, agents and tools at random", made), ("one user's", [made[0]] * len(made))):
        began = time.process_time()
        uses = [used(each) for each in calls]
        await _write(writer, 1, uses, group)
        spent = time.process_time() - began
        await _write(writer, -1, uses, group)
        print(f"keeping them, {name}: {spent / len(calls) * 1e6:.1f} µs of our CPU for each call")


async def _write(writer: Writer, sign: int, uses: Sequence[Use], group: int) -> None:
    for start in range(0, len(uses), group):
        await writer.submit(Change(uses=[(sign, use) for use in uses[start : start + group]]))


async def report_usage(database: Database, writer: Writer, timed: Timed) -> None:
    """How long questions take, and how many rows they are answered from."""
    async with database.reading() as connection:
        sizes = [
            await connection.scalar(sa.select(sa.func.count()).select_from(table))
            for table in (usage_by_tool, usage_by_user)
        ]
    print(f"\nusage in {sizes[0]:,} sums by tool and {sizes[1]:,} by user, ms")
    usage = Usage(SqlUsage(database, writer), lambda tenant: [(f"{tenant}.unused", "")])
    tool, day, hour, user = Dimension.TOOL, Dimension.DAY, Dimension.HOUR, Dimension.USER

    async def report(caller: Caller) -> None:
        """What `toolwright report --week` asks."""
        await usage.query(Asked(dimensions=(tool,), order=Order.MOST_CALLS, unused=True), caller)
        await usage.query(Asked(dimensions=(day,)), caller)

    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "the week's report, all": partial(report, ADMIN),
        "the week's report, a tenant": partial(report, OPERATOR),
        "the week's report, a user": partial(report, AGENT),
        "by tool and hour, all": partial(usage.query, Asked(dimensions=(tool, hour)), ADMIN),
        "by user, a tenant": partial(usage.query, Asked(dimensions=(user,)), OPERATOR),
        "by user, all": partial(usage.query, Asked(dimensions=(user,)), ADMIN),
        "by agent, all": partial(usage.query, Asked(dimensions=(Dimension.AGENT,)), ADMIN),
    }
    for name, read in reads.items():
        print(f"{name:<28}{await timed(read):9.2f}")
