import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.execution.ids import Ids

MILLISECOND = 1_000_000
YEAR_2026 = 1_767_225_600_000


def ids(*milliseconds: int, bits: Callable[[int], int] | None = None) -> Iterator[str]:
    clock = iter([ms * MILLISECOND for ms in milliseconds])
    make = Ids(lambda: next(clock), bits) if bits is not None else Ids(lambda: next(clock))
    return (make() for _ in milliseconds)


@given(st.integers(min_value=1, max_value=2**48 - 1), st.integers(min_value=0, max_value=2**73 - 1))
def test_an_id_is_a_uuid_of_version_7_with_its_time_in_front(milliseconds: int, random: int) -> None:
    (text,) = ids(milliseconds, bits=lambda _: random)
    found = uuid.UUID(text)
    assert str(found) == text
    assert found.version == 7
    assert found.variant == uuid.RFC_4122
    assert found.int >> 80 == milliseconds
    # The random part is all there: 12 bits behind the version, 62 behind the variant.
    assert (found.int >> 64 & 0xFFF) << 62 | found.int & (2**62 - 1) == random


@given(st.lists(st.integers(min_value=YEAR_2026, max_value=YEAR_2026 + 5), min_size=2, max_size=50))
def test_ids_grow_inside_a_millisecond_and_when_the_clock_steps_back(milliseconds: list[int]) -> None:
    made = list(ids(*milliseconds))
    assert all(earlier < later for earlier, later in pairwise(made))
    assert all(uuid.UUID(text).version == 7 for text in made)


def test_ids_grow_also_when_every_random_bit_is_set() -> None:
    made = list(ids(*[YEAR_2026] * 1_000, YEAR_2026 + 1, bits=lambda count: 2**count - 1))
    assert all(earlier < later for earlier, later in pairwise(made))
    assert {uuid.UUID(text).int >> 80 for text in made} == {YEAR_2026, YEAR_2026 + 1}


def test_two_processes_make_different_ids_in_the_same_millisecond() -> None:
    assert len({text for _ in range(100) for text in ids(YEAR_2026)}) == 100
