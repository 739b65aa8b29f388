import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.stores.sql.breaker import Breaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(first_seconds=1.0, longest_seconds=4.0, clock=clock)


def delay(breaker: Breaker) -> float:
    """What a call that is refused is told to wait."""
    with pytest.raises(ToolwrightError) as refused:
        breaker.check()
    failure = refused.value.failure
    assert failure.reason is Reason.STORE_UNAVAILABLE
    assert failure.metadata == {"outcome": "not_started"}
    assert failure.retry_delay is not None
    return failure.retry_delay


def test_calls_pass_while_nothing_has_failed(breaker: Breaker) -> None:
    breaker.check()
    breaker.worked()
    breaker.check()
    assert (breaker.is_open, breaker.refused) == (False, 0)


def test_after_a_failure_calls_are_refused_until_the_next_try(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 0.25
    assert delay(breaker) == 0.75
    assert (breaker.is_open, breaker.refused) == (True, 1)


def test_many_that_failed_together_count_once(breaker: Breaker) -> None:
    for _ in range(64):
        breaker.failed()
    assert delay(breaker) == 1.0


def test_one_tries_for_all(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 1.0
    breaker.check()
    assert delay(breaker) == 1.0
    breaker.worked()
    breaker.check()
    assert not breaker.is_open


def test_the_pause_doubles_with_each_try_that_fails_and_no_further(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    pauses: list[float] = []
    for _ in range(4):
        pauses.append(delay(breaker))
        clock.now += pauses[-1]
        breaker.check()
        breaker.failed()
    assert pauses == [1.0, 2.0, 4.0, 4.0]


def test_a_try_that_is_never_heard_of_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 1.0
    breaker.check()
    clock.now += 1.0
    breaker.check()


def test_an_outcome_that_fails_after_the_pause_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 1.0
    assert not breaker.is_open
    breaker.failed()
    assert delay(breaker) == 2.0


def test_a_new_outage_begins_with_a_short_pause(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    clock.now += 1.0
    breaker.failed()
    breaker.worked()
    breaker.failed()
    assert delay(breaker) == 1.0
