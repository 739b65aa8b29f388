"""Turns typed Python functions into tools: the `tool` decorator, and `Toolkit`, a named set of them.

Never imports what runs them.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, Literal, TypedDict, TypeVar, overload

import pydantic

from toolwright_server.catalog import caching, circuits, falling_back
from toolwright_server.catalog.model import (
    ATTEMPTS_LIMIT,
    CATEGORY,
    NAME,
    NAME_LIMIT,
    VERSION,
    CachePolicy,
    CircuitPolicy,
    DeclarationError,
    Effect,
    FallbackPolicy,
    LookUp,
    Record,
    RetryPolicy,
    Runs,
    Tool,
)
from toolwright_server.catalog.schema import Schema
from toolwright_server.catalog.signature import Signature
from toolwright_server.credits import micros
from toolwright_server.errors import SettingsError

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound="ToolkitSettings")

Credits = int | str | Decimal
"""An amount of credits: never a float, which could not say it exactly."""

MARK = "__toolwright_tool__"


@dataclass(frozen=True, slots=True)
class FunctionTarget:
    """What the backends need to run a function: itself and how it is called. `module` is where it was declared."""

    function: Callable[..., Any]
    signature: Signature
    module: str


def tool(
    name: str | None = None,
    *,
    version: str = "1",
    category: str | None = None,
    effect: Effect = Effect.SIDE_EFFECT,
    timeout_seconds: float | None = None,
    display_name: str = "",
    description: str | None = None,
    runs: Runs | None = None,
    memory_limit_bytes: int | None = None,
    labels: Mapping[str, str] | None = None,
    keep_arguments: bool = True,
    keep_result: bool = True,
    record: Literal["awaited", "lazy"] = "awaited",
    look_up: LookUp | None = None,
    retry: RetryPolicy | None = None,
    cache: CachePolicy | None = None,
    fallback: FallbackPolicy | None = None,
    upstream: str = "",
    circuit: CircuitPolicy | None = None,
    alternatives: Sequence[str] = (),
    price: Credits | None = None,
    price_max: Credits | None = None,
) -> Callable[[F], F]:
    """Declare a function as a tool; the function itself stays as it is. Raises DeclarationError.

    `name` defaults to `<category or module>.<function>`; `category` to the name's first part. Async functions run on
    the event loop, the others in killable worker processes unless `runs=Runs.THREAD` (which cannot be stopped).
    `timeout_seconds` absent: the category's. `memory_limit_bytes` holds for worker processes. `keep_arguments`,
    `keep_result`: whether the history keeps them (secrets never). `record="lazy"`: a READ_ONLY tool's answer does not
    wait for its record. `look_up(arguments, execution)` settles a SIDE_EFFECT tool's unknown outcomes. `retry`: how
    often what may be tried again is. `cache`: how calls of a READ_ONLY tool share an answer. `fallback`: what is
    answered in its place. `upstream`: what it calls; those that name the same share its circuit, which opens as
    `circuit` says; `alternatives` do its work. `price`: of a success, in credits; `price_max`: see `context.charge`.
    """

    def declare(function: F) -> F:
        full, where = _named(function, name, category)
        declared = Tool(
            name=full,
            category=category or full.split(".", 1)[0],
            version=version,
            effect=effect,
            **_read(function, runs, description, where),
            display_name=display_name,
            timeout_seconds=timeout_seconds,
            memory_limit_bytes=memory_limit_bytes,
            labels=labels or {},
            keep_arguments=keep_arguments,
            keep_result=keep_result,
            record=_record(record, where),
            look_up=look_up,
            **_Policies(retry=retry or RetryPolicy(), cache=cache, fallback=fallback),
            **circuits.declared(upstream, circuit, alternatives),
            **_price(price, price_max, where),
        )
        return _marked(function, declared, where)

    return declare


def _marked(function: F, declared: Tool, where: str) -> F:
    check(declared, where)
    setattr(function, MARK, declared)
    return function


def _named(function: Callable[..., Any], name: str | None, category: str | None) -> tuple[str, str]:
    """The tool's name, and how messages about its declaration name it."""
    full = name or f"{category or function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
    return full, f"tool {full!r} ({function.__module__}.{function.__qualname__})"


