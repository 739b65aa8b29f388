"""Holds files and functions to their sizes and modules to names that say something. It judges no generated code."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("server", "client", "tests", "benchmarks", "scripts", "examples")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "core", "base", "manager", "managers", "misc"}


def problems(path: Path, root: Path) -> Iterator[str]:
    """One sentence per rule that the file breaks."""
    source = path.read_text(encoding="utf-8")
    where = path.relative_to(root)
    lines = len(source.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{where}: {lines} lines, {MAX_FILE_LINES} at most; give a part of it its own module"
    for name in {path.stem, *where.parent.parts} & SAYS_NOTHING:
        yield f"{where}: `{name}` says nothing; name it after what it is for"
    for node in ast.walk(ast.parse(source, filename=str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield (
                    f"{where}:{node.lineno}: {node.name} has {length} lines, {MAX_FUNCTION_LINES} at most; "
                    "give a step of it its own function"
                )


def main() -> int:
    """Prints what breaks the rules; 1 if anything does."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    files = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    found = [problem for path in files for problem in problems(path, root)]
    for problem in found:
        print(problem)
    print(f"sizes: {len(files)} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
