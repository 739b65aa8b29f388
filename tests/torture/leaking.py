"""Calls that are cancelled or run out of time, and what the server still holds afterwards: for sample and long run."""

import asyncio
import contextlib
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import grpc
import psutil

from tests.live import LiveServer, execute_request
from toolwright.v1 import tool_execution_pb2, tool_execution_pb2_grpc

TOOLS = ("sleep", "burn", "sleep", "block", "sleep", "spawn", "count", "count")
WAYS = ("cancel", "deadline", "timeout")
CALLERS = 32
QUIET_SECONDS = 30.0
SETTINGS = {
    "TOOLWRIGHT_TOOLKITS": "diagnostics",
    # Small, so that what is kept by intent is full after the warm-up.
    "TOOLWRIGHT_EXECUTIONS_KEPT_COUNT": "200",
    "TOOLWRIGHT_SQLITE_CACHE_BYTES": str(512 * 1024),
}


@dataclass(frozen=True, slots=True)
class Held:
    """What the server and its helpers hold while nothing runs."""

    descriptors: int
    helpers_descriptors: int
    processes: int
    threads: int
    in_flight: float
    rss_bytes: int

    def exceeds(self, before: "Held") -> list[str]:
        """Names of what is more than before; memory is judged elsewhere, over all rounds."""
        now, then = asdict(self), asdict(before)
        return [f"{name}: {then[name]} → {now[name]}" for name in now if name != "rss_bytes" and now[name] > then[name]]


async def leak_rounds(server: LiveServer, *, rounds: int, calls: int, warm: int | None = None) -> list[Held]:
    """A warm-up and `rounds` rounds of `calls` calls each, over one connection; what is held after each of them."""
    found: list[Held] = []
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        stub: Any = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        for number in range(rounds + 1):
            began = time.monotonic()
            await _round(stub, calls if number or warm is None else warm)
            before = found[0] if found else None
            found.append(await _quiet(server, before))
            figures = {"round": number, "calls": calls, "seconds": round(time.monotonic() - began, 1)}
            print(json.dumps(figures | asdict(found[-1])), flush=True)  # noqa: T201 (the long run's product)
    return found


async def _round(stub: Any, calls: int) -> None:
    numbers = iter(range(calls))

    async def caller() -> None:
        for number in numbers:
            await _call(stub, TOOLS[number % len(TOOLS)], WAYS[number // len(TOOLS) % len(WAYS)], number)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def _call(stub: Any, tool: str, way: str, number: int) -> None:
    """One call that never comes to its own end."""
    arguments = {"steps": 10_000, "interval_seconds": 0.02} if tool == "count" else {"seconds": 30}
    seconds = 0.1 + number % 5 / 20
    request = execute_request(f"diagnostics.{tool}", arguments, **({"timeout": seconds} if way == "timeout" else {}))
    deadline = seconds if way == "deadline" else 30.0
    if tool == "count":
        streamed = stub.ExecuteStream(tool_execution_pb2.ExecuteStreamRequest(call=request.call), timeout=deadline)
        ended = asyncio.ensure_future(_read(streamed))
    else:
        streamed = stub.Execute(request, timeout=deadline)
        ended = asyncio.ensure_future(_answered(streamed))
    if way == "cancel":
        await asyncio.sleep(seconds)
        streamed.cancel()
    try:
        await ended
    except asyncio.CancelledError:
        return
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
            return
        raise
    raise AssertionError(f"{tool} came to its own end")


async def _read(stream: Any) -> None:
    async for _ in stream:
        pass


async def _answered(call: Any) -> None:
    await call


async def _quiet(server: LiveServer, before: Held | None) -> Held:
    """What is held as soon as it is no more than before, or else when the patience is over."""
    until = time.monotonic() + QUIET_SECONDS
    while True:
        now = await asyncio.to_thread(held, server)
        settled = not now.in_flight and (not now.exceeds(before) if before is not None else _same(server, now))
        if settled or time.monotonic() > until:
            return now
        await asyncio.sleep(0.2)


def _same(server: LiveServer, now: Held) -> bool:
    """Whether nothing has changed for a moment: workers that were killed have been replaced."""
    time.sleep(1)
    again = held(server)
    return not again.exceeds(now) and not now.exceeds(again)


def held(server: LiveServer) -> Held:
    """What the server holds now."""
    in_flight = sum(
        server.metric(name)
        for name in ("toolwright_executions_running", "toolwright_calls_in_flight", "toolwright_worker_queue_length")
    )
    process = psutil.Process(server.pid)
    descriptors = helpers = processes = 0
    for below in server.descendants():
        with contextlib.suppress(psutil.NoSuchProcess):
            processes += below.status() != psutil.STATUS_ZOMBIE
            if below.ppid() == server.pid:
                helpers += below.num_fds()
    descriptors = process.num_fds()
    return Held(descriptors, helpers, processes, process.num_threads(), in_flight, process.memory_info().rss)


def slope_bytes(rounds: list[Held]) -> float:
    """Least-squares growth of memory per round, in bytes."""
    count = len(rounds)
    middle = (count - 1) / 2
    mean = sum(each.rss_bytes for each in rounds) / count
    above = sum((number - middle) * (each.rss_bytes - mean) for number, each in enumerate(rounds))
    return above / sum((number - middle) ** 2 for number in range(count))
