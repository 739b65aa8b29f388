"""Reads a typed Python function: its arguments' and result's JSON Schemas, and how to call it with JSON.

Never runs the function.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin

import griffe
import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from toolwright_server.catalog.context import AsyncToolContext, SyncToolContext, ToolContext
from toolwright_server.catalog.model import DeclarationError
from toolwright_server.catalog.schema import Schema

_CONTEXTS = (ToolContext, AsyncToolContext, SyncToolContext)
# Constraints (of annotated_types) that the schema checks in the same way.
_CONSTRAINTS = frozenset({"Ge", "Gt", "Le", "Lt", "Interval", "MultipleOf", "MinLen", "MaxLen", "Len"})
# Types whose JSON form is the value itself: no conversion is needed before the function is called.
# `int` is not among them: JSON Schema counts 3.0 as an integer.
_PLAIN = (str, bool, float, type(None), Any, object)

# Types are read from annotations: that a docstring does not repeat them is no warning.
_QUIET: griffe.PerStyleOptions = {
    "google": {"warnings": False},
    "numpy": {"warnings": False},
    "sphinx": {"warnings": False},
}


class Signature:
    """What was read: schemas, the context parameter's name, and `bind`: JSON to keyword arguments."""

    __slots__ = ("_adapter", "_names", "context", "description", "input_schema", "output_schema", "result")

    def __init__(self, function: Callable[..., Any]) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        docs = griffe.parse_auto(griffe.Docstring(inspect.getdoc(function) or ""), per_style_options=_QUIET)
        self.description = _description(docs)
        parameters = inspect.signature(function).parameters
        self.context = next((name for name, hint in hints.items() if hint in _CONTEXTS), None)
        named = [p for name, p in parameters.items() if name != self.context]
        is_open = any(p.kind is p.VAR_KEYWORD for p in named)
        # Parameter → its field, which has another name where pydantic has taken that one (`json`, `schema`, `copy`).
        self._names = {p.name: _field_name(p.name) for p in named if p.kind is not p.VAR_KEYWORD}
        fields = {self._names[name]: field for name, field in _fields(named, hints, _parameter_docs(docs)).items()}
        config = pydantic.ConfigDict(extra="allow" if is_open else "forbid", protected_namespaces=())
        model = pydantic.create_model("Arguments", __config__=config, **fields)
        document = _untitled(model.model_json_schema())
        if is_open and self.context is not None:
            # The context is ours: a caller must not be able to name it.
            document["propertyNames"] = {"not": {"const": self.context}}
        self.input_schema = Schema(document)
        # An alias in an annotation is a name that the function does not know.
        own_names = set(document.get("properties", ())) == set(self._names)
        plain = own_names and all(_is_plain(hints[p.name]) for p in named if p.name in hints)
        self._adapter = None if plain else model
        self.result = _result_adapter(hints.get("return", Any))
        self.output_schema = None if self.result is None else Schema(_untitled(_output_schema(self.result)))

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the Python types that the function declares, from arguments that passed the schema.

        Raises pydantic.ValidationError where Python's type is stricter than the schema.
        """
        if self._adapter is None:
            return dict(arguments)
        bound = self._adapter.model_validate(arguments)
        given = {name: getattr(bound, field) for name, field in self._names.items() if field in bound.model_fields_set}
        return {**given, **(bound.model_extra or {})}


def _description(docs: list[Any]) -> str:
    return next(
        (str(section.value).strip() for section in docs if section.kind is griffe.DocstringSectionKind.text), ""
    )


def _parameter_docs(docs: list[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for section in docs:
        if section.kind is griffe.DocstringSectionKind.parameters:
            found.update({p.name: " ".join(p.description.split()) for p in section.value})
    return found


def _fields(parameters: list[inspect.Parameter], hints: dict[str, Any], docs: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise DeclarationError(f"parameter {parameter.name!r} cannot be passed by name")
        if parameter.name not in hints:
            raise DeclarationError(f"parameter {parameter.name!r} has no type annotation")
        default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], _field(parameter.name, default, docs.get(parameter.name)))
    return fields


def _field(name: str, default: Any, description: str | None) -> FieldInfo:
    # Left out rather than None, which would erase what Annotated[str, Field(description=..., alias=...)] says.
    said: dict[str, Any] = {"description": description} if description else {}
    if _field_name(name) != name:
        said["alias"] = name
    info: FieldInfo = pydantic.Field(default=default, **said)
    return info


def _field_name(parameter: str) -> str:
    taken = parameter.startswith("_") or hasattr(pydantic.BaseModel, parameter) or parameter == "model_config"
    return f"parameter_{parameter}" if taken else parameter


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) is Annotated:
        bare, *said = get_args(hint)
        return _is_plain(bare) and all(map(_is_in_schema, said))
    if get_origin(hint) in (list, dict, typing.Union, typing.Literal, getattr(typing, "UnionType", type(int | str))):
        return get_origin(hint) is typing.Literal or all(_is_plain(part) for part in get_args(hint))
    return hint in _PLAIN or hint in (list, dict)


def _is_in_schema(said: object) -> bool:
    """Whether the schema checks all that an annotation says: validators and conversions are pydantic's to run."""
    if isinstance(said, FieldInfo):
        return all(map(_is_in_schema, said.metadata))
    return isinstance(said, str) or type(said).__name__ in _CONSTRAINTS


def _result_adapter(hint: Any) -> pydantic.TypeAdapter[Any] | None:
    return None if hint is Any or hint is object else pydantic.TypeAdapter(hint)


def _output_schema(adapter: pydantic.TypeAdapter[Any]) -> dict[str, Any]:
    return adapter.json_schema(mode="serialization")


def _untitled(schema: Any) -> Any:
    """The schema without pydantic's titles, which repeat names and cost a model tokens."""
    if isinstance(schema, dict):
        document = typing.cast("dict[str, Any]", schema)
        return {
            key: {name: _untitled(part) for name, part in value.items()}
            if key in ("properties", "$defs")
            else _untitled(value)
            for key, value in document.items()
            if not (key == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_untitled(part) for part in typing.cast("list[Any]", schema)]
    return schema
