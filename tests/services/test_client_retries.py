"""When the client sends again, and when it would not help: with servers that refuse, break off or are killed."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2, tool_execution_pb2
from toolwright_client import (
    AsyncClient,
    CallOptions,
    ConnectionLost,
    Forbidden,
    LimitReached,
    NotConnected,
    OutcomeUnknown,
    RateLimited,
    RecordFailed,
    RequestIdReused,
    RetryPolicy,
    ServerDraining,
    ServerError,
    StoreUnavailable,
    ToolNotFound,
    ToolwrightError,
    Unauthenticated,
    Unavailable,
    retries,
)

from .client_server import Answer, Context, Scripted, execution, refuse, serving, started

SERVER = Path(__file__).with_name("client_server.py")
QUICK = RetryPolicy(initial_backoff_seconds=0.01, lost_seconds=2)
EFFECTS = [common_pb2.EFFECT_READ_ONLY, common_pb2.EFFECT_IDEMPOTENT, common_pb2.EFFECT_SIDE_EFFECT]
NAMES = ["read only", "idempotent", "side effect"]


def refusing(code: grpc.StatusCode, reason: str, **more: Any) -> Answer:
    async def answer(request: Any, context: Context) -> None:
        await refuse(context, code, reason, **more)

    return answer


def breaking_off(code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> Answer:
    """What a proxy or a dying server leaves behind: a status without details."""

    async def answer(request: Any, context: Context) -> None:
        await context.abort(code, "Socket closed")

    return answer


@pytest.mark.asyncio
async def test_a_refusal_with_pushback_is_sent_again_after_it() -> None:
    limited = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMITED", retry_after=0.3, pushback_ms=300)
    script = Scripted()
    script.execute.extend([limited, limited])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        assert (await client.execute("t")).value == 42
    first, second, third = script.of("Execute")
    assert second.at - first.at >= 0.29
    assert third.at - second.at >= 0.29
    assert {each.request.call.request_id for each in (first, second, third)} == {first.request.call.request_id}


@pytest.mark.asyncio
async def test_a_negative_pushback_stops_at_once() -> None:
    script = Scripted()
    script.execute.append(refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "PAYLOAD_TOO_LARGE", pushback_ms=-1))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(LimitReached):
            await client.execute("t")
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
async def test_limits_are_asked_at_most_as_often_as_the_policy_says() -> None:
    limited = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", retry_after=0.01, pushback_ms=10)
    script = Scripted()
    script.execute.extend([limited] * 9)
    policy = RetryPolicy(max_attempts=3, initial_backoff_seconds=0.01)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        with pytest.raises(RateLimited) as caught:
            await client.execute("t")
    assert caught.value.retry_delay == pytest.approx(0.01)
    assert len(script.of("Execute")) == 3


@pytest.mark.asyncio
async def test_what_was_not_started_is_sent_again_after_the_delay() -> None:
    draining = refusing(
        grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_after=0.2, outcome="not_started", pushback_ms=200
    )
    script = Scripted()
    script.execute.append(draining)
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        assert (await client.execute("t")).value == 42
    first, second = script.of("Execute")
    assert second.at - first.at >= 0.19


@pytest.mark.asyncio
async def test_a_wait_longer_than_the_deadline_is_not_begun() -> None:
    draining = refusing(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_after=60, outcome="not_started")
    script = Scripted()
    script.execute.append(draining)
    async with serving(script) as target, AsyncClient(target, retries=QUICK, timeout=5) as client:
        with pytest.raises(ServerDraining) as caught:
            await asyncio.wait_for(client.execute("t"), 4)
    assert caught.value.retry_delay == 60
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("effects", [{"t": effect} for effect in EFFECTS] + [{}], ids=[*NAMES, "unknown"])
async def test_a_lost_call_is_sent_again_under_its_request_id_whatever_the_tool_does(effects: dict[str, int]) -> None:
    script = Scripted(effects=effects)
    script.execute.extend([breaking_off(), breaking_off(), breaking_off()])
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        assert (await client.execute("t")).value == 42
    calls = [each.request.call for each in script.of("Execute")]
    assert len(calls) == 4
    assert len({call.request_id for call in calls}) == 1
    assert calls[0] == calls[-1]


@pytest.mark.asyncio
async def test_the_effect_of_a_tool_is_asked_for_once() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    async with serving(script) as target, AsyncClient(target) as client:
        for _ in range(3):
            await client.execute("t")
    assert len(script.of("GetTool")) == 1
    assert len(script.of("Execute")) == 3


@pytest.mark.asyncio
async def test_a_call_that_joined_one_whose_server_died_is_made_again() -> None:
    script = Scripted()
    script.execute.append(refusing(grpc.StatusCode.INTERNAL, "INTERNAL", retry_after=0, outcome="none"))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        assert (await client.execute("t")).value == 42
    assert len(script.of("Execute")) == 2


@pytest.mark.asyncio
async def test_a_defect_of_the_server_is_not_met_twice() -> None:
    script = Scripted()
    script.execute.append(refusing(grpc.StatusCode.INTERNAL, "INTERNAL"))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(ServerError):
            await client.execute("t")
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("code", "reason", "kind", "outcome"),
    [
        (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", RequestIdReused, "not_started"),
        (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN", OutcomeUnknown, "unknown"),
        (grpc.StatusCode.INTERNAL, "RECORD_FAILED", RecordFailed, "unknown"),
        (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", Unauthenticated, "not_started"),
        (grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN", Forbidden, "not_started"),
    ],
)
async def test_a_final_word_is_a_typed_error_and_asked_for_once(
    code: grpc.StatusCode, reason: str, kind: type[ToolwrightError], outcome: str
) -> None:
    script = Scripted()
    script.execute.append(refusing(code, reason, outcome=outcome, execution_id="e-5"))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(kind) as caught:
            await client.execute("t", request_id="mine")
    error = caught.value
    assert (error.code, error.reason, error.outcome, error.execution_id) == (code, reason, outcome, "e-5")
    assert error.request_id == "mine"
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
async def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    away = refusing(
        grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", retry_after=0.01, outcome="not_started", pushback_ms=10
    )
    script = Scripted()
    script.execute.extend([away] * 6)
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(StoreUnavailable) as caught:
            await client.execute("t")
        assert (await client.execute("t")).value == 42
    assert caught.value.outcome == "not_started"
    assert len(script.of("Execute")) == 7


@pytest.mark.asyncio
async def test_a_refusal_after_a_lost_call_proves_nothing_about_it() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    script.execute.append(breaking_off())
    script.execute.append(refusing(grpc.StatusCode.NOT_FOUND, "TOOL_NOT_FOUND", outcome="not_started"))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(ToolNotFound, match="an earlier one may have run") as caught:
            await client.execute("t")
    assert caught.value.outcome == "unknown"


@pytest.mark.asyncio
async def test_a_lost_call_is_asked_for_beyond_the_attempts_and_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "LOST_PAUSE_SECONDS", 0.02)
    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT})
    script.execute.extend([breaking_off()] * 20)
    policy = RetryPolicy(max_attempts=3, initial_backoff_seconds=0.01, lost_seconds=0.1)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        with pytest.raises(OutcomeUnknown, match="asking for it again failed") as caught:
            await client.execute("t")
    error = caught.value
    assert len(script.of("Execute")) == 3 + 5
    assert error.request_id == script.of("Execute")[0].request.call.request_id
    assert (error.outcome, error.code) == ("unknown", grpc.StatusCode.ABORTED)
    assert error.request_id in error.suggested_action


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED]
)
async def test_no_other_bare_status_is_repeated_even_for_a_repeatable_tool(code: grpc.StatusCode) -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.execute.append(breaking_off(code))
    async with serving(script) as target, AsyncClient(target, retries=QUICK) as client:
        with pytest.raises(ToolwrightError) as caught:
            await client.execute("t")
    assert (caught.value.code, caught.value.outcome) == (code, "unknown")
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
async def test_a_try_that_was_not_sent_proves_nothing_about_one_before_it() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_IDEMPOTENT})
    server, target = await started(script)

    async def last(request: Any, context: Context) -> None:
        script.execute.clear()
        stopping.append(asyncio.create_task(server.stop(0)))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    stopping: list[asyncio.Task[None]] = []
    script.execute.append(last)
    async with AsyncClient(target, retries=QUICK) as client:
        await client.tool("t")
        with pytest.raises(NotConnected, match="an earlier one may have run") as caught:
            await client.execute("t")
    await asyncio.gather(*stopping)
    assert caught.value.outcome == "unknown"


@pytest.mark.asyncio
async def test_a_policy_of_one_attempt_never_repeats() -> None:
    script = Scripted(effects={"t": common_pb2.EFFECT_READ_ONLY})
    script.execute.append(breaking_off())
    policy = RetryPolicy(max_attempts=1, initial_backoff_seconds=0.01)
    async with serving(script) as target, AsyncClient(target, retries=policy) as client:
        with pytest.raises(ConnectionLost):
            await client.execute("t")
    assert len(script.of("Execute")) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("name", [{}, {"request_id": "mine"}], ids=["unnamed", "named"])
async def test_a_call_of_a_side_effect_is_detached_and_still_stopped_when_cancelled(name: CallOptions) -> None:
    begun, asked = asyncio.Event(), asyncio.Event()

    async def hangs(request: Any, context: Context) -> None:
        begun.set()
        await asyncio.Event().wait()

    async def running(request: Any, context: Context) -> Any:
        asked.set()
        return tool_execution_pb2.GetExecutionResponse(execution=execution("e-5", common_pb2.STATE_RUNNING))

    async def not_recorded(request: Any, context: Context) -> None:
        await refuse(context, grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")

    script = Scripted(effects={"t": common_pb2.EFFECT_SIDE_EFFECT, "r": common_pb2.EFFECT_READ_ONLY})
    async with serving(script) as target, AsyncClient(target) as client:
        await client.execute("r", **name)
        script.execute.append(hangs)
        script.get.extend([not_recorded, running])
        waiting = asyncio.create_task(client.execute("t", **name))
        await asyncio.wait_for(begun.wait(), 5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(asked.wait(), 5)
    read, acting = (each.request.call for each in script.of("Execute"))
    assert (read.detach_on_disconnect, acting.detach_on_disconnect) == (False, True)
    assert {each.request.request_id for each in script.of("GetExecution")} == {acting.request_id}
    assert [each.request.execution_id for each in script.of("CancelExecution")] == ["e-5"]


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, calls: list[int]) -> None:
    """Just enough HTTP/2 to take a whole request and then reset it with ENHANCE_YOUR_CALM, as a proxy may."""
    settings, ping, data, acknowledged, calm = 4, 6, 0, 1, 11
    await reader.readexactly(24)
    writer.write(bytes([0, 0, 0, settings, 0, 0, 0, 0, 0]))
    while frame := await reader.read(9):
        length, kind, flags, stream = int.from_bytes(frame[:3]), frame[3], frame[4], frame[5:]
        body = await reader.readexactly(length)
        if kind == settings and not flags & acknowledged:
            writer.write(bytes([0, 0, 0, settings, acknowledged, 0, 0, 0, 0]))
        if kind == ping and not flags & acknowledged:
            writer.write(bytes([0, 0, 8, ping, acknowledged, 0, 0, 0, 0]) + body)
        if kind == data and flags & acknowledged:
            calls.append(int.from_bytes(stream))
            writer.write(bytes([0, 0, 4, 3, 0, *stream, 0, 0, 0, calm]))
        await writer.drain()


@pytest.mark.asyncio
async def test_a_proxy_that_resets_a_running_call_as_if_by_a_limit_gets_it_only_once() -> None:
    calls: list[int] = []
    writers: list[asyncio.StreamWriter] = []
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await resetting(reader, writer, calls)
        ended.set()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    async with proxy, AsyncClient(f"127.0.0.1:{port}", retries=QUICK) as client:
        with pytest.raises(LimitReached) as caught:
            await client.execute("t", timeout=5, detach=False)
        for writer in writers:
            writer.close()
            await writer.wait_closed()
        await asyncio.wait_for(ended.wait(), 5)
    assert (caught.value.reason, caught.value.outcome) == ("", "unknown")
    assert len(calls) == 1


@asynccontextmanager
async def process(address: str, journal: Path, effect: int, fate: str) -> AsyncGenerator[str]:
    """The server in a process of its own, and its address."""
    arguments = (str(SERVER), address, str(journal), str(effect), fate)
    server = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        yield (await asyncio.wait_for(server.stdout.readline(), 20)).decode().strip()
    finally:
        if server.returncode is None:
            server.kill()
        await asyncio.wait_for(server.wait(), 10)


@pytest.mark.asyncio
@pytest.mark.parametrize("effect", EFFECTS, ids=NAMES)
async def test_a_server_killed_in_mid_call_is_asked_again_under_the_same_request_id(
    tmp_path: Path, effect: int
) -> None:
    journal = tmp_path / "journal"
    async with process("127.0.0.1:0", journal, effect, "die") as target, AsyncClient(target) as client:
        waiting = asyncio.create_task(client.execute("t"))
        while not journal.exists():
            await asyncio.wait({waiting}, timeout=0.02)
        async with process(target, journal, effect, "live"):
            assert (await asyncio.wait_for(waiting, 25)).value == 42
    # This server forgets when it is killed; a real one would have known the call by its name.
    first, second = journal.read_text().splitlines()
    assert first == second


@pytest.mark.asyncio
async def test_a_server_that_stays_dead_leaves_the_outcome_of_a_side_effect_unknown(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    async with (
        process("127.0.0.1:0", journal, common_pb2.EFFECT_SIDE_EFFECT, "die") as target,
        AsyncClient(target, retries=QUICK) as client,
    ):
        await client.tool("t")
        with pytest.raises(OutcomeUnknown, match="asking for it again failed"):
            await asyncio.wait_for(client.execute("t", request_id="pay-8"), 20)
        with pytest.raises(Unavailable):
            await client.tools()
    assert journal.read_text() == "pay-8\n"
