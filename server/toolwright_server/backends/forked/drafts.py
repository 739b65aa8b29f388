"""Drafts of a tool in a worker process: the worker writes the bytes, the server hears only how many there are.

The worker checks what its tool says, and the server all of it once more: the worker's memory is the tool's to write to.
"""

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import orjson

from toolwright_server.artifacts.model import ArtifactRefused, Draft, Written, checked_media_type, checked_name
from toolwright_server.artifacts.preview import preview
from toolwright_server.artifacts.writing import Drafts
from toolwright_server.backends.forked.frames import Header, frame
from toolwright_server.errors import Failure, Reason

ARTIFACT: Final = "artifact"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

# Sends a frame and waits for the one that answers it.
Exchange = Callable[[bytes], tuple[Header, bytes]]


class RemoteDrafts:
    """In the worker."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def open(self, name: str, media_type: str) -> Draft:
        return Draft(**self._ask("open", name, media_type))

    def grow(self, number: int, wanted: int, least: int) -> int:
        return self._ask("grow", number, wanted, least)

    def close(self, number: int, written: Written) -> None:
        self._ask("close", number, asdict(written))

    def abandon(self, number: int) -> None:
        self._ask("abandon", number)

    def _ask(self, verb: str, *arguments: Any) -> Any:
        header, payload = self._exchange(frame([ARTIFACT, verb, *arguments]))
        if header[0] != ARTIFACT:
            raise RuntimeError(f"the server sent {header[0]!r} instead of an answer about an artifact")
        if header[1] is None:
            return orjson.loads(payload)
        reason, message, metadata = header[1]
        raise ArtifactRefused(Failure(Reason[reason], message, metadata=metadata))


def answered(drafts: Callable[[], Drafts], verb: str, arguments: list[Any]) -> bytes:
    """In the server: the frame that answers. Raises ValueError or TypeError for what makes no sense."""
    try:
        value = _done(drafts(), verb, arguments)
    except ArtifactRefused as error:
        failure = error.failure
        return frame([ARTIFACT, [failure.reason.name, failure.message, dict(failure.metadata)]])
    return frame([ARTIFACT, None], orjson.dumps(value))


def _done(drafts: Drafts, verb: str, arguments: list[Any]) -> object:
    match verb, arguments:
        case "open", [str(name), str(media_type)]:
            return asdict(drafts.open(checked_name(name), checked_media_type(media_type)))
        case "grow", [int(number), int(wanted), int(least)] if 0 < least <= wanted:
            return drafts.grow(number, wanted, least)
        case "close", [int(number), {"size_bytes": int(size), "sha256": str(sha256), "preview": str(shown)}]:
            return drafts.close(number, _checked(Written(size, sha256, shown)))
        case "abandon", [int(number)]:
            return drafts.abandon(number)
        case _:
            raise ValueError("no question about an artifact")


def _checked(written: Written) -> Written:
    if written.size_bytes < 0 or not _SHA256.fullmatch(written.sha256):
        raise ValueError("no size and SHA-256 of an artifact")
    if preview(written.preview.encode(), is_whole=True) != written.preview:
        raise ValueError("no first lines of an artifact")
    return written
