"""How much the store of answers in memory keeps, and what goes first."""

import tracemalloc

from toolwright_server.execution.recall.key import Key
from toolwright_server.execution.recall.store import Kept
from toolwright_server.stores.memory.results import ENTRY_BYTES, MemoryResultStore, ResultBounds


def key(number: int) -> Key:
    return Key("acme", "key", b"%032d" % number)


def kept(size: int = 10) -> Kept:
    return Kept(b"x" * size, 1.0, "0190", "ada")


def test_what_was_not_asked_for_the_longest_goes_first() -> None:
    store = MemoryResultStore(ResultBounds(3, 1 << 20))
    for number in range(3):
        store.put(key(number), kept(), 60)
    assert store.get_now(key(0)) is not None
    store.put(key(3), kept(), 60)
    assert [store.get_now(key(number)) is not None for number in range(4)] == [True, False, True, True]
    assert len(store) == 3


def test_bytes_are_bounded_and_given_back() -> None:
    store = MemoryResultStore(ResultBounds(100, 3 * (ENTRY_BYTES + 1_000)))
    for number in range(10):
        store.put(key(number), kept(1_000), 60)
    assert (len(store), store.size_bytes) == (3, 3 * (ENTRY_BYTES + 1_000))
    store.put(key(10), kept(3_500), 60)
    assert (len(store), store.size_bytes) == (1, ENTRY_BYTES + 3_500)
    store.put(key(10), kept(1), 60)
    assert store.size_bytes == ENTRY_BYTES + 1


def test_one_that_would_take_all_the_room_is_not_kept_and_takes_nobody_elses() -> None:
    store = MemoryResultStore(ResultBounds(100, 2_000))
    store.put(key(1), kept(), 60)
    store.put(key(2), kept(2_000), 60)
    assert store.get_now(key(1)) is not None
    assert store.get_now(key(2)) is None


def test_what_is_over_is_forgotten_when_it_is_asked_for() -> None:
    now = [0.0]
    store = MemoryResultStore(ResultBounds(10, 1 << 20), lambda: now[0])
    store.put(key(1), kept(), 5)
    now[0] = 5.0
    assert store.get_now(key(1)) is None
    assert (len(store), store.size_bytes) == (0, 0)


def test_an_entry_takes_no_more_than_is_counted_for_it() -> None:
    count = 2_000
    store = MemoryResultStore(ResultBounds(count, 1 << 30))
    tracemalloc.start()
    try:
        for number in range(count):
            # Each part is made for its call alone, as in a server.
            made = Key(f"tenant-{number}", f"principal-{number}", b"%032d" % number)
            store.put(made, Kept(b"%010d" % number, float(number), f"0190{number:032d}", f"user-{number}"), 60)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= store.size_bytes
