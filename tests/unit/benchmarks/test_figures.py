import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import bootstrap, percentile

ratios = st.lists(st.floats(min_value=0.1, max_value=10), min_size=1, max_size=20)


@given(ratios)
def test_an_interval_holds_its_median_and_stays_within_the_values(values: list[float]) -> None:
    interval = bootstrap(values)
    assert min(values) <= interval.low <= interval.median <= interval.high <= max(values)


def test_the_same_rounds_always_give_the_same_interval() -> None:
    values = [0.91, 0.88, 0.94, 0.9, 0.87]
    assert bootstrap(values) == bootstrap(values)


def test_rounds_that_agree_have_an_interval_of_no_width() -> None:
    interval = bootstrap([0.9] * 10)
    assert (interval.low, interval.median, interval.high) == (0.9, 0.9, 0.9)


def test_percentiles_are_nearest_ranks() -> None:
    ordered = [float(number) for number in range(1, 101)]
    assert [percentile(ordered, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
