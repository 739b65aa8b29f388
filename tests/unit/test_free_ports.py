"""The ports that tests give to the servers they start."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ports

ROOT = Path(__file__).parents[2]


def only(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(ports, "CHOICE", range(port, port + 1))


def test_nobody_else_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    only(monkeypatch, port)
    with pytest.raises(RuntimeError, match="no free port"):
        ports.free_port()
    ask = f"from tests import ports; assert not ports._locked({port}); assert ports._locked({port + 20_000})"
    subprocess.run([sys.executable, "-c", ask], cwd=ROOT, check=True, timeout=60)


def test_one_on_which_somebody_listens_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        only(monkeypatch, taken.getsockname()[1])
        with pytest.raises(RuntimeError, match="no free port"):
            ports.free_port()
