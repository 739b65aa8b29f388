"""What the engines hear when the database cannot be used now."""

import logging
from typing import Final

from toolwright_server.errors import Reason, ToolwrightError

_logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0


def unavailable(error: BaseException) -> ToolwrightError:
    """STORE_UNAVAILABLE. What went wrong is for the log alone: it may name hosts, users and files."""
    cause = getattr(error, "orig", None) or error
    what = (str(cause).splitlines() or [""])[0] or type(cause).__name__
    _logger.warning("the database cannot be used now: %s", what[:300])
    return ToolwrightError(Reason.STORE_UNAVAILABLE, "the database cannot be used now", retry_delay=RETRY_SECONDS)


def not_started(error: BaseException) -> ToolwrightError:
    """STORE_UNAVAILABLE that says that nothing of what was asked has begun."""
    failure = unavailable(error).failure
    return ToolwrightError(
        failure.reason, failure.message, retry_delay=failure.retry_delay, metadata={"outcome": "not_started"}
    )