class _Policies(TypedDict):
    retry: RetryPolicy
    cache: CachePolicy | None
    fallback: FallbackPolicy | None


class _Read(TypedDict):
    runs: Runs
    description: str
    input_schema: Schema
    output_schema: Schema | None
    target: FunctionTarget


def _read(function: Callable[..., Any], runs: Runs | None, description: str | None, where: str) -> _Read:
    """What the function itself says."""
    place, signature = _runs(function, runs, where), _signature(function, where)
    return _Read(
        runs=place,
        description=signature.description if description is None else description,
        input_schema=signature.input_schema,
        output_schema=signature.output_schema,
        target=FunctionTarget(function, signature, function.__module__),
    )


def _signature(function: Callable[..., Any], where: str) -> Signature:
    try:
        return Signature(function)
    except (DeclarationError, pydantic.errors.PydanticUserError, NameError, TypeError, ValueError) as error:
        raise DeclarationError(f"{where}: {_first_sentence(error)}") from error


def check(declared: Tool, where: str) -> None:
    """Refuse, by name, a tool whose name, version, category or limits cannot be right."""
    if not NAME.fullmatch(declared.name) or len(declared.name) > NAME_LIMIT:
        raise DeclarationError(f"{where}: the name must be dotted lower-case words, at most {NAME_LIMIT} characters")
    if not VERSION.fullmatch(declared.version):
        raise DeclarationError(f"{where}: version {declared.version!r} must look like 1, 1.2 or 1.2.3")
    if not CATEGORY.fullmatch(declared.category):
        raise DeclarationError(f"{where}: category {declared.category!r} must be one lower-case word")
    if declared.timeout_seconds is not None and not 0 < declared.timeout_seconds < float("inf"):
        raise DeclarationError(f"{where}: timeout_seconds {declared.timeout_seconds} must be positive")
    if declared.memory_limit_bytes is not None and declared.memory_limit_bytes < 1:
        raise DeclarationError(f"{where}: memory_limit_bytes {declared.memory_limit_bytes} must be positive")
    if declared.memory_limit_bytes is not None and declared.runs is not Runs.PROCESS:
        raise DeclarationError(f"{where}: memory_limit_bytes holds in worker processes only; the tool runs elsewhere")
    if declared.record is Record.LAZY and declared.effect is not Effect.READ_ONLY:
        raise DeclarationError(f'{where}: record="lazy" is for READ_ONLY tools; it is {declared.effect.name}')
    _check_retry(declared.retry, where)
    caching.check(declared, where)
    falling_back.check(declared, where)
    circuits.check(declared, where)
    if declared.look_up is not None:
        _check_look_up(declared, declared.look_up, where)
    if declared.reports_price and not _has_context(declared):
        raise DeclarationError(f"{where}: price_max is for tools that report with context.charge; it takes no context")


def _has_context(declared: Tool) -> bool:
    return not isinstance(declared.target, FunctionTarget) or declared.target.signature.context is not None


class _Price(TypedDict):
    price_micros: int
    reports_price: bool


def _price(price: Credits | None, price_max: Credits | None, where: str) -> _Price:
    if price is not None and price_max is not None:
        raise DeclarationError(f"{where}: price is what every call costs, price_max the most: give one of them")
    asked, name = (price, "price") if price_max is None else (price_max, "price_max")
    if asked is None:
        return _Price(price_micros=0, reports_price=False)
    try:
        found = micros(asked)
    except ValueError as error:
        raise DeclarationError(f"{where}: {name} {error}") from None
    if price_max is not None and not found:
        raise DeclarationError(f"{where}: price_max must be more than 0")
    return _Price(price_micros=found, reports_price=price_max is not None)


def _check_retry(retry: RetryPolicy, where: str) -> None:
    if not 1 <= retry.attempts <= ATTEMPTS_LIMIT:
        raise DeclarationError(f"{where}: retry.attempts {retry.attempts} must be 1 to {ATTEMPTS_LIMIT}")
    if not 0 < retry.base_seconds <= retry.maximum_seconds < float("inf"):
        raise DeclarationError(
            f"{where}: retry.base_seconds {retry.base_seconds} must be positive and at most maximum_seconds "
            f"{retry.maximum_seconds}"
        )


