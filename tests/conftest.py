"""What holds for every test."""

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest

pytest_plugins = ["tests.databases", "tests.valkeys"]


@pytest.fixture(scope="session", autouse=True)
def interruptible_children() -> Generator[None]:
    """Let SIGINT reach the processes that tests start, also when it is ignored here.

    A script's shell has it ignored in what it starts with `&`; children inherit that, and nothing else of a handler.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Keep what servers write beside their data, such as the key of the audit trail, out of the user's home."""
    folder = tmp_path_factory.mktemp("configuration")
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CONFIG_HOME"]
    else:
        os.environ["XDG_CONFIG_HOME"] = before
