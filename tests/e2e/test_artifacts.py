"""Artifacts, end to end, over a real server: written in every kind of tool, described, read in pages, erased."""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.artifact_tools import CHUNK, piece
from tests.live import LiveServer, eventually, live_server, stubs
from tests.refused import refused
from toolwright.v1 import tool_execution_pb2
from toolwright_client import Client, ExecutionNotFound, InvalidArguments, Result, State, ToolFailed

TOOLS = str(Path(__file__).with_name("artifact_tools.py"))
SECONDS = 20.0
LIMIT = 6_000_000
INLINE = 300_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_PROCESS_WORKERS": "1"}
    env |= {"TOOLWRIGHT_ARTIFACT_LIMIT_BYTES": str(LIMIT), "TOOLWRIGHT_ARTIFACTS_PER_EXECUTION_LIMIT": "3"}
    env |= {"TOOLWRIGHT_RESULT_INLINE_LIMIT_BYTES": str(INLINE), "TOOLWRIGHT_ARTIFACTS_TOTAL_BYTES": str(8 * LIMIT)}
    with live_server(tmp_path_factory.mktemp("artifacts"), "--tools", TOOLS, env=env) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: LiveServer) -> Iterator[Client]:
    with Client(server.address) as made:
        yield made


def lying(server: LiveServer, result: Result | str) -> dict[str, int]:
    """The files of one execution that lie in the folder, with their modes."""
    execution_id = result if isinstance(result, str) else result.execution_id
    folder = server.data_dir / "artifacts"
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob(f"{execution_id}*")}


def failed(client: Client, tool: str, arguments: dict[str, object]) -> ToolFailed:
    with pytest.raises(ToolFailed) as caught:
        client.execute(tool, arguments, timeout=SECONDS)
    return caught.value


