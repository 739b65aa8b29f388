import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server import Effect, Runs, ToolError
from toolwright_server.toolkits.exclusive import exclusive
from toolwright_server.toolkits.knowledge import toolkit, tools
from toolwright_server.toolkits.knowledge.splitting import lines_of

from .calls import SyncCall, accepted, fits, reason, write
from .workers import at_once

GUIDE = """# Guide

How to begin.

## Deadlines

Every call has one deadline. A tool that is late is stopped.

## Straßen in Zürich

Die Bahnhofstraße führt zum See. Café crème.
"""


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    write(folder, {"guide.md": GUIDE, "notes/plain.txt": "Nothing but text about workers.\n"})
    configure(tmp_path)
    return folder


def configure(tmp_path: Path, **more: Any) -> None:
    toolkit.configure({"folders": [str(tmp_path / "docs")], "check_interval_seconds": 0} | more, tmp_path / "data")


def found(query: str, **more: Any) -> list[tuple[str, int, int]]:
    result = tools.search(SyncCall(), query, **more)
    assert result.fresh
    assert fits(toolkit, "search", result)
    return [(hit.file, hit.start_line, hit.end_line) for hit in result.passages]


def test_the_tools_are_what_they_say() -> None:
    assert {tool.name: tool.effect for tool in toolkit.tools} == {
        "knowledge.index": Effect.IDEMPOTENT,
        "knowledge.search": Effect.READ_ONLY,
        "knowledge.read": Effect.READ_ONLY,
        "knowledge.status": Effect.READ_ONLY,
    }
    assert {tool.runs for tool in toolkit.tools} == {Runs.PROCESS}
    assert {tool.category for tool in toolkit.tools} == {"knowledge"}


def test_without_folders_every_tool_says_which_setting_is_missing(tmp_path: Path) -> None:
    toolkit.configure({}, tmp_path)
    for attempt in (
        lambda: tools.search(SyncCall(), "x"),
        lambda: tools.index(SyncCall()),
        lambda: tools.read_lines("x.md"),
        tools.status,
    ):
        with pytest.raises(ToolError, match=r"\[toolkit.knowledge\] folders") as caught:
            attempt()
        assert reason(caught.value) == "NOT_CONFIGURED"


def test_the_first_search_indexes_by_itself_and_names_file_and_lines(docs: Path) -> None:
    (hit,) = tools.search(SyncCall(), "late tool").passages
    assert (hit.file, hit.start_line, hit.end_line, hit.heading) == ("docs/guide.md", 5, 8, "Guide > Deadlines")
    assert hit.score > 0
    assert "A tool that is late is stopped." in hit.snippet


@pytest.mark.parametrize(
    ("query", "line"),
    [("DEADLINE", 5), ("deadlines stopping", 5), ("bahnhofstraße", 9), ("zurich", 9), ("ZÜRICH", 9), ("creme", 9),
     ("cre\u0300me", 9), ("begin", 1)],
)  # fmt: skip
def test_words_are_found_in_other_forms_case_and_accents(docs: Path, query: str, line: int) -> None:
    assert [start for _, start, _ in found(query)] == [line]


def test_what_holds_all_words_comes_before_what_holds_some(docs: Path) -> None:
    write(docs, {"some.md": "deadline deadline deadline\n", "all.md": "x " * 200 + "deadline and worker\n"})
    hits = found("deadline worker")
    assert len(hits) == 4
    assert hits[0][0] == "docs/all.md"
    assert len(found("deadline worker", limit=2)) == 2


def test_a_search_can_keep_to_some_files(docs: Path) -> None:
    assert found("text deadline", path_prefix="docs/notes/") == [("docs/notes/plain.txt", 1, 1)]
    assert found("text", path_prefix="docs/100%") == []


@pytest.mark.parametrize(
    "query",
    ["", " ", '"', "'", "*", "deadline*", "NEAR(a b)", "a AND", "OR", "NOT", "(", "heading:x", "-x", "^x", "a + b",
     "{a}:", "\0", '"deadline', "deadline\0x", "/* x */", "ﷺ", "🙂", "x" * 1000, "a " * 500],
)  # fmt: skip
def test_no_query_is_taken_as_syntax(docs: Path, query: str) -> None:
    tools.search(SyncCall(), query)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(query=st.text(max_size=60), prefix=st.text(max_size=5))
def test_any_text_can_be_searched_for(docs: Path, query: str, prefix: str) -> None:
    tools.search(SyncCall(), query, path_prefix=prefix)


