"""What operators and callers are told of failures of tools that are given secrets, and of tools that are not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import pydantic
import pytest

from toolwright_server.backends.forked.worker import failure_to_json
from toolwright_server.backends.invoke import (
    ADMIN_LIMIT,
    BadAnswer,
    Refused,
    admin_message,
    answer,
    bind,
    for_operators,
)
from toolwright_server.backends.process.failures import reported
from toolwright_server.catalog.context import ToolError
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason

SECRET = "hunter2"
Token = Annotated[str, pydantic.Field(json_schema_extra={"x-sensitive": True})]


def declared(function: Callable[..., Any]) -> Tool:
    found = declared_tool(tool(f"tests.{function.__name__}")(function))
    assert found is not None
    return found


async def guarded(password: Token) -> int:
    return 0


async def answering(text: str) -> Annotated[list[Token], pydantic.Field(max_length=1)]:
    return [text]


async def open_to_all(password: str) -> int:
    return 0


def raised() -> BaseException:
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise LookupError(f"nobody has {SECRET}") from error
    except LookupError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("function", [guarded, answering])
def test_of_a_tool_with_secrets_the_log_says_where_and_what_kind_but_no_text(function: Callable[..., Any]) -> None:
    told = for_operators(declared(function), raised())
    assert SECRET not in told
    assert "int(SECRET)" in told
    assert told.index("LookupError") < told.index("after:") < told.index("ValueError")


def test_of_other_tools_the_log_says_all() -> None:
    told = for_operators(declared(open_to_all), raised())
    assert f"LookupError: nobody has {SECRET}" in told


@pytest.mark.parametrize("kept", [{"keep_arguments": False}, {"keep_result": False}])
def test_the_record_of_a_tool_that_keeps_no_payloads_has_no_text_that_may_quote_them(kept: dict[str, Any]) -> None:
    told = admin_message(replace(declared(open_to_all), **kept), raised())
    assert SECRET not in told
    assert "LookupError" in told
    lie = BadAnswer(Failure(Reason.OUTPUT_INVALID, "no"), f"got {SECRET}")
    assert admin_message(replace(declared(open_to_all), **kept), lie) == ""
    assert admin_message(declared(open_to_all), lie) == f"got {SECRET}"


def test_the_record_keeps_the_end_of_what_the_log_says_and_what_every_database_takes() -> None:
    told = admin_message(declared(open_to_all), ValueError("x" * ADMIN_LIMIT + "\0\ud800 end"))
    assert len(told) == ADMIN_LIMIT
    assert told.endswith("x\ufffd? end")
    assert admin_message(declared(open_to_all), ToolError("no")) == ""


def test_an_answer_that_its_schema_forbids_is_not_quoted_where_only_the_input_has_secrets() -> None:
    with pytest.raises(BadAnswer) as caught:
        answer(declared(guarded), f"token {SECRET}", 1_000)
    assert SECRET not in f"{caught.value.failure}{caught.value.detail}{admin_message(declared(guarded), caught.value)}"


def test_what_a_worker_says_to_operators_is_bounded_here_too() -> None:
    failure = Failure(Reason.TOOL_FAILED, "no", admin_message="x" * ADMIN_LIMIT + "\0end")
    told = reported("failed", failure_to_json(failure, ""), "execution-1").failure.admin_message
    assert (len(told), told[-5:]) == (ADMIN_LIMIT, "x\ufffdend")


class Peculiar(Exception):
    def __getattr__(self, name: str) -> Any:
        raise KeyError(name)


def test_an_exception_whose_attributes_cannot_be_read_is_told_by_its_place() -> None:
    assert for_operators(declared(open_to_all), Peculiar()) == "Peculiar\n"
    assert admin_message(declared(open_to_all), Peculiar()) == "Peculiar"


def test_an_exception_that_is_its_own_cause_comes_to_an_end() -> None:
    error = ValueError(SECRET)
    error.__cause__ = error
    assert for_operators(declared(guarded), error) == "ValueError\n"


def test_what_a_tool_says_in_words_of_its_own_needs_no_more() -> None:
    assert for_operators(declared(guarded), ToolError("no")) == ""


@pytest.mark.parametrize(
    "value",
    [[SECRET, SECRET], [{SECRET}], [object(), SECRET], {"x": SECRET}],
    ids=["list", "set", "object", "mapping"],
)
def test_an_answer_that_cannot_be_is_not_quoted_when_it_may_hold_secrets(value: Any) -> None:
    with pytest.raises(BadAnswer) as caught:
        answer(declared(answering), value, 1_000)
    assert (
        SECRET not in f"{caught.value.failure} {caught.value.detail} {for_operators(declared(answering), caught.value)}"
    )


class Odd(pydantic.BaseModel):
    name: str
    password: Token

    @pydantic.field_validator("password")
    @classmethod
    def _check(cls, value: str) -> str:
        raise pydantic_error(value)


def pydantic_error(value: str) -> Exception:
    from pydantic_core import PydanticCustomError  # noqa: PLC0415 (for this one)

    return PydanticCustomError("odd", "the value {value} is odd", {"value": value})


async def odd(odd: Odd) -> int:
    return 0


def test_a_types_own_words_about_a_secret_reach_nobody() -> None:
    with pytest.raises(Refused) as caught:
        bind(declared(odd), {"odd": {"name": "n", "password": SECRET}})
    assert SECRET not in str(caught.value.failure)
    assert [each.field for each in caught.value.failure.violations] == ["odd.password"]
