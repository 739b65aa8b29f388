"""What the tools answer. Lines count from 1, both ends included; times are RFC 3339 in UTC."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that is left out, and why."""

    file: str
    why: str


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What indexing changed, in files. `complete` is false when time or `max_files` ended it early; `skipped` names at
    most 100 of the `skipped_files`.
    """

    added: int
    updated: int
    removed: int
    unchanged: int
    skipped_files: int
    skipped: list[Skipped]
    complete: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage. The higher the `score` (BM25), the better; `heading` holds the headings above, outermost first."""

    file: str
    start_line: int
    end_line: int
    heading: str
    score: float
    snippet: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages that hold all the words come first, then those that hold some. `fresh` is false when the files may
    have changed since they were indexed and there was no time to look.
    """

    passages: list[Hit]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Lines of a file. `truncated` is true when fewer were returned than asked for because they are too many."""

    file: str
    start_line: int
    end_line: int
    total_lines: int
    text: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the index. `index_time` says when it last changed, null until
    everything was indexed once; `skipped` names at most 100.
    """

    folders: list[str]
    files: int
    passages: int
    skipped_files: int
    skipped: list[Skipped]
    index_time: str | None
    index_bytes: int
