"""`keys create`, `keys list` and `keys revoke`: a server's API keys, through the server itself."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from toolwright.v1 import keys_pb2 as pb
from toolwright.v1 import keys_pb2_grpc
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask

_SECONDS = 30.0
_PAGE = 1000
_DAY_SECONDS = 86_400
_ROLES = {"agent": pb.ROLE_AGENT, "operator": pb.ROLE_OPERATOR, "admin": pb.ROLE_ADMIN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A key as it was typed."""

    user: str
    role: str
    tenant: str = ""
    principal: str = ""
    acts_for: Sequence[str] = ()
    scopes: Sequence[str] = ()
    label: str = ""
    days: float | None = None

    def request(self) -> pb.CreateApiKeyRequest:
        """The message. Raises UsageError."""
        if self.role not in _ROLES:
            raise UsageError(f"--role {self.role!r}: is agent, operator or admin")
        request = pb.CreateApiKeyRequest(
            tenant_id=self.tenant,
            principal=self.principal,
            user_id=self.user,
            role=_ROLES[self.role],
            acts_for=self.acts_for,
            scopes=self.scopes,
            label=self.label,
        )
        if self.days is not None:
            if not 0 < self.days <= 36_500:
                raise UsageError(f"--days {self.days:g}: must be more than 0, and at most 36500")
            request.time_to_live.FromSeconds(max(1, round(self.days * _DAY_SECONDS)))
        return request


def create(address: str | None, wanted: Wanted, *, as_json: bool) -> int:
    """Print the text of a new key, once; the exit code."""

    def work(stub: keys_pb2_grpc.KeyServiceStub) -> None:
        made = stub.CreateApiKey(wanted.request(), timeout=_SECONDS)
        if as_json:
            show_json(document(made), people=False)
            return
        print(made.secret)
        print(f"toolwright: this is key {made.api_key.key_id}; its text is shown only now", file=sys.stderr)

    return _asked(address, work)


def show(address: str | None, tenant: str, *, as_json: bool) -> int:
    """Print the keys; the exit code."""
    people = for_people(as_json=as_json)

    def work(stub: keys_pb2_grpc.KeyServiceStub) -> None:
        found = _listed(stub, tenant)
        if people:
            print_table(found)
        else:
            show_json([document(key) for key in found], people=False)

    return _asked(address, work)


def revoke(address: str | None, key_id: str, *, as_json: bool) -> int:
    """End a key; the exit code."""

    def work(stub: keys_pb2_grpc.KeyServiceStub) -> None:
        key = stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key_id), timeout=_SECONDS).api_key
        if for_people(as_json=as_json):
            print(f"key {key.key_id} of {printable(key.principal)} is revoked")
        else:
            show_json(document(key), people=False)

    return _asked(address, work)


def _asked(address: str | None, work: Callable[[keys_pb2_grpc.KeyServiceStub], None]) -> int:
    def question(channel: grpc.Channel) -> int:
        work(keys_pb2_grpc.KeyServiceStub(channel))
        return Exit.OK

    return ask(address, question)


def _listed(stub: keys_pb2_grpc.KeyServiceStub, tenant: str) -> list[pb.ApiKey]:
    request = pb.ListApiKeysRequest(page_size=_PAGE, tenant_id=tenant)
    found: list[pb.ApiKey] = []
    while True:
        page = stub.ListApiKeys(request, timeout=_SECONDS)
        found += page.api_keys
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def print_table(found: Sequence[pb.ApiKey]) -> None:
    """The keys for people, one on a line."""
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("key", "tenant", "principal", "user", "role", "scopes", "made", "state", "label", box=None)
    table.columns[0].no_wrap = True
    for key in found:
        cells = (
            key.key_id,
            key.tenant_id,
            key.principal,
            key.user_id,
            pb.Role.Name(key.role).removeprefix("ROLE_").lower(),
            " ".join(key.scopes),
            key.create_time.ToDatetime().strftime("%Y-%m-%d"),
            _state(key),
            key.label,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def _state(key: pb.ApiKey) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {key.revoke_time.ToDatetime():%Y-%m-%d}"
    return f"until {key.expire_time.ToDatetime():%Y-%m-%d}" if key.HasField("expire_time") else "valid"
