"""A compiled JSON Schema (2020-12): checks values, says what is wrong where. Never fetches a remote reference.

What is said of a schema that marks secrets quotes no value at all.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from toolwright_server.catalog import redaction
from toolwright_server.errors import Violation

VIOLATIONS_LIMIT = 20
DESCRIPTION_LIMIT = 300
# Characters of a member's name in a path: names that break a schema are the caller's.
NAME_LIMIT = 100


def _refuse(uri: str) -> Any:
    # jsonschema-rs would fetch the address otherwise: a schema must not make the server call out.
    raise ValueError(f"remote reference {uri} is not allowed")


class Schema:
    """One JSON Schema, compiled once. Raises ValueError when the document is not a valid schema.

    `redaction` is None unless the schema marks secrets (see redaction.py).
    """

    __slots__ = ("_validator", "accepts", "document", "json", "redaction")

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.json: str = orjson.dumps(document).decode()
        self.redaction = redaction.compiled(document)
        # jsonschema-rs quotes the value that is wrong, and that may be the object around the secret.
        mask = None if self.redaction is None else redaction.REDACTED
        self._validator = jsonschema_rs.Draft202012Validator(document, retriever=_refuse, mask=mask)
        self.accepts = self._validator.is_valid

    def violations(self, value: Any) -> list[Violation]:
        """What is wrong with `value`, by field; empty when nothing is. At most 20."""
        errors = self._validator.iter_errors(value)
        return list(islice((each for error in errors for each in _told(error, value)), VIOLATIONS_LIMIT))

    def redacted(self, text: bytes) -> bytes:
        """JSON text of a value without its secret parts; the text itself when the schema marks none."""
        return text if self.redaction is None else self.redaction.json(text)


def _told(error: jsonschema_rs.ValidationError, value: Any) -> Iterator[Violation]:
    where: Sequence[str | int] = error.instance_path
    what = error.kind
    if isinstance(what, jsonschema_rs.ValidationErrorKind.Required):
        yield Violation(_path([*where, str(what.property)]), "is required")
    elif isinstance(what, _UNKNOWN):
        yield from (Violation(_path([*where, name]), "is not known") for name in what.unexpected)
    elif isinstance(what, jsonschema_rs.ValidationErrorKind.FalseSchema) and error.schema_path[-1:] == _NO_OTHERS:
        # Where a schema knows no member at all, jsonschema-rs does not name those that it refuses.
        yield from (Violation(_path([*where, name]), "is not known") for name in _at(value, where))
    else:
        yield Violation(_path(where), error.message[:DESCRIPTION_LIMIT])


_UNKNOWN = (
    jsonschema_rs.ValidationErrorKind.AdditionalProperties,
    jsonschema_rs.ValidationErrorKind.UnevaluatedProperties,
)
_NO_OTHERS = ["additionalProperties"]


def _at(value: Any, where: Sequence[str | int]) -> Any:
    for part in where:
        value = value[part]
    return value


def _path(parts: Sequence[str | int]) -> str:
    path = ""
    for part in parts:
        name = part if isinstance(part, int) else part[:NAME_LIMIT]
        path += f"[{name}]" if isinstance(name, int) else f".{name}" if path else name
    return path
