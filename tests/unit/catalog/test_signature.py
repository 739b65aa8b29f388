"""What is read from a function's signature and docstring, and how JSON becomes its arguments."""

import enum
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal, NotRequired

import pydantic
import pytest
from pydantic import Field
from typing_extensions import TypedDict

from toolwright_server.catalog.context import AsyncToolContext, SyncToolContext, ToolContext
from toolwright_server.catalog.model import DeclarationError
from toolwright_server.catalog.signature import Signature

Json = dict[str, Any]


def properties(function: Callable[..., Any]) -> Json:
    return Signature(function).input_schema.document["properties"]


def descriptions(function: Callable[..., Any]) -> dict[str, str | None]:
    return {name: part.get("description") for name, part in properties(function).items()}


def output(function: Callable[..., Any]) -> Json:
    schema = Signature(function).output_schema
    assert schema is not None
    return schema.document


def test_plain_types_become_a_closed_object_without_titles() -> None:
    def f(a: int, b: str = "x", c: list[float] | None = None, d: bool = True) -> None: ...

    assert Signature(f).input_schema.document == {
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "string", "default": "x"},
            "c": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}], "default": None},
            "d": {"type": "boolean", "default": True},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_a_parameter_may_be_called_title() -> None:
    def f(title: str, properties: dict[str, str]) -> None: ...

    assert set(properties_of := properties(f)) == {"title", "properties"}
    assert properties_of["title"] == {"type": "string"}


def google(name: str, count: int = 1) -> str:
    """Greets somebody.

    As often as wanted.

    Args:
        name: Whom to greet,
            over two lines.
        count: How often.

    Returns:
        The greeting.
    """
    return name * count


def numpy(name: str, count: int = 1) -> str:
    """Greets somebody.

    As often as wanted.

    Parameters
    ----------
    name : str
        Whom to greet,
        over two lines.
    count : int
        How often.
    """
    return name * count


def sphinx(name: str, count: int = 1) -> str:
    """Greets somebody.

    As often as wanted.

    :param name: Whom to greet,
        over two lines.
    :param count: How often.
    :returns: The greeting.
    """
    return name * count


@pytest.mark.parametrize("function", [google, numpy, sphinx])
def test_descriptions_are_read_from_docstrings_of_every_style(function: Callable[..., Any]) -> None:
    assert Signature(function).description == "Greets somebody.\n\nAs often as wanted."
    assert descriptions(function) == {"name": "Whom to greet, over two lines.", "count": "How often."}


def test_without_a_docstring_there_is_no_description() -> None:
    def f(a: int) -> None: ...

    assert Signature(f).description == ""
    assert descriptions(f) == {"a": None}


def test_annotations_bring_constraints_and_descriptions() -> None:
    def f(
        page: Annotated[int, Field(ge=1, le=100, description="Which page.")],
        code: Annotated[str, Field(pattern="^[A-Z]+$", max_length=3)] = "A",
    ) -> None:
        """Lists.

        Args:
            code: From the docstring.
        """

    found = properties(f)
    assert found["page"] == {"type": "integer", "minimum": 1, "maximum": 100, "description": "Which page."}
    assert (found["code"]["pattern"], found["code"]["maxLength"]) == ("^[A-Z]+$", 3)
    assert found["code"]["description"] == "From the docstring."
    accepts = Signature(f).input_schema.accepts
    assert accepts({"page": 1})
    assert not accepts({"page": 0})
    assert not accepts({"page": 1, "code": "abc"})


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Person(pydantic.BaseModel):
    name: str
    born: date


class Options(TypedDict):
    deep: bool
    limit: NotRequired[int]


def rich(
    *,
    colour: Colour,
    point: Point,
    person: Person,
    options: Options,
    mode: Literal["a", "b"] = "a",
    points: list[Point] | None = None,
) -> None: ...


RICH: Json = {
    "colour": "blue",
    "point": {"x": 1},
    "person": {"name": "Ann", "born": "2000-02-29"},
    "options": {"deep": True},
    "points": [{"x": 1, "y": 2}],
}


