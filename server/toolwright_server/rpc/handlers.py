"""From request bytes to an answer or a status: errors → trace → identity → service, composed once per rpc.

Registered with raw bytes, so that requests are parsed inside the error boundary. Knows no service and no business.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from toolwright_server.errors import Failure, Reason, SettingsError, ToolwrightError, invalid
from toolwright_server.identity.authenticator import Authenticator
from toolwright_server.identity.caller import UNIDENTIFIED
from toolwright_server.rpc.call import Metadata, RpcCall
from toolwright_server.rpc.gate import ENDED_BY_DRAIN, Gate
from toolwright_server.rpc.observe import Observer
from toolwright_server.rpc.status import status_of

_logger = logging.getLogger(__name__)

# A call that is cancelled with no more than this left ran into its client's deadline: clients overstate it by up to
# this part, and the time that the request travelled comes on top, in seconds.
_OVERSTATED = 0.04
_TRAVELLED_SECONDS = 0.020

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"
Write = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What every call of a service passes through. `message_limit` is in bytes."""

    observer: Observer
    gate: Gate
    message_limit: int
    authenticator: Authenticator


def generic_handler(
    service: ServiceDescriptor, servicer: object, pipeline: Pipeline, ends_at_drain: Collection[str] = ()
) -> grpc.GenericRpcHandler:
    """The handler of every rpc that `service` describes.

    `servicer` has one method per rpc: `async def Name(request, call) -> response`, which may be encoded already, or for
    a response stream `async def Name(request, call, write) -> None`. Streams named in `ends_at_drain` only watch: they
    are told to end when the server shuts down. Raises SettingsError if servicer and description do not fit.
    """
    unknown = set(ends_at_drain) - {method.name for method in service.methods if method.server_streaming}
    if unknown:
        raise SettingsError(f"{service.full_name} has no response stream named {', '.join(sorted(unknown))}")
    handlers = {
        method.name: _registered(_Rpc(service, method, servicer, pipeline, method.name in ends_at_drain), method)
        for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def method_names(service: ServiceDescriptor) -> list[str]:
    """`package.Service/Method` of every rpc."""
    return [f"{service.full_name}/{method.name}" for method in service.methods]


def _registered(rpc: "_Rpc", method: MethodDescriptor) -> "grpc.RpcMethodHandler[Any, Any]":
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(cast("Any", rpc.stream))
    return grpc.unary_unary_rpc_method_handler(cast("Any", rpc.unary))


class _Rpc:
    """One rpc: how its bytes become a call of the service, and what it answers becomes bytes."""

    __slots__ = (
        "_authenticator", "_gate", "_known", "_limit", "_method", "_observer", "_parse", "_request", "_serve",
        "_watches",
    )  # fmt: skip

    def __init__(
        self, service: ServiceDescriptor, method: MethodDescriptor, servicer: object, pipeline: Pipeline, watches: bool
    ) -> None:
        if method.client_streaming:
            raise SettingsError(f"{method.full_name} takes a stream of requests, which this server cannot serve")
        serve = getattr(servicer, method.name, None)
        if serve is None or not inspect.iscoroutinefunction(serve):
            raise SettingsError(
                f"{type(servicer).__name__} does not serve {method.full_name}: write `async def {method.name}`"
            )
        self._method = f"{service.full_name}/{method.name}"
        self._request = method.input_type.full_name
        self._parse = GetMessageClass(method.input_type).FromString
        self._serve: Callable[..., Awaitable[Any]] = serve
        self._authenticator = pipeline.authenticator
        self._known = pipeline.authenticator.known
        self._observer = pipeline.observer
        self._gate = pipeline.gate
        self._limit = pipeline.message_limit
        self._watches = watches

    async def unary(self, data: bytes, context: Context) -> bytes:
        """Serve a call with one answer."""
        call = self._begin(context)
        try:
            refusal = self._gate.refusal()
            if refusal is None:
                try:
                    if call.caller is UNIDENTIFIED:
                        await self._identify(call, context)
                    answer = await self._serve(self._read(data), call)
                finally:
                    self._gate.leave()
                sent: bytes = answer if isinstance(answer, bytes) else answer.SerializeToString()
                if len(sent) <= self._limit:
                    if call.trailers:
                        context.set_trailing_metadata(tuple(call.trailers))
                    return sent
                refusal = self._too_large(len(sent))
            self._failed(call, refusal)
        except BaseException as error:
            refusal = self._judged(error, call)
            if refusal is None:
                raise
        finally:
            self._observer.end(call)
        return _refuse(context, refusal, call)

    async def stream(self, data: bytes, context: Context) -> None:
        """Serve a call with a stream of answers."""
        call = self._begin(context)
        try:
            refusal = self._gate.refusal_to_watch(call) if self._watches else self._gate.refusal()
            if refusal is None:
                try:
                    if call.caller is UNIDENTIFIED:
                        await self._identify(call, context)
                    await self._serve(self._read(data), call, self._writer(context, call))
                finally:
                    if self._watches:
                        self._gate.leave_watching()
                    else:
                        self._gate.leave()
                if call.trailers:
                    context.set_trailing_metadata(tuple(call.trailers))
                return
            self._failed(call, refusal)
        except BaseException as error:
            refusal = self._judged(error, call)
            if refusal is None:
                raise
        finally:
            self._observer.end(call)
        _refuse(context, refusal, call)

    def _begin(self, context: Context) -> RpcCall:
        received = time.monotonic()
        metadata = cast("Metadata", context.invocation_metadata())
        trace = self._observer.begin(self._method, metadata)
        return RpcCall(
            self._method,
            self._known(metadata) or UNIDENTIFIED,
            trace,
            received=received,
            remaining=context.time_remaining(),
            metadata=metadata,
        )

    async def _identify(self, call: RpcCall, context: Context) -> None:
        """Look the caller up; it counts among the running calls meanwhile. Raises UNAUTHENTICATED."""
        call.caller = await self._authenticator.authenticate(call.metadata, context.peer())

    def _read(self, data: bytes) -> Message:
        try:
            return self._parse(data)
        except DecodeError as error:
            raise invalid("", f"the request is no {self._request}: {_why(error)}") from None

    def _writer(self, context: Context, call: RpcCall) -> Write:
        write, limit = context.write, self._limit

        async def send(message: Message) -> None:
            data = message.SerializeToString()
            if len(data) > limit:
                raise ToolwrightError.of(self._too_large(len(data)))
            try:
                await write(data)
            except grpc.aio.BaseError:
                # Nobody reads any more, and gRPC has not cancelled us yet.
                call.gone = True
                raise asyncio.CancelledError from None

        return send

    def _too_large(self, size: int) -> Failure:
        return Failure(
            Reason.PAYLOAD_TOO_LARGE,
            f"the answer has {size} bytes; at most {self._limit} can be sent",
            user_message="The answer is too large.",
            suggested_action="Ask for less, or for a smaller page.",
            metadata={"limit": str(self._limit)},
        )

    def _judged(self, error: BaseException, call: RpcCall) -> Failure | None:
        """The failure to answer with; None: there is nobody to answer, and the error goes on to gRPC."""
        if isinstance(error, ToolwrightError):
            return self._failed(call, error.failure)
        if isinstance(error, asyncio.CancelledError):
            return self._left(error, call)
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            call.code, call.reason = "UNAVAILABLE", Reason.SERVER_DRAINING.name
            return None
        return self._broke(error, call)

    def _left(self, error: asyncio.CancelledError, call: RpcCall) -> Failure | None:
        """The client left, the server ends the stream, or something of ours was cancelled by mistake."""
        task = asyncio.current_task()
        cancelling = task.cancelling() if task is not None else 0
        if call.told_to_end and cancelling == 1 and task is not None:
            task.uncancel()
            return self._failed(call, ENDED_BY_DRAIN)
        if cancelling == 0 and not call.gone:
            # Escaping, it would send no status and leave the client waiting.
            return self._broke(error, call)
        given, used = call.remaining, time.monotonic() - call.received
        late = given is not None and given - used <= _OVERSTATED * given + _TRAVELLED_SECONDS
        reason = Reason.CLIENT_DEADLINE if late else Reason.CANCELLED
        call.code, call.reason = reason.code.name, reason.name
        return None

    def _broke(self, error: BaseException, call: RpcCall) -> Failure:
        trace_id = call.trace.trace_id
        _logger.error("%s failed by a defect of the server (trace %s)", self._method, trace_id, exc_info=error)
        return self._failed(
            call,
            Failure(
                Reason.INTERNAL,
                f"an internal error occurred; the operator finds it under trace id {trace_id}",
                metadata={"trace_id": trace_id},
            ),
        )

    def _failed(self, call: RpcCall, failure: Failure) -> Failure:
        call.code, call.reason = failure.reason.code.name, failure.reason.name
        return failure


def _why(error: DecodeError) -> str:
    # Read for its kind only: protobuf's own text changes from version to version.
    text = str(error).lower()
    if "utf-8" in text:
        return "it holds text that is not UTF-8"
    if "depth" in text:
        return "it nests messages more than 100 deep"
    return "its bytes are malformed, hold text that is not UTF-8, or nest messages more than 100 deep"


def _refuse(context: Context, failure: Failure, call: RpcCall) -> bytes:
    """Set the status; what is returned is not sent then.

    Not by `context.abort`: its exception, the context and the frames hold each other, 1 KB of cyclic garbage a refusal.
    """
    status = status_of(failure, call.trailers)
    context.set_code(status.code)
    context.set_details(status.message)
    context.set_trailing_metadata(status.trailers)
    return b""
