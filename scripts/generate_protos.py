"""Writes generated/python from protos/, or with --check says whether a new run would change anything.

Runs in the environment of requirements/generate.txt (`make proto`). It rewrites the modules only: the package's
`__init__.py`, `py.typed` and metadata are kept by hand.
"""

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("toolwright", "v1")
PYTHON_OUT = ROOT / "generated" / "python"
MADE_BY_THE_GENERATOR = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Runs protoc over every file of the contract. Raises CalledProcessError when protoc refuses one."""
    scripts = Path(sys.executable).parent
    sources = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={resources.files('grpc_tools') / '_proto'}",
            f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            *sources,
        ],
        check=True,
        cwd=ROOT,
    )


def modules(folder: Path) -> set[str]:
    """Names of the generated modules in a folder."""
    return {path.name for pattern in MADE_BY_THE_GENERATOR for path in folder.glob(pattern)}


def differences(committed: Path, fresh: Path) -> list[str]:
    """One line per module that is missing, superfluous or different."""
    old, new = modules(committed), modules(fresh)
    changed = {name for name in old & new if not filecmp.cmp(committed / name, fresh / name, shallow=False)}
    return (
        [f"missing: {name}" for name in sorted(new - old)]
        + [f"no longer made: {name}" for name in sorted(old - new)]
        + [f"differs: {name}" for name in sorted(changed)]
    )


def replace(committed: Path, fresh: Path) -> None:
    """Puts the fresh modules in the place of the committed ones."""
    for name in modules(committed) - modules(fresh):
        (committed / name).unlink()
    for name in sorted(modules(fresh)):
        shutil.copyfile(fresh / name, committed / name)


def main() -> int:
    """Writes, or with --check compares: 1 if the result would differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the result would differ")
    check: bool = parser.parse_args().check
    committed = PYTHON_OUT / PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        fresh = Path(folder) / PACKAGE
        found = differences(committed, fresh)
        if not check:
            replace(committed, fresh)
            print(f"{PYTHON_OUT.relative_to(ROOT)}: {len(found)} modules changed")
            return 0
        for line in found:
            print(f"{committed.relative_to(ROOT)}: {line}; run `make proto` and commit the result")
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