def test_changes_are_found_by_the_next_search(docs: Path) -> None:
    assert found("marmalade") == []
    write(docs, {"new.md": "marmalade\n"})
    assert found("marmalade") == [("docs/new.md", 1, 1)]
    write(docs, {"new.md": "# Jam\n\ncherries\n"})
    assert found("marmalade") == []
    assert found("cherries") == [("docs/new.md", 1, 3)]
    (docs / "new.md").unlink()
    assert found("cherries") == []


def test_a_change_of_the_same_size_in_the_same_moment_is_found_too(docs: Path) -> None:
    path = docs / "new.md"
    write(docs, {"new.md": "first\n"})
    stat = path.stat()
    assert found("first")
    write(docs, {"new.md": "later\n"})
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert found("first") == []
    assert found("later") == [("docs/new.md", 1, 1)]


def test_indexing_reads_only_what_has_changed(docs: Path) -> None:
    call = SyncCall()
    first = tools.index(call)
    assert (first.added, first.updated, first.removed, first.complete) == (2, 0, 0, True)
    assert fits(toolkit, "index", first)
    assert call.progressed[-1] == (2, 2)
    again = tools.index(SyncCall())
    assert (again.added, again.updated, again.removed, again.unchanged) == (0, 0, 0, 2)
    write(docs, {"guide.md": GUIDE + "\nMore.\n", "third.md": "third"})
    (docs / "notes" / "plain.txt").unlink()
    changed = tools.index(SyncCall())
    assert (changed.added, changed.updated, changed.removed) == (1, 1, 1)
    anew = tools.index(SyncCall(), full=True)
    assert (anew.added, anew.updated) == (0, 2)


def test_a_file_that_was_only_touched_is_not_split_again(docs: Path) -> None:
    tools.index(SyncCall())
    os.utime(docs / "guide.md", (1, 1))
    assert tools.index(SyncCall()).updated == 0
    with sqlite3.connect(toolkit.data_dir / "index.sqlite3") as connection:
        (known,) = connection.execute("SELECT mtime_ns FROM files WHERE name = 'docs/guide.md'").fetchone()
    connection.close()
    assert known == 1_000_000_000


def test_what_cannot_be_indexed_is_left_out_and_reported(docs: Path, tmp_path: Path) -> None:
    write(docs, {"binary.md": b"a\0b", "latin.md": "Zürich".encode("latin-1"), "large.md": "x" * 5000})
    write(docs, {"empty.md": "", "bom.md": "\ufeffmark"})
    configure(tmp_path, max_file_bytes=4000)
    report = tools.index(SyncCall())
    assert {skipped.file: skipped.why for skipped in report.skipped} == {
        "docs/binary.md": "it is binary",
        "docs/large.md": "it is larger than 4000 bytes (max_file_bytes)",
        "docs/latin.md": "it is not UTF-8 at byte 1",
    }
    assert report.skipped_files == 3
    assert found("mark") == [("docs/bom.md", 1, 1)]
    status = tools.status()
    assert fits(toolkit, "status", status)
    assert (status.files, status.skipped_files, status.skipped) == (4, 3, report.skipped)
    assert status.index_time is not None
    with pytest.raises(ToolError, match="larger than 4000 bytes") as caught:
        tools.read_lines("docs/large.md")
    assert reason(caught.value) == "FILE_UNREADABLE"
    # With other limits the same files are looked at anew.
    configure(tmp_path)
    assert tools.index(SyncCall()).skipped_files == 2


def test_a_folder_that_is_no_longer_named_is_no_longer_found(docs: Path, tmp_path: Path) -> None:
    write(tmp_path, {"more/other.md": "deadline elsewhere\n"})
    toolkit.configure({"folders": [str(docs), str(tmp_path / "more")], "check_interval_seconds": 0}, tmp_path / "data")
    assert len(found("deadline")) == 2
    # Not even before the index was brought up to date: there is no time for that.
    configure(tmp_path)
    with exclusive(toolkit.data_dir / "indexing.lock", 0) as held:
        assert held
        hits = at_once(1, lambda _: " ".join(hit.file for hit in tools.search(SyncCall(), "deadline").passages))
    assert hits == ["docs/guide.md"]
    assert [file for file, _, _ in found("deadline")] == ["docs/guide.md"]


def test_a_folder_that_cannot_be_read_for_a_while_is_not_forgotten(docs: Path) -> None:
    assert found("deadline")
    docs.rename(docs.with_name("away"))
    report = tools.index(SyncCall())
    assert (report.removed, report.skipped_files) == (0, 1)
    assert found("deadline")
    docs.with_name("away").rename(docs)
    assert tools.index(SyncCall()).skipped_files == 0


