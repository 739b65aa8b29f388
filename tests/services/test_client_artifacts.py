"""Artifacts in the client over real gRPC: unbroken across lost connections, and saved whole or not at all."""

import asyncio
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import grpc
import pytest

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import AsyncClient, ExecutionNotFound, RetryPolicy, ToolwrightError

from .client_server import Context, Pages, Scripted, refuse, serving

pytestmark = pytest.mark.asyncio

CONTENT = bytes(range(250)) * 4
QUICK = RetryPolicy(initial_backoff_seconds=0.01)


def pages(breaks_after: int | None = None, sha256: str = "") -> Pages:
    """Sends pages of 100 bytes, and breaks off after so many of them."""

    async def play(request: Any, context: Context) -> AsyncIterator[tool_execution_pb2.ReadArtifactResponse]:
        end = request.offset + request.limit if request.limit else len(CONTENT)
        described = common_pb2.Artifact(
            artifact_id=request.artifact_id,
            name="a.bin",
            size_bytes=len(CONTENT),
            sha256=sha256 or hashlib.sha256(CONTENT).hexdigest(),
        )
        message = tool_execution_pb2.ReadArtifactResponse(artifact=described)
        for number, start in enumerate(range(request.offset, end, 100)):
            if number == breaks_after:
                await refuse(context, grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_after=0.01)
            message.data = CONTENT[start : min(start + 100, end)]
            yield message
            message = tool_execution_pb2.ReadArtifactResponse()

    return play


def lying(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


async def test_a_stream_that_breaks_goes_on_where_it_broke(tmp_path: Path) -> None:
    script = Scripted()
    script.pages.extend((pages(3), pages(0), pages(5), pages()))
    async with serving(script) as address, AsyncClient(address, retries=QUICK) as client:
        saved = await client.save_artifact("e.1", tmp_path / "saved")
    assert (saved.name, saved.size_bytes) == ("a.bin", len(CONTENT))
    assert (tmp_path / "saved").read_bytes() == CONTENT
    assert [seen.request.offset for seen in script.of("ReadArtifact")] == [0, 300, 300, 800]


async def test_a_part_that_breaks_is_completed_and_not_more() -> None:
    script = Scripted()
    script.pages.extend((pages(2), pages()))
    async with serving(script) as address, AsyncClient(address, retries=QUICK) as client:
        async with client.read_artifact("e.1", offset=50, limit=333) as reader:
            found = b"".join([page async for page in reader])
        assert found == CONTENT[50:383]
        assert [page async for page in client.read_artifact("e.1", limit=0)] == []
    assert [(seen.request.offset, seen.request.limit) for seen in script.of("ReadArtifact")] == [(50, 333), (250, 133)]


async def test_what_is_not_there_or_not_right_is_not_saved(tmp_path: Path) -> None:
    async def missing(request: Any, context: Context) -> AsyncIterator[tool_execution_pb2.ReadArtifactResponse]:
        await refuse(context, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
        yield request

    script = Scripted()
    script.pages.extend((missing, pages(sha256="0" * 64)))
    (tmp_path / "saved").write_text("before")
    async with serving(script) as address, AsyncClient(address, retries=QUICK) as client:
        with pytest.raises(ExecutionNotFound):
            await client.save_artifact("e.1", tmp_path / "saved")
        with pytest.raises(ToolwrightError) as caught:
            await client.save_artifact("e.1", tmp_path / "saved")
    assert caught.value.reason == "ARTIFACT_DAMAGED"
    assert lying(tmp_path) == {"saved": "before"}


async def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, int, list[str]]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_relative_to(tmp_path):
            size = path.stat().st_size if path.is_file() else 0
            synced.append((path.suffix, size, [each.suffix for each in tmp_path.iterdir()]))

    monkeypatch.setattr(os, "fsync", noted)
    script = Scripted()
    script.pages.append(pages())
    async with serving(script) as address, AsyncClient(address) as client:
        await client.save_artifact("e.1", tmp_path / "report.csv")
    assert [(suffix, there) for suffix, _, there in synced] == [(".part", [".part"]), ("", [".csv"])]
    assert synced[0][1] == len(CONTENT)


async def test_who_is_cancelled_while_the_file_is_opened_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    is_asked, go = threading.Event(), threading.Event()
    opened = Path.open

    def slow(path: Path, mode: str) -> IO[bytes]:
        is_asked.set()
        assert go.wait(10)
        return opened(path, "xb")

    script = Scripted()
    script.pages.append(pages())
    async with serving(script) as address, AsyncClient(address) as client:
        monkeypatch.setattr(Path, "open", slow)
        saving = asyncio.create_task(client.save_artifact("e.1", tmp_path / "saved"))
        await asyncio.sleep(0)
        assert is_asked.wait(10)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        go.set()
        await asyncio.to_thread(int)
    monkeypatch.undo()
    assert lying(tmp_path) == {}
