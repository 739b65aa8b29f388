"""Brings the index up to date with the files: looks which have changed, reads those, forgets what is gone.

Works in short transactions under a lock that one process holds at a time, and ends in time, wherever it stands then.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from toolwright_server.toolkits.exclusive import exclusive
from toolwright_server.toolkits.knowledge.kit import KnowledgeSettings
from toolwright_server.toolkits.knowledge.results import IndexReport, Skipped
from toolwright_server.toolkits.knowledge.sources import Found, locate
from toolwright_server.toolkits.knowledge.splitting import Markup, split
from toolwright_server.toolkits.knowledge.store import Index, Known

SKIPPED_LISTED = 100
INDEX_TIME = "index_time"
_LIMITS = "limits"
_BATCH_SECONDS = 0.1
# A file that was changed this shortly before it was read may change again without a new time of change.
_UNSURE_NS = 1_000_000_000
_BINARY_LOOK_BYTES = 8192
_MARKUP = {".md": Markup.MARKDOWN, ".markdown": Markup.MARKDOWN, ".rst": Markup.RST}

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class _Scan:
    """What lies in the folders now."""

    files: dict[str, Found] = field(default_factory=dict[str, Found])
    unreadable: list[str] = field(default_factory=list[str])
    complete: bool = True


@dataclass(slots=True)
class _Run:
    """One indexing: what it works on and what it has done so far."""

    index: Index
    settings: KnowledgeSettings
    known: dict[str, Known]
    added: int = 0
    updated: int = 0
    removed: int = 0


def bring_up_to_date(
    index: Index,
    settings: KnowledgeSettings,
    lock: Path,
    *,
    seconds: float,
    full: bool = False,
    progress: Progress | None = None,
) -> IndexReport | None:
    """Index what has changed (`full`: everything anew) for at most about `seconds`.

    None when another process held the lock all the while.
    """
    start = time.monotonic()
    with exclusive(lock, seconds) as held:
        if not held:
            return None
        _doubt(index, settings, full=full)
        run = _Run(index, settings, index.known())
        scan = _scanned(settings, start + seconds)
        _forget(run, _gone(settings, scan, run.known))
        changed = [found for found in scan.files.values() if _differs(found, run.known.get(found.name))]
        # What is missing comes before what may only have been touched.
        changed.sort(key=lambda found: found.name in run.known)
        all_read = _read_all(run, changed, start + seconds, progress)
        complete = scan.complete and all_read
        # A look that finds nothing new writes nothing: searches look often.
        if complete and (changed or run.removed or index.note(INDEX_TIME) is None):
            with index.writing():
                index.take_note(INDEX_TIME, datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
        return _report(run, scan, complete, time.monotonic() - start)


def _doubt(index: Index, settings: KnowledgeSettings, *, full: bool) -> None:
    """Mark what must be read again, in the index itself: so that a later call goes on where this one ends."""
    limits = str(settings.max_file_bytes)
    other_limits = index.note(_LIMITS) != limits
    if full or other_limits:
        with index.writing():
            index.doubt(content=full)
            index.take_note(_LIMITS, limits)


def _scanned(settings: KnowledgeSettings, end: float) -> _Scan:
    scan = _Scan()
    for source in settings.sources:
        for folder in source.scan(settings.suffixes, scan.unreadable):
            room = settings.max_files - len(scan.files)
            scan.files.update((found.name, found) for found in folder[:room])
            if time.monotonic() > end or len(folder) > room:
                scan.complete = False
                return scan
    return scan


def _gone(settings: KnowledgeSettings, scan: _Scan, known: Iterable[str]) -> list[str]:
    """Files to forget: no longer in a named folder, or not found by a complete look."""

    def is_gone(name: str) -> bool:
        if locate(name, settings.sources, settings.suffixes) is None:
            return True
        return scan.complete and not any(_is_below(name, folder) for folder in scan.unreadable)

    return [name for name in known if name not in scan.files and is_gone(name)]


def _is_below(name: str, folder: str) -> bool:
    return folder in ("", ".") or name == folder or name.startswith(f"{folder}/")


def _differs(found: Found, known: Known | None) -> bool:
    return known is None or known.size != found.size or known.mtime_ns != found.mtime_ns


def _forget(run: _Run, names: Sequence[str]) -> None:
    if names:
        with run.index.writing():
            for name in names:
                run.index.remove(name)
    run.removed = len(names)


def _read_all(run: _Run, changed: Sequence[Found], end: float, progress: Progress | None) -> bool:
    """Whether the time sufficed. At least one file is read: even without time, every call comes further."""
    at = 0
    while at < len(changed):
        if at and time.monotonic() > end:
            return False
        batch_end = min(end, time.monotonic() + _BATCH_SECONDS)
        with run.index.writing():
            _read_one(run, changed[at])
            at += 1
            while at < len(changed) and time.monotonic() < batch_end:
                _read_one(run, changed[at])
                at += 1
        if progress is not None:
            progress(at, len(changed))
    return True


def _read_one(run: _Run, found: Found) -> None:
    before = run.known.get(found.name)
    content, skipped = read(found.path, run.settings.max_file_bytes)
    sure = time.time_ns() - found.mtime_ns > _UNSURE_NS
    now = Known(found.size, found.mtime_ns if sure else -1, hashlib.blake2b(content, digest_size=16).digest(), skipped)
    if before is not None and (before.digest, before.skipped) == (now.digest, now.skipped):
        run.index.touch(found.name, now.size, now.mtime_ns)
        return
    markup = _MARKUP.get(found.path.suffix.lower(), Markup.PLAIN)
    passages = split("" if skipped else content.decode("utf-8-sig"), markup)
    run.index.replace(found.name, now, [passage for passage in passages if passage.text.strip()])
    run.added += before is None
    run.updated += before is not None


def read(path: Path, most_bytes: int) -> tuple[bytes, str]:
    """`(content, why not)`; the content is UTF-8 if the second is empty. Never follows a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(most_bytes + 1)
    except OSError as error:
        return b"", f"it cannot be read: {error.strerror}"
    if len(content) > most_bytes:
        return b"", f"it is larger than {most_bytes} bytes (max_file_bytes)"
    if b"\0" in content[:_BINARY_LOOK_BYTES]:
        return b"", "it is binary"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        return b"", f"it is not UTF-8 at byte {error.start}"
    return content, ""


def _report(run: _Run, scan: _Scan, complete: bool, seconds: float) -> IndexReport:
    skipped = [Skipped(name, "it cannot be read") for name in scan.unreadable] + run.index.skipped(SKIPPED_LISTED)
    _, _, skipped_files = run.index.counts()
    return IndexReport(
        added=run.added,
        updated=run.updated,
        removed=run.removed,
        unchanged=max(0, len(scan.files) - run.added - run.updated),
        skipped_files=skipped_files + len(scan.unreadable),
        skipped=skipped[:SKIPPED_LISTED],
        complete=complete,
        seconds=round(seconds, 3),
    )
