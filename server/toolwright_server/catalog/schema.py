"""A compiled JSON Schema (2020-12): checks values, says what is wrong where. Never fetches a remote reference."""

from typing import Any

import jsonschema_rs
import orjson

from toolwright_server.errors import Violation

VIOLATIONS_LIMIT = 20
DESCRIPTION_LIMIT = 300


def _refuse(uri: str) -> Any:
    # jsonschema-rs would fetch the address otherwise: a schema must not make the server call out.
    raise ValueError(f"remote reference {uri} is not allowed")


class Schema:
    """One JSON Schema, compiled once. Raises ValueError when the document is not a valid schema."""

    __slots__ = ("_validator", "accepts", "document", "json")

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.json: str = orjson.dumps(document).decode()
        self._validator = jsonschema_rs.Draft202012Validator(document, retriever=_refuse)
        self.accepts = self._validator.is_valid

    def violations(self, value: Any) -> list[Violation]:
        """What is wrong with `value`; empty when nothing is. At most 20."""
        found: list[Violation] = []
        for error in self._validator.iter_errors(value):
            found.append(Violation(_path(error.instance_path), error.message[:DESCRIPTION_LIMIT]))
            if len(found) == VIOLATIONS_LIMIT:
                break
        return found


def _path(parts: list[str | int]) -> str:
    path = ""
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path
