"""A handler of a user's own server calls a tool: deadline and trace go through, for every kind of handler."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry import trace

from toolwright_client import AsyncClient, BlockingDeadlineInterceptor, Client, DeadlineExceeded, DeadlineInterceptor
from toolwright_client.deadline import surrounding_deadline

from .client_server import Scripted, serving

TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


def around() -> bytes:
    """The seconds left and the trace id, as the running handler sees them."""
    until = surrounding_deadline()
    left = "none" if until is None else f"{until - time.monotonic():.3f}"
    return f"{left} {trace.get_current_span().get_span_context().trace_id:032x}".encode()


class AsyncHandlers(grpc.GenericRpcHandler):
    """One handler of each kind."""

    async def answer(self, request: Any, context: Any) -> bytes:
        return around()

    async def answers(self, request: Any, context: Any) -> AsyncIterator[bytes]:
        yield around()
        yield around()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        kind = handler_call_details.method.removeprefix("/t/")
        if kind not in KINDS:
            return None
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(self.answers if kind.endswith("stream") else self.answer)


class BlockingHandlers(AsyncHandlers):
    """The same without async."""

    def answer(self, request: Any, context: Any) -> bytes:  # type: ignore[override]
        return around()

    def answers(self, request: Any, context: Any) -> Iterator[bytes]:  # type: ignore[override]
        yield around()
        yield around()


def ask(target: str, kind: str, timeout: float | None) -> list[str]:
    with grpc.insecure_channel(target) as channel:
        rpc = getattr(channel, kind)(f"/t/{kind}")
        request = iter([b""]) if kind.startswith("stream") else b""
        answer = rpc(request, timeout=timeout, metadata=(("traceparent", TRACEPARENT),))
        return [each.decode() for each in ([answer] if isinstance(answer, bytes) else answer)]


def inherited(seen: list[str], kind: str) -> bool:
    left, trace_id = zip(*(each.split() for each in seen), strict=True)
    return (
        len(seen) == (2 if kind.endswith("stream") else 1)
        and all(0 < float(each) <= 5.3 for each in left)
        and set(trace_id) == {"a" * 32}
    )


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("handlers", [AsyncHandlers, BlockingHandlers])
async def test_handlers_of_an_async_server_inherit_deadline_and_trace(
    kind: str, handlers: type[grpc.GenericRpcHandler]
) -> None:
    server = grpc.aio.server(
        handlers=[handlers()], interceptors=[DeadlineInterceptor()], migration_thread_pool=ThreadPoolExecutor(2)
    )
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        assert inherited(await asyncio.to_thread(ask, target, kind, 5), kind)
        assert (await asyncio.to_thread(ask, target, kind, None))[0].startswith("none")
        async with grpc.aio.insecure_channel(target) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
                await channel.unary_unary("/t/none")(b"", timeout=5)
    finally:
        await server.stop(0)


@pytest.mark.parametrize("kind", KINDS)
def test_handlers_of_a_blocking_server_inherit_deadline_and_trace(kind: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[BlockingHandlers()], interceptors=[BlockingDeadlineInterceptor()])
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            assert inherited(ask(target, kind, 5), kind)
            assert ask(target, kind, None)[0].startswith("none")
        finally:
            server.stop(0).wait(5)


@pytest.mark.asyncio
async def test_a_tool_called_from_a_handler_gets_what_is_left_of_the_handlers_deadline() -> None:
    script = Scripted()

    class Handlers(AsyncHandlers):
        async def answer(self, request: Any, context: Any) -> bytes:
            async with AsyncClient(tools) as client:
                await client.execute("t", timeout=50)
            await asyncio.to_thread(blocking)
            return b""

    def blocking() -> None:
        with Client(tools) as client:
            client.execute("t")

    async with serving(script) as tools:
        server = grpc.aio.server(handlers=[Handlers()], interceptors=[DeadlineInterceptor()])
        target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            await asyncio.to_thread(ask, target, "unary_unary", 5)
        finally:
            await server.stop(0)
    seen = script.of("Execute")
    assert len(seen) == 2
    assert all(each.remaining is not None and 2 < each.remaining <= 5.5 for each in seen)
    assert all(each.metadata["traceparent"] == TRACEPARENT for each in seen)


@pytest.mark.asyncio
async def test_a_deadline_that_passes_while_connecting_is_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with AsyncClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(DeadlineExceeded, match="before the call was sent"):
                await asyncio.wait_for(client.execute("t", timeout=0.2), 5)
