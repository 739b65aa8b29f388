import tracemalloc
from pathlib import Path

from toolwright_server.execution.events import Logged, Wrote
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs

CHUNK = 100_000
COUNT = 100


def held_by_log(bounds: LogBounds, *, droppable: bool) -> int:
    """Bytes that a log really holds after 100 events of 100 kB."""
    logs = MemoryEventLogs(bounds)
    log = logs.open("a")
    tracemalloc.start()
    try:
        for number in range(COUNT):
            text = chr(ord("a") + number % 26) * CHUNK
            log.append(0.0, Logged("info", text) if droppable else Wrote("output", text))
            del text
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    logs.forget("a")
    return held


def test_what_was_dropped_is_not_held_in_memory(tmp_path: Path) -> None:
    assert held_by_log(LogBounds(2 * CHUNK, 0, tmp_path), droppable=True) < 4 * CHUNK


def test_what_lies_on_disk_is_not_held_in_memory(tmp_path: Path) -> None:
    assert held_by_log(LogBounds(2 * CHUNK, 2 * CHUNK * COUNT, tmp_path), droppable=False) < 4 * CHUNK


def test_many_small_events_on_disk_take_hardly_any_memory(tmp_path: Path) -> None:
    logs = MemoryEventLogs(LogBounds(10_000, 8 << 20, tmp_path))
    log = logs.open("a")
    tracemalloc.start()
    try:
        for _ in range(50_000):
            log.append(0.0, Wrote("output", "x"))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.first_sequence == 1
    # A list of the events would take some 10 MB.
    assert held < 200_000
    logs.forget("a")
