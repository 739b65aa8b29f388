"""Which configurations of several processes are refused, and that the sentence says what to change."""

from typing import Any

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.settings import load_settings

SHARED = {"workers": 2, "database_url": "postgresql://u@h/d", "redis_url": "redis://h:6379"}
TLS = {"tls_certificate_file": "c.pem", "tls_key_file": "k.pem", "tls_client_ca_file": "ca.pem"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"workers": 1, "listen": "unix:/tmp/one.sock", "database_url": "memory:"},
        SHARED,
        {**SHARED, "database_url": "postgres://h/d"},
        {**SHARED, "database_url": "postgresql+asyncpg://h/d", "workers": 64},
        {**SHARED, "listen": "127.0.0.1:0", "http_listen": ""},
    ],
)
def test_what_processes_can_share_is_taken(given: dict[str, Any]) -> None:
    assert load_settings(None, given).workers == given.get("workers", 1)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"redis_url": ""}, r"^workers = 2 needs a Redis or Valkey: .*set redis_url \(TOOLWRIGHT_REDIS_URL\)"),
        ({"database_url": ""}, r"^workers = 2 needs a PostgreSQL: a SQLite file .*TOOLWRIGHT_DATABASE_URL"),
        ({"database_url": "sqlite:///x.db"}, r"^workers = 2 needs a PostgreSQL: a SQLite file is for one process"),
        ({"database_url": "memory:"}, r"^workers = 2 needs a PostgreSQL: with memory: each process"),
        ({"listen": "unix:/tmp/x"}, r"^workers = 2 cannot share listen = 'unix:/tmp/x': .*127\.0\.0\.1:50051"),
        (
            {**TLS, "tls_client_certificates": "accept", "tls_client_listen": "unix:/tmp/y"},
            r"^workers = 2 cannot share tls_client_listen = 'unix:/tmp/y'",
        ),
        ({"workers": 0}, r"workers \(--workers\): .*greater than or equal to 1"),
        ({"workers": 65}, r"workers \(--workers\): .*less than or equal to 64"),
    ],
)
def test_what_each_process_would_have_for_itself_is_refused(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence) as refused:
        load_settings(None, {**SHARED, **given})
    # Nothing else is wrong with it.
    assert len(str(refused.value).splitlines()) == 1


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {"workers": 3, "listen": "unix:/tmp/x"})
    assert [line.split()[3] for line in str(refused.value).splitlines()] == ["needs", "needs", "cannot"]


def test_no_password_is_in_a_refusal() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {"workers": 3, "database_url": "sqlite://user:hunter2@h/d", "redis_url": ""})
    assert "hunter2" not in str(refused.value)
