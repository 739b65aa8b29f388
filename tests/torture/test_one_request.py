"""Many callers with one request id over three servers on one PostgreSQL: one side effect, one answer."""

import asyncio
import contextlib
import os
from collections import Counter as Tally
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.counter import Counter, running_counter
from tests.databases import Postgres
from tests.live import LiveServer, eventually, execute_request
from tests.live import stubs as stubs_of
from toolwright.v1 import tool_execution_pb2

from .housing import LEASE_SECONDS, House
from .killing import Stubs, Told, told_by, told_off

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
CALLERS = max(100, round(1000 * SCALE))
SLOTS = ("one", "two", "three")
SECONDS = 60.0
KEY = "the-one"

pytestmark = [pytest.mark.torture, pytest.mark.timeout(300)]


@pytest.fixture
def counter(tmp_path: Path, own_postgres: Postgres) -> Generator[Counter]:
    with running_counter(tmp_path / "counter", own_postgres.make_database()) as running:
        yield running


@pytest.fixture
def servers(tmp_path: Path, own_postgres: Postgres, counter: Counter) -> Generator[dict[str, LiveServer]]:
    house = House(tmp_path, counter, own_postgres.url("test_0"))
    with contextlib.ExitStack() as stack:
        yield {slot: stack.enter_context(house.life(slot, TOOLWRIGHT_SERVER_ID=slot)) for slot in SLOTS}


def together(
    servers: dict[str, LiveServer], tool: str, pause: float, meanwhile: Callable[[], None] = lambda: None
) -> list[Told]:
    """What each caller was told in the end; `meanwhile` happens in another thread."""

    async def ask_all() -> list[Told]:
        async with Stubs([server.address for server in servers.values()]) as stubs:
            asked = [_ask(stubs, number, tool, pause) for number in range(CALLERS)]
            also = asyncio.create_task(asyncio.to_thread(meanwhile))
            told = await asyncio.gather(*asked)
            await also
            return told

    return asyncio.run(ask_all())


async def _ask(stubs: Stubs, number: int, tool: str, pause: float) -> Told:
    """One caller. It asks the next server when one breaks off, as our clients do for a protected call."""
    request = execute_request(tool, {"key": KEY, "after": pause}, request_id=KEY)
    while True:
        try:
            answer = await stubs.all[number % len(stubs.all)].Execute(request, timeout=SECONDS)
        except grpc.aio.AioRpcError as error:
            told = told_off(error)
            if told.code != "UNAVAILABLE":
                return told
            number += 1
        else:
            return told_by(answer.execution)


def kill_who_runs_it(servers: dict[str, LiveServer], counter: Counter) -> None:
    """As soon as the side effect has happened."""
    eventually(lambda: bool(counter.effects()), seconds=SECONDS)
    with stubs_of(servers["one"]) as (execution, _):
        found: Any = execution.GetExecution(tool_execution_pb2.GetExecutionRequest(request_id=KEY), timeout=10)
    servers[found.execution.server_id].process.kill()


def test_one_request_of_many_callers_is_done_once_and_answered_once(
    servers: dict[str, LiveServer], counter: Counter
) -> None:
    told = together(servers, "acting.act", pause=1.0)
    print(f"\n{CALLERS} callers over {len(servers)} servers: {dict(Tally(told))}")  # noqa: T201 (the long run's product)
    assert len(set(told)) == 1
    assert told[0].value == '{"number":1,"key":"the-one"}'
    assert [effect.execution_id for effect in counter.effects()] == [told[0].execution_id]
    # Later ones are given the same answer.
    assert set(together(servers, "acting.act", pause=1.0)) == set(told)
    assert len(counter.effects()) == 1


def test_all_are_told_that_nobody_knows_when_the_server_that_did_it_is_killed(
    servers: dict[str, LiveServer], counter: Counter
) -> None:
    told = together(servers, "acting.act", 10 * LEASE_SECONDS, lambda: kill_who_runs_it(servers, counter))
    print(f"\n{CALLERS} callers, server killed: {dict(Tally(told))}")  # noqa: T201 (the long run's product)
    [effect] = counter.effects()
    assert set(told) == {Told("ABORTED", "OUTCOME_UNKNOWN", effect.execution_id, "unknown")}


def test_all_are_given_what_a_look_up_found_when_the_server_that_did_it_is_killed(
    servers: dict[str, LiveServer], counter: Counter
) -> None:
    told = together(servers, "acting.act_known", 10 * LEASE_SECONDS, lambda: kill_who_runs_it(servers, counter))
    print(f"\n{CALLERS} callers, server killed, looked up: {dict(Tally(told))}")  # noqa: T201 (the long run's product)
    [effect] = counter.effects()
    assert {one.execution_id for one in told} == {effect.execution_id}
    assert {one.value for one in told if one.code == "OK"} == {'{"number":1,"key":"the-one"}'}
