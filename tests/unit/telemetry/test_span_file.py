import resource
import stat
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from toolwright_server.telemetry.span_file import FILE_NAME, ROTATED_NAME, SpanFile, oldest_kept_ns, read_traces_of
from toolwright_server.telemetry.spans import SCOPE, SpanRecord


def record(
    number: int, *, trace: str = "a" * 32, parent: str = "", attributes: dict[str, Any] | None = None
) -> SpanRecord:
    return (
        f"span {number}", trace, f"{number:016x}", parent, False, 1, None, 0, number, number + 10, 0, None,
        attributes or {}, [("event", 5, {"k": "v"})], None, SCOPE,
    )  # fmt: skip


def tool(number: int, execution_id: str, **more: Any) -> SpanRecord:
    return record(number, attributes={"gen_ai.tool.call.id": execution_id}, **more)


def test_a_trace_is_found_by_an_execution_that_ran_in_it(tmp_path: Path) -> None:
    file = SpanFile(tmp_path / "data", max_bytes=10**6, resource={"service.instance.id": "server-1"})
    file.append([tool(2, "exec-1", parent=f"{1:016x}"), record(1)])
    file.append([tool(3, "exec-2", trace="b" * 32)])
    spans = read_traces_of("exec-1", tmp_path / "data")
    assert [span["name"] for span in spans] == ["span 1", "span 2"]
    assert spans[1]["parent_span_id"] == spans[0]["span_id"]
    assert spans[0]["server_id"] == "server-1"
    assert spans[0]["events"] == [{"name": "event", "time_unix_nano": 5, "attributes": {"k": "v"}}]
    assert read_traces_of("exec-3", tmp_path / "data") == []
    assert read_traces_of("exec-1", tmp_path / "elsewhere") == []


def test_an_execution_id_in_another_attribute_is_not_the_execution(tmp_path: Path) -> None:
    SpanFile(tmp_path, max_bytes=10**6, resource={}).append([record(1, attributes={"note": "exec-1"})])
    assert read_traces_of("exec-1", tmp_path) == []


def test_the_file_is_rotated_so_that_at_most_twice_the_limit_is_kept(tmp_path: Path) -> None:
    file = SpanFile(tmp_path, max_bytes=4000, resource={})
    for number in range(1, 101):
        file.append([tool(number, f"exec-{number}")])
    for name in (FILE_NAME, ROTATED_NAME):
        assert 0 < (tmp_path / name).stat().st_size <= 4000
    assert read_traces_of("exec-1", tmp_path) == []
    assert [span["name"] for span in read_traces_of("exec-100", tmp_path)][-1] == "span 100"
    oldest = oldest_kept_ns(tmp_path)
    assert oldest is not None
    assert 1 < oldest < 100


def test_a_trace_is_put_together_across_a_rotation(tmp_path: Path) -> None:
    file = SpanFile(tmp_path, max_bytes=500, resource={})
    file.append([tool(2, "exec-1", parent=f"{1:016x}")])
    file.append([record(1)])
    assert (tmp_path / ROTATED_NAME).exists()
    assert [span["name"] for span in read_traces_of("exec-1", tmp_path)] == ["span 1", "span 2"]


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    SpanFile(tmp_path, max_bytes=10**6, resource={}).append([tool(1, "exec-1")])
    line = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).write_bytes(line + line[: len(line) // 2])
    assert len(read_traces_of("exec-1", tmp_path)) == 1


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """A disk that is full: a write is cut off there, and the next one fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_told_by_the_files_name_and_spoils_no_line(tmp_path: Path) -> None:
    file = SpanFile(tmp_path, max_bytes=10**6, resource={})
    file.append([tool(1, "exec-1")])
    size = (tmp_path / FILE_NAME).stat().st_size
    with files_of_at_most(size + 50), pytest.raises(OSError, match=FILE_NAME) as failed:
        file.append([tool(2, "exec-2")])
    assert failed.value.filename == str(tmp_path / FILE_NAME)
    assert (tmp_path / FILE_NAME).stat().st_size == size
    file.append([tool(3, "exec-3")])
    assert [span["name"] for span in read_traces_of("exec-3", tmp_path)] == ["span 1", "span 3"]


def test_only_the_owner_reads_the_file(tmp_path: Path) -> None:
    SpanFile(tmp_path, max_bytes=10**6, resource={}).append([record(1)])
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert orjson.loads((tmp_path / FILE_NAME).read_bytes())["status"] == "UNSET"


def test_without_a_file_nothing_is_the_oldest(tmp_path: Path) -> None:
    assert oldest_kept_ns(tmp_path) is None
    (tmp_path / FILE_NAME).write_bytes(b"{ cut")
    assert oldest_kept_ns(tmp_path) is None


def test_several_processes_write_one_file_and_none_turns_it_while_another_one_writes(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from tests.unit.telemetry.test_span_file import record
from toolwright_server.telemetry.span_file import SpanFile
name = sys.argv[2]
file = SpanFile(Path(sys.argv[1]), max_bytes=60_000, resource={"service.instance.id": name})
for number in range(200):
    file.append([record(number + 1)])
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    writers = [subprocess.Popen([*command, name], cwd=Path(__file__).parents[3]) for name in ("one", "two", "three")]
    assert [writer.wait(50) for writer in writers] == [0, 0, 0]
    kept = (tmp_path / ROTATED_NAME).read_bytes() + (tmp_path / FILE_NAME).read_bytes()
    assert all(orjson.loads(line)["server_id"] in ("one", "two", "three") for line in kept.splitlines())
    assert (tmp_path / ROTATED_NAME).stat().st_size > 50_000
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 60_000
