"""Server reflection, v1 and v1alpha, so that grpcurl and buf need no proto files. Describes; answers no other call."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

# In the pool, so that the details of a status can be described.
from google.rpc import error_details_pb2 as _error_details_pb2  # pyright: ignore[reportMissingTypeStubs]
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

ALPHA = "grpc.reflection.v1alpha"
STABLE = "grpc.reflection.v1"
SERVICES = (f"{STABLE}.ServerReflection", f"{ALPHA}.ServerReflection")

__all__ = ["SERVICES", "reflection_handlers"]

_DETAILS = _error_details_pb2.DESCRIPTOR


def reflection_handlers(services: Iterable[str]) -> list[grpc.GenericRpcHandler]:
    """The handlers of both versions, which list `services` and themselves."""
    _describe_stable()
    reflection = _Reflection(reflection_aio.ReflectionServicer((*services, *SERVICES)))
    handler = cast("Any", grpc.stream_stream_rpc_method_handler)(reflection.ServerReflectionInfo)
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in SERVICES]


class _Reflection:
    """The servicer that grpcio-reflection has, behind raw bytes: a malformed question gets a clear answer."""

    def __init__(self, servicer: reflection_aio.ReflectionServicer) -> None:
        # The stubs take the generator for a coroutine.
        self._answers = cast("Callable[[Any, Any], AsyncIterator[Any]]", cast("Any", servicer).ServerReflectionInfo)

    async def ServerReflectionInfo(  # noqa: N802 - named as its rpc
        self, questions: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        """Answers one question after the other; v1 and v1alpha are the same on the wire."""
        async for data in questions:
            try:
                question = reflection_pb2.ServerReflectionRequest.FromString(data)
            except DecodeError:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the request is no ServerReflectionRequest")
            async for answer in self._answers(_one(_findable(question)), context):
                answer.original_request.CopyFrom(question)
                yield answer.SerializeToString()


async def _one(
    question: reflection_pb2.ServerReflectionRequest,
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    yield question


def _findable(question: reflection_pb2.ServerReflectionRequest) -> reflection_pb2.ServerReflectionRequest:
    """The same question; for a method it asks for its service, as Python's pool does not find methods by name."""
    service, _, method = question.file_containing_symbol.rpartition(".")
    try:
        found = descriptor_pool.Default().FindServiceByName(service)
    except KeyError:
        return question
    if method not in found.methods_by_name:
        return question
    return reflection_pb2.ServerReflectionRequest(host=question.host, file_containing_symbol=service)


def _describe_stable() -> None:
    """Puts v1 into the pool: v1alpha under another name. grpcio-reflection brings v1alpha only."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(f"{STABLE}.ServerReflection")
    except KeyError:
        pool.AddSerializedFile(_stable().SerializeToString())


def _stable() -> descriptor_pb2.FileDescriptorProto:
    described = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(described)
    described.name = "grpc/reflection/v1/reflection.proto"
    described.package = STABLE
    for field in (field for message in described.message_type for field in message.field if field.type_name):
        field.type_name = _renamed(field.type_name)
    for method in (method for service in described.service for method in service.method):
        method.input_type = _renamed(method.input_type)
        method.output_type = _renamed(method.output_type)
    return described


def _renamed(name: str) -> str:
    return name.replace(f".{ALPHA}.", f".{STABLE}.")
