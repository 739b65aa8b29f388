"""One INFO line per call, cheap enough for every call: noted at once, encoded and written in batches by a thread.

Never blocks the caller: when standard error is stuck, lines beyond a bounded buffer are dropped and counted.
"""

import os
import threading
import time
from typing import Any

import orjson

FLUSH_SECONDS = 0.1
FLUSH_LINES = 256
MAX_PENDING_LINES = 20_000
# The thread holds the interpreter lock while it encodes, and gives it back when it writes: about 0.1 ms each time.
_BATCH_LINES = 64
_LONGEST_NAME = 200

# Wall-clock time in seconds, then what `CallLog.call` was given, in its order.
_Noted = tuple[float, str, str, str, str, float, str, str, str]


class CallLog:
    """Lines on `descriptor` (standard error unless told otherwise), as JSON or as text."""

    def __init__(self, *, as_json: bool, enabled: bool = True, descriptor: int = 2) -> None:
        self.enabled = enabled
        self.dropped = 0
        """Lines lost because the reader of the log was too slow."""
        self._descriptor = descriptor
        self._encode = _json_line if as_json else _text_line
        self._pending: list[_Noted] = []
        self._second = 0
        self._stamp = ""
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the writing thread."""
        if self.enabled and self._thread is None:
            self._thread = threading.Thread(target=self._write_batches, name="toolwright-call-log", daemon=True)
            self._thread.start()

    def call(
        self,
        *,
        method: str,
        tool: str,
        code: str,
        reason: str,
        seconds: float,
        execution_id: str,
        trace_id: str,
        caller: str,
    ) -> None:
        """Note one finished call. Empty strings stand for what does not apply."""
        if not self.enabled:
            return
        if len(self._pending) >= MAX_PENDING_LINES:
            self.dropped += 1
            return
        self._pending.append((time.time(), method, tool, code, reason, seconds, execution_id, trace_id, caller))
        if len(self._pending) == FLUSH_LINES:
            self._wake.set()

    def close(self, seconds: float = 1.0) -> None:
        """Write what is left; gives up after `seconds` when nobody reads."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)
            self._thread = None

    def _line(self, noted: _Noted) -> bytes:
        now, method, tool, code, reason, seconds, execution_id, trace_id, caller = noted
        return self._encode(
            {
                "time": self._stamped(now),
                "level": "info",
                "message": "call",
                "method": method,
                "tool": tool[:_LONGEST_NAME],
                "code": code,
                "reason": reason,
                "seconds": round(seconds, 6),
                "execution_id": execution_id,
                "trace_id": trace_id,
                "caller": caller,
            }
        )

    def _stamped(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((now - second) * 1000):03d}Z"

    def _write_batches(self) -> None:
        while not self._closing:
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._write_all()
        self._write_all()

    def _write_all(self) -> None:
        pending = self._pending
        while self.enabled and (taken := pending[:_BATCH_LINES]):
            del pending[: len(taken)]
            self._write(b"".join(map(self._line, taken)), len(taken))

    def _write(self, lines: bytes, count: int) -> None:
        rest = memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BlockingIOError:
            self.dropped += count
        except OSError:
            self.enabled = False  # nobody will ever read it: the descriptor is closed


def _json_line(fields: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # A caller may ask for a tool by a name that is no Unicode.
        safe = {key: _printable(value) if isinstance(value, str) else value for key, value in fields.items()}
        return orjson.dumps(safe, option=orjson.OPT_APPEND_NEWLINE)


def _text_line(fields: dict[str, Any]) -> bytes:
    outcome = f"{fields['code']} {fields['reason']}".rstrip()
    method = fields["method"].rpartition("/")[2]
    took = f"{fields['seconds'] * 1000:.1f} ms"
    ids = " ".join(f"{name}={fields[name] or '-'}" for name in ("execution_id", "trace_id", "caller"))
    line = f"{fields['time']} [info] {method} {fields['tool'] or '-'} {outcome} {took} {ids}"
    return f"{_printable(line)}\n".encode()


def _printable(text: str) -> str:
    """Without characters that would forge a line or steer the terminal: names come from callers."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
