"""What holds for every test."""

import signal
from collections.abc import Generator

import pytest

pytest_plugins = ["tests.databases"]


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
