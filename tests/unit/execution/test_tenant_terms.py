"""Calls of tools on which a tenant has settings: what the tool gets, what is kept, and what nested calls hear."""

from typing import Any

import orjson
import pytest

from toolwright_server.catalog.context import AsyncToolContext, ToolCallError
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.model import State
from toolwright_server.identity import Caller

from .corridor import invocation
from .house import House

pytestmark = pytest.mark.asyncio

ACME = Caller("acme", "planner", "bob")
GLOBEX = Caller("globex", "planner", "bob")


async def work(a: int, b: int = 2, c: int = 3) -> list[int]:
    return [a, b, c]


@pytest.fixture
def place(house: House) -> House:
    house.tool(work)
    return house


def setting(house: House, revision: int = 1, tool: str = "tests.work", **fields: Any) -> None:
    """Let acme have these settings."""
    settings = ToolSettings(tenant="acme", tool=tool, revision=revision, **fields)
    house.executor._catalog.tenants.adopt([settings])  # pyright: ignore[reportPrivateUsage]


async def refused(house: House, arguments: dict[str, Any], caller: Caller = ACME) -> Any:
    with pytest.raises(ToolwrightError) as caught:
        await house.begin("work", arguments, caller=caller)
    assert caught.value.failure.metadata["outcome"] == "not_started"
    return caught.value.failure


async def test_the_tool_gets_what_was_completed_and_the_record_keeps_it(place: House) -> None:
    setting(place, fixed_arguments=b'{"a":7}', default_arguments=b'{"b":8}')
    ended = await place.run("work", {"c": 9}, caller=ACME)
    assert orjson.loads(ended.result or b"") == [7, 8, 9]
    assert ended.arguments == b'{"a":7,"b":8,"c":9}'
    assert ended.arguments_bytes == len(ended.arguments)


async def test_another_tenant_is_not_concerned(place: House) -> None:
    setting(place, enabled=False)
    assert (await place.run("work", {"a": 1}, caller=GLOBEX)).state is State.SUCCEEDED


async def test_what_is_sent_against_a_fixed_argument_is_refused(place: House) -> None:
    setting(place, fixed_arguments=b'{"a":7}')
    failure = await refused(place, {"a": 8})
    assert (failure.reason, [each.field for each in failure.violations]) == (Reason.INVALID_ARGUMENTS, ["a"])
    assert (await place.run("work", {"a": 7}, caller=ACME)).state is State.SUCCEEDED


async def test_the_rest_must_still_fit_the_schema(place: House) -> None:
    setting(place, default_arguments=b'{"b":8}')
    failure = await refused(place, {"c": "x"})
    assert {each.field for each in failure.violations} == {"a", "c"}


async def test_a_tool_that_is_turned_off_is_not_called(place: House) -> None:
    setting(place, enabled=False)
    assert (await refused(place, {"a": 1})).reason is Reason.TOOL_DISABLED
    setting(place, 2)
    assert (await place.run("work", {"a": 1}, caller=ACME)).state is State.SUCCEEDED


async def test_a_hidden_tool_is_not_there(place: House) -> None:
    setting(place, hidden=True)
    failure = await refused_as_unknown(place, "work")
    assert failure == await refused_as_unknown(place, "word")


async def refused_as_unknown(house: House, name: str) -> str:
    with pytest.raises(ToolwrightError) as caught:
        await house.begin(name, {"a": 1}, caller=ACME)
    assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
    return str(caught.value).replace(name, "it")


@pytest.mark.parametrize(
    ("fields", "reason"), [({"enabled": False}, "TOOL_DISABLED"), ({"hidden": True}, "TOOL_NOT_FOUND")]
)
async def test_nested_calls_hear_the_same(house: House, fields: dict[str, Any], reason: str) -> None:
    async def ask(context: AsyncToolContext) -> str:
        try:
            return str(await context.call("tests.work", {"a": 1}))
        except ToolCallError as error:
            return error.reason

    house.tool(work)
    house.tool(ask)
    setting(house, **fields)
    assert (await house.run("ask", caller=ACME)).result == f'"{reason}"'.encode()
    assert (await house.run("ask", caller=GLOBEX)).result == b'"[1, 2, 3]"'


async def test_the_tenants_timeout_holds_where_the_call_names_none(place: House) -> None:
    setting(place, timeout_seconds=5.0)
    flight = await place.begin("work", {"a": 1}, caller=ACME)
    assert (flight.deadline.limit_seconds, flight.deadline.source) == (5.0, DeadlineSource.TOOL)
    shorter = await place.begin("work", {"a": 1}, caller=ACME, timeout=4.0)
    assert (shorter.deadline.limit_seconds, shorter.deadline.source) == (4.0, DeadlineSource.REQUEST)


async def test_a_request_id_is_good_for_what_was_sent_whatever_the_settings_are_by_then(place: House) -> None:
    setting(place, default_arguments=b'{"b":8}')
    first = await place.run("work", {"a": 1}, caller=ACME, request_id="r")
    setting(place, 2, default_arguments=b'{"b":9}')
    again = await place.executor.execute(_again())
    assert again.execution.execution_id == first.execution_id
    assert again.execution.result == b"[1,8,3]"


def _again() -> Any:
    return invocation("tests.work", {"a": 1}, caller=ACME, request_id="r")
