"""The client and a real server that is killed in mid call and started again at its address on the same data, or whose
connection is lost: each call is answered once, and its side effect happens at most once.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.counter import running_counter
from tests.live import LiveServer, eventually, stubs
from tests.ports import free_port
from tests.torture.housing import House
from toolwright.v1 import tool_execution_pb2
from toolwright_client import (
    AsyncClient,
    Event,
    Execution,
    Finished,
    OutcomeUnknown,
    Result,
    RetryPolicy,
    Snapshot,
    State,
)

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]

PATIENCE = 60.0
# A server needs seconds to start on a busy machine.
PATIENT = RetryPolicy(lost_seconds=PATIENCE)
# Longer than it takes until the server is killed.
LONG = 20.0
# Long enough to be in the middle of when that happens.
SHORT = 4.0


def patient(address: str) -> AsyncClient:
    return AsyncClient(address, retries=PATIENT, timeout=PATIENCE)


async def until_it_runs(server: LiveServer, *keys: str) -> None:
    """Until there is a running execution for each of these labels."""

    def is_listed(key: str) -> bool:
        with stubs(server) as (execution, _):
            listed = tool_execution_pb2.ListExecutionsRequest(filter=f"labels.key = {key} AND state = RUNNING")
            return bool(execution.ListExecutions(listed, timeout=10).executions)

    for key in keys:
        await asyncio.to_thread(eventually, lambda key=key: is_listed(key))


async def executed(client: AsyncClient, key: str, tool: str, **pauses: float) -> Result | OutcomeUnknown:
    """How an unnamed call ends; the client names it."""
    try:
        return await client.execute(tool, {"key": key, **pauses}, labels={"key": key})
    except OutcomeUnknown as unknown:
        return unknown


async def insisted(client: AsyncClient, key: str, tool: str, **pauses: float) -> Result | OutcomeUnknown:
    """The same, asked for again under its name until somebody knows what became of it."""
    told = await executed(client, key, tool, **pauses)
    async with asyncio.timeout(PATIENCE):
        while isinstance(told, OutcomeUnknown):
            with contextlib.suppress(OutcomeUnknown):
                told = await client.execute(tool, {"key": key, **pauses}, request_id=told.request_id)
    return told


async def streamed(client: AsyncClient, key: str, tool: str, **pauses: float) -> list[Event]:
    return [event async for event in client.stream(tool, {"key": key, **pauses}, labels={"key": key})]


@dataclass
class Aftermath:
    """What callers were told whose server was killed, by key; `before` was answered by the server that was killed."""

    before: Result
    told: dict[str, Any]
    rows: dict[str, list[Execution]]
    done: list[str]


async def killed(house: House, address: str) -> Aftermath:
    """Calls of every kind while their server is killed and started again."""
    async with patient(address) as client, contextlib.AsyncExitStack() as stack:
        with house.life(TOOLWRIGHT_LISTEN=address) as first:
            calls: dict[str, Coroutine[Any, Any, Any]] = {
                "act": executed(client, "act", "acting.act", after=LONG),
                "known": insisted(client, "known", "acting.act_known", after=LONG),
                "not-done": insisted(client, "not-done", "acting.act_known", before=LONG / 2),
                "read": executed(client, "read", "acting.read", after=SHORT),
                "put": executed(client, "put", "acting.put", after=SHORT),
                "stream-act": streamed(client, "stream-act", "acting.act", after=LONG),
                "stream-read": streamed(client, "stream-read", "acting.read", after=SHORT),
            }
            before = await client.execute("acting.act", {"key": "before"}, request_id="before")
            # Known from now on, so that all are sent at once.
            await asyncio.gather(*(client.execute(f"acting.{tool}", {"key": tool}) for tool in ("read", "put")))
            tasks = {key: asyncio.create_task(call) for key, call in calls.items()}
            await until_it_runs(first, *calls)
            await asyncio.to_thread(eventually, lambda: acted(house) >= {"act", "known", "stream-act"})
            first.process.kill()
            first.process.wait(10)
        life = house.life(TOOLWRIGHT_LISTEN=address)
        await asyncio.to_thread(life.__enter__)
        stack.push(life.__exit__)
        told = dict(zip(tasks, await asyncio.gather(*tasks.values()), strict=True))
        told["before"] = await client.execute("acting.act", {"key": "before"}, request_id="before")
        rows = {key: list(await client.list(f"labels.key = {key}")) for key in calls}
        return Aftermath(before, told, rows, [effect.key for effect in house.counter.effects()])


def acted(house: House) -> set[str]:
    return {effect.key for effect in house.counter.effects()}


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Generator[Aftermath]:
    folder = tmp_path_factory.mktemp("killed")
    with running_counter(folder / "counter", str(folder / "data-one" / "toolwright.sqlite3")) as counter:
        yield asyncio.run(killed(House(folder, counter), f"127.0.0.1:{free_port()}"))


def test_no_side_effect_happens_twice(aftermath: Aftermath) -> None:
    assert sorted(aftermath.done) == ["act", "before", "known", "not-done", "stream-act"]


def test_the_caller_of_a_side_effect_that_nobody_can_look_up_is_told_so(aftermath: Aftermath) -> None:
    told = aftermath.told["act"]
    assert isinstance(told, OutcomeUnknown)
    (row,) = aftermath.rows["act"]
    assert row.state is State.OUTCOME_UNKNOWN
    assert (row.execution_id, row.request_id) == (told.execution_id, told.request_id)


def test_a_side_effect_that_can_be_looked_up_is_answered_in_the_end(aftermath: Aftermath) -> None:
    assert aftermath.told["known"].value["key"] == "known"
    assert [row.state for row in aftermath.rows["known"]] == [State.SUCCEEDED]


def test_a_side_effect_that_is_found_not_to_have_happened_is_done_then(aftermath: Aftermath) -> None:
    assert aftermath.told["not-done"].value["key"] == "not-done"


@pytest.mark.parametrize("key", ["read", "put"])
def test_what_may_be_done_again_is_answered_as_if_nothing_had_happened(aftermath: Aftermath, key: str) -> None:
    assert aftermath.told[key].value == key
    assert [row.state for row in aftermath.rows[key]] == [State.SUCCEEDED, State.FAILED]
    assert len({row.request_id for row in aftermath.rows[key]}) == 1


def test_an_answer_outlives_the_server_that_gave_it(aftermath: Aftermath) -> None:
    again, first = aftermath.told["before"], aftermath.before
    assert (again.execution_id, again.value) == (first.execution_id, first.value)


def test_a_stream_of_a_side_effect_attaches_again_and_tells_that_nobody_knows(aftermath: Aftermath) -> None:
    events = aftermath.told["stream-act"]
    assert isinstance(events[0], Snapshot)
    assert isinstance(events[-1], Finished)
    assert events[-1].execution.state is State.OUTCOME_UNKNOWN
    assert len({event.execution_id for event in events}) == 1


def test_a_stream_of_what_may_be_done_again_begins_anew(aftermath: Aftermath) -> None:
    events = aftermath.told["stream-read"]
    ends = [type(event) for event in events if isinstance(event, Snapshot | Finished)]
    assert ends == [Snapshot, Snapshot, Finished]
    assert events[-1].execution.value == "stream-read"
    assert len({event.execution_id for event in events}) == 2


class Line:
    """TCP connections to a server that can be cut."""

    def __init__(self, target: str) -> None:
        self.address = ""
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncGenerator["Line"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
            self.cut()

    def cut(self) -> None:
        """Reset what is open; who connects again gets through."""
        for writer in tuple(self._open):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(self._passed(reader, back), self._passed(there, writer))

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        self._open.discard(writer)
        writer.close()


@dataclass
class Alive:
    """A server that stays alive."""

    house: House
    server: LiveServer


@pytest.fixture(scope="module")
def alive(tmp_path_factory: pytest.TempPathFactory) -> Generator[Alive]:
    folder: Path = tmp_path_factory.mktemp("alive")
    with running_counter(folder / "counter") as counter:
        house = House(folder, counter)
        with house.life() as server:
            yield Alive(house, server)


@pytest.mark.asyncio
@pytest.mark.parametrize("tool", ["acting.act", "acting.read"], ids=["side effect", "read only"])
async def test_a_lost_connection_is_not_a_lost_answer(alive: Alive, tool: str) -> None:
    async with Line(alive.server.address).laid() as line, patient(line.address) as client:
        waiting = asyncio.create_task(executed(client, tool, tool, after=SHORT))
        await until_it_runs(alive.server, tool)
        line.cut()
        told = await waiting
        rows = await client.list(f"labels.key = {tool}")
    assert isinstance(told, Result)
    assert told.execution.state is State.SUCCEEDED
    # The one joins the call that went on; the other one's was stopped with its connection, and is made again.
    states = [State.SUCCEEDED] if tool == "acting.act" else [State.SUCCEEDED, State.CANCELLED]
    assert [row.state for row in rows] == states
    assert [effect.key for effect in alive.house.counter.effects()].count(tool) == (tool == "acting.act")


@pytest.mark.asyncio
async def test_a_call_of_a_side_effect_that_is_cancelled_is_stopped_although_it_is_detached(alive: Alive) -> None:
    async with patient(alive.server.address) as client:
        waiting = asyncio.create_task(executed(client, "cancelled", "acting.act", after=LONG))
        await until_it_runs(alive.server, "cancelled")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (row,) = await client.list("labels.key = cancelled")
        assert (await client.wait(row.execution_id, timeout=LONG / 2)).state is State.OUTCOME_UNKNOWN
