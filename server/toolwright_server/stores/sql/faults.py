"""What the engines hear when the database cannot be used now, and how often the log says so."""

import logging
import time
from collections.abc import Callable
from typing import Final

from toolwright_server.errors import Reason, ToolwrightError

_logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
_EVERY_SECONDS: Final = 10.0
# Different sentences that are remembered; then some are said once too often.
_SENTENCES: Final = 64


class Outage:
    """Says in the log what is wrong: each thing at once, and while it lasts now and then, with how often it was met.

    Whatever runs in the background asks the database again and again, and every call does.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By sentence: when it was last said, and how often it was not said since.
        self._said: dict[str, tuple[float, int]] = {}

    def tell(self, error: BaseException) -> None:
        """It was met once more."""
        cause = getattr(error, "orig", None) or error
        what = ((str(cause).splitlines() or [""])[0] or type(cause).__name__)[:300]
        now = self._clock()
        last, left_out = self._said.get(what, (now - _EVERY_SECONDS, 0))
        if now - last < _EVERY_SECONDS:
            self._said[what] = (last, left_out + 1)
            return
        if len(self._said) >= _SENTENCES:
            self._said.clear()
        self._said[what] = (now, 0)
        more = f" (and {left_out} times since it was last said)" if left_out else ""
        _logger.warning("the database cannot be used now: %s%s", what, more)


_outage = Outage()


def unavailable(error: BaseException, message: str = "the database cannot be used now") -> ToolwrightError:
    """STORE_UNAVAILABLE. What went wrong is for the log alone: it may name hosts, users and files."""
    _outage.tell(error)
    return ToolwrightError(Reason.STORE_UNAVAILABLE, message, retry_delay=RETRY_SECONDS)


def not_started(error: BaseException) -> ToolwrightError:
    """STORE_UNAVAILABLE that says that nothing of what was asked has begun."""
    failure = unavailable(error).failure
    return ToolwrightError(
        failure.reason, failure.message, retry_delay=failure.retry_delay, metadata={"outcome": "not_started"}
    )
