"""Servers that are killed or stand still, in processes of their own, and who takes over from them."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.leaseholder import Holder
from toolwright_server.execution.elsewhere.joining import Joining
from toolwright_server.execution.model import Execution, State
from toolwright_server.execution.recovery.verdict import Verdict
from toolwright_server.records.audit.model import Kind

pytestmark = [pytest.mark.asyncio, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PATIENCE = 30.0


class Other:
    """A server in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    async def says(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), PATIENCE)
        assert line, f"the other process ended with {self.process.wait(PATIENCE)}"
        return line.strip()

    async def told(self, order: str) -> str:
        """What it says to an order."""
        self.tell(order)
        return await self.says()

    def tell(self, order: str) -> None:
        """An order whose answer comes later."""
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextlib.contextmanager
def running(url: str, name: str) -> Generator[Other]:
    """The process, killed in the end."""
    command = [sys.executable, "-m", "tests.leaseholder", url, name]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def survivor(url: str, name: str = "survivor") -> AsyncGenerator[Holder]:
    """A server in this process."""
    holder = Holder(url, name)
    await asyncio.wait_for(holder.start(), PATIENCE)
    try:
        yield holder
    finally:
        await holder.close()


async def ended(holder: Holder, *execution_ids: str) -> Sequence[Execution]:
    """These executions, as soon as all of them have ended."""
    joining = Joining(holder.verdicts.ended)
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*(joining.ended(each) for each in execution_ids))


async def begun(other: Other) -> None:
    """Let the other one begin a call of each kind."""
    assert await other.says() == "ready"
    for execution_id, effect in (("0190-a", "SIDE_EFFECT"), ("0190-b", "IDEMPOTENT"), ("0190-c", "READ_ONLY")):
        assert await other.told(f"begin {execution_id} {effect}") == "kept"


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """An empty database that several servers share."""
    return postgres.make_database()


SETTLED = [State.OUTCOME_UNKNOWN, State.FAILED, State.FAILED]


async def test_the_next_start_settles_at_once_what_a_killed_server_left_behind(database_url: str) -> None:
    with running(database_url, "one") as other:
        await begun(other)
        other.send(signal.SIGKILL)
        other.process.wait(PATIENCE)
        # As a service manager would start it again: before its lease has run out.
        async with survivor(database_url, "one") as again:
            found = await again.verdicts.ended(["0190-a", "0190-b", "0190-c"])
            assert [row.state for row in sorted(found, key=lambda row: row.execution_id)] == SETTLED
            assert again.recovery.settled == 3


async def test_a_server_of_another_name_takes_over_a_file_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'toolwright.sqlite3'}"
    with running(url, "one") as other:
        await begun(other)
        other.send(signal.SIGKILL)
        other.process.wait(PATIENCE)
        async with survivor(url, "two") as heir:
            found = await heir.verdicts.ended(["0190-a", "0190-b", "0190-c"])
            assert len(found) == 3


async def test_a_survivor_settles_what_a_killed_server_left_behind_when_its_lease_ends(postgres_url: str) -> None:
    async with survivor(postgres_url) as alive:
        with running(postgres_url, "one") as other:
            await begun(other)
            other.send(signal.SIGKILL)
            other.process.wait(PATIENCE)
            found = await ended(alive, "0190-a", "0190-b", "0190-c")
            assert [row.state for row in found] == SETTLED
            assert {row.failure and row.failure.metadata["server_id"] for row in found} == {"one"}


async def test_of_two_survivors_each_execution_is_settled_by_one(postgres_url: str) -> None:
    async with survivor(postgres_url, "two") as second, survivor(postgres_url, "three") as third:
        with running(postgres_url, "one") as other:
            await begun(other)
            other.send(signal.SIGKILL)
            other.process.wait(PATIENCE)
            await ended(second, "0190-a", "0190-b", "0190-c")
        assert second.recovery.settled + third.recovery.settled == 3
        assert second.keeper.ended + third.keeper.ended == 1


async def test_a_server_that_stood_still_cannot_overwrite_what_was_decided_meanwhile(postgres_url: str) -> None:
    async with survivor(postgres_url) as alive:
        with running(postgres_url, "one") as other:
            await begun(other)
            other.send(signal.SIGSTOP)
            await ended(alive, "0190-a", "0190-b", "0190-c")
            await alive.verdicts.decide("0190-a", not_done)
            other.send(signal.SIGCONT)
            assert await other.told("settle 0190-a") == "Fenced"
            assert await other.told("begin 0190-d SIDE_EFFECT") == "Fenced"
            assert await other.told("lost") == "lost"
            (row,) = await alive.verdicts.ended(["0190-a"])
            assert row.state is State.FAILED
            assert await alive.verdicts.decide("0190-d", lambda _: None) is None


async def test_a_server_that_stood_still_in_the_middle_of_a_commit_holds_up_nobody(postgres_url: str) -> None:
    async with survivor(postgres_url) as alive:
        with running(postgres_url, "one") as other:
            await begun(other)
            other.tell("freeze 0190-a")
            found = await ended(alive, "0190-a", "0190-b", "0190-c")
            assert [row.state for row in found] == SETTLED
            other.send(signal.SIGCONT)
            assert await other.says() in {"Fenced", "Unavailable"}
            assert await other.told("settle 0190-a") == "Fenced"
            (row,) = await alive.verdicts.ended(["0190-a"])
            assert row.state is State.OUTCOME_UNKNOWN


async def test_a_server_that_stood_still_alone_goes_on(database_url: str) -> None:
    with running(database_url, "one") as other:
        await begun(other)
        other.send(signal.SIGSTOP)
        await asyncio.to_thread(wait_stopped, other.process.pid)
        other.send(signal.SIGCONT)
        assert await other.told("settle 0190-a") == "kept"


def wait_stopped(pid: int) -> None:
    """Until the process stands still."""
    status = Path(f"/proc/{pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":
        pass


def not_done(row: Execution) -> Verdict:
    """An operator's verdict."""
    row.move(State.FAILED)
    return Verdict(row, Kind.RECONCILIATION, 2_000.0, frees=True)
