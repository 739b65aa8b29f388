"""A real HTTP server on loopback whose faults are dialled: errors, delays, resets and half answers, by path.

It runs on a loop of its own in a thread. What it saw, and when, is written down.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from enum import StrEnum

HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\nonly the beginning"
DELAY_SECONDS = 0.5


class Fault(StrEnum):
    """What a bad answer is."""

    ERRORS = "errors"
    DELAYS = "delays"
    RESETS = "resets"
    HALVES = "halves"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it came (seconds since the epoch), whether it was answered badly, and who sent it."""

    at: float
    bad: bool
    sender: str


@dataclass
class Path:
    """How requests of one path are answered, and what was seen of them."""

    fault: Fault = Fault.ERRORS
    ratio: float = 0.0
    held: asyncio.Event | None = None
    seen: list[Seen] = field(default_factory=list[Seen])


class Upstream:
    """Started by `running_upstream`. Its paths may be changed at any time, from any thread."""

    def __init__(self, seed: int = 1) -> None:
        self.paths: dict[str, Path] = {}
        self.port = 0
        self._chance = random.Random(seed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="upstream")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def path(self, name: str) -> Path:
        """Made when it is first asked for: healthy."""
        return self.paths.setdefault(name, Path())

    def hold(self, name: str) -> None:
        """Answer no more requests of the path until `release`."""
        self.path(name).held = asyncio.Event()

    def release(self, name: str) -> None:
        """Answer those that are held, and all later ones."""
        path, loop = self.path(name), self._loop
        assert path.held is not None
        assert loop is not None
        loop.call_soon_threadsafe(path.held.set)
        path.held = None

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10), "the upstream did not start"

    def stop(self) -> None:
        """End it, also the requests that are held."""
        assert self._loop is not None
        for name in [name for name, path in self.paths.items() if path.held is not None]:
            self.release(name)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the upstream did not stop"

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=2048)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await self._behave(head, writer)
        finally:
            writer.close()

    async def _behave(self, head: str, writer: asyncio.StreamWriter) -> None:
        path = self.path(head.split(" ", 2)[1].strip("/"))
        sent = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("x-sender:")]
        bad = self._chance.random() < path.ratio
        path.seen.append(Seen(time.time(), bad, "".join(sent)))
        if path.held is not None:
            await path.held.wait()
        if not bad:
            writer.write(HEALTHY)
        elif path.fault is Fault.DELAYS:
            await asyncio.sleep(DELAY_SECONDS)
            writer.write(HEALTHY)
        elif path.fault is Fault.RESETS:
            # Closed with what is still to be sent thrown away: a reset.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            writer.write(ERROR if path.fault is Fault.ERRORS else HALF)


@contextlib.contextmanager
def running_upstream(seed: int = 1) -> Generator[Upstream]:
    """One, until the end of the block."""
    upstream = Upstream(seed)
    upstream.start()
    try:
        yield upstream
    finally:
        upstream.stop()
