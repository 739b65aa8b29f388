"""The server's end of the connection to one worker: frames in and out, never blocking, never more than the loop spares.

Does not know what frames mean.
"""

import asyncio
import socket
from collections.abc import Callable

from toolwright_server.backends.forked.frames import Frames, Garbage, Header

_READ_BYTES = 64 * 1024
# A worker that floods the server with reports must leave the loop to others in between.
_BURST = 32


class Channel:
    """`on_frame` gets every frame; `on_end` gets, once, why there will be no more: an OSError, Garbage, or EOFError."""

    def __init__(
        self,
        connection: socket.socket,
        payload_limit: int,
        on_frame: Callable[[Header, bytes], None],
        on_end: Callable[[Exception], None],
    ) -> None:
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._frames = Frames(payload_limit)
        self._on_frame = on_frame
        self._on_end = on_end
        self._outgoing = bytearray()
        self._open = True
        self._loop.add_reader(connection.fileno(), self._readable)

    def send(self, data: bytes) -> None:
        """Send, now or when the worker reads again. What the connection refuses is reported to `on_end`."""
        if not self._open:
            return
        if self._outgoing:
            self._outgoing += data
            return
        try:
            sent = self._connection.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end_soon(error)
            return
        if sent < len(data):
            self._outgoing += memoryview(data)[sent:]
            self._loop.add_writer(self._connection.fileno(), self._writable)

    def close(self) -> None:
        """Read and write no more. `on_end` is not called."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._connection.fileno())
            if self._outgoing:
                self._loop.remove_writer(self._connection.fileno())
            self._connection.close()

    def _writable(self) -> None:
        try:
            sent = self._connection.send(self._outgoing)
        except BlockingIOError:
            return
        except OSError:
            sent = len(self._outgoing)  # reading will say why
        del self._outgoing[:sent]
        if not self._outgoing:
            self._loop.remove_writer(self._connection.fileno())

    def _readable(self) -> None:
        try:
            data = self._connection.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._ended(error)
            return
        if not data:
            self._ended(EOFError("the connection was closed"))
            return
        self._frames.feed(data)
        if not self._dispatched():
            self._loop.remove_reader(self._connection.fileno())
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._open:
            return
        if self._dispatched():
            if self._open:
                self._loop.add_reader(self._connection.fileno(), self._readable)
        else:
            self._loop.call_soon(self._go_on)

    def _dispatched(self) -> bool:
        """Hand over frames; False when there may be more."""
        for _ in range(_BURST):
            try:
                found = self._frames.next()
                if found is None:
                    return True
                self._on_frame(*found)
            except Garbage as error:
                self._ended(error)
            if not self._open:
                return True
        return False

    def _end_soon(self, error: OSError) -> None:
        # Not from within `send`: its caller is in the middle of something.
        self._loop.call_soon(self._ended, error)

    def _ended(self, error: Exception) -> None:
        if self._open:
            self.close()
            self._on_end(error)
