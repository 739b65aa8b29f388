from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.supervision.backoff import Backoff, BackoffOptions

OPTIONS = BackoffOptions(first_seconds=0.5, longest_seconds=4, steady_seconds=10)


def test_the_first_end_is_followed_at_once_and_each_further_one_later_up_to_the_longest_pause() -> None:
    backoff = Backoff(OPTIONS)
    assert [backoff.after(0) for _ in range(7)] == [0, 0.5, 1, 2, 4, 4, 4]


def test_whoever_served_steadily_is_replaced_at_once_again() -> None:
    backoff = Backoff(OPTIONS)
    assert [backoff.after(0) for _ in range(3)] == [0, 0.5, 1]
    assert backoff.after(10) == 0
    assert backoff.after(9.9) == 0.5


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=200))
def test_no_pause_is_longer_than_the_longest_and_none_is_shorter_than_the_one_before_unless_it_served(
    served: list[float],
) -> None:
    backoff, last = Backoff(OPTIONS), 0.0
    for seconds in served:
        pause = backoff.after(seconds)
        assert 0 <= pause <= 4
        assert pause >= last or seconds >= 10
        last = pause


def test_a_process_that_ends_for_days_does_not_overflow() -> None:
    backoff = Backoff(OPTIONS)
    assert max(backoff.after(0) for _ in range(3_000)) == 4
