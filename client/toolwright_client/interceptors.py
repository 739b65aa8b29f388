"""For users' own gRPC servers: what a handler calls through a client inherits the handler's deadline and trace.

They change nothing of what the handler receives or answers.
"""

import contextvars
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry import context as otel
from opentelemetry import propagate, trace

from toolwright_client.deadline import DEADLINE_KEY

# A synchronous server answers a time far away, not None, for a caller that set no deadline.
FOREVER_SECONDS = 10 * 365 * 86400.0

Behaviour = Callable[[Any, Any], Any]


class DeadlineInterceptor(grpc.aio.ServerInterceptor):
    """For `grpc.aio.server(interceptors=[DeadlineInterceptor()])`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        return _inheriting(await continuation(handler_call_details))


class BlockingDeadlineInterceptor(grpc.ServerInterceptor):
    """For `grpc.server(..., interceptors=[BlockingDeadlineInterceptor()])`."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        return _inheriting(continuation(handler_call_details))


def _inheriting(handler: Any) -> Any:
    """The same handler, run in a context that carries its deadline and trace; absent for unknown methods."""
    if handler is None:
        return None
    makers = {
        (False, False): (handler.unary_unary, grpc.unary_unary_rpc_method_handler),
        (False, True): (handler.unary_stream, grpc.unary_stream_rpc_method_handler),
        (True, False): (handler.stream_unary, grpc.stream_unary_rpc_method_handler),
        (True, True): (handler.stream_stream, grpc.stream_stream_rpc_method_handler),
    }
    behaviour, make = makers[handler.request_streaming, handler.response_streaming]
    return make(
        _wrapped(behaviour, handler.response_streaming),
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _wrapped(behaviour: Behaviour, streams: bool) -> Behaviour:
    """A function of the same kind as the behaviour: gRPC tells coroutines, generators and plain ones apart."""

    async def coroutine(request: Any, context: Any) -> Any:
        with _inherited(context):
            return await behaviour(request, context)

    async def async_generator(request: Any, context: Any) -> AsyncIterator[Any]:
        with _inherited(context):
            async for answer in behaviour(request, context):
                yield answer

    def generator(request: Any, context: Any) -> Iterator[Any]:
        # The pool may run each step on another thread: the context goes along.
        inside = contextvars.copy_context()
        inside.run(otel.attach, _context_of(context))
        answers = iter(inside.run(behaviour, request, context))
        end = object()
        while (answer := inside.run(next, answers, end)) is not end:
            yield answer

    def plain(request: Any, context: Any) -> Any:
        with _inherited(context):
            return behaviour(request, context)

    if inspect.isasyncgenfunction(behaviour):
        return async_generator
    if inspect.iscoroutinefunction(behaviour):
        return coroutine
    return generator if streams else plain


@contextmanager
def _inherited(context: Any) -> Generator[None]:
    token = otel.attach(_context_of(context))
    try:
        yield
    finally:
        otel.detach(token)


def _context_of(context: Any) -> otel.Context:
    """The current context with the rpc's deadline, and with the caller's span unless a span is open already."""
    inside = otel.get_current()
    if not trace.get_current_span(inside).get_span_context().is_valid:
        carrier = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        inside = propagate.extract(carrier, inside)
    remaining = context.time_remaining()
    if remaining is None or remaining > FOREVER_SECONDS:
        return inside
    return otel.set_value(DEADLINE_KEY, time.monotonic() + remaining, inside)
