"""When a call is sent again, and after how long. The rule is here and nowhere else; nothing here sends."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import grpc

from toolwright_client.errors import ToolwrightError
from toolwright_client.model import UNKNOWN

# Between the later tries of a call whose answer was lost: as long as a server takes to start, nobody answers.
LOST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a call is sent again. All tries share the call's one deadline."""

    max_attempts: int = 5
    """Tries in all; 1: never again."""
    initial_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 5.0
    lost_seconds: float = 10.0
    """For how long a call whose answer was lost is asked for again, twice a second, after `max_attempts`."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            message = f"max_attempts must be at least 1, it is {self.max_attempts}"
            raise ValueError(message)

    def delays(self) -> Iterator[float]:
        """Seconds before the second try, the third and so on: doubling, with up to half of it left to chance."""
        backoff = self.initial_backoff_seconds
        for _ in range(self.max_attempts - 1):
            yield backoff * (0.5 + random.random() / 2)  # noqa: S311 - spreads clients, hides nothing
            backoff = min(backoff * 2, self.max_backoff_seconds)

    def lost_delays(self) -> Iterator[float]:
        """Seconds before each further try of a call whose answer was lost."""
        count = math.ceil(self.lost_seconds / LOST_PAUSE_SECONDS) if self.max_attempts > 1 else 0
        return repeat(LOST_PAUSE_SECONDS, count)


class Tries:
    """The tries of one call that brought no answer. `doubt`: one of them may have run all the same."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.doubt = False
        self._policy = policy
        self._delays = policy.delays()
        self._is_lasting = False

    def delay(self, error: ToolwrightError) -> float | None:
        """Seconds before the next try, at least those that the error asks for; absent: there is none."""
        if not may_repeat(error):
            return None
        return self.next_delay(error)

    def next_delay(self, error: ToolwrightError) -> float | None:
        """The same whatever the error is."""
        self.doubt = self.doubt or error.outcome == UNKNOWN
        if self.doubt and not self._is_lasting:
            self._is_lasting = True
            self._delays = chain(self._delays, self._policy.lost_delays())
        delay = next(self._delays, None)
        return None if delay is None else max(delay, error.retry_delay or 0)


def may_repeat(error: ToolwrightError) -> bool:
    """Whether a call that ended like this is sent again.

    That is always safe: everything that our clients send changes nothing, or is a call with a `request_id`, which the
    server does once however often it comes. So it is asked only whether it may help: when nobody answered, or when the
    server says that the same call may succeed later.

    gRPC itself retries nothing (there is no retry policy in the service config): it looks at the code alone, and a
    proxy that resets a running call with ENHANCE_YOUR_CALM, or trailers that are too long, look like a limit to it.
    """
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return True
    return error.code in _TOLD and error.reason != "" and error.retryable


# Limits; and INTERNAL of a call whose server died and that may be made anew.
_TOLD = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL})
