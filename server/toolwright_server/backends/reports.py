"""What every tool's context shares: the facts of the call, and reports checked and cut before they go anywhere.

The contexts of the loop, of threads and of worker processes add only the way out. Never imports asyncio.
"""

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from toolwright_server.credits import MOST_MICROS
from toolwright_server.identity import Caller

MESSAGE_LIMIT = 1_024
LOG_LIMIT = 4_096
CHANNEL_LIMIT = 64
# Larger output is sent in pieces: as one event it would not fit into the messages that clients accept.
PIECE_BYTES = 65_536
_PIECE_CHARACTERS = 32_768


def clean(value: object, limit: int) -> str:
    """Text of at most `limit` characters that is valid Unicode, from whatever a tool gave."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > limit:
        text = text[:limit]
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def number(value: float, name: str) -> float:
    """A finite number. Raises ValueError or TypeError naming the parameter."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number")
    return number


def amount(micros: int) -> int:
    """A whole number of micros, at most `MOST_MICROS`. Raises ValueError or TypeError."""
    if isinstance(micros, bool) or not isinstance(micros, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"micros must be a whole number, not {type(micros).__name__}")
    if micros < 0:
        raise ValueError(f"micros must not be negative: {micros}")
    return min(micros, MOST_MICROS)


def pieces(chunk: str | bytes) -> Iterator[str | bytes]:
    """The chunk, cut where it is too large for one event. Raises TypeError for what is neither text nor bytes."""
    if isinstance(chunk, str):
        for start in range(0, len(chunk), _PIECE_CHARACTERS):
            yield clean(chunk[start : start + _PIECE_CHARACTERS], _PIECE_CHARACTERS)
    else:
        data = bytes(memoryview(chunk))
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]


class Reporting:
    """The part of a tool's context that is the same everywhere. Subclasses say where reports go."""

    __slots__ = ("_caller", "_execution_id", "_reports_price", "_task_id")

    def __init__(self, execution_id: str, task_id: str, caller: Caller, *, reports_price: bool = False) -> None:
        self._reports_price = reports_price
        self._execution_id = execution_id
        self._task_id = task_id
        self._caller = caller

    @property
    def execution_id(self) -> str:
        return self._execution_id

    @property
    def task_id(self) -> str:
        return self._task_id

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def remaining(self) -> float:
        raise NotImplementedError

    @property
    def deadline(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.remaining)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        whole = None if total is None else number(total, "total")
        self._progress(number(done, "done"), whole, clean(message, MESSAGE_LIMIT))

    def output(self, chunk: str | bytes, channel: str = "output") -> None:
        name = clean(channel, CHANNEL_LIMIT)
        for piece in pieces(chunk):
            self._output(piece, name)

    def log(self, level: str, text: str) -> None:
        self._log(clean(level, CHANNEL_LIMIT), clean(text, LOG_LIMIT))

    def charge(self, micros: int) -> None:
        cost = amount(micros)
        if not self._reports_price:
            raise RuntimeError("nothing can be charged: the tool declares no price_max")
        self._charge(cost)

    def _charge(self, micros: int) -> None:
        raise NotImplementedError

    def _progress(self, done: float, total: float | None, message: str) -> None:
        raise NotImplementedError

    def _output(self, chunk: str | bytes, channel: str) -> None:
        raise NotImplementedError

    def _log(self, level: str, text: str) -> None:
        raise NotImplementedError
