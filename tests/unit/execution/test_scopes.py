"""Tools outside the scopes of a caller's credential: refused before anything else is said or done, nested ones too."""

from typing import Any

import pytest

from toolwright_server.catalog.context import AsyncToolContext, ToolCallError
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.model import State
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import ANONYMOUS, Caller

from .house import House

pytestmark = pytest.mark.asyncio


def scoped(*scopes: str) -> Caller:
    return Caller("acme", "planner", "bob", scopes=scopes)


async def work() -> int:
    return 42


async def refused(house: House, name: str, caller: Caller, **facts: Any) -> ToolwrightError:
    with pytest.raises(ToolwrightError) as caught:
        await house.begin(name, caller=caller, **facts)
    assert caught.value.failure.metadata["outcome"] == "not_started"
    return caught.value


@pytest.mark.parametrize("scopes", [("tests.*",), ("tests.work",), ("x.y", "*")])
async def test_a_tool_inside_the_scopes_is_run(house: House, scopes: tuple[str, ...]) -> None:
    house.tool(work)
    assert (await house.run("work", caller=scoped(*scopes))).state is State.SUCCEEDED


@pytest.mark.parametrize("scopes", [(), ("test.*",), ("tests.wor",), ("tests.work.*",), ("testsx.*", "tests.working")])
async def test_a_tool_outside_the_scopes_is_forbidden_and_leaves_no_record(
    house: House, scopes: tuple[str, ...]
) -> None:
    house.tool(work)
    assert (await refused(house, "work", scoped(*scopes))).failure.reason is Reason.FORBIDDEN
    assert not await house.store.list(ANONYMOUS, ExecutionQuery(10))


async def test_whether_there_is_a_tool_outside_the_scopes_is_not_said(house: House) -> None:
    house.tool(work)
    said = {
        str(await refused(house, name, scoped("crm.*"), **facts)).replace(f"tests.{name}", "it")
        for name, facts in (("work", {}), ("nothing", {}), ("work", {"tool_version": "7"}), ("work", {"timeout": 0.0}))
    }
    assert said == {"the credential may not call 'it'"}


async def test_a_misspelt_name_is_answered_with_names_inside_the_scopes(house: House) -> None:
    async def worker() -> int:
        return 1

    house.tool(work)
    house.tool(worker)
    with pytest.raises(ToolwrightError) as caught:
        await house.begin("works", caller=scoped("tests.work", "tests.works"))
    assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
    assert "tests.work?" in str(caught.value)
    assert "worker" not in str(caught.value)


async def test_a_tool_reaches_no_further_than_its_caller(house: House) -> None:
    errors: list[ToolCallError] = []

    async def ask(context: AsyncToolContext) -> int:
        try:
            await context.call("tests.work")
        except ToolCallError as error:
            errors.append(error)
        return len(errors)

    house.tool(work)
    house.tool(ask)
    assert (await house.run("ask", caller=scoped("tests.ask"))).result == b"1"
    assert errors[0].reason == "FORBIDDEN"
    assert (await house.run("ask", caller=scoped("tests.*"))).result == b"1"
    assert len(errors) == 1
