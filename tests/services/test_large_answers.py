"""Answers that are too large to be answered, or that have artifacts, where they are shared or take another's place."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.live import LiveServer, eventually, live_server
from toolwright_client import AsyncClient, Execution, Source

from .large_answer_tools import SIZE

pytestmark = pytest.mark.asyncio

TOOLS = str(Path(__file__).with_name("large_answer_tools.py"))
SECONDS = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    settings = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_PROCESS_WORKERS": "1"}
    with live_server(tmp_path_factory.mktemp("large"), "--tools", TOOLS, env=settings) as running:
        yield running


@pytest_asyncio.fixture
async def client(server: LiveServer) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(server.address, timeout=SECONDS) as connected:
        yield connected


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def calls(log: Path) -> int:
    return len(log.read_text().splitlines()) if log.exists() else 0


async def together(client: AsyncClient, tool: str, log: Path) -> list[Execution]:
    """Three calls of the same at the same time."""
    asked = {"log": str(log), "seconds": 0.3}
    first = asyncio.ensure_future(client.execute(tool, asked))
    await asyncio.to_thread(eventually, lambda: calls(log) == 1)
    others = [client.execute(tool, asked) for _ in range(2)]
    return [result.execution for result in await asyncio.gather(first, *others)]


async def read(client: AsyncClient, execution: Execution) -> bytes:
    (artifact,) = execution.artifacts
    return b"".join([page async for page in client.read_artifact(artifact)])


async def test_a_large_answer_is_given_to_all_who_have_joined(client: AsyncClient, log: Path) -> None:
    rows = await together(client, "answers.large", log)
    assert calls(log) == 1
    assert [row.source for row in rows] == [Source.TOOL, Source.JOINED, Source.JOINED]
    for row in rows:
        assert row.value_artifact is not None
        assert len(await read(client, row)) == SIZE + 2


async def test_who_has_joined_a_call_with_artifacts_makes_it_once_and_has_artifacts_of_its_own(
    client: AsyncClient, log: Path
) -> None:
    rows = await together(client, "answers.file", log)
    assert calls(log) == 3
    assert [row.value for row in rows] == [1, 1, 1]
    ids = [(row.source_execution_id or row.execution_id).encode() for row in rows]
    assert [await read(client, row) for row in rows] == ids
    assert len(set(ids)) == 3


@pytest.mark.parametrize("tool", ["answers.half", "answers.late"])
async def test_what_a_failed_attempt_wrote_is_no_part_of_the_answer_in_its_place(
    client: AsyncClient, log: Path, tool: str
) -> None:
    row = (await client.execute(tool, {"log": str(log)})).execution
    assert (row.source, row.value, row.artifacts) == (Source.FALLBACK, 0, ())


async def test_a_tool_in_the_place_of_another_keeps_its_artifacts_to_itself(client: AsyncClient, log: Path) -> None:
    row = (await client.execute("answers.half_elsewhere", {"log": str(log)})).execution
    assert (row.source, row.value, row.artifacts) == (Source.FALLBACK, 1, ())
    (step,) = await client.list(f'parent_execution_id = "{row.execution_id}"')
    assert await read(client, step) == step.execution_id.encode()


async def test_a_large_answer_in_the_place_of_another_is_marked_as_such(client: AsyncClient, log: Path) -> None:
    row = (await client.execute("answers.replaced", {"log": str(log)})).execution
    for each in (row, await client.get(row.execution_id)):
        assert each.value_artifact is not None
        assert (each.source, each.raw.result.fallback_tool) == (Source.FALLBACK, "answers.large")
        assert each.raw.result.replaced_error.message == "the upstream is gone"
