"""Tools that write artifacts, one of each kind; and some that are stopped while they do."""

import asyncio
import os
import signal

from pydantic import SecretStr

from toolwright_server import (
    ArtifactRefused,
    AsyncToolContext,
    Effect,
    Runs,
    SyncToolContext,
    ToolError,
    tool,
)

CHUNK = 64 * 1024


def piece(seed: int, number: int) -> bytes:
    """The bytes of one chunk, which no other one has."""
    return (b"%08d%08d" % (seed, number)) * (CHUNK // 16)


@tool("files.worker", effect=Effect.SIDE_EFFECT)
def in_worker(context: SyncToolContext, chunks: int, name: str = "data.bin", seed: int = 0) -> int:
    """Writes so many chunks, in a worker process."""
    with context.artifact(name) as file:
        for number in range(chunks):
            file.write(piece(seed, number))
    return chunks


@tool("files.thread", effect=Effect.READ_ONLY, runs=Runs.THREAD)
def in_thread(context: SyncToolContext, chunks: int, seed: int = 0) -> int:
    """The same in a thread."""
    with context.artifact("data.bin") as file:
        for number in range(chunks):
            file.write(piece(seed, number))
    return chunks


@tool("files.loop", effect=Effect.READ_ONLY)
async def on_loop(context: AsyncToolContext, chunks: int, seed: int = 0) -> int:
    """The same on the event loop."""
    async with context.artifact("data.bin") as file:
        for number in range(chunks):
            await file.write(piece(seed, number))
    return chunks


@tool("files.report", effect=Effect.READ_ONLY)
async def report(context: AsyncToolContext, rows: int) -> dict[str, int]:
    """Writes a table and a note."""
    async with context.artifact("../../report.csv", "text/csv; charset=utf-8") as file:
        await file.write("name,größe\n")
        for row in range(rows):
            await file.write(f"row {row},{row}\n")
    async with context.artifact("note.txt", "text/plain"):
        pass
    return {"rows": rows}


@tool("files.value", effect=Effect.READ_ONLY)
def value(size: int) -> dict[str, str]:
    """Returns a text of so many characters."""
    return {"text": "x" * size}


@tool("files.secret_value", effect=Effect.READ_ONLY)
def secret_value(size: int, password: SecretStr) -> dict[str, str]:
    """The same, of a tool that has secrets."""
    return {"text": "x" * size + password.get_secret_value()[:0]}


@tool("files.outer", effect=Effect.READ_ONLY)
async def outer(context: AsyncToolContext, size: int) -> int:
    """Calls `files.value` and says how long its text was."""
    return len((await context.call("files.value", {"size": size}))["text"])


@tool("files.many", effect=Effect.READ_ONLY)
def many(context: SyncToolContext, count: int) -> int:
    """Begins so many artifacts."""
    for number in range(count):
        with context.artifact(f"{number}.txt", "text/plain") as file:
            file.write(str(number))
    return count


@tool("files.caught", effect=Effect.READ_ONLY)
def caught(context: SyncToolContext, chunks: int) -> str:
    """Writes too much, and says so itself."""
    with context.artifact("small.txt", "text/plain") as file:
        file.write("kept")
    try:
        with context.artifact("large.bin") as file:
            for number in range(chunks):
                file.write(piece(0, number))
    except ArtifactRefused as error:
        return error.failure.metadata["limit"]
    return ""


@tool("files.failing", effect=Effect.READ_ONLY)
def failing(context: SyncToolContext) -> None:
    """Fails after it has written one artifact, and in the middle of another."""
    with context.artifact("whole.txt") as file:
        file.write("whole")
    with context.artifact("half.txt") as file:
        file.write("half")
        raise ToolError("no more")


@tool("files.dying", effect=Effect.READ_ONLY)
def dying(context: SyncToolContext) -> None:
    """Dies in the middle of it."""
    with context.artifact("half.txt") as file:
        file.write(piece(0, 0))
        os.kill(os.getpid(), signal.SIGKILL)


@tool("files.stuck", effect=Effect.READ_ONLY)
async def stuck(context: AsyncToolContext) -> None:
    """Never ends, in the middle of it."""
    async with context.artifact("half.txt") as file:
        await file.write(piece(0, 0) * 5)
        context.progress(1)
        await asyncio.Event().wait()


@tool("files.misnamed", effect=Effect.READ_ONLY)
def misnamed(context: SyncToolContext, name: str, media_type: str) -> str:
    """Says whether the name and the type are accepted."""
    try:
        with context.artifact(name, media_type):
            return "accepted"
    except ValueError:
        return "refused"


_attempts = 0


@tool("files.again", effect=Effect.IDEMPOTENT, runs=Runs.THREAD)
def again(context: SyncToolContext) -> int:
    """Fails the first time, after it has written something."""
    global _attempts  # noqa: PLW0603 (what a retry is told apart by)
    _attempts += 1
    with context.artifact(f"attempt-{_attempts}.txt") as file:
        file.write(str(_attempts))
    if _attempts == 1:
        raise ToolError("once more", retryable=True, retry_delay=0.0)
    return _attempts
