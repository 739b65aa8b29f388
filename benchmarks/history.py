"""`python -m benchmarks.history`: fills a database with executions and says what each costs and how long pages take.

Prints the insert rate, CPU and bytes per execution, the time of each kind of read at several depths, what figures of
usage cost and how long questions about them take, and the memory.
"""

import argparse
import asyncio
import contextlib
import random
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import sqlalchemy as sa
import uvloop

from toolwright_server.catalog.model import Effect
from toolwright_server.conditions import All, Comparison, Condition, Relation
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.ids import Ids
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import Caller, Role
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database, DatabaseOptions, locate
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.postgres import PostgresSink
from toolwright_server.stores.sql.sqlite import SqliteSink
from toolwright_server.stores.sql.writer import DAY_SECONDS, Writer, WriterOptions

from .stores import postgres_alone
from .usage import report_costs, report_usage

TENANTS, USERS = 10, 100
PAGE = 50
IN_FLIGHT = 256
READS = 30
READ_SECONDS = 10.0
# Executions whose figures of usage are written once more, to see what that costs.
COSTED = 20_000
SQLITE_BYTES = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
NAMES = ("crm.contact.get", "crm.contact.create", "knowledge.search", "diagnostics.echo", "http.fetch")


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="executions (default 1,000,000)")
    parser.add_argument("--days", type=float, default=7.0, help="in which they were made, until now (default 7)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--database-url", default="", help="default: a SQLite file in a temporary folder")
    where.add_argument("--postgres", action="store_true", help="a PostgreSQL that is started for it and ended with it")
    parser.add_argument("--synchronous", choices=("full", "normal", "off"), default="normal", help="of SQLite")
    return parser.parse_args(given)


def history(count: int, chance: random.Random, days: float) -> Iterator[Execution]:
    """So many executions, evenly apart: some steps of a task, some in a session, some failed, some labelled."""
    seconds = days * DAY_SECONDS
    start = time.time() - seconds
    now = [start]
    ids = Ids(clock=lambda: int(now[0] * 1e9), bits=chance.getrandbits)
    root = None
    for number in range(count):
        now[0] = start + seconds * number / count
        execution_id = ids()
        tenant = f"tenant-{number % TENANTS}"
        caller = Caller(tenant, f"key-{chance.randrange(20)}", f"user-{chance.randrange(USERS)}")
        step = root is not None and chance.random() < 0.3
        if step:
            assert root is not None
            caller = root.caller
        made = execution(execution_id, caller, root if step else None, now[0], chance)
        root = made if not step else root
        yield made


def execution(execution_id: str, caller: Caller, root: Execution | None, at: float, chance: random.Random) -> Execution:
    """One that has ended."""
    tool = chance.choice(NAMES)
    made = Execution(
        execution_id=execution_id,
        caller=caller,
        tool=tool,
        category=tool.split(".")[0],
        tool_version="1",
        effect=Effect.SIDE_EFFECT,
        digest=chance.randbytes(32),
        server_id="server-0a1b2c3d",
        epoch=1_763_000_000_000_000_000,
        trace_id=f"{chance.getrandbits(128):032x}",
        create_time=at,
        deadline_time=at + 30,
        deadline_source=DeadlineSource.TOOL,
        as_json=True,
        task_id=execution_id if root is None else root.task_id,
        parent_execution_id="" if root is None else root.execution_id,
        request_id=f"{chance.getrandbits(128):032x}" if chance.random() < 0.5 else "",
        session_id=f"session-{chance.randrange(10_000)}" if chance.random() < 0.2 else "",
        agent_id=f"agent-{chance.randrange(20)}",
        labels={"team": f"t{chance.randrange(50)}"} if chance.random() < 0.1 else {},
        arguments_bytes=100,
        arguments=b'{"text":"' + b"a" * 89 + b'"}',
        state=State.SUCCEEDED,
        start_time=at + 0.001,
        end_time=at + 0.01,
        attempts=1,
        queue_seconds=0.001,
        tool_seconds=0.009,
        result=b'{"value":"' + b"b" * 188 + b'"}',
        stopped=Stopped.YES,
        last_sequence=2,
    )
    if chance.random() < 0.02:
        made.state = chance.choice([State.FAILED, State.TIMED_OUT, State.OUTCOME_UNKNOWN])
        made.failure, made.result = Failure(Reason.TOOL_FAILED, "the upstream said no"), None
    return made


async def filled(writer: Writer, count: int, days: float) -> tuple[list[Execution], float, float]:
    """Writes them; a sample, and the seconds of wall and CPU time that writing took, making them left out."""
    chance = random.Random(1)  # noqa: S311 (the same history each time)
    sample: list[Execution] = []
    wall = cpu = 0.0
    rows = history(count, chance, days)
    while batch := [each for _, each in zip(range(16 * IN_FLIGHT), rows, strict=False)]:
        sample.append(batch[0])
        began, used = time.perf_counter(), time.process_time()
        for start in range(0, len(batch), IN_FLIGHT):
            group = batch[start : start + IN_FLIGHT]
            await asyncio.gather(*(writer.submit(Change(each, claims=bool(each.request_id))) for each in group))
        wall, cpu = wall + time.perf_counter() - began, cpu + time.process_time() - used
    return sample, wall, cpu


