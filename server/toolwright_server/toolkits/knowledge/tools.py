"""knowledge.index, knowledge.search, knowledge.read and knowledge.status."""

import os
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from toolwright_server import Effect, SyncToolContext, ToolError
from toolwright_server.toolkits.knowledge import searching
from toolwright_server.toolkits.knowledge.indexing import INDEX_TIME, SKIPPED_LISTED, bring_up_to_date, read
from toolwright_server.toolkits.knowledge.kit import KnowledgeSettings, configured, toolkit
from toolwright_server.toolkits.knowledge.results import Excerpt, IndexReport, SearchResult, Status
from toolwright_server.toolkits.knowledge.sources import locate
from toolwright_server.toolkits.knowledge.splitting import lines_of
from toolwright_server.toolkits.knowledge.store import Index, opened

_LINES_LIMIT = 1000
_CHARACTERS_LIMIT = 64 * 1024
# Of the time that is left, the part that goes into indexing when nothing was indexed yet.
_FIRST_SHARE = 0.6
_RESERVE_SECONDS = 0.5

# When this process last found the index up to date, by index (monotonic clock).
_checked: dict[Path, float] = {}


@toolkit.tool("index", effect=Effect.IDEMPOTENT, timeout_seconds=120)
def index(
    context: SyncToolContext,
    full: Annotated[bool, Field(description="Read every file anew, also those that seem unchanged.")] = False,
) -> IndexReport:
    """Brings the index up to date with the files, reading only those that have changed. Searches do this by themselves;
    call it for large folders, or to see which files are left out and why.
    """
    settings = configured()
    with opened(_path()) as opened_index:
        report = bring_up_to_date(
            opened_index,
            settings,
            _lock(),
            seconds=max(0.0, context.remaining - _RESERVE_SECONDS),
            full=full,
            progress=lambda done, total: context.progress(done, total, "files"),
        )
    if report is None:
        raise ToolError(
            "another call has been indexing all the while",
            reason="INDEXING",
            user_message="The documents are being indexed at the moment.",
            suggested_action="Wait for the retry delay; then search, or index again.",
            retryable=True,
            retry_delay=5,
        )
    return report


@toolkit.tool("search", effect=Effect.READ_ONLY)
def search(
    context: SyncToolContext,
    query: Annotated[str, Field(max_length=1000, description="Words to look for, in any form and order.")],
    limit: Annotated[int, Field(ge=1, le=50, description="Most passages to return.")] = 5,
    path_prefix: Annotated[
        str, Field(max_length=1000, description="Only in files whose name begins so, such as docs/adr/.")
    ] = "",
) -> SearchResult:
    """Finds the passages of the documents that fit a query best, with file, lines and headings. Read more of one with
    knowledge.read.
    """
    settings = configured()
    with opened(_path()) as opened_index:
        fresh = _refreshed(opened_index, settings, context.remaining)
        hits = searching.search(
            opened_index,
            query,
            path_prefix.replace("\0", ""),
            limit,
            # What was indexed under earlier settings is no longer anybody's to read.
            lambda name: locate(name, settings.sources, settings.suffixes) is not None,
        )
    return SearchResult(hits, fresh)


@toolkit.tool("read", effect=Effect.READ_ONLY)
def read_lines(
    file: Annotated[str, Field(max_length=1000, description="Name of the file, as a search gives it.")],
    start_line: Annotated[int, Field(ge=1, description="First line, from 1.")] = 1,
    end_line: Annotated[int | None, Field(ge=1, description="Last line; null: to the end.")] = None,
    context_lines: Annotated[int, Field(ge=0, le=200, description="Further lines before and after.")] = 0,
) -> Excerpt:
    """Returns lines of a document: at most 1,000 lines and 65,536 characters of them."""
    settings = configured()
    lines = _lines(file, settings)
    first = max(1, start_line - context_lines)
    last = min(len(lines), len(lines) if end_line is None else end_line + context_lines)
    if start_line > max(1, len(lines)) or (end_line is not None and end_line < start_line):
        raise ToolError(
            f"{file} has {len(lines)} lines; there are none from {start_line} to {end_line}",
            reason="LINES_NOT_FOUND",
            user_message="These lines do not exist.",
            suggested_action=f"Ask for lines between 1 and {len(lines)}, the first not after the last.",
            metadata={"total_lines": str(len(lines))},
        )
    shown: list[str] = []
    room = _CHARACTERS_LIMIT
    for line in lines[first - 1 : min(last, first - 1 + _LINES_LIMIT)]:
        if len(line) + 1 > room:
            # A first line that alone is too long is cut: something is better than nothing.
            shown += [line[:room]] if not shown else []
            break
        shown.append(line)
        room -= len(line) + 1
    text = "\n".join(shown)
    end = first + len(shown) - 1
    return Excerpt(
        file, first, end, len(lines), text, truncated=end < last or text != "\n".join(lines[first - 1 : end])
    )


@toolkit.tool("status", effect=Effect.READ_ONLY)
def status() -> Status:
    """Says which folders there are, how much of them is indexed, and what is left out and why."""
    settings = configured()
    path = _path()
    with opened(path) as opened_index:
        files, passages, skipped_files = opened_index.counts()
        return Status(
            folders=[str(folder) for folder in settings.folders],
            files=files,
            passages=passages,
            skipped_files=skipped_files,
            skipped=opened_index.skipped(SKIPPED_LISTED),
            index_time=opened_index.note(INDEX_TIME),
            index_bytes=path.stat().st_size,
        )


def _refreshed(opened_index: Index, settings: KnowledgeSettings, remaining: float) -> bool:
    """Index what has changed, if it was not done just now and there is time. Whether the index is up to date."""
    path = _path()
    last = _checked.get(path)
    if last is not None and time.monotonic() - last < settings.check_interval_seconds:
        return True
    first = opened_index.note(INDEX_TIME) is None
    seconds = remaining * _FIRST_SHARE if first else min(settings.check_seconds, remaining * _FIRST_SHARE)
    report = bring_up_to_date(opened_index, settings, _lock(), seconds=seconds)
    if report is None or not report.complete:
        return False
    _checked[path] = time.monotonic()
    return True


def _lines(file: str, settings: KnowledgeSettings) -> list[str]:
    path = locate(file, settings.sources, settings.suffixes)
    # The folders themselves are resolved: any difference is a symbolic link inside them.
    if path is None or Path(os.path.realpath(path)) != path or not path.is_file():
        raise ToolError(
            f"there is no file {file!r} in the folders",
            reason="FILE_NOT_FOUND",
            user_message="This document does not exist.",
            suggested_action="Use a file name that knowledge.search returned, unchanged.",
        )
    content, why_not = read(path, settings.max_file_bytes)
    if why_not:
        raise ToolError(
            f"{file}: {why_not}",
            reason="FILE_UNREADABLE",
            user_message="This document cannot be shown.",
            suggested_action="Use another document, or tell the operator about this one.",
        )
    return lines_of(content.decode("utf-8-sig"))


def _path() -> Path:
    return toolkit.data_dir.absolute() / "index.sqlite3"


def _lock() -> Path:
    return toolkit.data_dir.absolute() / "indexing.lock"
