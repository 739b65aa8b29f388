"""Finished spans, waiting for the next flush: bounded, filled from any thread, emptied by the event loop.

It is the SDK provider's span processor too. Never encodes and never writes.
"""

from collections.abc import Callable
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from toolwright_server.telemetry.spans import RecordedSpan, SpanRecord, record_of


class SpanBuffer(SpanProcessor):
    """At most `max_count` finished spans; `wake` is called once each time `flush_count` of them have gathered."""

    def __init__(self, *, flush_count: int, max_count: int) -> None:
        self._finished: list[RecordedSpan | ReadableSpan] = []
        self._flush_count = flush_count
        self._max_count = max_count
        self._wake: Callable[[], Any] | None = None
        self.refused = 0
        """Spans that found the buffer full, since the start."""

    def wake_with(self, wake: Callable[[], Any] | None) -> None:
        """Set what is called, from any thread, when a batch is complete."""
        self._wake = wake

    def add(self, span: RecordedSpan | ReadableSpan) -> None:
        finished = self._finished
        gathered = len(finished)
        if gathered >= self._max_count:
            self.refused += 1
            return
        finished.append(span)
        if gathered + 1 == self._flush_count and self._wake is not None:
            self._wake()

    def take(self) -> list[SpanRecord]:
        """Empty the buffer."""
        # Two steps that the interpreter does not interrupt: what another thread adds between them stays.
        taken = self._finished[:]
        del self._finished[: len(taken)]
        return [span.record() if isinstance(span, RecordedSpan) else record_of(span) for span in taken]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        pass

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            self.add(span)

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        return True
