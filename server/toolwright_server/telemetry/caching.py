"""What is counted of answers that calls share: the part of Metrics that the cache feeds."""

from collections.abc import Iterator

from toolwright_server.telemetry.instruments import Counter, Instrument


class CacheMetrics:
    """A counter. Tools are as many as are declared."""

    def __init__(self) -> None:
        self._calls = Counter(
            "toolwright.cache.calls",
            "{call}",
            "Calls of tools that share answers: hit, joined, or miss.",
            ("gen_ai.tool.name", "toolwright.cache.result"),
        )

    def __iter__(self) -> Iterator[Instrument]:
        return iter((self._calls,))

    def recalled(self, tool: str, how: str) -> None:
        """A call was a `hit`, a `miss` or `joined`."""
        self._calls.add(1, (tool, how))
