from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from toolwright_server.telemetry.span_buffer import SpanBuffer


def span(number: int, *, sampled: bool = True) -> ReadableSpan:
    context = SpanContext(1, number, False, TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT))
    return ReadableSpan(f"span {number}", context)


def test_a_full_buffer_refuses_and_counts_what_it_refused() -> None:
    buffer = SpanBuffer(flush_count=2, max_count=3)
    for number in range(1, 6):
        buffer.on_end(span(number))
    assert [record[0] for record in buffer.take()] == ["span 1", "span 2", "span 3"]
    assert buffer.refused == 2
    assert buffer.take() == []


def test_a_complete_batch_wakes_the_flush_once() -> None:
    woken: list[int] = []
    buffer = SpanBuffer(flush_count=2, max_count=100)
    buffer.wake_with(lambda: woken.append(1))
    for number in range(1, 6):
        buffer.on_end(span(number))
    assert woken == [1]
    buffer.take()
    buffer.on_end(span(6))
    buffer.on_end(span(7))
    assert woken == [1, 1]


def test_spans_that_are_recorded_but_not_sampled_stay_here() -> None:
    buffer = SpanBuffer(flush_count=2, max_count=100)
    buffer.on_end(span(1, sampled=False))
    assert buffer.take() == []
    assert buffer.force_flush()
