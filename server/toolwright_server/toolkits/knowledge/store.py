"""The index: one SQLite file with the passages and their full text search (FTS5). Knows nothing of folders.

It can be thrown away at any time: it is made again from the files.
"""

import contextlib
import sqlite3
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from toolwright_server.toolkits.exclusive import exclusive
from toolwright_server.toolkits.knowledge.results import Hit, Skipped
from toolwright_server.toolkits.knowledge.splitting import Passage

# Raised whenever the tables or the way of splitting change: the index is then made anew.
_INDEX_VERSION = 1
_BUSY_SECONDS = 5.0
_SNIPPET_TOKENS = 40

_TABLES = """
CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    file_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    digest BLOB NOT NULL,
    skipped TEXT NOT NULL
);
CREATE TABLE passages (
    passage_id INTEGER PRIMARY KEY,
    file_id INTEGER NOT NULL REFERENCES files (file_id) ON DELETE CASCADE,
    start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL CHECK (end_line >= start_line),
    heading TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX passages_by_file ON passages (file_id);
CREATE VIRTUAL TABLE words USING fts5 (
    heading, text, content = 'passages', content_rowid = 'passage_id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, heading, text) VALUES (new.passage_id, new.heading, new.text);
END;
CREATE TRIGGER passage_removed AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, heading, text) VALUES ('delete', old.passage_id, old.heading, old.text);
END;
"""

# `rank` lets FTS5 sort by itself, so that snippets are made for the few best rows only. A heading counts threefold.
_SEARCH = """
SELECT files.name, passages.start_line, passages.end_line, passages.heading, words.rank,
       snippet(words, 1, '', '', '…', ?)
FROM words
JOIN passages ON passages.passage_id = words.rowid
JOIN files ON files.file_id = passages.file_id
WHERE words MATCH ? AND words.rank MATCH 'bm25(3.0, 1.0)' AND substr(files.name, 1, length(?)) = ?
ORDER BY words.rank LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was when it was indexed. `skipped` says why it has no passages; empty if it has."""

    size: int
    mtime_ns: int
    digest: bytes
    skipped: str


class Index:
    """One connection to the index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """A transaction that nobody else can come between."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def known(self) -> dict[str, Known]:
        """Every file of the index, by name."""
        rows = self._connection.execute("SELECT name, size, mtime_ns, digest, skipped FROM files")
        return {name: Known(size, mtime_ns, digest, skipped) for name, size, mtime_ns, digest, skipped in rows}

    def touch(self, name: str, size: int, mtime_ns: int) -> None:
        """The file was written again with the same content."""
        self._connection.execute("UPDATE files SET size = ?, mtime_ns = ? WHERE name = ?", (size, mtime_ns, name))

    def doubt(self, *, content: bool) -> None:
        """Have every file read again; with `content`, also split again though it is the same."""
        self._connection.execute("UPDATE files SET mtime_ns = -1")
        if content:
            self._connection.execute("UPDATE files SET digest = x''")

    def replace(self, name: str, known: Known, passages: Sequence[Passage]) -> None:
        """Put a file and its passages in the place of what is there under its name."""
        self.remove(name)
        file_id = self._connection.execute(
            "INSERT INTO files (name, size, mtime_ns, digest, skipped) VALUES (?, ?, ?, ?, ?)",
            (name, known.size, known.mtime_ns, known.digest, known.skipped),
        ).lastrowid
        self._connection.executemany(
            "INSERT INTO passages (file_id, start_line, end_line, heading, text) VALUES (?, ?, ?, ?, ?)",
            [(file_id, passage.start, passage.end, passage.heading, passage.text) for passage in passages],
        )

    def remove(self, name: str) -> None:
        """Forget a file and its passages."""
        self._connection.execute(
            "DELETE FROM passages WHERE file_id = (SELECT file_id FROM files WHERE name = ?)", (name,)
        )
        self._connection.execute("DELETE FROM files WHERE name = ?", (name,))

    def note(self, key: str) -> str | None:
        """What `take_note` kept."""
        row = self._connection.execute("SELECT value FROM notes WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def take_note(self, key: str, value: str) -> None:
        """Keep a fact about the whole index."""
        self._connection.execute("INSERT OR REPLACE INTO notes (key, value) VALUES (?, ?)", (key, value))

    def search(self, match: str, prefix: str, limit: int) -> list[Hit]:
        """The best passages for an FTS5 expression, in files whose name begins with `prefix`."""
        rows = self._connection.execute(_SEARCH, (_SNIPPET_TOKENS, match, prefix, prefix, limit))
        return [
            Hit(name, start, end, heading, round(-rank, 4), " ".join(snippet.split()))
            for name, start, end, heading, rank, snippet in rows
        ]

    def counts(self) -> tuple[int, int, int]:
        """`(files with passages, passages, files skipped)`."""
        row = self._connection.execute(
            "SELECT (SELECT count(*) FROM files WHERE skipped = ''), (SELECT count(*) FROM passages),"
            " (SELECT count(*) FROM files WHERE skipped != '')"
        ).fetchone()
        return int(row[0]), int(row[1]), int(row[2])

    def skipped(self, limit: int) -> list[Skipped]:
        """Files without passages and why, by name."""
        rows = self._connection.execute(
            "SELECT name, skipped FROM files WHERE skipped != '' ORDER BY name LIMIT ?", (limit,)
        )
        return [Skipped(name, why) for name, why in rows]


@contextlib.contextmanager
def opened(path: Path) -> Generator[Index]:
    """The index at `path`, made when there is none or it is of another release."""
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        if _version(connection) != _INDEX_VERSION:
            _make(connection, path)
        yield Index(connection)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make(connection: sqlite3.Connection, path: Path) -> None:
    with exclusive(path.with_suffix(".making"), _BUSY_SECONDS):
        if _version(connection) == _INDEX_VERSION:
            # Another process was faster.
            return
        connection.execute("PRAGMA journal_mode = WAL")
        drop = "".join(f"DROP TABLE IF EXISTS {name};" for name in ("words", "passages", "files", "notes"))
        connection.executescript(f"BEGIN IMMEDIATE; {drop} {_TABLES} PRAGMA user_version = {_INDEX_VERSION}; COMMIT;")
