"""Names and labels of a call: what is refused, and with which words."""

import unicodedata
from collections.abc import Mapping

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError, Violation
from toolwright_server.execution import texts, wire
from toolwright_server.rpc.wellknown import read_duration

NAMED = ("crm.contact.create", "1", "request 1", "Zoë 🦉", "", "", "", "")
CONTROLS = ("\0", "\n", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029")
FINE = ("\u00a0", "\u200d", "e\u0301", "日本", "👩‍💻", " ", "\u202f")


def violation(error: ToolwrightError) -> Violation:
    assert error.failure.reason is Reason.INVALID_ARGUMENTS
    (found,) = error.failure.violations
    return found


def with_text(place: int, text: str) -> tuple[str, str, str, str, str, str, str, str]:
    first, second, third, fourth, fifth, sixth, seventh, eighth = (
        text if number == place else name for number, name in enumerate(NAMED)
    )
    return first, second, third, fourth, fifth, sixth, seventh, eighth


@pytest.mark.parametrize("text", FINE)
@pytest.mark.parametrize("place", range(len(texts.FIELDS)))
def test_names_may_be_written_in_any_script(place: int, text: str) -> None:
    texts.check(with_text(place, text))
    texts.check_labels({text: text})
    assert texts.may_name(text)


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
@pytest.mark.parametrize("place", range(len(texts.FIELDS)))
def test_a_control_character_is_refused_by_field_and_place(place: int, control: str) -> None:
    with pytest.raises(ToolwrightError) as refused:
        texts.check(with_text(place, f"ab{control}c"))
    assert violation(refused.value) == Violation(
        f"call.{texts.FIELDS[place]}", "has a control character, at character 2"
    )
    assert not texts.may_name(f"ab{control}c")


@given(st.text(min_size=1, max_size=texts.TEXT_LIMIT))
def test_what_is_kept_holds_no_control(text: str) -> None:
    try:
        texts.check(with_text(2, text))
    except ToolwrightError:
        assert any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in text)
    else:
        assert all(unicodedata.category(each) not in ("Cc", "Zl", "Zp") for each in text)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"team\x1b[2J": "x"}, "call.labels[team?[2J]"),
        ({"team": "x\n"}, "call.labels[team]"),
        ({"": "x"}, "call.labels[]"),
        ({"k" * 64: "x"}, f"call.labels[{'k' * 63}]"),
        ({"team": "x" * 257}, "call.labels[team]"),
        ({str(number): "" for number in range(33)}, "call.labels"),
    ],
    ids=["control in key", "control in value", "no key", "long key", "long value", "many"],
)
def test_a_label_that_cannot_be_kept_is_named_without_what_is_wrong_in_it(
    labels: Mapping[str, str], field: str
) -> None:
    with pytest.raises(ToolwrightError) as refused:
        texts.check_labels(labels)
    assert violation(refused.value).field == field


@pytest.mark.parametrize(("seconds", "nanos"), [(1, -1), (-1, 1), (0, 1_000_000_000), (0, -1_000_000_000)])
def test_what_is_no_duration_is_refused(seconds: int, nanos: int) -> None:
    with pytest.raises(ToolwrightError) as refused:
        read_duration(Duration(seconds=seconds, nanos=nanos), "heartbeat_interval")
    assert violation(refused.value).field == "heartbeat_interval"
    assert "is no Duration" in violation(refused.value).description


def test_an_interval_just_below_the_limit_is_named_as_it_is() -> None:
    request = pb.WaitExecutionRequest(heartbeat_interval=Duration(nanos=999_999_999))
    with pytest.raises(ToolwrightError) as refused:
        wire.heartbeat_seconds(request)
    assert violation(refused.value).description == "0.999999999 s lies outside 1 s to 15 s"
