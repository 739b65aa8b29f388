"""A tool for the benchmark, loaded with `--tools`: what `diagnostics.echo` does, declared as a side effect."""

from typing import Any

from toolwright_server import Effect, tool


# As long a name as `diagnostics.echo`: requests are of the same size.
@tool("benchmarks.write", effect=Effect.SIDE_EFFECT)
async def write(**arguments: Any) -> Any:
    """Returns its arguments, as one unchanged object, and is recorded as if it had done something to the world."""
    return arguments
