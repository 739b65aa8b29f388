"""When a call may be sent again, and after how long. The rule is here and nowhere else; nothing here sends."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from toolwright_client.errors import ToolwrightError
from toolwright_client.model import NOT_STARTED, Effect


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast a call that may be sent again is sent again. All tries share the call's one deadline."""

    max_attempts: int = 5
    """Tries in all; 1: never again."""
    initial_backoff_seconds: float = 0.1
    max_backoff_seconds: float = 5.0
    lookup_seconds: float = 10.0
    """How long to look for the outcome of a lost call whose side effect may have happened."""

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


def may_repeat(error: ToolwrightError, effect: Effect | None) -> bool:
    """Whether a call that ended like this may be sent again without a chance to repeat a side effect.

    Only when the server or the connection proves that nothing started, when a limit refused it, or when twice is the
    same as once. A `request_id` is no reason yet: servers of this release do not recognise a call that they have seen.

    gRPC itself retries nothing (there is no retry policy in the service config): it looks at the code alone, and a
    proxy that resets a running call with ENHANCE_YOUR_CALM, or trailers that are too long, look like a limit to it.
    """
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return error.retryable and error.reason != "" and error.outcome in {"", NOT_STARTED}
    if error.code is not grpc.StatusCode.UNAVAILABLE:
        return False
    return error.outcome == NOT_STARTED or (effect is not None and effect.repeatable)
