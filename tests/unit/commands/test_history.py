"""`history` and `show`: what is asked of the server, and what is printed for programs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from toolwright.v1 import common_pb2
from toolwright_server.commands import history, showing
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.history import Wanted, when
from toolwright_server.execution.query import FIELDS
from toolwright_server.rpc import filters

from .scripted_server import Scripted, execution, serving

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def made(number: int, parent: int | None = None, **fields: Any) -> common_pb2.Execution:
    found = execution()
    found.ClearField("result")
    found.execution_id = f"e-{number}"
    found.task_id = "task"
    found.parent_execution_id = "" if parent is None else f"e-{parent}"
    found.create_time.FromSeconds(1_000 + number)
    found.end_time.FromSeconds(1_002 + number)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


@pytest.fixture
def script() -> Iterator[Scripted]:
    script = Scripted()
    with serving(script):
        yield script


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        (Wanted(), ""),
        (Wanted(states=["failed"]), 'state = "FAILED"'),
        (Wanted(states=["failed", "TIMED_OUT"]), 'state = "FAILED" OR state = "TIMED_OUT"'),
        (Wanted(tool="crm.*"), 'tool = "crm.*"'),
        (Wanted(tool='a"b\\'), r'tool = "a\"b\\"'),
        (Wanted(user="ann", session="s 1"), 'user_id = "ann" AND session_id = "s 1"'),
        (Wanted(task="t", agent="a", category="crm"), 'category = "crm" AND task_id = "t" AND agent_id = "a"'),
        (Wanted(labels=["team=x=y", "run"]), 'labels."team" = "x=y" AND labels:"run"'),
        (Wanted(since="30m"), 'create_time >= "2026-11-21T11:30:00+00:00"'),
        (Wanted(until="2026-11-21T13:00:00+02:00"), 'create_time < "2026-11-21T11:00:00+00:00"'),
        (Wanted(tool="t", filter="state = FAILED OR labels:x"), 'tool = "t" AND (state = FAILED OR labels:x)'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_typed_becomes_one_filter_that_the_server_can_read(wanted: Wanted, asked: str) -> None:
    assert wanted.filter_text(NOW) == asked
    fields = {**dict.fromkeys(FIELDS, filters.TEXT), "create_time": filters.TIME}
    filters.parse(asked, fields)


@pytest.mark.parametrize(("typed", "ago"), [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("0s", 0)])
def test_a_time_may_be_typed_as_how_long_ago_it_was(typed: str, ago: int) -> None:
    assert datetime.fromisoformat(when(typed, NOW, "--since")) == NOW - timedelta(seconds=ago)


def test_a_time_without_a_zone_is_the_machines() -> None:
    local = datetime(2026, 1, 31, 12).astimezone(UTC)
    assert datetime.fromisoformat(when("2026-01-31T12:00", NOW, "--since")) == local


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(since="yesterday"),
        Wanted(until="1w"),
        Wanted(since="9" * 30 + "d"),
        Wanted(labels=["=x"]),
        Wanted(tool="\udcff"),
    ],
    ids=repr,
)
def test_what_cannot_be_meant_is_a_usage_error(script: Scripted, wanted: Wanted) -> None:
    with pytest.raises(UsageError):
        wanted.filter_text(NOW)
    assert history.show(script.address, wanted, 50, as_json=True) == Exit.USAGE
    assert script.filters == []


def test_programs_get_one_array_over_all_pages(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    script.history = [made(number) for number in (5, 4, 3, 2, 1)]
    assert history.show(script.address, Wanted(tool="t"), 50, as_json=True) == Exit.OK
    assert [each["execution_id"] for each in json.loads(capfd.readouterr().out)] == ["e-5", "e-4", "e-3", "e-2", "e-1"]
    assert script.filters == ['tool = "t"'] * 3


def test_no_more_is_asked_for_than_is_wanted(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    script.history = [made(number) for number in (5, 4, 3, 2, 1)]
    assert history.show(script.address, Wanted(), 3, as_json=True) == Exit.OK
    assert [each["execution_id"] for each in json.loads(capfd.readouterr().out)] == ["e-5", "e-4", "e-3"]
    assert len(script.filters) == 2


def test_nothing_that_was_called_is_an_empty_array(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    assert history.show(script.address, Wanted(), 50, as_json=True) == Exit.OK
    assert json.loads(capfd.readouterr().out) == []


def test_one_execution_is_one_json_object_with_its_arguments(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    script.history = [made(1, request_id="r", arguments_json='{"password":"[redacted]"}', category="crm")]
    for execution_id, request_id in (("e-1", None), (None, "r")):
        assert showing.show(script.address, execution_id, request_id, tree=False, as_json=True) == Exit.OK
        shown = json.loads(capfd.readouterr().out)
        assert (shown["execution_id"], shown["category"]) == ("e-1", "crm")
        assert shown["arguments"] == {"password": "[redacted]"}


def test_an_execution_that_is_not_there_is_not_found(script: Scripted, capfd: pytest.CaptureFixture[str]) -> None:
    assert showing.show(script.address, "e-9", None, tree=False, as_json=True) == Exit.NOT_FOUND
    assert "RESOURCE_NOT_FOUND" in capfd.readouterr().err


@pytest.mark.parametrize(("execution_id", "request_id"), [(None, None), ("e-1", "r")])
def test_an_id_or_a_request_id_is_needed_and_not_both(
    script: Scripted, execution_id: str | None, request_id: str | None
) -> None:
    assert showing.show(script.address, execution_id, request_id, tree=False, as_json=True) == Exit.USAGE


def test_a_tree_is_all_of_the_task_each_followed_by_its_steps(
    script: Scripted, capfd: pytest.CaptureFixture[str]
) -> None:
    # Two roots of one task; 4 and 3 are steps of 1, 5 one of 3; the parent of 6 is not kept any more.
    script.history = [made(6, 0), made(5, 3), made(4, 1), made(3, 1), made(2), made(1)]
    assert showing.show(script.address, "e-3", None, tree=True, as_json=True) == Exit.OK
    shown = [(each["execution_id"], each["depth"]) for each in json.loads(capfd.readouterr().out)]
    assert shown == [("e-1", 0), ("e-3", 1), ("e-5", 2), ("e-4", 1), ("e-2", 0), ("e-6", 0)]
    assert set(script.filters) == {'task_id = "task"'}


def test_the_task_of_a_tree_is_asked_for_exactly(script: Scripted) -> None:
    script.history = [made(1, task_id='a"*')]
    assert showing.show(script.address, "e-1", None, tree=True, as_json=True) == Exit.OK
    assert script.filters == [r'task_id = "a\"\*"']


def test_parents_that_go_round_in_circles_or_deep_still_make_a_tree() -> None:
    known = {each.execution_id: each for each in (made(1, 2), made(2, 1), made(3, 3))}
    assert [(each.execution_id, depth) for each, depth in showing.in_order(known)] == [
        ("e-1", 0),
        ("e-2", 1),
        ("e-3", 0),
    ]
    deep = {f"e-{number}": made(number, number - 1) for number in range(1_000, 5_000)}
    assert [depth for _, depth in showing.in_order(deep)] == list(range(4_000))
