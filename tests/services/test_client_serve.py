"""The client against `toolwright serve` itself, in a process of its own, with the tools that it ships."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.ports import free_port
from toolwright_client import (
    AsyncClient,
    Client,
    Effect,
    Finished,
    InvalidArguments,
    Progress,
    RetryPolicy,
    Snapshot,
    State,
    ToolFailed,
    ToolNotFound,
    ToolTimedOut,
    ToolwrightError,
)

COMMAND = Path(sys.executable).with_name("toolwright")
START_SECONDS = 45


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """Address of a fresh server, which is drained afterwards."""
    folder = tmp_path_factory.mktemp("served")
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "TOOLWRIGHT_LISTEN": address,
        "TOOLWRIGHT_HTTP_LISTEN": f"127.0.0.1:{free_port()}",
        "TOOLWRIGHT_DATA_DIR": str(folder / "data"),
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen([COMMAND, "serve"], env=os.environ | settings, stdout=output, stderr=output)
        try:
            # Until it listens there is no connection, and nothing is sent.
            patient = RetryPolicy(max_attempts=START_SECONDS * 5, max_backoff_seconds=0.2)
            with Client(address, retries=patient, timeout=START_SECONDS) as first:
                assert first.tools()
            yield address
        except ToolwrightError as error:
            raise AssertionError(log.read_text()) from error
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(30)
    assert code == 0, log.read_text()


@pytest_asyncio.fixture
async def client(target: str) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(target, timeout=20) as made:
        yield made


@pytest.mark.asyncio
async def test_the_client_and_the_server_agree(client: AsyncClient) -> None:
    tools = {tool.name: tool for tool in await client.tools('category = "diagnostics"')}
    assert tools["diagnostics.echo"].effect is Effect.READ_ONLY
    exact = {"number": 2**63, "text": "ä", "nested": [1, None, {"a": True}]}
    result = await client.execute("diagnostics.echo", exact, request_id="mine", labels={"k": "v"})
    assert result.value == exact
    found = await client.find("mine")
    assert (found.execution_id, found.value, dict(found.labels)) == (result.execution_id, exact, {"k": "v"})
    assert (await client.get(result.execution_id)).state is State.SUCCEEDED
    assert result.execution_id in [each.execution_id for each in await client.list('request_id = "mine"')]


@pytest.mark.asyncio
async def test_events_stream_and_can_be_read_again(client: AsyncClient) -> None:
    counting = {"steps": 3, "interval_seconds": 0.01}
    first = [event async for event in client.stream("diagnostics.count", counting)]
    assert isinstance(first[0], Snapshot)
    assert isinstance(first[-1], Finished)
    steps = [event.progress for event in first if isinstance(event, Progress)]
    assert steps[-1] == 3
    again = [event async for event in client.follow(first[0].execution_id)]
    numbers = [event.sequence for event in again[1:-1]]
    assert numbers == sorted(set(numbers))
    assert isinstance(again[-1], Finished)
    assert (await client.wait(first[0].execution_id)).state is State.SUCCEEDED


@pytest.mark.asyncio
async def test_errors_arrive_typed(client: AsyncClient) -> None:
    with pytest.raises(ToolNotFound):
        await client.execute("diagnostics.nothing")
    with pytest.raises(InvalidArguments) as wrong:
        await client.execute("diagnostics.sleep", {"seconds": "long"})
    assert wrong.value.violations
    assert not (await client.validate("diagnostics.sleep", {"seconds": "long"})).valid
    with pytest.raises(ToolTimedOut) as late:
        await client.execute("diagnostics.sleep", {"seconds": 20}, tool_timeout=0.2, timeout=10)
    assert late.value.outcome == "none"
    assert (await client.get(late.value.execution_id)).state is State.TIMED_OUT
    with pytest.raises(ToolFailed) as crashed:
        await client.execute("diagnostics.crash")
    assert crashed.value.reason == "TOOL_CRASHED"


@pytest.mark.asyncio
async def test_started_work_goes_on_until_it_is_cancelled(client: AsyncClient) -> None:
    handle = await client.start("diagnostics.sleep", {"seconds": 20})
    assert not (await handle.describe()).state.terminal
    await handle.cancel()
    result = await handle.result(timeout=10, raise_on_failure=False)
    assert result.execution.state is State.CANCELLED
    with pytest.raises(ToolwrightError):
        _ = result.value


@pytest.mark.asyncio
async def test_a_call_that_is_cancelled_is_stopped_at_the_server(client: AsyncClient) -> None:
    waiting = asyncio.create_task(client.execute("diagnostics.sleep", {"seconds": 20}, request_id="gone"))
    while not await client.list('request_id = "gone"'):
        await asyncio.wait({waiting}, timeout=0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    found = await client.find("gone")
    assert (await client.wait(found.execution_id, timeout=10)).state is State.CANCELLED
