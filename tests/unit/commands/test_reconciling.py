import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.reconciling import Found, reconcile

from .scripted_server import Context, Scripted, abort, execution, serving


def unknown(execution_id: str) -> common_pb2.Execution:
    made = execution(common_pb2.STATE_OUTCOME_UNKNOWN)
    made.execution_id = execution_id
    return made


@pytest.fixture
def script() -> Iterator[Scripted]:
    script = Scripted()
    with serving(script):
        yield script


@pytest.mark.parametrize(
    ("found", "asked"),
    [
        (Found(), pb.ReconcileExecutionRequest(execution_id="e-1")),
        (
            Found(succeeded=True, result='{"n": 1}', note="seen"),
            pb.ReconcileExecutionRequest(
                execution_id="e-1", verdict=pb.VERDICT_SUCCEEDED, value_json='{"n": 1}', note="seen"
            ),
        ),
        (Found(failed=True), pb.ReconcileExecutionRequest(execution_id="e-1", verdict=pb.VERDICT_NOT_DONE)),
    ],
)
def test_what_was_typed_is_asked(
    script: Scripted, found: Found, asked: pb.ReconcileExecutionRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconcile(script.address, "e-1", found, as_json=False) == Exit.OK
    assert script.reconciled == [asked]
    assert json.loads(capsys.readouterr().out)["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Found(succeeded=True, failed=True), "one of them"),
        (Found(result="1"), "--result goes with --succeeded"),
        (Found(failed=True, result="1"), "--result goes with --succeeded"),
        (Found(note="seen"), "--note goes with"),
    ],
)
def test_what_cannot_be_meant_is_not_asked(
    script: Scripted, found: Found, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconcile(script.address, "e-1", found, as_json=False) == Exit.USAGE
    assert says in capsys.readouterr().err
    assert script.reconciled == []


def test_what_stays_unknown_has_an_exit_code_of_its_own(script: Scripted) -> None:
    script.settles = lambda _, __: unknown("e-1")
    assert reconcile(script.address, "e-1", Found(), as_json=False) == Exit.OUTCOME_UNKNOWN


def test_a_refusal_is_told(script: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    script.settles = lambda _, context: abort(context, grpc.StatusCode.PERMISSION_DENIED, "FORBIDDEN")
    assert reconcile(script.address, "e-1", Found(), as_json=False) == Exit.REFUSED
    assert "FORBIDDEN" in capsys.readouterr().err


def test_without_an_id_all_that_is_unknown_is_asked_for(script: Scripted, capsys: pytest.CaptureFixture[str]) -> None:
    script.history = [unknown(f"e-{number}") for number in (3, 2, 1)]
    assert reconcile(script.address, None, Found(), as_json=False) == Exit.OK
    assert set(script.filters) == {'state = "OUTCOME_UNKNOWN"'}
    assert [each.execution_id for each in script.reconciled] == ["e-3", "e-2", "e-1"]
    assert len(json.loads(capsys.readouterr().out)) == 3


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "INVALID_STATE"),
        (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
    ],
)
def test_one_that_cannot_be_asked_for_does_not_hold_up_the_others(
    script: Scripted, code: grpc.StatusCode, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def settles(request: Any, context: Context) -> common_pb2.Execution:
        if request.execution_id == "e-2":
            abort(context, code, reason)
        return execution()

    script.history = [unknown(f"e-{number}") for number in (3, 2, 1)]
    script.settles = settles
    assert reconcile(script.address, None, Found(), as_json=False) == Exit.OUTCOME_UNKNOWN
    states = [each["state"] for each in json.loads(capsys.readouterr().out)]
    assert states == ["SUCCEEDED", "OUTCOME_UNKNOWN", "SUCCEEDED"]


def test_a_server_that_is_lost_in_between_ends_it(script: Scripted) -> None:
    script.history = [unknown("e-1")]
    script.settles = lambda _, context: abort(context, grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
    assert reconcile(script.address, None, Found(), as_json=False) == Exit.UNAVAILABLE


def test_a_verdict_needs_an_id(script: Scripted) -> None:
    script.history = [unknown("e-1")]
    assert reconcile(script.address, None, Found(failed=True), as_json=False) == Exit.USAGE
    assert script.reconciled == []
