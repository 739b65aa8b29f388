"""Which parts of a value count as secret, keyword by keyword, and that nothing else is touched."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.catalog.redaction import REDACTED, compiled
from toolwright_server.catalog.schema import Schema

SECRET = {"x-sensitive": True}


def redacted(document: dict[str, Any], value: Any) -> Any:
    redaction = compiled(document)
    assert redaction is not None
    before = copy.deepcopy(value)
    found = redaction.value(value)
    assert value == before, "the value itself was changed"
    assert orjson.loads(redaction.json(orjson.dumps(value))) == found
    return found


@pytest.mark.parametrize("mark", [SECRET, {"writeOnly": True}, {"type": "string", "format": "password"}], ids=repr)
@pytest.mark.parametrize("value", ["s", 7, None, ["s"], {"deep": {"s": "s"}}], ids=repr)
def test_a_marked_member_is_replaced_whatever_it_holds(mark: dict[str, Any], value: Any) -> None:
    assert redacted({"properties": {"s": mark}}, {"s": value, "t": 1}) == {"s": REDACTED, "t": 1}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"properties": {"a": {"type": "string"}}},
        {"properties": {"a": {"x-sensitive": False}, "b": {"writeOnly": False}, "c": {"format": "email"}}},
        # Members that are called like the marks, and a definition that nothing refers to.
        {"properties": {"writeOnly": True, "x-sensitive": True, "format": {"const": "password"}}},
        {"$defs": {"unused": SECRET}},
        {"default": {"x-sensitive": True}},
    ],
    ids=repr,
)
def test_a_schema_that_marks_nothing_asks_nothing_of_a_call(document: dict[str, Any]) -> None:
    assert compiled(document) is None
    text = b'{"a": 1}'
    assert Schema(document).redacted(text) is text


CASES: list[tuple[dict[str, Any], Any, Any]] = [
    (SECRET, {"a": 1}, REDACTED),
    ({"items": {"properties": {"s": SECRET}}}, [{"s": 1, "t": 2}, {"t": 3}], [{"s": REDACTED, "t": 2}, {"t": 3}]),
    ({"prefixItems": [{}, SECRET]}, [1, 2, 3], [1, REDACTED, 3]),
    ({"contains": SECRET}, [1], [REDACTED]),
    ({"unevaluatedItems": SECRET}, [1], [REDACTED]),
    ({"patternProperties": {"^s": SECRET}}, {"s1": 1, "t": 2}, {"s1": REDACTED, "t": 2}),
    ({"patternProperties": {"(?<a>": SECRET}}, {"any": 1}, {"any": REDACTED}),
    ({"additionalProperties": SECRET, "properties": {"t": {}}}, {"s": 1, "t": 2}, {"s": REDACTED, "t": 2}),
    ({"unevaluatedProperties": SECRET}, {"s": 1}, {"s": REDACTED}),
    ({"properties": {"s": {"anyOf": [SECRET, {"type": "null"}]}}}, {"s": 1}, {"s": REDACTED}),
    ({"oneOf": [{"properties": {"s": SECRET}}, {"properties": {"t": SECRET}}]}, {"s": 1, "t": 2, "u": 3}, None),
    ({"allOf": [{"properties": {"s": SECRET}}, {"properties": {"s": {}}}]}, {"s": 1}, {"s": REDACTED}),
    ({"if": {}, "then": {"properties": {"s": SECRET}}}, {"s": 1}, {"s": REDACTED}),
    ({"if": {}, "else": {"properties": {"s": SECRET}}}, {"s": 1}, {"s": REDACTED}),
    ({"dependentSchemas": {"t": {"properties": {"s": SECRET}}}}, {"s": 1, "t": 2}, {"s": REDACTED, "t": 2}),
    ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"properties": {"s": SECRET}}}}, {"s": 1}, {"s": REDACTED}),
    ({"$ref": "#there", "$defs": {"x": {"$anchor": "there", **SECRET}}}, 1, REDACTED),
    ({"$dynamicRef": "#there", "$defs": {"x": {"$dynamicAnchor": "there", **SECRET}}}, 1, REDACTED),
    ({"$ref": "urn:x:1", "$defs": {"x": {"$id": "urn:x:1", **SECRET}}}, 1, REDACTED),
    (
        {"$ref": "urn:x:1", "$defs": {"x": {"$id": "urn:x:1", "$ref": "#/$defs/y", "$defs": {"y": SECRET}}}},
        1,
        REDACTED,
    ),
    ({"prefixItems": [SECRET], "items": {"$ref": "#/prefixItems/0"}}, [1, 2], [REDACTED, REDACTED]),
    # What cannot be followed might be secret.
    ({"properties": {"s": {"$ref": "urn:elsewhere"}, "t": SECRET}}, {"s": 1}, {"s": REDACTED}),
    ({"properties": {"s": {"$ref": "#/$defs/none"}, "t": SECRET}}, {"s": 1}, {"s": REDACTED}),
]
CASES[10] = (*CASES[10][:2], {"s": REDACTED, "t": REDACTED, "u": 3})


@pytest.mark.parametrize(("document", "value", "kept"), CASES, ids=repr)
def test_a_mark_is_found_behind_every_keyword(document: dict[str, Any], value: Any, kept: Any) -> None:
    assert redacted(document, value) == kept


def test_a_schema_that_refers_to_itself_is_followed_to_any_depth() -> None:
    tree = {"properties": {"s": SECRET, "children": {"type": "array", "items": {"$ref": "#"}}}}
    value: dict[str, Any] = {"s": 1, "n": 0}
    kept: dict[str, Any] = {"s": REDACTED, "n": 0}
    for level in range(80):
        value, kept = {"children": [value], "s": 1, "n": level}, {"children": [kept], "s": REDACTED, "n": level}
    assert redacted(tree, value) == kept


@pytest.mark.parametrize("document", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}], ids=repr)
def test_a_schema_that_goes_round_in_circles_comes_to_an_end(document: dict[str, Any]) -> None:
    assert redacted({**document, "properties": {"s": SECRET}}, {"s": 1}) == {"s": REDACTED}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, JSON)
def test_only_what_is_marked_changes(rest: Any, secret: Any) -> None:
    found = redacted({"properties": {"s": SECRET}}, {"rest": rest, "s": secret})
    assert orjson.dumps(found) == orjson.dumps({"rest": rest, "s": REDACTED})
