"""Credentials that prove nothing: why (for the operator alone), and the one answer that callers get."""

import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from toolwright_server.errors import Reason, ToolwrightError

_logger = logging.getLogger(__name__)
_WINDOW_SECONDS: Final = 10.0
_LINES_PER_WINDOW: Final = 5


class Why(StrEnum):
    """What was wrong with the credentials of a call; the label of the metric."""

    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    REVOKED_KEY = "revoked_key"
    EXPIRED_KEY = "expired_key"
    ALGORITHM = "algorithm"
    UNKNOWN_SIGNER = "unknown_signer"
    SIGNATURE = "signature"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - a word, no password
    ISSUER = "issuer"
    AUDIENCE = "audience"
    CLAIMS = "claims"


class NotAuthentic(Exception):
    """The credentials prove nothing. Becomes UNAUTHENTICATED without saying why."""

    def __init__(self, why: Why, detail: str = "") -> None:
        super().__init__(why.value)
        self.why = why
        self.detail = detail


class Refusals:
    """Counts refused credentials, and names the first few of every 10 s in the log: a flood fills no disk.

    `count` is called with the reason, for each. Nothing of a credential is ever logged.
    """

    def __init__(self, count: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._window = float("-inf")
        self._lines = 0
        self._unlogged = 0

    def refuse(self, refused: NotAuthentic, peer: str) -> ToolwrightError:
        """Note it; the error that the caller gets, the same for all but absent credentials."""
        self._count(refused.why.value)
        self._log(refused, peer)
        if refused.why is Why.MISSING:
            says = "no credentials were sent: authorization: Bearer <API key or token>, or x-api-key: <API key>"
        else:
            says = "the credentials are not valid"
        return ToolwrightError(Reason.UNAUTHENTICATED, says, metadata={"outcome": "not_started"})

    def _log(self, refused: NotAuthentic, peer: str) -> None:
        now = self._clock()
        if now - self._window >= _WINDOW_SECONDS:
            if self._unlogged:
                _logger.warning("refused the credentials of %d more calls", self._unlogged)
            self._window, self._lines, self._unlogged = now, 0, 0
        if self._lines >= _LINES_PER_WINDOW:
            self._unlogged += 1
            return
        self._lines += 1
        _logger.warning(
            "refused the credentials of a call from %s: %s%s",
            peer,
            refused.why.value,
            f" ({refused.detail})" if refused.detail else "",
        )