def test_indexing_without_time_still_comes_further_with_every_call(docs: Path, tmp_path: Path) -> None:
    write(tmp_path, {f"flat/{number}.md": f"file number {number}\n" for number in range(5)})
    toolkit.configure({"folders": [str(tmp_path / "flat")]}, tmp_path / "data")
    for done in range(1, 6):
        assert not tools.index(SyncCall(seconds=0)).complete
        assert tools.status().files == done
        assert tools.status().index_time is None
    whole = tools.index(SyncCall())
    assert (whole.added, whole.unchanged, whole.complete) == (0, 5, True)


def test_more_files_than_allowed_are_left_out_and_said_to_be(docs: Path, tmp_path: Path) -> None:
    write(docs, {f"many/{number}.md": "x" for number in range(10)})
    configure(tmp_path, max_files=5)
    report = tools.index(SyncCall())
    assert (report.added, report.complete) == (5, False)
    assert not tools.search(SyncCall(), "x").fresh


def test_while_another_process_indexes_a_search_answers_from_what_there_is(docs: Path) -> None:
    assert found("deadline")
    write(docs, {"new.md": "marmalade\n"})
    with exclusive(toolkit.data_dir / "indexing.lock", 0) as held:
        assert held
        result = tools.search(SyncCall(), "deadline")
        with pytest.raises(ToolError) as caught:
            tools.index(SyncCall(seconds=0.6))
    assert not result.fresh
    assert [hit.file for hit in result.passages] == ["docs/guide.md"]
    assert reason(caught.value) == "INDEXING"
    assert caught.value.retryable


def test_processes_that_index_at_once_index_each_file_once(docs: Path) -> None:
    write(docs, {f"many/{number}.md": f"# Number {number}\n\nunique{number} common\n" for number in range(60)})

    def work(number: int) -> str:
        if number % 2:
            return str(tools.index(SyncCall()).complete)
        return str(bool(tools.search(SyncCall(), f"unique{number}").passages))

    assert at_once(6, work) == ["True"] * 6
    assert tools.status().files == 62
    assert len(found("common", limit=50)) == 50
    assert all(len(found(f"unique{number}")) == 1 for number in range(60))
    with sqlite3.connect(toolkit.data_dir / "index.sqlite3") as connection:
        connection.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_an_index_of_another_release_is_made_anew(docs: Path) -> None:
    assert found("deadline")
    with sqlite3.connect(toolkit.data_dir / "index.sqlite3") as connection:
        connection.execute("DROP TABLE notes")
        connection.execute("PRAGMA user_version = 77")
    connection.close()
    assert found("deadline") == [("docs/guide.md", 5, 8)]


def test_reading_returns_lines_with_their_surroundings(docs: Path) -> None:
    excerpt = tools.read_lines("docs/guide.md", 5, 7)
    assert fits(toolkit, "read", excerpt)
    assert excerpt.text == "\n".join(lines_of(GUIDE)[4:7])
    assert (excerpt.start_line, excerpt.end_line, excerpt.total_lines, excerpt.truncated) == (5, 7, 11, False)
    around = tools.read_lines("docs/guide.md", 2, 2, context_lines=5)
    assert (around.start_line, around.end_line) == (1, 7)
    assert tools.read_lines("docs/guide.md").text == "\n".join(lines_of(GUIDE))
    assert tools.read_lines("docs/guide.md", 10, 99).end_line == 11


@pytest.mark.parametrize(("start", "end"), [(12, None), (5, 4), (99, 100)])
def test_lines_that_are_not_there_are_refused(docs: Path, start: int, end: int | None) -> None:
    with pytest.raises(ToolError) as caught:
        tools.read_lines("docs/guide.md", start, end)
    assert reason(caught.value) == "LINES_NOT_FOUND"


def test_reading_is_bounded(docs: Path) -> None:
    write(docs, {"many.md": "line\n" * 3000, "wide.md": "x" * 100_000 + "\ny\n", "empty.md": ""})
    many = tools.read_lines("docs/many.md")
    assert (many.end_line, many.truncated, many.total_lines) == (1000, True, 3000)
    wide = tools.read_lines("docs/wide.md")
    assert (len(wide.text), wide.end_line, wide.truncated) == (65_536, 1, True)
    empty = tools.read_lines("docs/empty.md")
    assert (empty.text, empty.total_lines, empty.truncated) == ("", 0, False)


def test_the_schema_bounds_what_can_be_asked() -> None:
    assert accepted(toolkit, "search", {"query": "x", "limit": 50, "path_prefix": "docs/"})
    for wrong in ({"limit": 0}, {"limit": 51}, {"limit": 1.5}, {"query": "x" * 1001}, {"query": 1}):
        assert not accepted(toolkit, "search", {"query": "x"} | wrong)
