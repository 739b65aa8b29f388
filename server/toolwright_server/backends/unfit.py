"""Finds what in a Python value JSON cannot hold, and says where it is. Never repeats the value itself."""

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, cast

import orjson
from pydantic import BaseModel

_DEPTH_LIMIT = 250
_INTEGERS = range(-(2**63), 2**64)


def unfit(value: Any) -> tuple[str, str] | None:
    """`(path, what is wrong)` of the first part that JSON cannot hold; None when there is none.

    Walks the whole value in Python: only for values that were refused already.
    """
    return _search(value, "", 0)


def holds_iterator(value: Any) -> bool:
    """Whether something in the value can only be read by using it up: it may have no end, or wait for something.

    Looked at from C as far as it goes, so that it costs little; nothing is consumed.
    """
    try:
        orjson.dumps(value, default=_opened, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # An iterator, or anything else that JSON does not have.
        return _has_iterator(value)
    return False


def _opened(value: Any) -> Any:
    """What is inside of a value that orjson does not know."""
    if isinstance(value, BaseModel):
        extra = value.__pydantic_extra__
        return {**value.__dict__, **extra} if extra else value.__dict__
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    if isinstance(value, tuple | set | frozenset | deque):
        return list(cast("list[Any]", value))
    if isinstance(value, Iterator):
        raise TypeError
    return None


def _has_iterator(value: Any) -> bool:
    waiting, seen = [value], set[int]()
    while waiting:
        part = waiting.pop()
        if isinstance(part, Iterator):
            return True
        if id(part) not in seen:
            seen.add(id(part))
            waiting += _inside(part)
    return False


def _inside(value: Any) -> list[Any]:
    if isinstance(value, BaseModel):
        return [*value.__dict__.values(), *(value.model_extra or {}).values()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return list(cast("Mapping[Any, Any]", value).values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(cast("list[Any]", value))
    return []


def _search(value: Any, path: str, depth: int) -> tuple[str, str] | None:
    if depth > _DEPTH_LIMIT:
        return path[:200], f"is nested deeper than {_DEPTH_LIMIT} levels"
    for inner, part in _parts(value):
        if isinstance(inner, Exception):
            return part or path, str(inner)
        found = _search(inner, _joined(path, part), depth + 1)
        if found is not None:
            return found
    wrong = None if isinstance(value, dict | list | tuple) else _wrong(value)
    return (path[:200], wrong) if wrong else None


def _joined(path: str, part: str) -> str:
    return path + part if part.startswith("[") or not path else f"{path}.{part}"


def _parts(value: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(value, BaseModel):
        yield from ((getattr(value, name), name) for name in type(value).model_fields)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((getattr(value, field.name), field.name) for field in dataclasses.fields(value))
    elif isinstance(value, Mapping):
        for key, inner in cast("Mapping[Any, Any]", value).items():
            name = str(key) if isinstance(key, str | int) else type(key).__name__
            if wrong := _wrong(name):
                yield TypeError(f"has a key that {wrong}"), ""
            yield inner, name.encode("utf-8", "replace").decode()[:64]
    elif isinstance(value, list | tuple | set | frozenset):
        items = cast("list[Any]", value)
        yield from ((inner, f"[{index}]") for index, inner in enumerate(items))


def _wrong(value: Any) -> str | None:
    if isinstance(value, int) and value not in _INTEGERS:
        return "is an integer beyond 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "is a number that JSON does not have (NaN or infinity)"
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "is text that is not valid Unicode (a lone surrogate)"
        return None
    if isinstance(value, BaseModel | set | frozenset | bytes | Mapping) or dataclasses.is_dataclass(value):
        return None
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return f"is of type {type(value).__name__}, which has no JSON form"
    return None
