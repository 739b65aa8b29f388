"""Who may read an artifact, until when, and what is said where its bytes are not."""

from pathlib import Path

import pytest

from tests.contracts.executions import OWNER, row
from toolwright_server.artifacts.model import Artifact
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.library import Library
from toolwright_server.execution.model import State
from toolwright_server.identity import Caller, Role
from toolwright_server.stores.files.artifacts import FileArtifacts
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore

pytestmark = pytest.mark.asyncio

ID = "01970000-0000-7000-8000-000000000000"
NAME = f"{ID}.1"
CONTENT = b"0123456789"
EXPIRES = 2_000.0


class House:
    """One execution with one artifact, and the time."""

    def __init__(self, folder: Path) -> None:
        logs = MemoryEventLogs(LogBounds(1_000, 0, folder / "events"))
        self.now = 1_000.0
        self.store = MemoryExecutionStore(Bounds(10, 10_000, 1e9), logs, lambda: self.now)
        self.files = FileArtifacts.open(folder / "artifacts")
        # Servers that there are.
        self.servers = {"server", "another"}
        self.path = folder / "artifacts" / NAME

    async def filled(self) -> "House":
        execution = row(ID)
        await self.store.add(execution)
        execution.move(State.RUNNING)
        execution.artifacts = (Artifact(1, "a", "text/plain", len(CONTENT), "", "", EXPIRES),)
        execution.move(State.SUCCEEDED)
        execution.end_time = 1_001.0
        await self.store.settle(execution)
        self.path.write_bytes(CONTENT)
        return self

    async def is_held(self, server_id: str) -> bool:
        return server_id in self.servers

    async def read(self, caller: Caller = OWNER, name: str = NAME, *, server: str = "server", offset: int = 0) -> bytes:
        library = Library(self.store, self.files, server, self.is_held, lambda: self.now)
        found = await library.find(caller, name)
        return b"".join([page async for page in library.pages(*found, offset, 0)])


async def refusal(house: House, caller: Caller = OWNER, name: str = NAME, *, server: str = "server") -> ToolwrightError:
    with pytest.raises(ToolwrightError) as caught:
        await house.read(caller, name, server=server)
    return caught.value


@pytest.mark.parametrize(
    "caller",
    [OWNER, Caller("acme", "key-2", "ann"), Caller("acme", "op", "op", Role.OPERATOR), Caller("x", "", "", Role.ADMIN)],
    ids=["owner", "same user", "operator", "admin"],
)
async def test_who_may_see_the_execution_may_read_its_artifacts(tmp_path: Path, caller: Caller) -> None:
    house = await House(tmp_path).filled()
    assert await house.read(caller) == CONTENT
    assert await house.read(caller, offset=4) == CONTENT[4:]


@pytest.mark.parametrize(
    "stranger",
    [Caller("acme", "key-1", "eve"), Caller("other", "key-1", "ann"), Caller("other", "op", "ann", Role.OPERATOR)],
    ids=["another user", "another tenant", "another tenant's operator"],
)
async def test_to_anybody_else_there_is_none(tmp_path: Path, stranger: Caller) -> None:
    house = await House(tmp_path).filled()
    told, of_nothing = await refusal(house, stranger), await refusal(house, stranger, f"{ID}.2")
    assert (told.failure.reason, of_nothing.failure.reason) == (Reason.RESOURCE_NOT_FOUND,) * 2


async def test_after_its_time_it_is_not_found_although_the_bytes_are_there(tmp_path: Path) -> None:
    house = await House(tmp_path).filled()
    house.now = EXPIRES - 1
    assert await house.read() == CONTENT
    house.now = EXPIRES
    assert (await refusal(house)).failure.reason is Reason.RESOURCE_NOT_FOUND
    assert house.path.exists()


async def test_bytes_that_are_not_here_are_looked_for_where_they_were_written(tmp_path: Path) -> None:
    house = await House(tmp_path).filled()
    assert await house.read(server="another") == CONTENT
    house.path.unlink()
    elsewhere = (await refusal(house, server="another")).failure
    assert (elsewhere.reason, elsewhere.metadata) == (Reason.ARTIFACT_ELSEWHERE, {"server_id": "server"})
    assert (await refusal(house)).failure.reason is Reason.RESOURCE_NOT_FOUND


async def test_nobody_is_sent_to_a_server_that_is_no_more(tmp_path: Path) -> None:
    house = await House(tmp_path).filled()
    house.path.unlink()
    house.servers.remove("server")
    assert (await refusal(house, server="another")).failure.reason is Reason.RESOURCE_NOT_FOUND
