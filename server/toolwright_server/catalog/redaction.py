"""Which parts of a JSON value are secret, read from its schema once; and the value with those parts replaced.

A schema marks a secret with `"x-sensitive": true`, `"writeOnly": true` or `"format": "password"` (pydantic's SecretStr
has the last two). In doubt a part counts as secret. Never changes the value that it is given.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import unquote

import orjson

REDACTED: Final = "[redacted]"

# Keywords whose value is a schema, or an array of them, or an object of them, for the same value.
_SAME_ONE = ("if", "then", "else", "not")
_SAME_MANY = ("allOf", "anyOf", "oneOf")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OTHERS = ("additionalProperties", "unevaluatedProperties")
_ITEMS = ("items", "contains", "unevaluatedItems")


@dataclass(slots=True, eq=False)
class _Node:
    """What one schema says of a value: secret as a whole, or perhaps in parts. `beside` hold for the same value."""

    secret: bool = False
    properties: dict[str, "_Node"] = field(default_factory=dict[str, "_Node"])
    patterns: list[tuple["re.Pattern[str]", "_Node"]] = field(default_factory=list[tuple["re.Pattern[str]", "_Node"]])
    others: list["_Node"] = field(default_factory=list["_Node"])
    first: list["_Node"] = field(default_factory=list["_Node"])
    items: list["_Node"] = field(default_factory=list["_Node"])
    beside: list["_Node"] = field(default_factory=list["_Node"])

    def linked(self) -> Iterable["_Node"]:
        """Every node that is named in this one."""
        yield from self.properties.values()
        yield from (node for _, node in self.patterns)
        for nodes in (self.others, self.first, self.items, self.beside):
            yield from nodes

    def of_key(self, key: str) -> Iterable["_Node"]:
        """What is said of the member `key` of an object."""
        found = [node for pattern, node in self.patterns if pattern.search(key)]
        if key in self.properties:
            found.append(self.properties[key])
        return found or self.others

    def of_index(self, index: int) -> Iterable["_Node"]:
        """What is said of the item `index` of an array; `items` counts for the first ones too (`contains` does)."""
        return [*self.first[index : index + 1], *self.items]


class Redaction:
    """Replaces what a schema marks."""

    __slots__ = ("_root",)

    def __init__(self, root: _Node) -> None:
        self._root = root

    def json(self, text: bytes) -> bytes:
        """The same JSON text with every secret part as `"[redacted]"`; the order of keys stays."""
        # A copy of its own size, because it is kept: orjson hands out its whole buffer, 4 KB for the shortest text.
        return bytes(memoryview(orjson.dumps(self.value(orjson.loads(text)))))

    def value(self, value: Any) -> Any:
        """As `json`, for a value: a copy where something is secret."""
        return _redacted(value, (self._root,))


def compiled(document: Mapping[str, Any]) -> Redaction | None:
    """What the schema marks; None when it marks nothing, which is then all that a call has to ask."""
    if not _mentions_mark(document):
        return None
    root = _Compiler(document).node(document, document)
    return Redaction(root) if _reaches_secret(root) else None


def _redacted(value: Any, nodes: Iterable[_Node]) -> Any:
    said = _together(nodes)
    if not said:
        return value
    if any(node.secret for node in said):
        return REDACTED
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: _redacted(part, [n for node in said for n in node.of_key(key)]) for key, part in members.items()}
    if isinstance(value, list):
        parts = cast("list[Any]", value)
        return [_redacted(part, [n for node in said for n in node.of_index(i)]) for i, part in enumerate(parts)]
    return value


def _together(nodes: Iterable[_Node]) -> list[_Node]:
    """The nodes and all beside them, each once: references may go round in circles."""
    found: dict[int, _Node] = {}
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting += node.beside
    return list(found.values())


def _reaches_secret(root: _Node) -> bool:
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.secret:
            return True
        if id(node) not in seen:
            seen.add(id(node))
            waiting += node.linked()
    return False


def _is_marked(schema: Mapping[str, Any]) -> bool:
    return schema.get("x-sensitive") is True or schema.get("writeOnly") is True or schema.get("format") == "password"


def _mentions_mark(part: Any) -> bool:
    if isinstance(part, dict):
        found = cast("dict[str, Any]", part)
        return _is_marked(found) or any(map(_mentions_mark, found.values()))
    return isinstance(part, list) and any(map(_mentions_mark, cast("list[Any]", part)))


class _Compiler:
    """Schemas to nodes, each once, so that recursive schemas end."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._nodes: dict[int, _Node] = {}
        self._named: dict[str, Mapping[str, Any]] = {}
        self._collect(document)

    def _collect(self, part: Any) -> None:
        """Every schema that has a name of its own."""
        if isinstance(part, dict):
            schema = cast("dict[str, Any]", part)
            for keyword, form in (("$id", "{}"), ("$anchor", "#{}"), ("$dynamicAnchor", "#{}")):
                if isinstance(schema.get(keyword), str):
                    self._named.setdefault(form.format(schema[keyword]), schema)
            part = list(schema.values())
        if isinstance(part, list):
            for each in cast("list[Any]", part):
                self._collect(each)

    def node(self, schema: Any, resource: Mapping[str, Any]) -> _Node:
        """What `schema` says; `resource` is the document, or the nearest part with an `$id`, that references are in."""
        if not isinstance(schema, dict):
            return _Node()
        known = self._nodes.get(id(cast("object", schema)))
        if known is not None:
            return known
        said = cast("dict[str, Any]", schema)
        made = self._nodes[id(said)] = _Node(secret=_is_marked(said))
        inside = said if isinstance(said.get("$id"), str) else resource
        self._fill(made, said, inside)
        return made

    def _fill(self, made: _Node, said: dict[str, Any], inside: Mapping[str, Any]) -> None:
        made.properties = {name: self.node(part, inside) for name, part in _members(said, "properties")}
        made.patterns = [
            (_pattern(text), self.node(part, inside)) for text, part in _members(said, "patternProperties")
        ]
        made.others = [self.node(said[word], inside) for word in _OTHERS if word in said]
        made.first = [self.node(part, inside) for part in _parts(said, "prefixItems")]
        made.items = [self.node(said[word], inside) for word in _ITEMS if word in said]
        made.beside = [self.node(said[word], inside) for word in _SAME_ONE if word in said]
        made.beside += [self.node(part, inside) for word in _SAME_MANY for part in _parts(said, word)]
        made.beside += [self.node(part, inside) for _, part in _members(said, "dependentSchemas")]
        made.beside += [self._referred(said[word], inside) for word in _REFERENCES if word in said]

    def _referred(self, reference: Any, resource: Mapping[str, Any]) -> _Node:
        if not isinstance(reference, str):
            return _Node()
        if reference in self._named:
            found = self._named[reference]
            return self.node(found, found if "$id" in found else resource)
        place, _, pointer = reference.partition("#")
        start = self._named.get(place) if place else resource
        target = None if start is None else _pointed(start, unquote(pointer))
        # What cannot be found might be secret.
        return _Node(secret=True) if target is None else self.node(target, start or resource)


def _members(said: Mapping[str, Any], keyword: str) -> Iterable[tuple[str, Any]]:
    found = said.get(keyword)
    return cast("dict[str, Any]", found).items() if isinstance(found, dict) else ()


def _parts(said: Mapping[str, Any], keyword: str) -> Iterable[Any]:
    found = said.get(keyword)
    return cast("list[Any]", found) if isinstance(found, list) else ()


def _pattern(text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except re.error:
        # JSON Schema's expressions are not Python's: one that cannot be read might match any name.
        return re.compile("")


def _pointed(start: Any, pointer: str) -> Any:
    """What a JSON pointer (RFC 6901) leads to; None when there is nothing."""
    if pointer and not pointer.startswith("/"):
        return None
    found = start
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(key)
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(cast("list[Any]", found)):
            found = cast("list[Any]", found)[int(key)]
        else:
            return None
    return cast("object", found)
