"""Tools that call the upstream of tests/upstream.py, loaded with `--tools`. UPSTREAM_URL says where it is.

One for each way in which it can be ill, how often, and whether the server tries again: each has a circuit of its own.
"""

import os
from typing import Any

import httpx2 as httpx

from tests.upstream import DELAY_SECONDS, Fault
from toolwright_server import CircuitPolicy, Effect, RetryPolicy, ToolError, tool

RATIOS = (10, 50, 100)
POLICY = CircuitPolicy(
    slow_call_seconds=DELAY_SECONDS / 2,
    slow_ratio=0.5,
    window_seconds=10.0,
    minimum_calls=20,
    open_seconds=0.5,
    max_open_seconds=2.0,
)
# Opens at once, and for the same time each time: for tests of what comes then.
BRISK = CircuitPolicy(minimum_calls=4, open_seconds=0.5, max_open_seconds=0.5)
# Open for longer than a busy machine stands still.
SOON = CircuitPolicy(minimum_calls=4, open_seconds=1.0, max_open_seconds=1.0)
RETRY = RetryPolicy(attempts=3, base_seconds=0.05, maximum_seconds=0.2)
ONCE = RetryPolicy(attempts=1)
# Longer than any test holds an answer back.
SECONDS = 60.0


def name_of(fault: str, percent: int, retries: bool) -> str:
    """The path, and the last part of the tool's name."""
    return f"{fault}_{percent}_{'retried' if retries else 'once'}"


async def _ask(path: str) -> str:
    headers = {"x-sender": os.environ.get("TOOLWRIGHT_SERVER_ID", "")}
    try:
        async with httpx.AsyncClient(base_url=os.environ["UPSTREAM_URL"], verify=False, timeout=SECONDS) as client:
            answer = await client.get(path, headers=headers)
    except httpx.ConnectError:
        raise ToolError("the upstream cannot be reached", retryable=True, nothing_sent=True) from None
    except httpx.TransportError as error:
        raise ToolError(f"the upstream broke off: {type(error).__name__}", retryable=True) from None
    if answer.status_code >= 500:
        raise ToolError(f"the upstream answered {answer.status_code}", retryable=True)
    return answer.text


def _declare(path: str, policy: CircuitPolicy, retry: RetryPolicy, **options: Any) -> Any:
    async def fetch() -> str:
        return await _ask(path)

    fetch.__name__ = path
    declare = tool(f"upstream.{path}", effect=Effect.READ_ONLY, retry=retry, upstream=path, circuit=policy, **options)
    return declare(fetch)


for _fault in Fault:
    for _percent in RATIOS:
        for _retries in (False, True):
            _path = name_of(_fault, _percent, _retries)
            globals()[_path] = _declare(_path, POLICY, RETRY if _retries else ONCE)

brisk = _declare("brisk", BRISK, ONCE, timeout_seconds=60.0)
told = _declare("told", SOON, ONCE, alternatives=["upstream.twin", "upstream.other"])
other = _declare("other", BRISK, ONCE)


@tool("upstream.waiting", effect=Effect.READ_ONLY, retry=RETRY, upstream="waiting", circuit=SOON)
async def waiting() -> str:
    """Is tried again, and waits for the circuit where that fits."""
    return await _ask("waiting")


@tool("upstream.in_a_worker", effect=Effect.READ_ONLY, retry=ONCE, circuit=BRISK)
def in_a_worker(healthy: bool) -> str:
    """Fails in a worker process, unless it is told otherwise."""
    if not healthy:
        raise ToolError("not now", retryable=True)
    return "ok"