def _check_look_up(declared: Tool, look_up: LookUp, where: str) -> None:
    if declared.effect is not Effect.SIDE_EFFECT:
        raise DeclarationError(f"{where}: look_up settles unknown outcomes, and {declared.effect.name} tools have none")
    try:
        inspect.signature(look_up).bind({}, None)
    except TypeError:
        raise DeclarationError(f"{where}: look_up must take two arguments: arguments and execution") from None


def _record(asked: str, where: str) -> Record:
    try:
        return Record(asked)
    except ValueError:
        raise DeclarationError(f'{where}: record is "awaited" or "lazy", not {asked!r}') from None


def _first_sentence(error: Exception) -> str:
    """Pydantic's further ones advise on models of one's own, and name its website."""
    return str(error).partition("\n")[0].split(". Set ", 1)[0]


def _runs(function: Callable[..., Any], asked: Runs | None, where: str) -> Runs:
    if inspect.iscoroutinefunction(function):
        if asked not in (None, Runs.LOOP):
            raise DeclarationError(f"{where}: an async function runs on the event loop; leave `runs` out")
        return Runs.LOOP
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise DeclarationError(f"{where}: a generator cannot be a tool; send chunks with context.output")
    if asked is Runs.LOOP:
        raise DeclarationError(f"{where}: only an async function can run on the event loop")
    return asked or Runs.PROCESS


def declared_tool(value: object) -> Tool | None:
    """The tool that `value` was declared as, if any."""
    found = getattr(value, MARK, None)
    return found if isinstance(found, Tool) else None


class ToolkitSettings(pydantic.BaseModel):
    """Base of a toolkit's settings; unknown keys are errors."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Toolkit(Generic[S]):
    """A named set of tools with settings of its own (`[toolkit.<name>]`), found through the entry points
    `toolwright.toolkits`. Its module is imported in the server and in the fork server, and configured in both.
    """

    @overload
    def __init__(self: "Toolkit[ToolkitSettings]", name: str, *, loopback_only: bool = False) -> None: ...
    @overload
    def __init__(self, name: str, *, settings: type[S], loopback_only: bool = False) -> None: ...
    def __init__(self, name: str, *, settings: type[Any] = ToolkitSettings, loopback_only: bool = False) -> None:
        if not CATEGORY.fullmatch(name):
            raise DeclarationError(f"toolkit {name!r}: the name must be one lower-case word")
        self.name = name
        # Loaded only when the server listens on loopback, unless named by the operator.
        self.loopback_only = loopback_only
        self.tools: list[Tool] = []
        self._model = settings
        self._settings: S | None = None
        self._data_dir: Path | None = None

    def tool(self, name: str, **options: Any) -> Callable[[F], F]:
        """As the `tool` decorator; the name is put behind the toolkit's (`contact.create` → `crm.contact.create`)."""
        options.setdefault("category", self.name)
        decorate = tool(f"{self.name}.{name}", **options)

        def declare(function: F) -> F:
            decorated = decorate(function)
            declared = declared_tool(decorated)
            assert declared is not None
            self.tools.append(declared)
            return decorated

        return declare

    def configure(self, values: Mapping[str, Any], data_dir: Path) -> None:
        """Check and take the settings; `data_dir` is the server's. Raises SettingsError naming the key."""
        try:
            self._settings = self._model.model_validate(dict(values))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"[toolkit.{self.name}] {key}: {first['msg']}") from None
        self._data_dir = data_dir

    @property
    def settings(self) -> S:
        """The settings; the defaults until `configure` was called."""
        if self._settings is None:
            self._settings = self._model.model_validate({})
        assert self._settings is not None
        return self._settings

    @property
    def data_dir(self) -> Path:
        """A folder of the toolkit's own inside the server's data directory; made when first asked for."""
        folder = (self._data_dir or Path(".toolwright")) / "toolkits" / self.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
