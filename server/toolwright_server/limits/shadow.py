"""Says in the log what rules in shadow would have refused: each rule now and then, with how often, never per call."""

import logging
from collections.abc import Callable

from toolwright_server.limits.model import Reading

_logger = logging.getLogger(__name__)

_EVERY_SECONDS = 60.0
_RULES_LIMIT = 1_000


class ShadowLog:
    """See the module. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By rule: when it was last said, and how often it has happened since.
        self._said: dict[str, tuple[float, int]] = {}

    def tell(self, reading: Reading) -> None:
        """A call was let in that the rule would have refused."""
        check, now = reading.check, self._clock()
        last, count = self._said.get(check.rule, (now - _EVERY_SECONDS, 0))
        count += 1
        if now - last < _EVERY_SECONDS:
            self._said[check.rule] = (last, count)
            return
        if len(self._said) >= _RULES_LIMIT:
            # Names of rules that are no more; the log says a few things once too often.
            self._said.clear()
        self._said[check.rule] = (now, 0)
        _logger.info(
            "rule %s, in shadow, would have refused %d calls since it was last said; the last by %s: %d of %d %s used",
            check.rule,
            count,
            check.subject,
            reading.used,
            check.limit,
            check.what,
        )
