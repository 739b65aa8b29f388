"""How large arguments as a Struct and results as a Value may be: both are walked while everybody else waits."""

import orjson
import pytest
from google.protobuf.struct_pb2 import Value

from toolwright.v1 import common_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution import wire
from toolwright_server.execution.model import State

from .corridor import row

MEBIBYTE = 1 << 20
# An encoded double within a list takes 11 bytes.
FITS, TOO_MANY = 23_000, 24_000


def struct_call(count: int) -> pb.ToolCall:
    call = pb.ToolCall(tool="x")
    call.arguments.fields["numbers"].list_value.values.extend(Value(number_value=0.5) for _ in range(count))
    return call


def test_a_struct_within_the_limit_is_read() -> None:
    arguments, encoded, as_json = wire.read_arguments(struct_call(FITS), 4 * MEBIBYTE)
    assert arguments == {"numbers": [0.5] * FITS}
    assert (orjson.loads(encoded), as_json) == (arguments, False)


def test_a_larger_one_is_refused_and_the_refusal_names_the_better_form() -> None:
    with pytest.raises(ToolwrightError) as refused:
        wire.read_arguments(struct_call(TOO_MANY), 4 * MEBIBYTE)
    failure = refused.value.failure
    assert failure.reason is Reason.PAYLOAD_TOO_LARGE
    assert failure.metadata["limit_bytes"] == str(wire.STRUCT_LIMIT)
    assert int(failure.metadata["size_bytes"]) > wire.STRUCT_LIMIT
    assert "arguments_json" in failure.message


def test_as_text_the_same_arguments_are_accepted() -> None:
    text = orjson.dumps({"numbers": [0.5] * TOO_MANY * 10}).decode()
    arguments, _, _ = wire.read_arguments(pb.ToolCall(tool="x", arguments_json=text), 4 * MEBIBYTE)
    assert len(arguments["numbers"]) == TOO_MANY * 10


@pytest.mark.parametrize(("spare", "form"), [(0, "value"), (1, "value_json")])
def test_a_value_is_answered_as_it_was_asked_for_unless_it_is_large(spare: int, form: str) -> None:
    result = b'"' + b"x" * (wire.STRUCT_LIMIT - 2 + spare) + b'"'
    answered = wire.execution(row(state=State.SUCCEEDED, result=result), as_json=False).result
    assert answered.WhichOneof("value_form") == form
    assert (answered.value.string_value or orjson.loads(answered.value_json or b'""')) == orjson.loads(result)
