"""A failure as a gRPC status: code, message and google.rpc details, in trailers that always fit.

Clients lose a status whose trailers are too large, so all of them together stay under 4 KiB whatever comes in. What
does not fit is left out: the last violations first, then the last metadata; a long text loses its end.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright_server.errors import Code, Failure, QuotaViolation

DOMAIN = "toolwright.v1"
LIMIT_BYTES = 4096
"""Of all trailers, as HTTP/2 counts them: 32 bytes for each besides its name and value, binary ones in base64."""

DETAILS = "grpc-status-details-bin"
PUSHBACK = "grpc-retry-pushback-ms"
SUGGESTED_ACTION = "suggestedAction"

# The delay where a failure may be tried again and does not say when.
_DEFAULT_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 86_400.0

_MESSAGE_BYTES = 512
_TRAILERS_BYTES = 512
_TEXT_BYTES = 256
_NAME_BYTES = 64
_FIELD_BYTES = 128
_QUOTA_VIOLATIONS = 3
# Of all violations of quotas; the first one has room in any case.
_QUOTA_BYTES = 640
# Kept free for the first violations before metadata takes the rest.
_VIOLATIONS_BYTES = 512
_PER_HEADER = 32
# Tags, lengths and type URL around one detail; tags and lengths around one entry in it.
_PER_DETAIL = 64
_PER_ENTRY = 12

_CODES = {code: status for status in grpc.StatusCode for code in Code if status.value[0] == code.value}
_UNESCAPED = bytes(byte for byte in range(0x20, 0x7F) if byte != ord("%"))
_TRAILER_NAME = re.compile(r"(?!grpc-)[a-z0-9_.-]+(?<!-bin)")
_TRAILER_VALUE = re.compile(r"[\x20-\x7e]*")

Trailers = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What is sent: for `context.abort(code, message, trailers)`."""

    code: grpc.StatusCode
    message: str
    trailers: Trailers


def status_of(failure: Failure, trailers: Iterable[tuple[str, str]] = ()) -> Status:
    """The status of a failure; `trailers` are sent along as far as they are valid and fit."""
    delay = _delay(failure)
    message, message_bytes = _message(failure.message or failure.words()[0])
    kept = _fitting(trailers)
    if delay is not None:
        kept = (*kept, (PUSHBACK, str(ceil(delay * 1000))))
    elif failure.reason.code is Code.RESOURCE_EXHAUSTED:
        # gRPC's own retries look at the code only: this one stops them.
        kept = (*kept, (PUSHBACK, "-1"))
    fixed = _wire("grpc-status", "16") + _wire("grpc-message", "") + _wire(DETAILS, "")
    taken = fixed + message_bytes + sum(_wire(name, value) for name, value in kept)
    room = (LIMIT_BYTES - 1 - taken) * 3 // 4 - 2
    details = status_pb2.Status(code=failure.reason.code.value, message=message)
    details.details.extend(_details(failure, delay, room - details.ByteSize()))
    return Status(_CODES[failure.reason.code], message, (*kept, (DETAILS, details.SerializeToString())))


def _delay(failure: Failure) -> float | None:
    """Seconds to wait before the next try; None when there is none, or it may come at once."""
    if not failure.may_retry():
        return None
    if failure.retry_delay is not None:
        # In this order NaN becomes 0.
        return min(max(0.0, failure.retry_delay), _LONGEST_DELAY_SECONDS)
    return _DEFAULT_DELAY_SECONDS if failure.reason.code in (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE) else None


