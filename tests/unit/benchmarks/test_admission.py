import pytest

from benchmarks.admission import main

pytestmark = pytest.mark.slow


def test_both_sides_are_measured_and_their_counts_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--seconds", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "limits, once per rule" in said
    assert "one script" in said
    assert "in process" in said
