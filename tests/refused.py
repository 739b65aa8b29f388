"""A gRPC status as a client sees it, with its google.rpc details unpacked. Asserts nothing about which it should be."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Refused:
    """`everything` is all that the client received, as text: for asking what is not in it."""

    code: str
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    trailers: dict[str, str | bytes]
    status: Any
    everything: str

    def detail(self, kind: type[M]) -> M | None:
        """The detail of this kind, or None."""
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        return None

    @property
    def retry_seconds(self) -> float | None:
        """What RetryInfo asks to wait; None without one."""
        info = self.detail(error_details_pb2.RetryInfo)
        return None if info is None else info.retry_delay.ToNanoseconds() / 1e9

    @property
    def fields(self) -> list[str]:
        """The fields that BadRequest names."""
        found = self.detail(error_details_pb2.BadRequest)
        return [] if found is None else [violation.field for violation in found.field_violations]

    @property
    def user_message(self) -> str:
        """The text of LocalizedMessage; empty without one."""
        found = self.detail(error_details_pb2.LocalizedMessage)
        return "" if found is None else found.message


def refused(call: Callable[[], object]) -> Refused:
    """The status that `call` ends with. Raises AssertionError when it succeeds."""
    try:
        answer = call()
    except grpc.RpcError as error:
        return unpacked(error)
    raise AssertionError(f"was not refused, but answered:\n{answer}")


def unpacked(error: Any) -> Refused:
    """What is in a status; works for blocking and asyncio calls."""
    trailers: dict[str, str | bytes] = dict(tuple(error.trailing_metadata() or ()))
    raw = trailers.get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    info = error_details_pb2.ErrorInfo()
    for packed in status.details:
        if packed.Unpack(info):
            break
    return Refused(
        code=error.code().name,
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        trailers=trailers,
        status=status,
        everything=f"{error!r} {trailers!r} {status!r}",
    )
