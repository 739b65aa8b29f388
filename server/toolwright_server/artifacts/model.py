"""What an artifact is, which limits hold for it, and how it is refused."""

import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import orjson

from toolwright_server.errors import Failure, Reason

NAME_LIMIT: Final = 255
MEDIA_TYPE_LIMIT: Final = 127
# A line's end in a parameter would begin another header wherever somebody sends it on as one.
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[A-Za-z0-9!#$&^_.+-]+=[ -:<-~]*)*")
_ID: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([1-9][0-9]{0,5})")

# The name of a returned value that is too large to be answered inline.
VALUE_NAME: Final = "result.json"
VALUE_TYPE: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished artifact of an execution that succeeded. `sha256` in hexadecimal digits, `preview` its first lines if
    it is text. `expire_time` in seconds since the epoch; None: as long as its execution is kept.
    """

    number: int
    name: str
    media_type: str
    size_bytes: int
    sha256: str
    preview: str
    expire_time: float | None
    # It holds what the tool returned, as JSON text.
    is_value: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """An artifact that is being written: to `path`, which ends in `.part` until it is whole."""

    number: int
    path: str


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, once it is whole and safe on the disk."""

    size_bytes: int
    sha256: str
    preview: str


@dataclass(frozen=True, slots=True)
class ArtifactLimits:
    """How much there may be: of one artifact, of one execution (a count), of all together."""

    artifact_bytes: int
    count: int
    total_bytes: int


class ArtifactRefused(Exception):
    """An artifact that cannot be written (any further): nothing of it is left. The call fails with `failure` unless
    its tool catches this.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    @classmethod
    def beyond(cls, limit: str, message: str) -> "ArtifactRefused":
        """OUTPUT_LIMIT; `limit` is which one, for programs: artifact, execution, total or disk."""
        return cls(Failure(Reason.OUTPUT_LIMIT, message, metadata={"limit": limit}))


def artifact_id(execution_id: str, number: int) -> str:
    """By which an artifact is read."""
    return f"{execution_id}.{number}"


def parsed_id(text: str) -> tuple[str, int] | None:
    """The execution's id and the number; None for what is no id of an artifact."""
    found = _ID.fullmatch(text)
    return (found[1], int(found[2])) if found else None


def checked_name(name: str) -> str:
    """The name as it is described; never a path. Raises ValueError."""
    text = str(name).encode("utf-8", "replace").decode()
    if not 0 < len(text) <= NAME_LIMIT or not text.isprintable():
        raise ValueError(f"an artifact's name must be 1 to {NAME_LIMIT} printable characters")
    return text


def checked_media_type(media_type: str) -> str:
    """A media type such as `text/csv`. Raises ValueError."""
    if len(media_type) > MEDIA_TYPE_LIMIT or not _MEDIA_TYPE.fullmatch(media_type) or not media_type.isascii():
        raise ValueError(f"no media type such as text/csv: {str(media_type)[:MEDIA_TYPE_LIMIT]!r}")
    return media_type


def encoded(artifacts: Sequence[Artifact]) -> bytes | None:
    """As they are kept in an execution's row; None when there are none."""
    return orjson.dumps([astuple(each) for each in artifacts]) if artifacts else None


def decoded(text: bytes | None) -> tuple[Artifact, ...]:
    """What `encoded` wrote."""
    return tuple(Artifact(*each) for each in orjson.loads(text)) if text else ()
