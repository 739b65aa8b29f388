"""Tables as CSV."""

import csv
import io

import pytest

from toolwright_server.commands import csv_table


def test_a_text_never_becomes_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    users = ["ann", "=1+1", "+1", "-1", "@SUM(A1)", "\tx", "x\ny", "a=b", ""]
    csv_table.write(["user", "calls"], [{"user": user, "calls": -number} for number, user in enumerate(users)])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out, newline="")))
    assert [row[0] for row in rows] == ["user", "ann", "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "x\ny", "a=b", ""]
    assert rows[3][1] == "-2"
