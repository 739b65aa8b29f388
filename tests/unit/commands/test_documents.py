import json

from toolwright.v1 import common_pb2, tool_catalog_pb2
from toolwright_server.commands.documents import document

from .scripted_server import event, execution


def test_an_execution_reads_as_plain_json() -> None:
    made = execution(value_json='{"big": 123456789012345678901}', labels={"a": "b"}, last_sequence=7)
    made.create_time.FromJsonString("2025-01-02T03:04:05.5Z")
    made.usage.tool_duration.FromMilliseconds(1500)
    made.warnings.add(reason="R", message="m")
    assert document(made) == {
        "execution_id": "e-1",
        "state": "SUCCEEDED",
        "tool": "t",
        "create_time": "2025-01-02T03:04:05.500Z",
        "result": {"value": {"big": 123456789012345678901}, "source": "TOOL"},
        "usage": {"tool_duration_seconds": 1.5, "attempts": 0, "cost_micros": 0, "held_micros": 0},
        "last_sequence": 7,
        "labels": {"a": "b"},
        "warnings": [{"reason": "R", "message": "m"}],
    }


def test_zero_and_false_are_said_but_what_is_absent_is_not() -> None:
    assert document(event(1, progress=common_pb2.Progress(progress=0))) == {
        "execution_id": "e-1",
        "sequence": 1,
        "progress": {"progress": 0.0},
    }
    assert document(tool_catalog_pb2.Tool(name="t")) == {"name": "t", "enabled": False, "price_micros": 0}
    assert document(event(2, heartbeat=common_pb2.Heartbeat()))["heartbeat"] == {}


def test_an_empty_result_is_a_result() -> None:
    for text in ("[]", "{}", '""', "0", "false"):
        assert document(execution(value_json=text))["result"]["value"] == json.loads(text)


def test_bytes_are_base64_and_null_results_are_null() -> None:
    assert document(common_pb2.Output(channel="c", data=b"\x00\xff")) == {"channel": "c", "data": "AP8="}
    assert document(execution(value_json="null"))["result"]["value"] is None


def test_struct_values_are_plain_json_too() -> None:
    made = execution()
    made.result.value.struct_value.update({"a": [1, None]})
    assert document(made)["result"]["value"] == {"a": [1.0, None]}


def test_a_state_that_is_newer_than_we_are_is_its_number() -> None:
    assert document(common_pb2.Execution(state=99))["state"] == "99"  # type: ignore[arg-type]


def test_text_that_claims_to_be_json_and_is_not_stays_text() -> None:
    assert document(execution(value_json="{"))["result"]["value"] == "{"
