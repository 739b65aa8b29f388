"""Reads gRPC streams as fast as they come and keeps every byte, so that each event can be checked afterwards.

A gRPC client in Python would be slower than the servers it measures: this one speaks just enough HTTP/2, lets the
server send without flow control, and looks at frame headers only.
"""

import selectors
import socket
import time
from dataclasses import dataclass, field

from benchmarks.load import GRPC, Ask, frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS_FRAME, RESET, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 2**16 - 1
READ_BYTES = 1 << 18
# Trailers come as literals, since the table that would shorten them is switched off: this is status OK.
STATUS_OK = b"\x0bgrpc-status\x010"


def h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(text: str) -> bytes:
    return bytes((len(text),)) + text.encode("ascii")


def header_block(address: str, path: str) -> bytes:
    """The headers of one call, nothing indexed but what RFC 7541 has in its static table."""
    pseudo = b"\x83\x86" + b"\x04" + _literal(path) + b"\x01" + _literal(address)
    return pseudo + b"".join(b"\0" + _literal(name) + _literal(value) for name, value in GRPC.headers.items())


def opening() -> bytes:
    """Preface, settings without limits, and a window as large as the protocol has."""
    no_header_table, largest_windows = (1).to_bytes(2, "big") + bytes(4), (4).to_bytes(2, "big")
    settings = no_header_table + largest_windows + LARGEST_WINDOW.to_bytes(4, "big")
    grown = (LARGEST_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big")
    return PREFACE + h2_frame(SETTINGS, 0, 0, settings) + h2_frame(WINDOW_UPDATE, 0, 0, grown)


@dataclass
class Tape:
    """One connection: asks for `left` streams, one after the other, and keeps what they bring."""

    ask_for: Ask
    left: int
    streams: list[bytearray] = field(default_factory=list[bytearray])
    connection: socket.socket = field(init=False)
    _unread: bytearray = field(default_factory=bytearray)
    _received: int = 0

    def __post_init__(self) -> None:
        host, port = self.ask_for.address.rsplit(":", 1)
        self.connection = socket.create_connection((host, int(port)), timeout=10)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.sendall(opening())

    @property
    def _where(self) -> str:
        return self.ask_for.address + self.ask_for.path

    def ask(self) -> None:
        """Asks for the next stream."""
        stream = 2 * len(self.streams) + 1
        headers = h2_frame(HEADERS_FRAME, END_HEADERS, stream, header_block(self.ask_for.address, self.ask_for.path))
        self.streams.append(bytearray())
        self.left -= 1
        self.connection.sendall(headers + h2_frame(DATA, END_STREAM, stream, frame(self.ask_for.message)))

    def read(self) -> bool:
        """Takes what has come; False when the last stream has ended.

        Raises:
            RuntimeError: the connection broke, or a stream ended with another status than OK.
        """
        chunk = self.connection.recv(READ_BYTES)
        if not chunk:
            raise RuntimeError(f"{self._where} closed the connection in the middle of a stream")
        self._unread += chunk
        position, more = 0, True
        while more and len(self._unread) - position >= 9:
            length = int.from_bytes(self._unread[position : position + 3], "big")
            end = position + 9 + length
            if len(self._unread) < end:
                break
            kind, flags = self._unread[position + 3], self._unread[position + 4]
            more = self._take(kind, flags, bytes(self._unread[position + 9 : end]))
            position = end
        del self._unread[:position]
        return more

    def _take(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == DATA:
            self.streams[-1] += payload
        elif kind == SETTINGS and not flags & ACK:
            self.connection.sendall(h2_frame(SETTINGS, ACK, 0, b""))
        elif kind in {RESET, GOAWAY}:
            raise RuntimeError(f"{self._where} broke a stream off: frame {kind}, {payload!r}")
        elif kind == HEADERS_FRAME and flags & END_STREAM:
            if STATUS_OK not in payload:
                raise RuntimeError(f"{self._where} ended a stream not with OK but with {payload!r}")
            if not self.left:
                return False
            self.ask()
        return True


@dataclass(frozen=True)
class Recording:
    """What all connections brought: the seconds from the first request to the last trailer, and each stream's bytes."""

    seconds: float
    streams: list[bytes]


def record(ask: Ask, streams: int, limit: float = 120) -> Recording:
    """Reads `streams` streams for each of the callers, who have connections of their own, at the same time.

    Raises:
        RuntimeError: a stream broke, or all together took longer than `limit` seconds.
    """
    tapes = [Tape(ask, streams) for _ in range(ask.callers)]
    try:
        with selectors.DefaultSelector() as selector:
            for tape in tapes:
                selector.register(tape.connection, selectors.EVENT_READ, tape)
            start = time.perf_counter()
            for tape in tapes:
                tape.ask()
            while selector.get_map():
                for key, _ in selector.select(limit):
                    if not key.data.read():
                        selector.unregister(key.fileobj)
                if time.perf_counter() - start > limit:
                    raise RuntimeError(f"the streams of {ask.path} had not ended after {limit:g} s")
            seconds = time.perf_counter() - start
    finally:
        for tape in tapes:
            tape.connection.close()
    return Recording(seconds, [bytes(stream) for tape in tapes for stream in tape.streams])


def messages(stream: bytes) -> list[bytes]:
    """The messages of one stream.

    Raises:
        RuntimeError: the last one is not complete.
    """
    found: list[bytes] = []
    position = 0
    while position < len(stream):
        start = position + 5
        position = start + int.from_bytes(stream[position + 1 : start], "big")
        found.append(stream[start:position])
    if position != len(stream):
        raise RuntimeError(f"a stream of {len(stream)} bytes ends in the middle of a message")
    return found
