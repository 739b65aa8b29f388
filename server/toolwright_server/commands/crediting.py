"""`credits grant` and `credits list`: what tenants may spend, through the server itself."""

import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright.v1 import usage_pb2_grpc
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask
from toolwright_server.credits import micros, words

_SECONDS = 30.0
_PAGE = 1_000
_DAY_SECONDS = 86_400
_MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A grant as it was typed."""

    tenant: str
    amount: str
    request_id: str | None = None
    days: float | None = None
    expires: str | None = None
    note: str = ""

    def request(self, now: float) -> pb.GrantCreditsRequest:
        """The message. Raises UsageError."""
        try:
            amount = micros(self.amount)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not amount:
            raise UsageError("AMOUNT 0: must be more than 0")
        if not self.tenant:
            raise UsageError("TENANT: must not be empty")
        request = pb.GrantCreditsRequest(
            tenant_id=text(self.tenant, "TENANT"),
            amount_micros=amount,
            request_id=text(self.request_id or str(uuid.uuid4()), "--request-id"),
            note=text(self.note, "--note"),
        )
        expires = self._expires(now)
        if expires is not None:
            request.expire_time.FromDatetime(expires)
        return request

    def _expires(self, now: float) -> datetime | None:
        """The moment, in UTC. Raises UsageError."""
        if self.days is None:
            return None if self.expires is None else _moment(self.expires, now)
        if self.expires is not None:
            raise UsageError("--days and --expires say the same thing: give one")
        if self.request_id is not None:
            # It would be another moment each time it is typed, and so another grant under the same name.
            raise UsageError("--request-id with --days: say the moment itself, --expires 2026-12-31T00:00:00Z")
        if not 0 < self.days <= _MOST_DAYS:
            raise UsageError(f"--days {self.days:g}: must be more than 0, and at most {_MOST_DAYS}")
        return datetime.fromtimestamp(round(now + self.days * _DAY_SECONDS), UTC)


def _moment(typed: str, now: float) -> datetime:
    try:
        moment = datetime.fromisoformat(typed).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"--expires {typed}: write 2026-12-31T00:00:00Z or 2026-12-31") from None
    if moment.timestamp() <= now:
        raise UsageError(f"--expires {typed}: must lie in the future")
    return moment


def grant(address: str | None, wanted: Wanted, *, as_json: bool) -> int:
    """Give credits and say what the tenant has now; the exit code."""

    def question(channel: grpc.Channel) -> int:
        request = wanted.request(time.time())
        if wanted.request_id is None:
            again = f"--request-id {request.request_id}"
            if request.HasField("expire_time"):
                again += f" --expires {request.expire_time.ToJsonString()} instead of --days"
            print(f"toolwright: if this breaks off, repeat it with {again}", file=sys.stderr)
        made = usage_pb2_grpc.UsageServiceStub(channel).GrantCredits(request, timeout=_SECONDS)
        if not for_people(as_json=as_json):
            show_json(document(made), people=False)
            return Exit.OK
        before = " before; nothing was granted now" if made.repeated_request else ""
        print(f"{words(made.entry.amount_micros)} credits were granted to {printable(made.entry.tenant_id)}{before}")
        print(f"it has {words(made.balance.balance_micros)}, and {words(made.balance.held_micros)} held")
        return Exit.OK

    return ask(address, question)


def show(address: str | None, tenant: str, execution_id: str, limit: int, *, as_json: bool) -> int:
    """Print the newest `limit` entries; the exit code."""

    def question(channel: grpc.Channel) -> int:
        stub = usage_pb2_grpc.UsageServiceStub(channel)
        request = pb.ListLedgerEntriesRequest(
            tenant_id=text(tenant, "--tenant"), execution_id=text(execution_id, "--execution")
        )
        found = list(_listed(stub, request, limit))
        if for_people(as_json=as_json):
            print_table(found)
        else:
            show_json([document(each) for each in found], people=False)
        return Exit.OK

    return ask(address, question)


def _listed(
    stub: usage_pb2_grpc.UsageServiceStub, request: pb.ListLedgerEntriesRequest, limit: int
) -> Iterator[pb.LedgerEntry]:
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        page = stub.ListLedgerEntries(request, timeout=_SECONDS)
        yield from page.entries
        limit -= len(page.entries)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def print_table(found: Sequence[pb.LedgerEntry]) -> None:
    """The entries for people, one on a line."""
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("number", "when", "kind", "account", "credits", "balance", "user", "about", "note", box=None)
    for number in (4, 5):
        table.columns[number].justify = "right"
    for entry in found:
        cells = (
            str(entry.transaction),
            entry.entry_time.ToDatetime().strftime("%Y-%m-%d %H:%M:%S"),
            pb.LedgerEntryKind.Name(entry.kind).removeprefix("LEDGER_ENTRY_KIND_").lower(),
            entry.account,
            words(entry.amount_micros),
            words(entry.balance_micros),
            entry.user_id,
            entry.execution_id or entry.request_id,
            entry.note,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
