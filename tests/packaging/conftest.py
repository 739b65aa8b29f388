"""Builds the wheels once and installs them into environments of their own. It never touches the one tests run in."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MEMBERS = {"server": ROOT / "server", "client": ROOT / "client", "protos": ROOT / "generated" / "python"}
STEP_SECONDS = 180

Install = Callable[..., Path]


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed, run outside the tree so that only installed code can be imported."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=STEP_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three wheels, built from the tree with the locked build backend: no index is needed."""
    built: dict[str, Path] = {}
    for name, member in MEMBERS.items():
        out = tmp_path_factory.mktemp(f"wheel-{name}")
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel")
        run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, member, cwd=out)
        (built[name],) = out.glob("*.whl")
    return built


def index_is_reachable(folder: Path) -> bool:
    """Whether pip gets one small package, past every cache."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=0", "--timeout=10", "download")
    done = subprocess.run(
        [*pip, "--no-deps", "--no-cache-dir", "--quiet", "--dest", str(folder), "iniconfig"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0


def locked_versions() -> str:
    """Versions of the running lock as constraints. Hashes stay out: wheels built just now have none to compare."""
    lock = (ROOT / "requirements" / "run.txt").read_text(encoding="utf-8")
    return re.sub(r" \\\n\s+--hash=\S+", "", lock)


@pytest.fixture(scope="session")
def install(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Install:
    """Makes an environment with the named members and what their metadata asks for, and answers its bin folder.

    A name may carry an extra: "server[redis]". `into` is the bin folder of one that is there already.
    """

    def wanted(name: str) -> str:
        member, bracket, extra = name.partition("[")
        return f"{wheels[member]}{bracket}{extra}"

    def into_a_clean_environment(*names: str, into: Path | None = None) -> Path:
        folder = tmp_path_factory.mktemp("clean")
        constraints = folder / "constraints.txt"
        constraints.write_text(locked_versions(), encoding="utf-8")
        if into is None:
            run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        binaries = into or folder / "venv" / "bin"
        # Most modules are never loaded here: compiling all of them takes longer than the rest.
        pip = (sys.executable, "-m", "pip", "--python", binaries / "python", "--quiet")
        arguments = ("--disable-pip-version-check", "install", "--no-compile", "--constraint", constraints)
        try:
            run(*pip, *arguments, *map(wanted, names), cwd=folder)
        except (AssertionError, subprocess.TimeoutExpired):
            if index_is_reachable(folder):
                raise
            pytest.skip("no package index is reachable: a clean installation cannot be tried")
        return binaries

    return into_a_clean_environment
