"""The folders, files and patterns that the operator named, and the names under which their files appear.

`docs` stands for all below the folder, `README.md` for the one file, `*.md` for the files beside each other that match.
A file is called as the operator wrote its folder: `docs/adr/0001.md`. Never yields what lies outside, is hidden (a part
of its name begins with a dot) or is a symbolic link.
"""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class Found:
    """A file as it lies there: its public name, where it is, its size in bytes and time of change in nanoseconds."""

    name: str
    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `folders`. `pattern` empty: the folder and all below it; else the files in it that match."""

    folder: Path
    prefix: str
    pattern: str = ""

    @classmethod
    def parse(cls, entry: Path) -> "Source":
        """Raises ValueError when there is nothing of that name."""
        written = not entry.is_absolute() and ".." not in entry.parts
        beside = _prefix(entry.parent) if written else ""
        if entry.is_dir():
            return cls(entry.resolve(), _prefix(entry) if written else entry.resolve().name)
        if entry.is_file():
            file = entry.resolve()
            return cls(file.parent, beside, _literal(file.name))
        if any(sign in entry.name for sign in "*?[") and entry.parent.is_dir():
            return cls(entry.parent.resolve(), beside, entry.name)
        raise ValueError(f"{entry}: there is no such file or folder, seen from {Path.cwd()}")

    def name_of(self, relative: PurePosixPath) -> str:
        """The public name of a file or folder in this source."""
        return str(PurePosixPath(self.prefix) / relative)

    def relative(self, name: str) -> PurePosixPath | None:
        """The inverse of `name_of`; None for a name that is not of this source's form."""
        wanted = PurePosixPath(name)
        if str(wanted) != name or not wanted.is_relative_to(self.prefix):
            return None
        return wanted.relative_to(self.prefix)

    def holds(self, relative: PurePosixPath, suffixes: Sequence[str]) -> bool:
        """Whether a file of this name below `folder` would be yielded by `scan`, if it exists."""
        if relative.is_absolute() or not relative.parts or any(part.startswith(".") for part in relative.parts):
            return False
        if relative.suffix.lower() not in suffixes:
            return False
        return not self.pattern or (len(relative.parts) == 1 and fnmatch.fnmatchcase(relative.name, self.pattern))

    def overlaps(self, other: "Source") -> bool:
        """Whether a file could belong to both, or two files have one name."""
        if self.pattern and other.pattern and self.folder == other.folder:
            return False
        return (
            (not other.pattern and self.folder.is_relative_to(other.folder))
            or (not self.pattern and other.folder.is_relative_to(self.folder))
            or self.claims(other.prefix)
            or other.claims(self.prefix)
        )

    def claims(self, prefix: str) -> bool:
        """Whether names that begin with `prefix` could be this source's."""
        return prefix == self.prefix or (not self.pattern and PurePosixPath(prefix).is_relative_to(self.prefix))

    def scan(self, suffixes: Sequence[str], unreadable: list[str]) -> Iterator[list[Found]]:
        """Every file, folder by folder. What cannot be read is appended to `unreadable`, by name."""
        waiting = [PurePosixPath()]
        while waiting:
            below = waiting.pop()
            found: list[Found] = []
            try:
                with os.scandir(self.folder / below) as entries:
                    for entry in entries:
                        if self._is_folder(entry):
                            waiting.append(below / entry.name)
                        elif self.holds(below / entry.name, suffixes) and entry.is_file(follow_symlinks=False):
                            found += self._found(entry, self.name_of(below / entry.name), unreadable)
            except OSError:
                unreadable.append(self.name_of(below))
            yield found

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        return not self.pattern and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)

    @staticmethod
    def _found(entry: os.DirEntry[str], name: str, unreadable: list[str]) -> list[Found]:
        if not _is_text(name):
            unreadable.append(name.encode(errors="backslashreplace").decode())
            return []
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            # Gone in this moment: as if it had never been there.
            return []
        return [Found(name, Path(entry.path), stat.st_size, stat.st_mtime_ns)]


def parse_all(entries: Sequence[Path]) -> tuple[Source, ...]:
    """All entries, each file belonging to one of them. Raises ValueError, saying which entry to change."""
    sources: list[Source] = []
    for entry in entries:
        source = Source.parse(entry.expanduser())
        for other, written in zip(sources, entries, strict=False):
            if source.overlaps(other):
                raise ValueError(f"{entry} and {written} have files or names in common: name each folder once")
        sources.append(source)
    return tuple(sources)


def locate(name: str, sources: Sequence[Source], suffixes: Sequence[str]) -> Path | None:
    """Where the file of this public name would be; None when no source holds such a name."""
    if "\0" in name or not _is_text(name):
        return None
    for source in sources:
        relative = source.relative(name)
        if relative is not None and source.holds(relative, suffixes):
            return source.folder / relative
    return None


def _prefix(entry: Path) -> str:
    return "" if entry == Path() else entry.as_posix()


def _literal(name: str) -> str:
    """The file name as a pattern that matches it alone."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _is_text(name: str) -> bool:
    # Names on disk are bytes: those that are no UTF-8 come with lone surrogates.
    return name.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in name)
