"""The blocking client over real gRPC: from threads, around forks, under an interrupt and at the end of a process."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context as otel

from toolwright.v1 import common_pb2
from toolwright_client import Client, Finished, State, ToolNotFound
from toolwright_client.background import background

from .client_server import Context, Scripted, finished, progress, snapshot, started

SERVER = Path(__file__).with_name("client_server.py")


class Served:
    """A scripted server on the loop of the blocking clients."""

    def __init__(self) -> None:
        self.script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
        self.server, self.target = background().run(started(self.script))


@pytest.fixture
def served() -> Generator[Served]:
    made = Served()
    yield made
    background().run(made.server.stop(0))


def test_it_does_what_the_async_client_does(served: Served) -> None:
    async def events(request: Any, context: Context) -> AsyncIterator[common_pb2.ExecutionEvent]:
        for each in (snapshot(), progress(1), finished(2)):
            yield each

    served.script.stream.extend([events, events, events])
    served.script.wait.extend([events, events, events])
    with Client(served.target) as client:
        assert client.execute("t", {"a": 1}).value == 42
        got = list(client.stream("t"))
        assert client.stream("t").result().value == 42
        handle = client.start("t")
        assert handle.result().value == 42
        assert isinstance(list(handle.events())[-1], Finished)
        assert client.wait("e-1").state is State.SUCCEEDED
        assert [tool.name for tool in client.tools()] == ["t"]
        assert not client.validate("t", {}).valid
        assert client.cancel("e-2").state is State.CANCELLED
        assert len(client.list(limit=2)) == 2
        with pytest.raises(ToolNotFound):
            client.tool("u")
    assert [each.sequence for each in got] == [0, 1, 2]


def test_leaving_a_stream_early_tells_the_server(served: Served) -> None:
    stopped = threading.Event()

    async def endless(request: Any, context: Context) -> AsyncIterator[common_pb2.ExecutionEvent]:
        try:
            yield snapshot()
            while True:
                yield progress(1)
        finally:
            stopped.set()

    served.script.stream.append(endless)
    with Client(served.target) as client:
        with client.stream("t") as stream:
            assert next(stream).execution_id == "e-1"
        assert stopped.wait(5)


def test_threads_share_one_client_and_keep_their_own_context(served: Served) -> None:
    def call(number: int) -> Any:
        token = otel.attach(otel.set_value("toolwright-execution-id", f"parent-{number}"))
        try:
            return client.execute("t", request_id=f"r-{number}").value
        finally:
            otel.detach(token)

    with Client(served.target) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(40))) == [42] * 40
    calls = [each.request.call for each in served.script.of("Execute")]
    assert {call.request_id: call.parent_execution_id for call in calls} == {
        f"r-{number}": f"parent-{number}" for number in range(40)
    }


def test_it_refuses_to_wait_on_its_own_loop(served: Served) -> None:
    client = Client(served.target)

    async def inside() -> None:
        with pytest.raises(RuntimeError, match="AsyncClient"):
            client.execute("t")

    background().run(inside())


# They write by os.write: lines of a parent and its fork must not mix.
PROGRAM = """
import os, signal, sys, threading
from toolwright_client import Client
client = Client(sys.argv[1])
{body}
"""

FORK_BEFORE = """
child = os.fork()
os.write(1, b"value %d\\n" % client.execute("t").value)
if child:
    os.waitpid(child, 0)
"""

FORK_AFTER = """
client.execute("t")
child = os.fork()
if not child:
    try:
        client.execute("t")
    except RuntimeError as error:
        os.write(1, b"refused %d\\n" % ("spawn" in str(error)))
    sys.exit(0)
os.waitpid(child, 0)
os.write(1, b"value %d\\n" % client.execute("t").value)
"""

LEFT_OPEN = """
os.write(1, b"value %d\\n" % client.execute("t").value)
"""

INTERRUPTED = """
print("calling", flush=True)
try:
    client.execute("t", timeout=30)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def target(tmp_path: Path) -> Generator[str]:
    """A server in a process of its own, so that no gRPC runs in the parent of those that fork."""
    arguments = (str(SERVER), "127.0.0.1:0", str(tmp_path / "journal"), "1", "live")
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.kill()


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        (FORK_BEFORE, ["value 42", "value 42"]),
        (FORK_AFTER, ["refused 1", "value 42"]),
        (LEFT_OPEN, ["value 42"]),
    ],
    ids=["forked before its first use", "forked after its first use", "never closed"],
)
def test_a_process_ends_in_peace(target: str, body: str, lines: list[str]) -> None:
    program = PROGRAM.format(body=body)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, target], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.splitlines() == lines, done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_an_interrupt_cancels_the_call_at_the_server(served: Served) -> None:
    begun, stopped = threading.Event(), threading.Event()

    async def hangs(request: Any, context: Context) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    served.script.execute.append(hangs)
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(body=INTERRUPTED), served.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert begun.wait(20)
        os.kill(caller.pid, signal.SIGINT)
        assert stopped.wait(5)
        output, _ = caller.communicate(timeout=10)
    assert output.splitlines() == ["calling", "interrupted"]
    assert caller.returncode == 0
