"""The kinds of values that settings have, each with the range it is held to and the forms it may be written in."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from toolwright_server.settings.address import Address


def _at_least_a_day(days: float) -> float:
    if days != 0 and days < 1:
        raise ValueError("must be at least 1, or 0")
    return days


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _variables(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{name!r} is no name of an environment variable")
    return value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _expanded(value: str) -> str:
    return str(Path(value).expanduser()) if value else ""


def _address(value: str) -> str:
    Address.parse(value)
    return value


def _address_if_any(value: str) -> str:
    return _address(value) if value else value


def _port_if_any(value: str) -> str:
    if value and not Address.parse(value).host:
        raise ValueError("must be host:port, or empty for none")
    return value


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# A repeated request id gets the first answer for a day: nothing goes before.
Days = Annotated[float, Field(allow_inf_nan=False), AfterValidator(_at_least_a_day)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Bytes = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Variables = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), AfterValidator(_variables)]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]
# Empty: none.
File = Annotated[str, AfterValidator(_expanded)]
Listen = Annotated[str, AfterValidator(_address)]
ListenOrNone = Annotated[str, AfterValidator(_address_if_any)]
HttpListen = Annotated[str, AfterValidator(_port_if_any)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error", "critical"], BeforeValidator(_lower)]
# No HMAC: nobody but the issuer can then sign. And no `none`.
_Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
Algorithms = Annotated[tuple[_Algorithm, ...], NoDecode, BeforeValidator(_split)]