async def timed(read: Callable[[], Awaitable[object]]) -> float:
    """The median of several reads, in milliseconds, after one that warms up; of fewer when they are slow."""
    await read()
    took: list[float] = []
    for _ in range(READS):
        began = time.perf_counter()
        await read()
        took.append(time.perf_counter() - began)
        if sum(took) > READ_SECONDS:
            break
    return median(took) * 1_000


def asked(**fields: str) -> Condition:
    """Fields that must have these values."""
    return All(tuple(Comparison(name.replace("__", "."), Relation.EQUAL, value) for name, value in fields.items()))


async def report(store: SqlExecutionStore, sample: Sequence[Execution]) -> None:
    """How long reads take."""
    agent = Caller("tenant-3", "key-1", "user-7")
    callers = {
        "a user's page": agent,
        "a page of 8 users": Caller("tenant-3", "key-1", "user-7", acts_for=frozenset(f"user-{n}" for n in range(7))),
        "a tenant's page": Caller("tenant-3", "key-1", "user-7", Role.OPERATOR),
        "everybody's page": Caller("tenant-3", "key-1", "user-7", Role.ADMIN),
    }
    depths = {"newest": ""}
    depths |= {f"{share} %": sample[-(len(sample) * share // 100)].execution_id for share in (1, 10, 50, 90)}
    print(f"\n{'ms for ' + str(PAGE) + ' rows, from':<28}" + "".join(f"{name:>9}" for name in depths))
    for name, caller in callers.items():
        reads = [partial(store.list, caller, ExecutionQuery(PAGE, before)) for before in depths.values()]
        print(f"{name:<28}" + "".join([f"{await timed(read):9.2f}" for read in reads]))
    await report_filters(store, sample)


async def report_filters(store: SqlExecutionStore, sample: Sequence[Execution]) -> None:
    """How long it takes to find one execution, and some of an operator's tenant."""
    chosen = sample[len(sample) // 2]
    operator = Caller(chosen.caller.tenant, "key-1", "user-7", Role.OPERATOR)
    with_request = next(each for each in sample if each.request_id)
    in_session = next(each for each in sample if each.session_id)
    reads: dict[str, Callable[[], Awaitable[object]]] = {
        "one by its id": partial(store.get, operator, chosen.execution_id),
        "one by its request id": partial(store.find, with_request.caller, with_request.request_id),
    }
    filters = {
        "the tree of a task": asked(task_id=chosen.task_id),
        "a session": asked(session_id=in_session.session_id),
        "failed ones": asked(state="FAILED"),
        "unknown outcomes": asked(state="OUTCOME_UNKNOWN"),
        "one tool's": asked(tool=NAMES[0]),
        "a label": asked(labels__team="t7"),
        "by trace, without a match": asked(trace_id="none"),
    }
    for name, condition in filters.items():
        reads[name] = partial(store.list, operator, ExecutionQuery(PAGE, "", condition))
    print(f"\n{'other reads, ms':<28}")
    for name, read in reads.items():
        print(f"{name:<28}{await timed(read):9.2f}")


async def size_bytes(database: Database) -> int:
    """What the database takes on disk."""
    if database.options.is_sqlite:
        # Without the log, which has a bound of its own.
        async with database.reading() as connection:
            return int((await connection.execute(sa.text(SQLITE_BYTES))).scalar_one())
    async with database.reading() as connection:
        return int((await connection.execute(sa.text("SELECT pg_database_size(current_database())"))).scalar_one())


def memory_bytes() -> int:
    """What the process holds now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


async def run(chosen: argparse.Namespace, folder: Path) -> None:
    """Fill, measure, say."""
    options = DatabaseOptions(locate(chosen.database_url, folder), timeout_seconds=60.0, synchronous=chosen.synchronous)
    database = await Database.open(options)
    writer = Writer((SqliteSink if options.is_sqlite else PostgresSink)(options), WriterOptions(timeout_seconds=60.0))
    await writer.open()
    before = memory_bytes()
    sample, wall, cpu = await filled(writer, chosen.count, chosen.days)
    size = await size_bytes(database)
    kind = f"SQLite, synchronous = {chosen.synchronous}" if options.is_sqlite else "PostgreSQL"
    print(f"{kind}: {chosen.count:,} executions, half of them with a request id, {IN_FLIGHT} at a time")
    print(f"{chosen.count / wall:,.0f} inserts a second, {cpu / chosen.count * 1e6:.1f} µs of our CPU each")
    print(f"{size / chosen.count:,.0f} bytes each, {size / 2**20:,.0f} MiB in all")
    print(f"memory {before / 2**20:.0f} MiB before, {memory_bytes() / 2**20:.0f} MiB after")
    await report(SqlExecutionStore(database, writer), sample)
    await report_usage(database, writer, timed)
    await report_costs(writer, list(history(COSTED, random.Random(2), chosen.days)), IN_FLIGHT)  # noqa: S311
    print(f"\nmemory {memory_bytes() / 2**20:.0f} MiB at the end")
    await writer.close()
    await database.close()


def main(given: Sequence[str]) -> int:
    """As the module says."""
    chosen = arguments(given)
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="toolwright-history-"))
        if chosen.postgres:
            chosen.database_url = stack.enter_context(postgres_alone())
        uvloop.run(run(chosen, Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
