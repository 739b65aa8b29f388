"""Holds requirements/*.txt to the rules: hashes, no addresses, and every dependency that a member declares.

It asks no index whether something newer exists: that is what `make upgrade` is for.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
MEMBERS = ("server", "client", "generated/python")
GROUPS_OF = {
    "bootstrap": ("bootstrap",),
    "run": ("build",),
    "dev": ("build", "dev"),
    "floor": ("build", "dev", "floor"),
    "generate": ("generate",),
    "rival": ("rival",),
}
WITH_MEMBERS = {"run", "dev", "floor"}
WITH_EXTRAS = {"dev", "floor"}
ADDRESS = re.compile(r"://|\s@\s|^-|file:|\b[\w.-]+\.(?:com|org|io|net|dev|internal|local)\b", re.MULTILINE)
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)")

Table = dict[str, Any]


def read(path: Path) -> Table:
    """One TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def entries(lock: Path) -> list[str]:
    """The lock's requirements, each with its hashes, one logical line per entry."""
    return [line for line in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines() if line.strip()]


def declared(lock_name: str) -> list[Requirement]:
    """What must be in this lock: the groups of the workspace, and what the members declare."""
    groups = cast("dict[str, list[str | Table]]", read(ROOT / "pyproject.toml")["dependency-groups"])
    wanted = [text for group in GROUPS_OF[lock_name] for text in groups[group] if isinstance(text, str)]
    if lock_name in WITH_MEMBERS:
        for member in MEMBERS:
            project = cast("Table", read(ROOT / member / "pyproject.toml")["project"])
            wanted += cast("list[str]", project["dependencies"])
            if lock_name in WITH_EXTRAS:
                extras = cast("dict[str, list[str]]", project.get("optional-dependencies", {}))
                wanted += [text for extra in extras.values() for text in extra]
    requirements = [Requirement(text) for text in wanted]
    return [each for each in requirements if not canonicalize_name(each.name).startswith("toolwright-")]


def problems(lock: Path) -> Iterator[str]:
    """One sentence per rule that the lock breaks."""
    pinned: dict[str, set[str]] = {}
    for entry in entries(lock):
        match = PINNED.match(entry)
        if match is None or "--hash=sha256:" not in entry:
            yield f"{lock.name}: `{entry[:60]}` is not a pinned requirement with a hash"
            continue
        pinned.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
        if ADDRESS.search(entry):
            yield f"{lock.name}: {match['name']} names an address; mirrors would be bypassed"
    for requirement in declared(lock.stem):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"{lock.name}: has no {requirement}, which a pyproject.toml asks for"


def main() -> int:
    """Prints what breaks the rules; 1 if anything does."""
    locks = [LOCKS / f"{name}.txt" for name in GROUPS_OF]
    found = [problem for lock in locks for problem in problems(lock)]
    for problem in found:
        print(f"requirements/{problem}; run `make lock` and commit the result")
    print(f"locks: {len(locks)} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
