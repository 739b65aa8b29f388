"""What the engines hear when the database cannot be used now."""

from typing import Final

from toolwright_server.errors import Reason, ToolwrightError

RETRY_SECONDS: Final = 1.0


def unavailable(error: BaseException) -> ToolwrightError:
    """STORE_UNAVAILABLE with the first line of what went wrong, for the log: it holds no parameters."""
    cause = getattr(error, "orig", None) or error
    what = (str(cause).splitlines() or [""])[0] or type(cause).__name__
    return ToolwrightError(
        Reason.STORE_UNAVAILABLE, f"the database cannot be used now: {what[:300]}", retry_delay=RETRY_SECONDS
    )
