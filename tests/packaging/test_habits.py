"""The project's own checks find what they are there to find."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def outcome(script: str, root: Path) -> tuple[int, str]:
    """Exit code and output of one of the scripts, run on another tree."""
    command = [sys.executable, str(ROOT / "scripts" / script), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the lock check reads."""
    for name in ("pyproject.toml", "server/pyproject.toml", "client/pyproject.toml", "generated/python/pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("server/utils.py", "", "`utils` says nothing"),
        ("client/core/pool.py", "", "`core` says nothing"),
        ("tests/test_long.py", "x = 1\n" * 401, "401 lines, 400 at most"),
        ("scripts/long.py", "def run():\n" + "    x = 1\n" * 60, "run has 61 lines, 60 at most"),
    ],
)
def test_the_size_check_names_what_is_too_long_or_says_nothing(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    code, output = outcome("check_sizes.py", tmp_path)
    assert code == 1
    assert f"{name}:" in output
    assert said in output


def test_the_locks_of_this_tree_pass_their_check(tree: Path) -> None:
    assert outcome("check_locks.py", tree) == (0, "locks: 6 files, 0 problems\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--index-url https://mirror.example/simple\n", "is not a pinned requirement with a hash"),
        ("rogue @ https://mirror.example/rogue.whl --hash=sha256:00\n", "is not a pinned requirement with a hash"),
        ("rogue==1.0\n", "is not a pinned requirement with a hash"),
        ("rogue==1.0 --hash=sha256:00 # from https://mirror.example\n", "rogue names an address"),
    ],
)
def test_the_lock_check_refuses_addresses_and_missing_hashes(tree: Path, line: str, said: str) -> None:
    with (tree / "requirements" / "run.txt").open("a", encoding="utf-8") as lock:
        lock.write(line)
    code, output = outcome("check_locks.py", tree)
    assert code == 1
    assert said in output


def test_the_lock_check_misses_a_dependency_that_was_never_locked(tree: Path) -> None:
    project = tree / "client" / "pyproject.toml"
    text = project.read_text(encoding="utf-8").replace(
        "dependencies = [", 'dependencies = [\n    "never-locked>=1",', 1
    )
    project.write_text(text, encoding="utf-8")
    code, output = outcome("check_locks.py", tree)
    assert code == 1
    assert "run.txt: has no never-locked>=1" in output


def test_every_command_of_the_makefile_explains_itself() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    text = subprocess.run([make, "help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True).stdout
    for command in ("setup", "run", "test", "check", "format", "proto", "lock", "bench", "torture", "clean"):
        assert f"make {command} " in text
