"""Writes docs/configuration.md from the settings model; with `--check` says whether it is up to date."""

import sys
from pathlib import Path
from typing import cast

from pydantic.fields import FieldInfo

from toolwright_server.settings import CATEGORY_TIMEOUTS_SECONDS, Settings

DOCUMENT = Path(__file__).parents[1] / "docs" / "configuration.md"

_HEAD = """# Configuration

<!-- Written by scripts/generate_configuration_doc.py from the settings model; do not edit. -->

`toolwright serve` reads, each winning over the one before: the defaults, a TOML file (`--config FILE`, or the variable
`TOOLWRIGHT_CONFIG`), environment variables, and its own options (`--listen`, `--data-dir`, `--tools`, `--insecure`).
The variable of a setting is its name in capitals behind `TOOLWRIGHT_`: `TOOLWRIGHT_LISTEN`. Unknown keys and unknown
`TOOLWRIGHT_*` variables are refused with the nearest known name, and so is every value that cannot be right.
`toolwright check-config` says what would run without starting it, and ends with 78 if something is wrong.

Units are in the names: `_seconds` may be fractions, `_bytes` are whole numbers, `_limit` and `_count` count things.
Relative paths are relative to where the server is started.

```toml
listen = "127.0.0.1:50051"
toolkits = ["crm", "knowledge"]

[category_timeouts_seconds]
crm = 8

[toolkit.knowledge]
folders = ["docs"]
```

The same in variables: `TOOLWRIGHT_TOOLKITS=crm,knowledge`, `TOOLWRIGHT_CATEGORY_TIMEOUTS_SECONDS__CRM=8` and
`TOOLWRIGHT_TOOLKIT__KNOWLEDGE__FOLDERS='["docs"]'`: a table's key follows two underscores, lists in toolkits' tables
are JSON.

| setting | default | what it is for |
| --- | --- | --- |
"""

_TAIL = """
Other variables: `TOOLWRIGHT_ADDRESS`, `TOOLWRIGHT_API_KEY` and their kin say how commands reach a server, see
[commands.md](commands.md); `OTEL_*` are read as OpenTelemetry defines them.

An address other than loopback is refused unless callers prove who they are (`auth`) and the connection is encrypted
(`tls_certificate_file`), or `insecure = true` says that the network around it is trusted: see
[identity.md](identity.md).

`workers` above 1 is refused without `redis_url`, without a PostgreSQL in `database_url`, and on `unix:` addresses:
see [operations.md](operations.md).
"""

_UNITS = {"MiB": 1024**2, "KiB": 1024, "GiB": 1024**3}


def rendered() -> str:
    """The whole document."""
    rows = [f"| `{name}` | {_default(name, field)} | {field.description} |" for name, field in _fields()]
    categories = ", ".join(f"{name} {seconds:g}" for name, seconds in CATEGORY_TIMEOUTS_SECONDS.items())
    return f"{_HEAD}{chr(10).join(rows)}\n\nThe defaults of `category_timeouts_seconds`: {categories}.\n{_TAIL}"


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(name: str, field: FieldInfo) -> str:
    extra = cast("dict[str, str] | None", field.json_schema_extra)
    if extra:
        return extra["default_text"]
    if name == "category_timeouts_seconds":
        return "below"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if name.endswith("_bytes"):
        return _bytes(default)
    if isinstance(default, tuple) and default:
        return f"`{','.join(cast('tuple[str, ...]', default))}`"
    return f"`{default}`" if default not in ("", (), {}) else "empty"


def _bytes(number: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if number % _UNITS[unit] == 0:
            return f"`{number}` ({number // _UNITS[unit]} {unit})"
    return f"`{number}`"


def main() -> int:
    """Write the document, or check it; the exit code."""
    text = rendered()
    if "--check" in sys.argv[1:]:
        if DOCUMENT.exists() and DOCUMENT.read_text() == text:
            return 0
        print(f"{DOCUMENT} is not what the settings say: run python {Path(__file__).name}")
        return 1
    DOCUMENT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
