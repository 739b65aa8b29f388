"""The decorator: what it takes from a function, and what it refuses by name."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import pydantic
import pytest

from toolwright_server.catalog.context import ToolContext
from toolwright_server.catalog.functions import Toolkit, declared_tool, tool
from toolwright_server.catalog.look_up import LookedUp, NotDone, UnknownExecution
from toolwright_server.catalog.model import NAME_LIMIT, CircuitPolicy, DeclarationError, Effect, Record, Runs, Tool


def declared(function: Callable[..., Any], name: str | None = "tests.it", **options: Any) -> Tool:
    found = declared_tool(tool(name, **options)(function))
    assert found is not None
    return found


async def on_the_loop(a: int) -> int:
    """Does something."""
    return a


def in_a_worker(a: int) -> int:
    return a


def test_a_tool_is_a_side_effect_of_version_1_unless_it_says_otherwise() -> None:
    found = declared(on_the_loop)
    assert (found.name, found.version, found.category, found.effect) == ("tests.it", "1", "tests", Effect.SIDE_EFFECT)
    assert (found.timeout_seconds, found.memory_limit_bytes, dict(found.labels)) == (None, None, {})
    assert found.description == "Does something."


def test_what_is_declared_is_taken() -> None:
    found = declared(
        in_a_worker,
        version="2.10.3",
        category="special",
        effect=Effect.READ_ONLY,
        timeout_seconds=1.5,
        display_name="It",
        description="In other words.",
        memory_limit_bytes=1 << 20,
        labels={"team": "x"},
    )
    assert (found.version, found.category, found.effect) == ("2.10.3", "special", Effect.READ_ONLY)
    assert (found.timeout_seconds, found.display_name, found.description) == (1.5, "It", "In other words.")
    assert (found.memory_limit_bytes, found.labels) == (1 << 20, {"team": "x"})


async def reporting(context: ToolContext) -> None: ...


def test_a_price_is_counted_in_whole_micros() -> None:
    assert [declared(on_the_loop, price=price).price_micros for price in (0, 5, "0.000001", Decimal("1.5"))] == [
        0,
        5_000_000,
        1,
        1_500_000,
    ]
    free, priced = declared(on_the_loop), declared(reporting, price_max="2.5")
    assert (free.price_micros, free.reports_price) == (0, False)
    assert (priced.price_micros, priced.reports_price) == (2_500_000, True)


@pytest.mark.parametrize(
    ("function", "options", "sentence"),
    [
        (on_the_loop, {"price": 0.1}, "0.1 is no amount of credits: write 5, or '0.25' as text"),
        (on_the_loop, {"price": -1}, "-1 is no amount of credits"),
        (on_the_loop, {"price": True}, "True is no amount of credits"),
        (on_the_loop, {"price": "0.0000001"}, "'0.0000001' is no amount of credits"),
        (on_the_loop, {"price": "1000000000.1"}, "are more than 1000000000"),
        (on_the_loop, {"price": 1, "price_max": 2}, "give one of them"),
        (reporting, {"price_max": 0}, "price_max must be more than 0"),
        (on_the_loop, {"price_max": 1}, "it takes no context"),
    ],
)
def test_a_price_that_cannot_be_right_is_refused(
    function: Callable[..., Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DeclarationError, match=re.escape(sentence)):
        declared(function, **options)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"name": None}, "test_functions.on_the_loop"), ({"name": None, "category": "c"}, "c.on_the_loop")],
)
def test_a_name_is_made_of_the_category_or_module_and_the_function(options: dict[str, Any], name: str) -> None:
    assert declared(on_the_loop, **options).name == name


def test_the_function_itself_stays_as_it_is() -> None:
    assert tool("tests.it")(in_a_worker) is in_a_worker
    assert in_a_worker(3) == 3


def test_async_functions_run_on_the_loop_and_others_in_worker_processes() -> None:
    assert declared(on_the_loop).runs is Runs.LOOP
    assert declared(in_a_worker).runs is Runs.PROCESS
    assert declared(in_a_worker, runs=Runs.THREAD).runs is Runs.THREAD


def refused(function: Callable[..., Any], said: str, name: str = "tests.it", **options: Any) -> None:
    """The refusal names the tool, the function and what is wrong."""
    with pytest.raises(DeclarationError) as caught:
        tool(name, **options)(function)
    assert f"tool {name!r}" in str(caught.value)
    assert function.__qualname__ in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Upper",
        "a..b",
        ".a",
        "a.",
        "1a",
        "a-b",
        "a b",
        "a.é",
        "a\n",
        "a" * (NAME_LIMIT + 1),
        "a/b",
    ],
)
def test_a_wrong_name_is_refused(name: str) -> None:
    if name:
        refused(on_the_loop, "dotted lower-case words", name)
    assert declared(on_the_loop, "a" * NAME_LIMIT).name == "a" * NAME_LIMIT


@pytest.mark.parametrize("version", ["", "v1", "1.", "1.2.3.4", "1.x", "-1", "1 ", "\u0661"])
def test_a_wrong_version_is_refused(version: str) -> None:
    refused(on_the_loop, f"version {version!r}", version=version)


@pytest.mark.parametrize("category", ["Upper", "a.b", "1", "a b"])
def test_a_wrong_category_is_refused(category: str) -> None:
    refused(on_the_loop, f"category {category!r}", category=category)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds: float) -> None:
    refused(on_the_loop, "timeout_seconds", timeout_seconds=seconds)


def test_a_memory_limit_holds_in_worker_processes_only() -> None:
    refused(on_the_loop, "worker processes only", memory_limit_bytes=1)
    refused(in_a_worker, "worker processes only", memory_limit_bytes=1, runs=Runs.THREAD)
    refused(in_a_worker, "must be positive", memory_limit_bytes=0)


def test_an_async_function_cannot_run_elsewhere_and_another_not_on_the_loop() -> None:
    refused(on_the_loop, "runs on the event loop", runs=Runs.PROCESS)
    refused(on_the_loop, "runs on the event loop", runs=Runs.THREAD)
    refused(in_a_worker, "only an async function", runs=Runs.LOOP)
    assert declared(on_the_loop, runs=Runs.LOOP).runs is Runs.LOOP


def test_generators_are_refused() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    refused(generator, "generator cannot be a tool")
    refused(async_generator, "generator cannot be a tool")


def test_parameters_that_cannot_be_named_are_refused() -> None:
    def positional(a: int, /) -> None: ...
    def several(*a: int) -> None: ...

    refused(positional, "'a' cannot be passed by name")
    refused(several, "'a' cannot be passed by name")


def test_what_has_no_annotation_or_one_that_says_nothing_is_refused() -> None:
    def bare(a) -> None: ...  # type: ignore[no-untyped-def]  # pyright: ignore[reportUnknownParameterType,reportMissingParameterType]
    def unknown(a: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable,reportUnknownParameterType]
    def opaque(a: Lock) -> None: ...

    refused(bare, "'a' has no type annotation")  # pyright: ignore[reportUnknownArgumentType]
    refused(unknown, "Nowhere")  # pyright: ignore[reportUnknownArgumentType]
    refused(opaque, "Unable to generate pydantic-core schema for <class 'tests.unit.catalog.test_functions.Lock'>")


class Awkward:
    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> None:
        raise pydantic.errors.PydanticUserError("Use another type.", code="typed-dict-version")


def test_a_refusal_is_one_line_that_names_no_website() -> None:
    def search(options: Awkward) -> None: ...

    with pytest.raises(DeclarationError, match=r": Use another type\.$"):
        tool("a.search")(search)


class Lock:
    """A class without any JSON form."""


def test_a_toolkit_puts_its_name_in_front() -> None:
    kit = Toolkit("crm")
    kit.tool("contact.get", effect=Effect.READ_ONLY)(in_a_worker)
    (found,) = kit.tools
    assert (found.name, found.category, found.effect) == ("crm.contact.get", "crm", Effect.READ_ONLY)


@pytest.mark.parametrize("name", ["", "CRM", "a.b", "a-b"])
def test_a_toolkit_with_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="one lower-case word"):
        Toolkit(name)


def test_arguments_and_results_are_kept_and_the_record_is_awaited_unless_a_tool_says_otherwise() -> None:
    found = declared(on_the_loop)
    assert (found.keep_arguments, found.keep_result, found.record, found.look_up) == (True, True, Record.AWAITED, None)
    said = declared(on_the_loop, effect=Effect.READ_ONLY, keep_arguments=False, keep_result=False, record="lazy")
    assert (said.keep_arguments, said.keep_result, said.record) == (False, False, Record.LAZY)


def test_what_is_kept_of_a_call_is_what_the_tool_allows() -> None:
    found = declared(on_the_loop)
    assert (found.kept_arguments(b'{"a":1}'), found.kept_result(b"1"), found.kept_result(None)) == (
        b'{"a":1}',
        b"1",
        None,
    )
    said = declared(on_the_loop, keep_arguments=False, keep_result=False)
    assert (said.kept_arguments(b'{"a":1}'), said.kept_result(b"1")) == (None, None)


class Session(pydantic.BaseModel):
    user: str
    cookie: Annotated[str, pydantic.Field(json_schema_extra={"x-sensitive": True})]


async def signed_in(user: str, password: pydantic.SecretStr, token: pydantic.SecretStr | None = None) -> Session:
    return Session(user=user, cookie=password.get_secret_value())


def test_what_is_kept_of_a_call_holds_no_secrets() -> None:
    found = declared(signed_in)
    assert found.has_secrets
    assert found.kept_arguments(b'{"password":"p","token":"t","user":"u"}') == (
        b'{"password":"[redacted]","token":"[redacted]","user":"u"}'
    )
    assert found.kept_result(b'{"user":"u","cookie":"p"}') == b'{"user":"u","cookie":"[redacted]"}'
    assert not declared(on_the_loop).has_secrets


def look_up(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
    return NotDone()


async def look_up_slowly(arguments: dict[str, Any] | None, execution: UnknownExecution) -> LookedUp:
    return NotDone()


def look_up_of_one(arguments: dict[str, Any] | None) -> LookedUp:
    return NotDone()


@pytest.mark.parametrize("function", [look_up, look_up_slowly])
def test_a_look_up_function_is_taken_as_it_is(function: Any) -> None:
    assert declared(on_the_loop, look_up=function).look_up is function


def test_who_names_an_upstream_has_a_circuit_and_nobody_else() -> None:
    assert declared(on_the_loop).circuit is None
    assert declared(on_the_loop, upstream="billing").circuit == CircuitPolicy()
    own = CircuitPolicy(minimum_calls=3)
    alone = declared(on_the_loop, circuit=own, version="2")
    assert (alone.circuit, alone.circuit_name) == (own, f"{alone.name}@2")
    assert declared(on_the_loop, circuit=own, upstream="billing").circuit_name == "billing"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"upstream": "Billing"}, "upstream 'Billing' must be lower-case letters"),
        ({"upstream": "b" * 129}, "at most 128 characters"),
        ({"alternatives": ["a.b"]}, "give it an upstream or a circuit"),
        ({"upstream": "b", "alternatives": ["A"]}, "alternatives must be names of other tools; 'A' is not"),
        ({"upstream": "b", "alternatives": [declared(on_the_loop).name]}, "names of other tools"),
        ({"circuit": CircuitPolicy(failure_ratio=0)}, "circuit.failure_ratio 0 must be above 0 and at most 1"),
        ({"circuit": CircuitPolicy(slow_ratio=1.1)}, "circuit.slow_ratio 1.1 must"),
        ({"circuit": CircuitPolicy(slow_call_seconds=0)}, "circuit.slow_call_seconds 0 must be positive"),
        ({"circuit": CircuitPolicy(window_seconds=float("inf"))}, "circuit.window_seconds inf must be"),
        ({"circuit": CircuitPolicy(open_seconds=9, max_open_seconds=8)}, "max_open_seconds 8 must be at least open"),
        ({"circuit": CircuitPolicy(minimum_calls=0)}, "circuit.minimum_calls 0 must be 1 to"),
    ],
)
def test_a_circuit_that_cannot_be_right_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(said)):
        declared(on_the_loop, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"record": "lazy"}, 'record="lazy" is for READ_ONLY tools; it is SIDE_EFFECT'),
        ({"record": "lazy", "effect": Effect.IDEMPOTENT}, "it is IDEMPOTENT"),
        ({"record": "never"}, 'record is "awaited" or "lazy", not \'never\''),
        ({"look_up": look_up, "effect": Effect.READ_ONLY}, "READ_ONLY tools have none"),
        ({"look_up": look_up, "effect": Effect.IDEMPOTENT}, "IDEMPOTENT tools have none"),
        ({"look_up": look_up_of_one}, "look_up must take two arguments"),
    ],
)
def test_a_record_or_look_up_that_cannot_be_right_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(said)):
        declared(on_the_loop, **options)
