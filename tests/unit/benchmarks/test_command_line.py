import json
import re
from pathlib import Path

import pytest

from benchmarks.__main__ import arguments, main
from benchmarks.plan import NAMES

pytestmark = pytest.mark.slow

DOCUMENT = (Path(__file__).parents[3] / "docs" / "benchmarks.md").read_text(encoding="utf-8")


def test_every_documented_option_exists_and_every_option_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--help"])
    existing = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert set(re.findall(r"--[a-z][a-z-]+", DOCUMENT)) == existing
    assert set(re.findall(r"^\| `([a-z]+)` \|", DOCUMENT, re.MULTILINE)) == set(NAMES)


@pytest.mark.parametrize("given", [["--rounds", "0"], ["--seconds", "0"], ["--only", "nothing"], ["--only", "rival"]])
def test_what_cannot_be_measured_is_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        arguments(given)
    assert refused.value.code == 2


def test_the_bare_server_can_be_compared_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    assert main(["--self-check", "--rounds", "1", "--seconds", "0.05", "--only", "stream", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "bare again" in printed
    assert "target" not in printed
    written = json.loads(file.read_text(encoding="utf-8"))
    assert written["machine"]["grpcio"]
    assert [len(side["runs"]) for side in (written["comparisons"][0]["bare"], written["comparisons"][0]["ours"])] == [
        1,
        1,
    ]
