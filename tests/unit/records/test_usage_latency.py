"""Percentiles from buckets are near the true ones."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.records.usage.latency import LAST_BUCKET, bucket, middle, quantiles

SHARES = (0.5, 0.95, 0.99)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-4, 90_000.0), min_size=1, max_size=300))
def test_a_percentile_is_within_two_and_a_half_per_cent_of_the_true_one(times: list[float]) -> None:
    buckets: dict[int, int] = {}
    for each in times:
        buckets[bucket(each)] = buckets.get(bucket(each), 0) + 1
    found = quantiles(buckets, SHARES)
    true = [sorted(times)[math.ceil(round(share * len(times), 6)) - 1] for share in SHARES]
    assert found == pytest.approx(true, rel=0.025)


def test_times_beyond_the_range_are_in_the_first_and_last_bucket() -> None:
    assert (bucket(0.0), bucket(1e-4), bucket(1.01e-4), bucket(1e9)) == (0, 0, 1, LAST_BUCKET)
    assert middle(0) == 1e-4


def test_of_nothing_there_are_no_percentiles() -> None:
    assert quantiles({}, SHARES) is None
    # What was taken away again leaves a zero behind.
    assert quantiles({7: 0}, SHARES) is None
