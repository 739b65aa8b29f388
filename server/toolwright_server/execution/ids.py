"""Execution ids: UUIDv7 (RFC 9562), growing within one process also inside a millisecond."""

import random
import time
from collections.abc import Callable

_RANDOM_BITS = 74


class Ids:
    """Makes ids. Clock (nanoseconds since the epoch) and randomness come in, for tests.

    The ids are unique, not secret: who may see an execution is asked of its owner, never of its id.
    """

    def __init__(
        self, clock: Callable[[], int] = time.time_ns, bits: Callable[[int], int] = random.getrandbits
    ) -> None:
        self._clock = clock
        self._bits = bits
        self._last = 0
        self._tail = 0

    def __call__(self) -> str:
        """The next id, in the 36-character form."""
        milliseconds = self._clock() // 1_000_000
        if milliseconds > self._last:
            self._last = milliseconds
            # The top bit stays free, so that counting up within the millisecond does not overflow.
            self._tail = self._bits(_RANDOM_BITS - 1)
        else:
            self._tail += 1 + self._bits(32)
        tail = self._tail
        number = (self._last << 80) | (7 << 76) | ((tail >> 62 & 0xFFF) << 64) | (2 << 62) | (tail & (2**62 - 1))
        text = f"{number:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
