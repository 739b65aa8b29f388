"""Holds the artifacts that are left to what was written, what was told, and what lies in the folder.

Each thing that is wrong is one line of text.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.live import eventually
from tests.writing_tools import CHUNK, RECEIPT, VALUE_SIZE, piece
from toolwright_client import Artifact, Client, Execution, ExecutionNotFound

from .attempting import SUCCEEDED, Attempted

SECONDS = 60.0


@dataclass
class Shelf:
    """The artifacts of a running server, whose folder is `folder`. `strays` are files that no row names."""

    address: str
    folder: Path
    attempted: Attempted
    whole: int = 0
    strays: set[str] = field(default_factory=set[str])

    def wrong(self) -> list[str]:
        """What must not be, a line each."""
        eventually(lambda: not any(self._is_known(path.name) for path in self.folder.glob("*.part")), SECONDS)
        with Client(self.address, timeout=SECONDS) as client:
            return [*self._wrong_artifacts(client), *self._wrong_files(client)]

    def _is_known(self, name: str) -> bool:
        """Whether the history has its call. Another one's intent may yet come: what lies of it is kept for an hour."""
        return name.partition(".")[0] in self.attempted.found.rows

    def _wrong_artifacts(self, client: Client) -> Iterator[str]:
        """What can be seen is what a call that succeeded has written to its end, in the attempt that succeeded."""
        lying = {path.name for path in self.folder.iterdir()}
        for row in self.attempted.found.rows.values():
            execution = client.get(row.execution_id)
            if row.state != SUCCEEDED:
                if execution.artifacts:
                    yield f"{row.execution_id} did not succeed, and has {execution.artifacts}"
                continue
            lying -= {each.artifact_id for each in execution.artifacts}
            yield from self._wrong_contents(client, execution)
        self.strays = lying

    def _wrong_contents(self, client: Client, execution: Execution) -> Iterator[str]:
        contents = {each.name: b"".join(client.read_artifact(each)) for each in execution.artifacts}
        for each in execution.artifacts:
            if not _is_whole(each, contents[each.name]):
                yield f"{execution.execution_id}: {each} is not what its row says"
        if len(contents) != len(execution.artifacts) or not _is_as_written(execution, contents):
            sizes = [(each.name, each.size_bytes) for each in execution.artifacts]
            yield f"{execution.execution_id} of {execution.tool}, {execution.value}: its artifacts are {sizes}"
        self.whole += len(contents)

    def _wrong_files(self, client: Client) -> Iterator[str]:
        """What else lies there is of calls that were cut off, kept for an hour, and visible to nobody."""
        for name in self.strays:
            if self._is_known(name) and not self.attempted.recovered(name.partition(".")[0]):
                yield f"{name} lies there, and its call was not cut off"
            try:
                list(client.read_artifact(name))
                yield f"{name} can be read, and no row names it"
            except ExecutionNotFound:
                pass


def _is_whole(artifact: Artifact, content: bytes) -> bool:
    return (len(content), hashlib.sha256(content).hexdigest()) == (artifact.size_bytes, artifact.sha256)


def _is_as_written(execution: Execution, contents: dict[str, bytes]) -> bool:
    if execution.tool == "writing.value":
        (content,) = contents.values()
        return len(json.loads(content)["text"]) == VALUE_SIZE
    name = f"{execution.value['key']}.bin"
    if set(contents) != {name, RECEIPT} or contents[RECEIPT] != str(execution.value["number"]).encode():
        return False
    count = len(contents[name]) // CHUNK
    return contents[name] == b"".join(piece(execution.value["key"], number) for number in range(count))
