"""The verifier as an auditor runs it: a copied folder, the file and the public key."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolwright_server.records.audit import offline

from .audit_trails import eventful, signing_key

FOLDER = Path(offline.__file__).parent
SECONDS = 60


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the verifier, an export and the public key."""
    shutil.copytree(FOLDER, tmp_path / "offline", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "export.jsonl").write_bytes(eventful().export())
    (tmp_path / "audit.pub").write_bytes(signing_key().public_pem)
    return tmp_path


def run(desk: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "offline", *arguments]
    return subprocess.run(command, cwd=desk, capture_output=True, text=True, check=False, timeout=SECONDS)


def test_a_copied_verifier_finds_an_export_valid(desk: Path) -> None:
    done = run(desk, "export.jsonl", "--key", "audit.pub")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("valid: 30 entries in 5 chains, 7 checkpoints, all tenants\n")


def test_it_finds_what_was_changed(desk: Path) -> None:
    file = desk / "export.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"user":"ann"', b'"user":"bob"', 1))
    done = run(desk, "export.jsonl", "--key", "audit.pub")
    assert done.returncode == 1
    assert done.stdout.startswith("NOT VALID")
    assert "changed: line " in done.stdout


def test_it_finds_a_checkpoint_that_the_log_knows_and_the_file_does_not(desk: Path) -> None:
    (desk / "log").write_text(f"2026 info audit checkpoint {'a' * 24} 3 86400020000000 {'b' * 64} server=1\n")
    done = run(desk, "export.jsonl", "--key", "audit.pub", "--log", "log")
    assert done.returncode == 1
    assert "which was logged, was removed" in done.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("export.jsonl",), ("absent", "--key", "audit.pub"), ("x", "--key", "absent")]
)
def test_what_it_cannot_read_is_a_usage_error(desk: Path, arguments: tuple[str, ...]) -> None:
    assert run(desk, *arguments).returncode == 2


def test_it_needs_nothing_but_python_and_cryptography(desk: Path) -> None:
    program = (
        "import sys, runpy; sys.argv = ['offline', 'export.jsonl', '--key', 'audit.pub']\n"
        "try: runpy.run_module('offline', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "tops = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(name for name in tops - set(sys.stdlib_module_names) if not name.startswith('_')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=desk, capture_output=True, text=True, check=True, timeout=SECONDS
    )
    names = set(done.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert names <= {"cryptography", "offline", "typing_extensions", "sitecustomize", "cffi"}, names
