"""Calls with a deadline under load, and what the client saw: used by the sample and by the long run."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from tests.live import LiveServer, execute_request
from toolwright.v1 import tool_execution_pb2_grpc
from toolwright_server.toolkits.diagnostics.heartbeat import last_beat

KINDS = ("sleep", "burn", "block", "spawn")


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its client saw it. Times in seconds; `overrun` counts from the deadline that was asked for."""

    code: str
    reason: str
    outcome: str
    overrun: float
    # How long after its deadline the work itself still showed a sign of life; None without any.
    work_overrun: float | None


async def measure(
    server: LiveServer, kind: str, *, calls: int, callers: int, by: str, heartbeats: Path | None = None
) -> list[Seen]:
    """`calls` calls of diagnostics.<kind> that want 30 s and get 1 s, by the client's deadline or by `timeout`."""
    queue = list(range(calls))
    seen: list[Seen] = []
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)

        async def caller(number: int) -> None:
            while queue:
                queue.pop()
                name = f"{kind}-{number}" if heartbeats is not None else None
                seen.append(await _call(stub, kind, by, name, heartbeats))

        await asyncio.gather(*(caller(number) for number in range(callers)))
    return seen


async def _call(stub: Any, kind: str, by: str, name: str | None, heartbeats: Path | None) -> Seen:
    arguments: dict[str, Any] = {"seconds": 30}
    if name is not None:
        arguments["heartbeat"] = name
    limits: dict[str, Any] = {"timeout": 1.0} if by == "timeout" else {}
    request = execute_request(f"diagnostics.{kind}", arguments, **limits)
    began = time.monotonic()
    try:
        await stub.Execute(request, timeout=10.0 if by == "timeout" else 1.0)
        code, reason, outcome = "OK", "", ""
    except grpc.aio.AioRpcError as error:
        code = error.code().name
        reason, outcome = _details(error)
    ended = time.monotonic()
    beat = None
    if name is not None and heartbeats is not None:
        await asyncio.sleep(0.5)
        last = last_beat(heartbeats / name)
        beat = None if last is None or last < began else last - (began + 1.0)
    return Seen(code, reason, outcome, ended - began - 1.0, beat)


def _details(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason, info.metadata.get("outcome", "")
    return "", ""


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def report(title: str, seen: list[Seen]) -> dict[str, Any]:
    """The figures of one series, printed and returned."""
    overruns = [one.overrun for one in seen]
    work = [one.work_overrun for one in seen if one.work_overrun is not None]
    figures = {
        "series": title,
        "calls": len(seen),
        "deadline_exceeded": sum(one.code == "DEADLINE_EXCEEDED" for one in seen),
        "with_details": sum(bool(one.reason) for one in seen),
        "overrun_p50_ms": round(percentile(overruns, 0.5) * 1000, 1),
        "overrun_p99_ms": round(percentile(overruns, 0.99) * 1000, 1),
        "work_overrun_p99_ms": round(percentile(work, 0.99) * 1000, 1) if work else None,
    }
    print(json.dumps(figures), flush=True)  # noqa: T201 (the long run's product is its figures)
    return figures