def test_rich_types_are_described_and_bound() -> None:
    signature = Signature(rich)
    assert signature.input_schema.violations(RICH) == []
    assert signature.bind(RICH) == {
        "colour": Colour.BLUE,
        "point": Point(1, 0),
        "person": Person(name="Ann", born=date(2000, 2, 29)),
        "options": {"deep": True},
        "points": [Point(1, 2)],
    }


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"colour": "green"}, "colour"),
        ({"point": {"y": 1}}, "point.x"),
        ({"person": {"name": 1, "born": "2000-01-01"}}, "person.name"),
        ({"options": {}}, "options.deep"),
        ({"mode": "c"}, "mode"),
        ({"points": [{"x": 1}, {"x": "1"}]}, "points"),
    ],
)
def test_what_breaks_a_rich_type_breaks_the_schema(change: Json, field: str) -> None:
    violations = Signature(rich).input_schema.violations({**RICH, **change})
    assert [violation.field for violation in violations] == [field]


def test_what_only_python_knows_is_refused_when_it_is_bound() -> None:
    signature = Signature(rich)
    wrong = {**RICH, "person": {"name": "Ann", "born": "2001-02-29"}}
    assert signature.input_schema.accepts(wrong)
    with pytest.raises(pydantic.ValidationError, match="born"):
        signature.bind(wrong)


def test_results_are_described_by_their_type() -> None:
    def point() -> Point: ...  # type: ignore[empty-body]
    def many() -> list[Options]: ...  # type: ignore[empty-body]
    def nothing() -> None: ...
    def colour() -> Colour: ...  # type: ignore[empty-body]

    assert output(point)["properties"] == {"x": {"type": "integer"}, "y": {"type": "integer", "default": 0}}
    assert output(many)["type"] == "array"
    assert output(nothing) == {"type": "null"}
    assert output(colour)["enum"] == ["red", "blue"]


def test_a_result_without_a_type_may_be_anything() -> None:
    def some() -> Any: ...
    def silent(): ...  # type: ignore[no-untyped-def]

    assert Signature(some).output_schema is None
    assert Signature(silent).output_schema is None


def test_defaults_are_left_to_the_function() -> None:
    def f(a: Point, b: Point = Point(7), c: list[int] = []) -> None: ...  # noqa: B006, B008 (what is tried here)

    assert Signature(f).bind({"a": {"x": 1}}) == {"a": Point(1)}
    assert properties(f)["c"]["default"] == []


def test_more_keywords_are_taken_when_the_function_takes_them() -> None:
    def plain(a: int, **more: Any) -> None: ...
    def typed(a: Point, **more: Any) -> None: ...

    for function, a in ((plain, 1), (typed, {"x": 1})):
        signature = Signature(function)
        arguments = {"a": a, "copy": 5, "model_fields": 6, "b": {"c": 7}}
        assert signature.input_schema.accepts(arguments)
        bound = signature.bind(arguments)
        assert {key: value for key, value in bound.items() if key != "a"} == {
            "copy": 5,
            "model_fields": 6,
            "b": {"c": 7},
        }


def test_names_that_pydantic_has_taken_are_names_like_others() -> None:
    def f(
        *,
        json: Point,
        schema: int,
        copy: str = "x",
        model_config: str = "y",
        model_dump: int = 0,
        _private: int = 0,
        validate: bool = True,
    ) -> None: ...

    signature = Signature(f)
    names = {"json", "schema", "copy", "model_config", "model_dump", "_private", "validate"}
    assert set(properties(f)) == names
    arguments = {"json": {"x": 1}, "schema": 2, "model_config": "z", "_private": 3}
    assert signature.input_schema.accepts(arguments)
    assert signature.bind(arguments) == {**arguments, "json": Point(1)}
    with pytest.raises(pydantic.ValidationError, match="json"):
        signature.bind({"json": {"x": "no"}, "schema": 2})


