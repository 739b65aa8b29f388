"""Calls at a fixed rate, whatever becomes of them, from a process of its own, as tenants have.

`python -m tests.torture.open_loop PLAN` prints a line when it begins, and one JSON object at its end (`Seen`). A call
is sent when its time has come, also while those before it are unanswered; none is sent again.
"""

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter as Tally
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from tests.live import execute_request

MODULE = "tests.torture.open_loop"
ROOT = Path(__file__).parents[2]
PATH = "/toolwright.v1.ToolExecution/Execute"
BEGINS = "begins"
START_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """Who calls what, how often. Times of calls are spread by up to half the distance between two of them.

    `nice` is the priority of the process: whose load is only there to disturb does not take the processor from others.
    """

    address: str
    secret: str
    rate: float
    seconds: float
    tool: str = "diagnostics.echo"
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    connections: int = 1
    deadline_seconds: float = 20.0
    nice: int = 0
    seed: int = 1

    @property
    def calls(self) -> int:
        """How many there will be."""
        return round(self.rate * self.seconds)


@dataclass
class Seen:
    """What became of the calls. Times in milliseconds: of those that ran, of all others, and how late each was sent."""

    calls: int = 0
    seconds: float = 0.0
    # Of processor time, which the process took from its start.
    process_seconds: float = 0.0
    answers: dict[str, int] = field(default_factory=dict[str, int])
    took: list[float] = field(default_factory=list[float])
    refused: list[float] = field(default_factory=list[float])
    late: list[float] = field(default_factory=list[float])

    @property
    def rate(self) -> float:
        """Calls a second, as they were really sent."""
        return self.calls / self.seconds

    def add(self, other: Self) -> None:
        """The same, and later."""
        self.calls += other.calls
        self.seconds += other.seconds
        self.process_seconds += other.process_seconds
        self.answers = dict(Tally(self.answers) + Tally(other.answers))
        self.took += other.took
        self.refused += other.refused
        self.late += other.late


class Sending:
    """A process that calls. Made by `sending`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def seen(self, seconds: float) -> Seen:
        """Wait for its end, at most so long."""
        assert self._process.stdout is not None
        async with asyncio.timeout(seconds):
            text = await self._process.stdout.read()
            code = await self._process.wait()
        assert code == 0, f"the caller ended with {code}"
        return Seen(**json.loads(text))


@contextlib.asynccontextmanager
async def sending(plan: Plan) -> AsyncGenerator[Sending]:
    """A process whose calls begin now; ended afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE, json.dumps(asdict(plan)), cwd=ROOT, stdout=subprocess.PIPE, limit=2**24
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
        assert line.decode().strip() == BEGINS, f"the caller could not begin: {line!r}"
        yield Sending(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def send(plan: Plan) -> Seen:
    """Make the calls."""
    seen, chance = Seen(), random.Random(plan.seed)
    # Each connection is one of its own, as those of callers on different machines are.
    options = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(plan.address, options=options))
            for _ in range(plan.connections)
        ]
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), START_SECONDS)
        methods: list[Any] = [channel.unary_unary(PATH) for channel in channels]
        message = execute_request(plan.tool, plan.arguments).SerializeToString()
        metadata = (("authorization", f"Bearer {plan.secret}"),)
        print(BEGINS, flush=True)  # noqa: T201 (whoever started it waits for this line)
        began, tasks = time.monotonic(), set[asyncio.Task[None]]()
        for number in range(plan.calls):
            due = began + (number + chance.random()) / plan.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            call = methods[number % len(methods)](message, metadata=metadata, timeout=plan.deadline_seconds)
            task = asyncio.create_task(_one(call, time.monotonic(), seen))
            seen.late.append((time.monotonic() - due) * 1_000)
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        seen.calls, seen.seconds = plan.calls, time.monotonic() - began
        await asyncio.gather(*tasks)
        seen.process_seconds = time.process_time()
    return seen


async def _one(call: Any, sent: float, seen: Seen) -> None:
    try:
        await call
        answer, times = "OK", seen.took
    except grpc.aio.AioRpcError as error:
        answer, times = _reason(error) or error.code().name, seen.refused
    times.append((time.monotonic() - sent) * 1_000)
    seen.answers[answer] = seen.answers.get(answer, 0) + 1


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Of all that a refusal says only this is read: thousands come in a second."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            info = error_details_pb2.ErrorInfo()
            status_pb2.Status.FromString(value).details[0].Unpack(info)
            return info.reason
    return ""


if __name__ == "__main__":
    _plan = Plan(**json.loads(sys.argv[1]))
    os.nice(_plan.nice)
    print(json.dumps(asdict(asyncio.run(send(_plan)))))  # noqa: T201 (its product)
