"""Limits, entries and credits become lines for people."""

from datetime import UTC, datetime, timedelta

import pytest

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.commands import crediting, quota

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def test_a_quota_is_a_table_with_a_sentence_about_credits(capsys: pytest.CaptureFixture[str]) -> None:
    window = pb.Quota(rule="crm", subject="user \x1bann", kind=pb.QUOTA_KIND_WINDOW, used=1, limit=1_000, remaining=999)
    window.window.FromSeconds(60)
    window.reset_time.FromDatetime(NOW + timedelta(seconds=23))
    running = pb.Quota(rule="running", kind=pb.QUOTA_KIND_RUNNING, limit=3, remaining=3, shadow=True)
    found = pb.GetQuotaResponse(
        quotas=[window, running],
        balance=pb.CreditBalance(enabled=True, balance_micros=1_234_500_000, held_micros=1),
    )
    quota.print_table(found, NOW)
    _, first, second, last = capsys.readouterr().out.splitlines()
    assert "calls in 60 s" in first
    assert first.split()[-3:] == ["999", "23", "s"]
    assert "\x1b" not in first
    assert "calls at once" in second
    assert second.rstrip().endswith("not enforced")
    assert last == "credits: 1,234.5, and 0.000001 held"


def test_without_limits_and_credits_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    quota.print_table(pb.GetQuotaResponse(), NOW)
    assert capsys.readouterr().out.splitlines() == ["no limit holds", "credits: not needed"]


def test_entries_are_shown_in_credits(capsys: pytest.CaptureFixture[str]) -> None:
    entry = pb.LedgerEntry(
        transaction=7,
        kind=pb.LEDGER_ENTRY_KIND_CHARGE,
        account="held",
        amount_micros=-1_500_000,
        balance_micros=250_000,
        execution_id="e-1",
    )
    entry.entry_time.FromDatetime(NOW)
    crediting.print_table([entry])
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == ["7", "2026-03-01", "00:00:00", "charge", "held", "-1.5", "0.25", "e-1"]