def test_an_alias_in_the_annotation_is_the_name_for_callers() -> None:
    def f(from_: Annotated[Point, Field(alias="from")]) -> None: ...
    def g(from_: Annotated[int, Field(alias="from")], to: int = 2) -> None: ...

    assert set(properties(f)) == {"from"}
    assert Signature(f).bind({"from": {"x": 1}}) == {"from_": Point(1)}
    assert Signature(g).bind({"from": 1}) == {"from_": 1}


def even(value: int) -> int:
    if value % 2:
        raise ValueError("is odd")
    return value


def test_validators_and_conversions_in_annotations_are_run() -> None:
    def f(
        a: Annotated[int, pydantic.AfterValidator(even)] = 0,
        b: Annotated[str, pydantic.StringConstraints(strip_whitespace=True)] = "",
        c: list[Annotated[int, Field(ge=0), pydantic.AfterValidator(even)]] | None = None,
    ) -> None: ...

    signature = Signature(f)
    assert signature.bind({"a": 2, "b": " x ", "c": [4]}) == {"a": 2, "b": "x", "c": [4]}
    for wrong in ({"a": 1}, {"c": [2, 3]}):
        assert signature.input_schema.accepts(wrong)
        with pytest.raises(pydantic.ValidationError, match="is odd"):
            signature.bind(wrong)


@pytest.mark.parametrize("protocol", [ToolContext, AsyncToolContext, SyncToolContext])
def test_the_context_is_found_by_its_annotation_and_is_no_argument(protocol: type[Any]) -> None:
    def f(a: int, here: object) -> None: ...

    f.__annotations__["here"] = protocol
    signature = Signature(f)
    assert signature.context == "here"
    assert set(properties(f)) == {"a"}


@pytest.mark.parametrize("protocol", ["ToolContext", "AsyncToolContext", "SyncToolContext"])
def test_the_context_is_found_also_where_annotations_are_texts(protocol: str) -> None:
    source = f"""
from __future__ import annotations
from typing import Annotated
from pydantic import Field
from typing_extensions import NotRequired, TypedDict
from toolwright_server import {protocol} as Here

def f(a: Annotated[int, Field(ge=1)], where: Here, b: str = "x") -> list[int]:
    return [a]
"""
    module: dict[str, Any] = {}
    exec(source, module)  # a module of its own, with the future import
    signature = Signature(module["f"])
    assert signature.context == "where"
    assert set(properties(module["f"])) == {"a", "b"}
    assert properties(module["f"])["a"]["minimum"] == 1
    assert output(module["f"]) == {"type": "array", "items": {"type": "integer"}}


def test_without_a_context_parameter_there_is_none() -> None:
    assert Signature(google).context is None


def test_nobody_can_pass_the_context_to_a_function_that_takes_more_keywords() -> None:
    def f(here: ToolContext, **more: Any) -> None: ...

    schema = Signature(f).input_schema
    assert schema.accepts({"there": 1})
    assert not schema.accepts({"here": 1})


def test_two_contexts_are_one_too_many() -> None:
    def f(a: ToolContext, b: ToolContext) -> None: ...

    with pytest.raises((pydantic.errors.PydanticUserError, DeclarationError), match="ToolContext"):
        Signature(f)


def test_an_integer_arrives_as_one_however_it_is_written() -> None:
    def f(a: int, b: list[int], c: float) -> None: ...

    signature = Signature(f)
    arguments: Json = {"a": 3.0, "b": [4.0], "c": 5.0}
    assert signature.input_schema.accepts(arguments)
    bound = signature.bind(arguments)
    assert [type(value) for value in (bound["a"], bound["b"][0], bound["c"])] == [int, int, float]


def test_plain_arguments_are_passed_on_as_they_are() -> None:
    def f(a: int, b: dict[str, list[int]], c: Annotated[str, Field(max_length=3)]) -> None: ...

    arguments: Json = {"a": 2**64 - 1, "b": {"x": [1]}, "c": "abc"}
    bound = Signature(f).bind(arguments)
    assert bound == arguments
    assert bound is not arguments


def test_annotations_are_read_from_where_the_function_was_written() -> None:
    assert typing.get_type_hints(google)["name"] is str
    assert properties(google)["name"]["type"] == "string"
