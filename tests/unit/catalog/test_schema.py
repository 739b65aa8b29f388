import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Annotated, Any

import pytest
from pydantic import WithJsonSchema

from toolwright_server.catalog.functions import tool
from toolwright_server.catalog.model import DeclarationError
from toolwright_server.catalog.schema import DESCRIPTION_LIMIT, NAME_LIMIT, VIOLATIONS_LIMIT, Schema
from toolwright_server.errors import Violation


class Listener(ThreadingHTTPServer):
    """A server that would answer every request with a schema that allows everything."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[str] = []
        seen = self.seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is http.server's)
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.mark.parametrize(
    "document",
    [
        {"$ref": "{address}/schema.json"},
        {"properties": {"a": {"$ref": "{address}/schema.json#/part"}}},
        {"$id": "{address}/", "properties": {"a": {"$ref": "other.json"}}},
        {"$dynamicRef": "{address}/schema.json"},
        {"$ref": "file:///etc/hostname"},
    ],
    ids=["itself", "a part", "relative to its id", "dynamic", "a file"],
)
def test_a_remote_reference_is_refused_and_never_fetched(listener: Listener, document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"not (allowed|supported)"):
        Schema(placed(document, listener.address))
    assert listener.seen == []


def placed(value: Any, address: str) -> Any:
    """The document with the listener's address in its texts."""
    if isinstance(value, dict):
        return {key: placed(part, address) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value.replace("{address}", address) if isinstance(value, str) else value


def test_a_tool_with_a_remote_reference_is_refused_by_name_and_nothing_is_fetched(listener: Listener) -> None:
    remote = WithJsonSchema({"$ref": f"{listener.address}/schema.json"})

    async def fetch(what: Annotated[dict[str, Any], remote]) -> None: ...

    with pytest.raises(DeclarationError, match=r"tool 'web\.fetch' .* is not allowed"):
        tool("web.fetch")(fetch)
    assert listener.seen == []


def test_a_reference_inside_the_document_is_followed() -> None:
    schema = Schema({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}})
    assert schema.accepts(1)
    assert not schema.accepts("1")


@pytest.mark.parametrize("document", [{"type": "colour"}, {"pattern": "("}, {"$ref": "#/$defs/none"}, {"minimum": "1"}])
def test_a_document_that_is_no_schema_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Schema(document)


def test_violations_say_what_is_wrong_where() -> None:
    schema = Schema(
        {
            "type": "object",
            "properties": {"tags": {"type": "array", "items": {"type": "object", "required": ["name"]}}},
            "additionalProperties": False,
        }
    )
    assert schema.violations({"tags": [{"name": 1}]}) == []
    assert schema.violations({"tags": [{"name": 1}, {}]}) == [Violation("tags[1].name", "is required")]
    assert schema.violations({"tags": ["x"]}) == [Violation("tags[0]", '"x" is not of type "object"')]
    assert schema.violations(1) == [Violation("", '1 is not of type "object"')]


def test_each_missing_and_each_unknown_member_is_a_violation_of_its_own() -> None:
    schema = Schema({"properties": {"a": {}, "b": {}}, "required": ["a", "b"], "additionalProperties": False})
    assert schema.violations({"c": 1, "d.e": 2}) == [
        Violation("a", "is required"),
        Violation("b", "is required"),
        Violation("c", "is not known"),
        Violation("d.e", "is not known"),
    ]
    assert schema.violations({"a": 1}) == [Violation("b", "is required")]


@pytest.mark.parametrize(
    ("document", "value"),
    [
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}),
        ({"properties": {"a": {}}, "unevaluatedProperties": False}, {"b": 1}),
        ({"unevaluatedProperties": False}, {"b": 1}),
        ({"additionalProperties": False}, {"b": 1}),
        ({"properties": {}, "additionalProperties": False}, {"b": 1}),
        ({"patternProperties": {"^a": {}}, "additionalProperties": False}, {"a1": 1, "b": 1}),
        ({"properties": {"c": {}}, "patternProperties": {"^a": {}}, "additionalProperties": False}, {"c": 1, "b": 1}),
    ],
)
def test_members_are_named_whatever_keyword_asks_for_them(document: dict[str, Any], value: dict[str, Any]) -> None:
    assert [found.field for found in Schema(document).violations(value)] == ["b"]


def test_the_name_of_an_unknown_member_is_cut() -> None:
    (found,) = Schema({"additionalProperties": False}).violations({"x" * 10_000: 1})
    assert found.field == "x" * NAME_LIMIT


SECRETS: dict[str, Any] = {
    "properties": {
        "pin": {"type": "integer", "maximum": 10, "writeOnly": True},
        "login": {
            "anyOf": [{"type": "object", "required": ["user"], "properties": {"password": {"format": "password"}}}]
        },
        "size": {"type": "integer", "maximum": 10},
    },
    "additionalProperties": False,
    "maxProperties": 3,
}


@pytest.mark.parametrize(
    "value",
    [
        {"pin": 424242},
        {"pin": "424242"},
        {"pin": {"really": 424242}},
        {"login": {"password": 424242}},
        {"login": [424242]},
        {"pin": 424242, "login": {"user": 1}, "size": 1, "more": 1},
        {"pin": 424242, "size": 11},
        [424242],
    ],
    ids=repr,
)
def test_violations_of_a_schema_with_secrets_quote_no_value(value: Any) -> None:
    schema = Schema({"type": "object", **SECRETS})
    found = schema.violations(value)
    assert found
    assert "424242" not in str(found)


def test_violations_of_a_schema_with_secrets_still_say_what_is_wrong_where() -> None:
    assert Schema(SECRETS).violations({"pin": 11}) == [Violation("pin", "[redacted] is greater than the maximum of 10")]


def test_violations_are_bounded_in_number_and_length() -> None:
    schema = Schema({"items": {"type": "integer"}})
    found = schema.violations(["x" * 1_000] * 100)
    assert len(found) == VIOLATIONS_LIMIT
    assert all(len(violation.description) <= DESCRIPTION_LIMIT for violation in found)


def test_violations_of_unknown_members_are_bounded_as_well() -> None:
    schema = Schema({"additionalProperties": False})
    assert len(schema.violations({str(number): 1 for number in range(100)})) == VIOLATIONS_LIMIT