@pytest.mark.parametrize("where", ["worker", "thread", "loop"])
def test_what_a_tool_streams_comes_back_byte_identical(
    server: LiveServer, client: Client, tmp_path: Path, where: str
) -> None:
    chunks = 80  # 5 MiB
    result = client.execute(f"files.{where}", {"chunks": chunks, "seed": 7})
    expected = b"".join(piece(7, number) for number in range(chunks))
    assert result.value == chunks
    (artifact,) = result.artifacts
    assert (artifact.name, artifact.media_type) == ("data.bin", "application/octet-stream")
    assert (artifact.size_bytes, artifact.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert b"".join(client.read_artifact(artifact)) == expected
    offset = 3 * CHUNK + 17
    assert b"".join(client.read_artifact(artifact.artifact_id, offset=offset, limit=1000)) == expected[offset:][:1000]
    saved = client.save_artifact(artifact, tmp_path / "saved.bin")
    assert (saved, (tmp_path / "saved.bin").read_bytes()) == (artifact, expected)
    assert lying(server, result) == {artifact.artifact_id: 0o600}


def test_an_artifact_is_described_wherever_its_execution_is(client: Client) -> None:
    result = client.execute("files.report", {"rows": 1000})
    table, note = result.artifacts
    assert table.name == "../../report.csv"
    assert table.preview == "name,größe\n" + "".join(f"row {row},{row}\n" for row in range(9))
    assert (note.size_bytes, note.preview, note.sha256) == (0, "", hashlib.sha256(b"").hexdigest())
    assert list(client.read_artifact(note)) == []
    assert table.expire_time is not None
    assert result.execution.end_time is not None
    assert (table.expire_time - result.execution.end_time).total_seconds() == pytest.approx(7 * 86_400, abs=1)
    assert client.get(result.execution_id).artifacts == result.artifacts
    with client.stream("files.report", {"rows": 1}) as stream:
        assert [each.name for each in stream.result().artifacts] == ["../../report.csv", "note.txt"]
    (listed,) = [each for each in client.list('tool = "files.report"') if each.execution_id == result.execution_id]
    assert [(each.name, each.preview) for each in listed.artifacts] == [("../../report.csv", ""), ("note.txt", "")]


def test_a_large_value_is_an_artifact_and_a_small_one_is_not(client: Client) -> None:
    small = client.execute("files.value", {"size": INLINE - 100})
    assert (len(small.value["text"]), small.artifacts) == (INLINE - 100, ())
    large = client.execute("files.value", {"size": INLINE})
    (artifact,) = large.artifacts
    assert (large.value, large.execution.value_artifact) == (None, artifact)
    assert (artifact.name, artifact.media_type) == ("result.json", "application/json")
    assert json.loads(b"".join(client.read_artifact(artifact))) == {"text": "x" * INLINE}
    assert client.get(large.execution_id).value_artifact == artifact
    # What the record must not hold lies in no file, and a step's value goes to the tool that called it.
    secret = client.execute("files.secret_value", {"size": INLINE, "password": "p"})
    assert (len(secret.value["text"]), secret.artifacts) == (INLINE, ())
    assert client.execute("files.outer", {"size": INLINE}).value == INLINE


def test_a_repeated_request_gets_the_same_artifacts(client: Client) -> None:
    first = client.execute("files.worker", {"chunks": 1}, request_id="artifacts-1")
    again = client.execute("files.worker", {"chunks": 1}, request_id="artifacts-1")
    assert (again.execution_id, again.artifacts) == (first.execution_id, first.artifacts)
    assert first.artifacts


@pytest.mark.parametrize(
    ("tool", "arguments", "limit"),
    [
        ("files.worker", {"chunks": LIMIT // CHUNK + 1}, "artifact"),
        ("files.thread", {"chunks": LIMIT // CHUNK + 1}, "artifact"),
        ("files.loop", {"chunks": LIMIT // CHUNK + 1}, "artifact"),
        ("files.many", {"count": 4}, "execution"),
    ],
)
def test_beyond_a_limit_the_tool_fails_and_leaves_nothing(
    server: LiveServer, client: Client, tool: str, arguments: dict[str, object], limit: str
) -> None:
    error = failed(client, tool, arguments)
    assert (error.reason, error.metadata["limit"]) == ("OUTPUT_LIMIT", limit)
    ended = client.get(error.execution_id)
    assert (ended.state, ended.artifacts) == (State.FAILED, ())
    eventually(lambda: not lying(server, error.execution_id))


def test_a_tool_may_do_without_what_is_too_large(server: LiveServer, client: Client) -> None:
    result = client.execute("files.caught", {"chunks": 100})
    assert (result.value, [each.name for each in result.artifacts]) == ("artifact", ["small.txt"])
    eventually(lambda: list(lying(server, result)) == [result.artifacts[0].artifact_id])


@pytest.mark.parametrize("tool", ["files.failing", "files.dying"])
def test_a_tool_that_fails_has_no_artifacts(server: LiveServer, client: Client, tool: str) -> None:
    error = failed(client, tool, {})
    assert client.get(error.execution_id).artifacts == ()
    eventually(lambda: not lying(server, error.execution_id))


def test_a_tool_that_is_stopped_has_no_artifacts(server: LiveServer, client: Client) -> None:
    handle = client.start("files.stuck")
    eventually(lambda: lying(server, handle.execution_id))
    handle.cancel()
    ended = handle.result(timeout=SECONDS, raise_on_failure=False).execution
    assert (ended.state, ended.artifacts) == (State.CANCELLED, ())
    eventually(lambda: not lying(server, handle.execution_id))


def test_only_the_last_attempt_counts(server: LiveServer, client: Client) -> None:
    result = client.execute("files.again")
    assert [each.name for each in result.artifacts] == ["attempt-2.txt"]
    eventually(lambda: list(lying(server, result)) == [result.artifacts[0].artifact_id])


def test_names_and_types_are_data_and_must_be_fit_to_show(client: Client) -> None:
    fits = {"name": "/etc/passwd", "media_type": "text/plain"}
    assert client.execute("files.misnamed", fits).value == "accepted"
    for wrong in ({"name": ""}, {"name": "a\nb"}, {"name": "x" * 256}, {"media_type": "text"}, {"media_type": "a/b\n"}):
        assert client.execute("files.misnamed", fits | wrong).value == "refused"


def test_what_is_no_artifact_is_not_found(server: LiveServer, client: Client) -> None:
    result = client.execute("files.report", {"rows": 1})
    known = result.artifacts[0]
    for asked in ("nonsense", "../../etc/passwd", f"{result.execution_id}.9", known.artifact_id + "/../x", "0.1"):
        with pytest.raises(ExecutionNotFound):
            list(client.read_artifact(asked))
    for offset in (-1, known.size_bytes + 1):
        with pytest.raises(InvalidArguments):
            list(client.read_artifact(known, offset=offset))
    with stubs(server) as (stub, _):
        request = tool_execution_pb2.ReadArtifactRequest(artifact_id=known.artifact_id, limit=-1)
        assert refused(lambda: list(stub.ReadArtifact(request, timeout=SECONDS))).reason == "INVALID_ARGUMENTS"


def test_the_command_line_reads_artifacts(server: LiveServer, client: Client, tmp_path: Path) -> None:
    result = client.execute("files.report", {"rows": 5})
    (artifact_id, _), saved = (each.artifact_id for each in result.artifacts), tmp_path / "saved.csv"
    command = [sys.executable, "-m", "toolwright_server.main"]
    environment = os.environ | {"TOOLWRIGHT_ADDRESS": server.address}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    assert run("artifact", artifact_id, "--output", str(saved)).returncode == 0
    assert saved.read_text() == result.artifacts[0].preview
    large = run("exec", "files.value", f"size={INLINE}")
    assert (large.returncode, large.stdout) == (0, "")
    assert "the result, too large to be shown" in large.stderr
