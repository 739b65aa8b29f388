import pytest

from toolwright_server.errors import Reason
from toolwright_server.stores.sql.faults import Outage, unavailable


def test_what_the_database_said_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    error = unavailable(OSError("connection to 10.0.0.5 as user hunter2 failed"))
    assert error.failure.reason is Reason.STORE_UNAVAILABLE
    assert "hunter2" not in f"{error} {error.failure}"
    assert "hunter2" in caplog.text


def test_an_outage_is_said_at_once_and_then_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    outage = Outage(lambda: now)
    for _ in range(30):
        outage.tell(OSError("gone"))
        now += 1.0
    outage.tell(OSError("refused"))
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "gone",
        "gone (and 9 times since it was last said)",
        "gone (and 9 times since it was last said)",
        "refused",
    ]
