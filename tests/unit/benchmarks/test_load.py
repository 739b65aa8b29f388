import pytest

from benchmarks.load import parse_h2load

SUMMARY = """
finished in 2.00s, 1.50 req/s, 610.54KB/s
requests: 3 total, 3 started, 3 done, {succeeded} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: 3 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 306.10KB (313448) total, 15.23KB (15600) headers (space savings 96.15%), 24.41KB (25000) data
"""
ROWS = [["1000000", "200", "900000"], ["1100000", "200", "400000"], ["2000000", "200", "1000000"]]


def test_calls_bytes_seconds_and_latencies_are_read_from_what_h2load_writes() -> None:
    seen = parse_h2load(SUMMARY.format(succeeded=3, failed=0), 3, ROWS)
    assert (seen.calls, seen.response_bytes, seen.seconds) == (3, 25000, 2.0)
    assert seen.latencies == [400.0, 900.0, 1000.0]
    assert seen.rate == 1.5


@pytest.mark.parametrize(("succeeded", "failed", "rows"), [(2, 1, ROWS), (3, 0, ROWS[:2])])
def test_a_call_that_failed_or_left_no_row_is_an_error(succeeded: int, failed: int, rows: list[list[str]]) -> None:
    with pytest.raises(RuntimeError, match="h2load was to make 3 calls"):
        parse_h2load(SUMMARY.format(succeeded=succeeded, failed=failed), 3, rows)


def test_another_output_is_an_error_that_shows_it() -> None:
    with pytest.raises(RuntimeError, match="something unknown: nothing to see"):
        parse_h2load("nothing to see", 3, ROWS)
