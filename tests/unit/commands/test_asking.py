import io
import json
import sys

import pytest

from toolwright_server.commands.asking import Ask, UsageError, arguments_json, trace_headers


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], {}),
        (["name=Ada Lovelace", "age=36"], {"name": "Ada Lovelace", "age": 36}),
        (
            ["on=true", "none=null", "list=[1, 2]", 'table={"a": 1}'],
            {"on": True, "none": None, "list": [1, 2], "table": {"a": 1}},
        ),
        (['phone="123"', "zip=0123"], {"phone": "123", "zip": "0123"}),
        (["formula=a=b", "empty="], {"formula": "a=b", "empty": ""}),
        (["x=NaN", "y=Infinity"], {"x": "NaN", "y": "Infinity"}),
        (["name=Zoë 🙂"], {"name": "Zoë 🙂"}),
    ],
)
def test_pairs_are_json_where_they_can_be_and_text_elsewhere(typed: list[str], meant: object) -> None:
    assert json.loads(arguments_json(typed)) == meant


def test_a_json_object_is_sent_as_it_was_typed() -> None:
    text = '{"big": 12345678901234567890123, "price": 1.10}'
    assert arguments_json([text]) == text


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"a": 1}\n'))
    assert json.loads(arguments_json(["-"])) == {"a": 1}


def test_standard_input_that_is_not_text_is_refused_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": "\xff"}'), encoding="utf-8"))
    with pytest.raises(UsageError, match="standard input: is not text in UTF-8"):
        arguments_json(["-"])


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["name"], "'name' is no key=value"),
        (["=x"], "'=x' is no key=value"),
        (["a=1", "a=2"], r"'a' is given twice; for a list write a='\[1, 2\]'"),
        (["{", ""], "one JSON object, or `-`, or key=value pairs"),
        (["{"], "this is no JSON: .*column 2"),
        (['{"a": NaN}'], "NaN is not JSON"),
        (["[1]"], "must be a JSON object"),
        (["{" + '"a":[' * 200_000], "no JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(typed: list[str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        arguments_json(typed)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (Ask(tool="t", timeout_seconds=0), "--timeout 0: must be a positive number"),
        (Ask(tool="t", timeout_seconds=float("nan")), "--timeout nan"),
        (
            Ask(tool="t", timeout_seconds=1e300),
            r"--timeout 1e\+300: must be a positive number of seconds, at most 1e\+09",
        ),
        (Ask(tool="t", tool_timeout_seconds=-1), "--tool-timeout -1"),
        (Ask(tool="t", tool_timeout_seconds=1e12), r"--tool-timeout 1e\+12: must be .* at most 1e\+09"),
        (Ask(tool="t", tool_timeout_seconds=float("inf")), "--tool-timeout inf"),
        (Ask(tool="t", cache_mode="never"), "--cache-mode never: must be one of default, bypass, refresh"),
        (Ask(tool="t", max_attempts=0), "--max-attempts 0: must be from 1 to 100"),
        (Ask(tool="t", max_attempts=2**40), "--max-attempts .*: must be from 1 to 100"),
        (Ask(tool="t", max_cost="-1"), "--max-cost: '-1' is no amount of credits"),
        (Ask(tool="t", max_cost="0.0000001"), "--max-cost: .* at most 6 decimals"),
        (Ask(tool="t", user="\udcff"), "--user: .* is not text in UTF-8"),
        (Ask(tool="t", labels=["x"]), "--label: 'x' is no key=value"),
        (Ask(tool="t\udcff"), "the tool: 't.udcff' is not text in UTF-8"),
        (Ask(tool="t", request_id="\udcff"), "--request-id: .* is not text in UTF-8"),
        (Ask(tool="t", labels=["a=\udcff"]), "--label: .* is not text in UTF-8"),
        (Ask(tool="t", arguments=["name=\udcff"]), "the arguments: .* is not text in UTF-8"),
        (Ask(tool="t", arguments=['name="\\ud800"']), "the arguments: .* is not text in UTF-8"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(ask: Ask, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ask.call()


def test_the_call_carries_what_was_asked() -> None:
    call = Ask(tool="t", request_id="r", labels=["a=b=c"], detach=True, tool_timeout_seconds=1.5).call()
    assert (call.tool, call.request_id, dict(call.labels), call.detach_on_disconnect) == ("t", "r", {"a": "b=c"}, True)
    assert call.timeout.ToMilliseconds() == 1500


@pytest.mark.parametrize(("typed", "number"), [("", 0), ("default", 1), ("bypass", 2), ("refresh", 3)])
def test_the_call_says_what_is_done_with_kept_answers(typed: str, number: int) -> None:
    assert Ask(tool="t", cache_mode=typed).call().cache_mode == number


def test_the_call_says_for_whom_and_of_what_it_is() -> None:
    call = Ask(tool="t", user="ann", task="t-1", session="s-1", agent="a-1").call()
    assert (call.user_id, call.task_id, call.session_id, call.agent_id) == ("ann", "t-1", "s-1", "a-1")


def test_the_call_says_what_it_may_take_and_leaves_to_the_tool_what_was_not_asked() -> None:
    call = Ask(tool="t", max_attempts=1, max_cost="0.25", allow_fallback=False).call()
    assert (call.max_attempts, call.max_cost_micros, call.allow_fallback) == (1, 250_000, False)
    plain = Ask(tool="t").call()
    assert not any(map(plain.HasField, ("max_attempts", "max_cost_micros", "allow_fallback")))
    assert Ask(tool="t", max_cost="0").call().HasField("max_cost_micros")


def test_every_call_has_a_request_id_of_its_own_by_which_it_can_be_found() -> None:
    assert len({Ask(tool="t").call().request_id for _ in range(3)}) == 3


def test_the_trace_of_the_shell_is_continued() -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert trace_headers({"TRACEPARENT": parent, "TRACESTATE": "a=b"}) == (
        ("traceparent", parent),
        ("tracestate", "a=b"),
    )
    assert trace_headers({"TRACESTATE": "a=b"}) == ()
    assert trace_headers({"TRACEPARENT": "schön\n"}) == ()
