"""`quota`: every limit that holds for a user, with what is used of it, and the credits of its tenant."""

from datetime import UTC, datetime

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright.v1 import usage_pb2_grpc
from toolwright_server.commands.asking import text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask
from toolwright_server.credits import words

_SECONDS = 30.0


def show(address: str | None, user: str, tenant: str, *, as_json: bool) -> int:
    """Print the limits and the credits; the exit code."""

    def question(channel: grpc.Channel) -> int:
        request = pb.GetQuotaRequest(user_id=text(user, "--user"), tenant_id=text(tenant, "--tenant"))
        found = usage_pb2_grpc.UsageServiceStub(channel).GetQuota(request, timeout=_SECONDS)
        if for_people(as_json=as_json):
            print_table(found, datetime.now(UTC))
        else:
            show_json(document(found), people=False)
        return Exit.OK

    return ask(address, question)


def print_table(found: pb.GetQuotaResponse, now: datetime) -> None:
    """The limits for people, one on a line, and a sentence about credits."""
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    if found.quotas:
        table = Table("limit", "for", "counts", "used", "of", "left", "again in", "", box=None)
        # The names are what an operator looks up in the file of limits: never cut, whatever the width.
        table.columns[0].no_wrap = True
        table.columns[0].min_width = max(len(quota.rule) for quota in found.quotas)
        for quota in found.quotas:
            cells = (
                quota.rule,
                quota.subject,
                _counts(quota),
                f"{quota.used:,}",
                f"{quota.limit:,}",
                f"{quota.remaining:,}",
                _reset(quota, now),
                "not enforced" if quota.shadow else "",
            )
            table.add_row(*(Text(printable(cell)) for cell in cells))
        console.print(table)
    else:
        console.print("no limit holds")
    console.print(_credits(found.balance), highlight=False)


def _counts(quota: pb.Quota) -> str:
    if quota.kind == pb.QUOTA_KIND_WINDOW:
        return f"calls in {quota.window.ToTimedelta().total_seconds():g} s"
    kinds: dict[int, str] = {
        pb.QUOTA_KIND_DAY: "calls today",
        pb.QUOTA_KIND_MONTH: "calls this month",
        pb.QUOTA_KIND_RUNNING: "calls at once",
    }
    return kinds.get(quota.kind, "")


def _reset(quota: pb.Quota, now: datetime) -> str:
    if not quota.HasField("reset_time"):
        return ""
    seconds = (quota.reset_time.ToDatetime(UTC) - now).total_seconds()
    return f"{max(0, round(seconds)):,} s"


def _credits(balance: pb.CreditBalance) -> str:
    if not balance.enabled:
        return "credits: not needed"
    return f"credits: {words(balance.balance_micros)}, and {words(balance.held_micros)} held"
