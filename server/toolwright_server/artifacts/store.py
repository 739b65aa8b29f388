"""What is needed of the place where the bytes of artifacts lie. Names of artifacts never reach it, ids alone do."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol


class BytesMissing(Exception):
    """The bytes of an artifact do not lie here."""


@dataclass(frozen=True, slots=True)
class Lying:
    """One file that lies there: whose it is, whether it is whole, its size, when it was written last (epoch)."""

    execution_id: str
    number: int
    is_whole: bool
    size_bytes: int
    time: float


class Reading(Protocol):
    """One artifact that is being read; it stays readable although it expires meanwhile."""

    async def read(self, offset: int, size: int) -> bytes:
        """At most so many bytes; empty at the end."""
        ...


class ArtifactStore(Protocol):
    """Keeps the bytes. Its files are written by `writing.py`, in whatever process the tool runs."""

    def path(self, execution_id: str, number: int) -> str:
        """Where an artifact is begun."""
        ...

    def reading(self, execution_id: str, number: int) -> AbstractAsyncContextManager[Reading]:
        """Read a whole artifact. Raises BytesMissing."""
        ...

    async def lying(self) -> Sequence[Lying]:
        """All that lies there, whole or not."""
        ...

    async def erase(self, which: Mapping[str, Sequence[int]]) -> None:
        """Take away these numbers of these executions, whole or not; what is not there is no error."""
        ...