def _details(failure: Failure, delay: float | None, room: int) -> list[Any]:
    """The details, most important first, in at most `room` bytes."""
    user_message, suggested_action = failure.words()
    info = error_details_pb2.ErrorInfo(reason=failure.reason.name, domain=DOMAIN)
    others: list[Message] = []
    if delay is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(delay * 1e9))
        others.append(retry)
    if failure.reason.code is Code.RESOURCE_EXHAUSTED:
        others.append(_quota(failure))
    others.append(error_details_pb2.LocalizedMessage(locale="en", message=_cut(user_message, _TEXT_BYTES)))
    room -= info.ByteSize() + sum(_PER_DETAIL + other.ByteSize() for other in others) + _PER_DETAIL
    # First, and not at the price of what violations are kept free for.
    room -= _add_metadata(info, ((SUGGESTED_ACTION, suggested_action),), room)
    kept_free = _VIOLATIONS_BYTES if failure.violations else 0
    room -= _add_metadata(info, tuple(failure.metadata.items()), room - kept_free)
    violations = _bad_request(failure, room - _PER_DETAIL)
    if violations is not None:
        others.append(violations)
    return [_packed(info), *(_packed(other) for other in others)]


def _quota(failure: Failure) -> error_details_pb2.QuotaFailure:
    """The limits that were reached; at least one, as the code says so."""
    violations = failure.quota or (QuotaViolation(failure.metadata.get("subject", "server"), failure.message),)
    found = error_details_pb2.QuotaFailure()
    for violation in violations[:_QUOTA_VIOLATIONS]:
        subject, description = _cut(violation.subject, _NAME_BYTES), _cut(violation.description, _TEXT_BYTES)
        found.violations.add(subject=subject, description=description)
        if found.ByteSize() > _QUOTA_BYTES:
            del found.violations[-1]
            break
    return found


def _add_metadata(info: error_details_pb2.ErrorInfo, entries: Sequence[tuple[str, str]], room: int) -> int:
    """Adds the entries that fit; returns the bytes they take."""
    taken = 0
    for given_name, given_value in entries:
        name, value = _cut(given_name, _NAME_BYTES), _cut(given_value, _TEXT_BYTES)
        size = _PER_ENTRY + len(name.encode()) + len(value.encode())
        if taken + size > room:
            break
        info.metadata[name] = value
        taken += size
    return taken


def _bad_request(failure: Failure, room: int) -> error_details_pb2.BadRequest | None:
    found = error_details_pb2.BadRequest()
    for violation in failure.violations:
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field, _FIELD_BYTES), description=_cut(violation.description, _TEXT_BYTES)
        )
        room -= entry.ByteSize() + _PER_ENTRY
        if room < 0:
            break
        found.field_violations.append(entry)
    return found if found.field_violations else None


def _packed(message: Message) -> Any:
    return Any(type_url=f"type.googleapis.com/{message.DESCRIPTOR.full_name}", value=message.SerializeToString())


def _fitting(trailers: Iterable[tuple[str, str]]) -> Trailers:
    kept: list[tuple[str, str | bytes]] = []
    room = _TRAILERS_BYTES
    for name, value in trailers:
        size = _wire(name, value)
        if size <= room and _TRAILER_NAME.fullmatch(name) and _TRAILER_VALUE.fullmatch(value):
            kept.append((name, value))
            room -= size
    return tuple(kept)


def _wire(name: str, value: str | bytes) -> int:
    return len(name) + len(value) + _PER_HEADER


def _message(text: str) -> tuple[str, int]:
    """The text, cut to what may be sent, and its size as it is sent: gRPC escapes what is not printable ASCII."""
    raw = text.encode("utf-8", "replace")[: _MESSAGE_BYTES + 1]
    shortened = False
    while (size := _escaped(raw)) > _MESSAGE_BYTES:
        raw = raw[: len(raw) * (_MESSAGE_BYTES - 3) // size]
        shortened = True
    clean = raw.decode("utf-8", "ignore") + ("..." if shortened else "")
    return clean, _escaped(clean.encode())


def _escaped(raw: bytes) -> int:
    return len(raw) + 2 * len(raw.translate(None, _UNESCAPED))


def _cut(text: str, limit: int) -> str:
    """The text as valid UTF-8 of at most `limit` bytes; what was cut off shows as dots."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "..."
