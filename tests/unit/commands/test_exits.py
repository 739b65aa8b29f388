import re
from pathlib import Path

import pytest

from toolwright.v1 import common_pb2
from toolwright_server.commands.exits import Exit, exit_of_execution, exit_of_status

from .scripted_server import execution

DOCUMENT = Path(__file__).parents[3] / "docs" / "commands.md"


def test_every_exit_code_is_documented() -> None:
    documented = re.findall(r"^\| (\d+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert [int(code) for code in documented] == sorted(Exit)


@pytest.mark.parametrize("code", range(1, 17))
def test_an_unknown_outcome_outweighs_every_code(code: int) -> None:
    assert exit_of_status(code, "unknown") == Exit.OUTCOME_UNKNOWN
    assert exit_of_status(code, "none") != Exit.OK


def test_a_state_decides_where_an_execution_is_told_as_data() -> None:
    timed_out = common_pb2.ExecutionError(code=4, metadata={"outcome": "none"})
    assert exit_of_execution(execution()) == Exit.OK
    assert exit_of_execution(execution(common_pb2.STATE_FAILED)) == Exit.TOOL_FAILED
    assert exit_of_execution(execution(common_pb2.STATE_OUTCOME_UNKNOWN)) == Exit.OUTCOME_UNKNOWN
    assert exit_of_execution(execution(common_pb2.STATE_TIMED_OUT, error=timed_out)) == Exit.DEADLINE
