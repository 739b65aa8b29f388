"""`ledger check`: has a server verify its books. Never opens a database."""

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright.v1 import usage_pb2_grpc
from toolwright_server.commands.asking import text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask
from toolwright_server.credits import words

# It reads every entry.
_SECONDS = 600.0


def check(address: str | None, tenant: str, *, everything: bool, as_json: bool) -> int:
    """Print what was verified and what is wrong; the exit code."""

    def question(channel: grpc.Channel) -> int:
        request = pb.CheckLedgerRequest(tenant_id=text(tenant, "--tenant"), all_tenants=everything)
        found = usage_pb2_grpc.UsageServiceStub(channel).CheckLedger(request, timeout=_SECONDS)
        if for_people(as_json=as_json):
            _print(found)
        else:
            show_json(document(found), people=False)
        return Exit.OK if found.valid else Exit.TOOL_FAILED

    return ask(address, question)


def _print(found: pb.CheckLedgerResponse) -> None:
    print(
        f"{found.transaction_count:,} transactions with {found.entry_count:,} entries of {found.tenant_count:,} tenants"
    )
    print(
        f"{found.hold_count:,} open holds of {words(found.held_micros)} credits, {found.unknown_hold_count:,} of them "
        "for executions whose outcome is unknown"
    )
    for problem in found.problems:
        place = " ".join(part for part in (problem.tenant_id, problem.place) if part)
        print(f"{problem.fault}: {printable(place)}: {printable(problem.description)}")
    print("nothing is wrong" if found.valid else "the ledger is not right")
