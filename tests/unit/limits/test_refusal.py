"""The words and numbers of refusals."""

from dataclasses import replace

import pytest

from toolwright_server.errors import Reason
from toolwright_server.limits.model import Check, Kind, Reading
from toolwright_server.limits.refusal import refusal

CHECK = Check("mine", "{acme}:60s:user=ada", Kind.WINDOW, 30, "user ada", 60.0, what="browser calls")
PLACES = replace(CHECK, kind=Kind.RUNNING, window_seconds=0.0)


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (CHECK, "30 browser calls a minute are used up"),
        (replace(CHECK, limit=1), "1 browser call a minute is used up"),
        (replace(CHECK, limit=1, what="calls of crm.calls"), "1 call of crm.calls a minute is used up"),
        (replace(CHECK, window_seconds=1.0), "30 browser calls a second are used up"),
        (replace(CHECK, window_seconds=3_600.0), "30 browser calls an hour are used up"),
        (replace(CHECK, window_seconds=86_400.0), "30 browser calls in 24 hours are used up"),
        (replace(CHECK, window_seconds=0.5), "30 browser calls in 0.5 s are used up"),
        (replace(CHECK, kind=Kind.DAY, window_seconds=0.0), "30 browser calls a day are used up"),
        (replace(CHECK, kind=Kind.MONTH, window_seconds=0.0), "30 browser calls a month are used up"),
    ],
)
def test_what_is_used_up_is_said_in_words(check: Check, sentence: str) -> None:
    failure = refusal(Reading(check, 30, 5.0))
    assert failure.user_message == f"{sentence}; try again in 5 s"
    assert failure.quota[0].description == sentence
    assert sentence in failure.message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.001, "1 s"), (1.0, "1 s"), (22.5, "23 s"), (120.0, "120 s"), (120.1, "3 min"), (7_200.0, "120 min"),
        (7_201.0, "3 h"), (172_800.0, "48 h"), (172_801.0, "3 days"),
    ],
)  # fmt: skip
def test_the_time_to_wait_is_said_in_words_and_never_too_short(seconds: float, words: str) -> None:
    failure = refusal(Reading(CHECK, 30, seconds))
    assert failure.user_message.endswith(f"; try again in {words}")
    assert failure.retry_delay == seconds
    assert failure.metadata["reset_seconds"] == f"{seconds:.3f}"


def test_a_place_that_is_missing_is_another_reason_with_a_delay_that_spreads() -> None:
    failures = [refusal(Reading(PLACES, 31, 0.0), because=", and it rains") for _ in range(20)]
    assert {failure.reason for failure in failures} == {Reason.CONCURRENCY_LIMITED}
    assert failures[0].message == "30 browser calls may run at once for user ada (rule mine), and it rains"
    assert failures[0].metadata["used"] == "31"
    assert len({failure.retry_delay for failure in failures}) > 1
    one = refusal(Reading(replace(PLACES, limit=1), 1, 0.0))
    assert one.user_message == "1 browser call may run at once, and that many are running; try again in a moment"
