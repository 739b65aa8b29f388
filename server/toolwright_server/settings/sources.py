"""Reads settings from where they are given: options of the command, then variables, then the TOML file.

Whatever is unknown or cannot be right becomes a SettingsError that says where it stands and what to change.
"""

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import pydantic
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as UnreadableVariable

from toolwright_server.errors import SettingsError
from toolwright_server.settings.model import PREFIX, Settings

_CONFIG = PREFIX + "CONFIG"
# Variables that are no settings of the server: where its file is, and how the commands reach a server.
_OTHER_VARIABLES = (
    _CONFIG,
    *(
        PREFIX + name
        for name in (
            "ADDRESS",
            "API_KEY",
            "API_KEY_FILE",
            "TOKEN",
            "TOKEN_FILE",
            "TLS",
            "TLS_CA_FILE",
            "CLIENT_CERTIFICATE_FILE",
            "CLIENT_KEY_FILE",
        )
    ),
)

Table = dict[str, Any]


def load_settings(config: Path | None = None, options: Mapping[str, Any] | None = None) -> Settings:
    """The settings; `config` or else TOOLWRIGHT_CONFIG names the file, `options` win over everything.

    Raises SettingsError: one sentence for each thing that is wrong.
    """
    path = config or (Path(os.environ[_CONFIG]) if os.environ.get(_CONFIG) else None)
    given = {"file": _file(path) if path else {}, "variable": _variables(), "option": dict(options or {})}
    merged: Table = {}
    for table in given.values():
        merged = _merged(merged, table)
    try:
        return Settings(**merged)
    except pydantic.ValidationError as error:
        sentences = [_sentence(detail, given, path) for detail in error.errors(include_url=False)]
        raise SettingsError("\n".join(sentences)) from None


def _file(path: Path) -> Table:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"the configuration file {path} is no TOML: {error}") from None
    for key in table:
        _refuse_unknown(key, f"{key} in {path}", Settings.model_fields)
    return table


def _variables() -> Table:
    names = {PREFIX + name.upper(): name for name in Settings.model_fields}
    for variable in sorted(os.environ):
        upper = variable.upper()
        if not upper.startswith(PREFIX) or upper in _OTHER_VARIABLES:
            continue
        # TOOLWRIGHT_TOOLKIT__CRM__KEY is a part of TOOLWRIGHT_TOOLKIT.
        whole, _, part = upper.partition("__")
        if part and names.get(whole) not in ("toolkit", "category_timeouts_seconds"):
            whole = upper
        _refuse_unknown(whole.removeprefix(PREFIX).lower(), variable, (*names, *_OTHER_VARIABLES), PREFIX)
    try:
        table = EnvSettingsSource(Settings)()
    except UnreadableVariable as error:
        raise SettingsError(f"{error}: write it as JSON, or one variable for each key") from None
    if isinstance(table.get("toolkit"), dict):
        table["toolkit"] = {name: _decoded(values) for name, values in table["toolkit"].items()}
    return table


def _decoded(value: Any) -> Any:
    """Lists and tables given as JSON in a variable; texts and numbers are for the toolkit's own model to read."""
    if isinstance(value, dict):
        return {key: _decoded(part) for key, part in cast("Table", value).items()}
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _refuse_unknown(key: str, shown: str, known: Iterable[str], prefix: str = "") -> None:
    if key in Settings.model_fields:
        return
    near = difflib.get_close_matches(prefix + (key.upper() if prefix else key), list(known), 1, 0)
    raise SettingsError(f"{shown} is no setting; the nearest one is {near[0]}")


def _merged(below: Table, above: Table) -> Table:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = _merged(cast("Table", old), cast("Table", value)) if both else value
    return result


def _sentence(detail: ErrorDetails, given: Mapping[str, Table], path: Path | None) -> str:
    """`thread_workers (TOOLWRIGHT_THREAD_WORKERS): input should be greater than or equal to 1, not '0'`."""
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    shown = ".".join(str(part) for part in detail["loc"])
    where = {"option": f"--{name.replace('_', '-')}", "variable": f"{PREFIX}{name.upper()}", "file": str(path)}
    source = next((where[kind] for kind in where if name in given[kind]), "default")
    if detail["type"] == "value_error":
        return f"{shown} ({source}): {message}"
    # These may hold a secret.
    value = (
        "" if name in ("toolkit", "database_url", "redis_url", "cache_redis_url") else f", not {detail['input']!r:.100}"
    )
    return f"{shown} ({source}): {message[:1].lower()}{message[1:]}{value}"
