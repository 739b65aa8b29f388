"""Tools that fail so many times before they answer, loaded with `--tools`."""

from collections import Counter

from toolwright_server import Effect, RetryPolicy, ToolError, tool

QUICKLY = RetryPolicy(attempts=4, base_seconds=0.01, maximum_seconds=0.02)
_seen: Counter[str] = Counter()


@tool("retrying.flaky", effect=Effect.READ_ONLY, retry=QUICKLY)
async def flaky(key: str, failures: int) -> int:
    """Answers with the number of the attempt that worked."""
    return _attempt(key, failures, vouched=False)


@tool("retrying.acting", retry=QUICKLY)
async def acting(key: str, failures: int, vouched: bool) -> int:
    """The same, with a side effect; `vouched`: it says that nothing was sent."""
    return _attempt(key, failures, vouched=vouched)


@tool("retrying.in_a_worker", effect=Effect.IDEMPOTENT, retry=QUICKLY)
def in_a_worker(vouched: bool) -> None:
    """Fails each time, in a worker process, and vouches for it."""
    raise ToolError("not now", retryable=True, nothing_sent=vouched)


def _attempt(key: str, failures: int, *, vouched: bool) -> int:
    _seen[key] += 1
    if _seen[key] <= failures:
        raise ToolError(f"attempt {_seen[key]} failed", retryable=True, nothing_sent=vouched)
    return _seen[key]
