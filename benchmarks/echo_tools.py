"""Tools for the benchmark, loaded with `--tools`: what `diagnostics.echo` does, declared in other ways."""

from typing import Any

from toolwright_server import Effect, FallbackPolicy, RetryPolicy, tool


# Names as long as `diagnostics.echo`: requests are of the same size.
@tool("benchmarks.write", effect=Effect.SIDE_EFFECT)
async def write(**arguments: Any) -> Any:
    """Returns its arguments, as one unchanged object, and is recorded as if it had done something to the world."""
    return arguments


@tool(
    "benchmarks.whole",
    effect=Effect.READ_ONLY,
    retry=RetryPolicy(),
    upstream="benchmarks",
    fallback=FallbackPolicy(value="{}"),
)
async def whole(**arguments: Any) -> Any:
    """Returns its arguments, with all that a call may pass on its way: a circuit, retries and a fallback."""
    return arguments
