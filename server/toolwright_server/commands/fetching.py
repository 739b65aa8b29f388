"""`artifact`: the bytes of an artifact, into a file or to standard output."""

import hashlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from toolwright.v1 import tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import reaching
from toolwright_server.commands.asking import text
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.keeping import keep

_SECONDS = 3_600.0
# A server that restarts is there again after a while.
_TRIES = 10
_PAUSE_SECONDS = 0.5


class Damaged(Exception):
    """What was read is not what was written."""


def fetch(address: str | None, artifact_id: str, output: Path | None) -> int:
    """Write all of it to a file, or to standard output; the exit code."""

    def ask(channel: grpc.Channel) -> int:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        pages = _pages(stub, text(artifact_id, "ID"))
        try:
            if output is not None:
                keep(output, pages)
            else:
                for page in pages:
                    sys.stdout.buffer.write(page)
                sys.stdout.buffer.flush()
        except Damaged as error:
            print(f"toolwright: {error}", file=sys.stderr)
            return Exit.INTERNAL
        return Exit.OK

    return reaching.ask(address, ask)


def _pages(stub: tool_execution_pb2_grpc.ToolExecutionStub, artifact_id: str) -> Iterator[bytes]:
    """Every byte, from where a lost connection broke it."""
    digest, offset, tries = hashlib.sha256(), 0, 0
    expected = ""
    while True:
        request = tool_execution_pb2.ReadArtifactRequest(artifact_id=artifact_id, offset=offset)
        try:
            for answer in stub.ReadArtifact(request, timeout=_SECONDS, wait_for_ready=offset > 0):
                expected = answer.artifact.sha256 or expected
                digest.update(answer.data)
                offset += len(answer.data)
                tries = 0
                yield answer.data
            break
        except grpc.RpcError as error:
            tries += 1
            lost = isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE
            if not expected or not lost or tries >= _TRIES:
                raise
            time.sleep(_PAUSE_SECONDS)
    if digest.hexdigest() != expected:
        raise Damaged(f"what was read of {artifact_id} is not what was written: its SHA-256 differs")
