"""`settings show` and `settings set`: what a tenant's settings change about a tool, through the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import grpc

from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright.v1 import tool_catalog_pb2_grpc
from toolwright_server.commands.asking import UsageError, arguments_json, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask

_SECONDS = 30.0
_MICROS = 1_000_000
# What --clear may name → the contract's field.
_FIELDS = {
    "enabled": "enabled",
    "hidden": "hidden",
    "timeout": "timeout",
    "price": "price_micros",
    "fixed": "fixed_arguments_json",
    "default": "default_arguments_json",
    "limits": "limits",
}

Stub = tool_catalog_pb2_grpc.ToolCatalogServiceStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A change as it was typed."""

    tool: str
    tenant: str = ""
    enabled: bool | None = None
    hidden: bool | None = None
    timeout_seconds: float | None = None
    price: str | None = None
    fixed: str | None = None
    default: str | None = None
    limits: Sequence[str] = ()
    clear: Sequence[str] = ()
    etag: str = ""

    def request(self) -> pb.UpdateToolSettingsRequest:
        """The message; of limits only those that were typed. Raises UsageError."""
        said = pb.ToolSettings(
            tenant_id=text(self.tenant, "--tenant"),
            tool=text(self.tool, "TOOL"),
            etag=text(self.etag, "--etag"),
            enabled=self.enabled,
            hidden=self.hidden,
            fixed_arguments_json=_object("--fixed", self.fixed),
            default_arguments_json=_object("--default", self.default),
            limits=dict(map(_limit, self.limits)),
        )
        if self.timeout_seconds is not None:
            if not 0 < self.timeout_seconds < 1e9:
                raise UsageError(f"--timeout {self.timeout_seconds:g}: must be a positive number of seconds")
            said.timeout.FromNanoseconds(round(self.timeout_seconds * 1e9))
        if self.price is not None:
            said.price_micros = _micros(self.price)
        request = pb.UpdateToolSettingsRequest(settings=said)
        paths = [field.name for field, _ in said.ListFields() if field.name in _FIELDS.values()]
        for each in self.clear:
            if each not in _FIELDS:
                raise UsageError(f"--clear {each!r}: is one of {', '.join(_FIELDS)}")
            if _FIELDS[each] in paths:
                raise UsageError(f"--clear {each}: and to set it, in one command, is a contradiction")
        request.update_mask.paths.extend([*paths, *(_FIELDS[each] for each in dict.fromkeys(self.clear))])
        if not request.update_mask.paths:
            raise UsageError("name what to change, for example --disable; `toolwright settings set --help` lists all")
        return request


def show(address: str | None, tenant: str, tool: str, *, as_json: bool) -> int:
    """Print what is set; the exit code."""

    def question(channel: grpc.Channel) -> int:
        request = pb.GetToolSettingsRequest(tenant_id=text(tenant, "--tenant"), tool=text(tool, "TOOL"))
        _tell(Stub(channel).GetToolSettings(request, timeout=_SECONDS).settings, as_json=as_json)
        return Exit.OK

    return ask(address, question)


def change(address: str | None, wanted: Wanted, *, as_json: bool) -> int:
    """Make a change, and print what is set then; the exit code."""

    def question(channel: grpc.Channel) -> int:
        stub, request = Stub(channel), wanted.request()
        if request.settings.limits:
            _add_others(stub, request.settings)
        _tell(stub.UpdateToolSettings(request, timeout=_SECONDS).settings, as_json=as_json)
        return Exit.OK

    return ask(address, question)


def _add_others(stub: Stub, said: pb.ToolSettings) -> None:
    """The limits that were not typed stay: the server takes them as a whole, and only if they are still the same."""
    request = pb.GetToolSettingsRequest(tenant_id=said.tenant_id, tool=said.tool)
    found = stub.GetToolSettings(request, timeout=_SECONDS).settings
    for kind, number in found.limits.items():
        if kind not in said.limits:
            said.limits[kind] = number
    said.etag = said.etag or found.etag


def _tell(settings: pb.ToolSettings, *, as_json: bool) -> None:
    said = document(settings)
    if not for_people(as_json=as_json):
        show_json(said, people=False)
        return
    for key, value in said.items():
        print(f"{key.replace('_', ' ')}: {printable(str(value))}")


def _object(option: str, typed: str | None) -> str:
    if typed is None:
        return ""
    try:
        return text(arguments_json([typed]), option)
    except UsageError as error:
        raise UsageError(f"{option}: {error}") from None


def _limit(typed: str) -> tuple[str, int]:
    kind, _, number = typed.partition("=")
    if not kind or not number.isascii() or not number.isdigit() or len(number) > 18:
        raise UsageError(f"--limit {typed!r}: write KIND=N, for example day=100")
    return text(kind, "--limit"), int(number)


def _micros(typed: str) -> int:
    """Millionths of a credit, exactly."""
    try:
        micros = Decimal(typed) * _MICROS
        if 0 <= micros < 2**63 and micros == micros.to_integral_value():
            return int(micros)
    except InvalidOperation:
        pass
    raise UsageError(f"--price {typed!r}: is a number of credits such as 2 or 0.25, with at most six decimals")
