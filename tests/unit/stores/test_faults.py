import pytest

from toolwright_server.errors import Reason
from toolwright_server.stores.sql.faults import unavailable


def test_what_the_database_said_is_for_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    error = unavailable(OSError("connection to 10.0.0.5 as user hunter2 failed"))
    assert error.failure.reason is Reason.STORE_UNAVAILABLE
    assert "hunter2" not in f"{error} {error.failure}"
    assert "hunter2" in caplog.text
