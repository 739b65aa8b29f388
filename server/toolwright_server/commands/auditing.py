"""`audit list`, `audit export` and `audit verify`: a server's audit trail, and files of it."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from toolwright.v1 import audit_pb2 as pb
from toolwright.v1 import audit_pb2_grpc
from toolwright_server.commands import reaching
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.keeping import keep
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.records.audit.offline.files import read_keys, read_log, sentences, verify_file
from toolwright_server.records.audit.offline.report import Report

_PAGE = 1_000
_SECONDS = 60.0
# Reads and verifies everything there is.
_LONG_SECONDS = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose trail, as it was typed: a tenant's, all, or else the caller's own."""

    tenant: str = ""
    everything: bool = False

    def check(self) -> None:
        """Raises UsageError."""
        text(self.tenant, "--tenant")
        if self.tenant and self.everything:
            raise UsageError("give --tenant or --all-tenants, not both")


def show(address: str | None, tenant: str, filter_text: str, limit: int, *, as_json: bool) -> int:
    """Print the newest `limit` records; the exit code."""

    def ask(channel: grpc.Channel) -> int:
        asked = pb.ListAuditRecordsRequest(filter=text(filter_text, "--filter"), tenant_id=text(tenant, "--tenant"))
        found = list(_listed(audit_pb2_grpc.AuditServiceStub(channel), asked, limit))
        if for_people(as_json=as_json):
            _table(found)
        else:
            show_json([document(record) for record in found], people=False)
        return Exit.OK

    return reaching.ask(address, ask)


def export(address: str | None, scope: Scope, output: Path | None) -> int:
    """Write the export to a file, which appears when it is complete, or to standard output; the exit code."""

    def ask(channel: grpc.Channel) -> int:
        scope.check()
        request = pb.ExportAuditRecordsRequest(tenant_id=scope.tenant, all_tenants=scope.everything)
        stub = audit_pb2_grpc.AuditServiceStub(channel)
        pieces = (piece.lines for piece in stub.ExportAuditRecords(request, timeout=_LONG_SECONDS))
        if output is not None:
            keep(output, pieces)
            return Exit.OK
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return Exit.OK

    return reaching.ask(address, ask)


def verify_export(file: Path, keys: Sequence[Path], logs: Sequence[Path], *, as_json: bool) -> int:
    """Say whether an export is as it was made, without any server; the exit code: 0 if so, 1 if not."""
    if not keys:
        says = "name the public key with --key: the server has it beside audit_key_file, as <file>.pub"
        print(f"toolwright: {says}", file=sys.stderr)
        return Exit.USAGE
    try:
        report = verify_file(file, read_keys(list(keys)), read_log(list(logs)))
    except OSError as error:
        print(f"toolwright: {error.filename}: {error.strerror}", file=sys.stderr)
        return Exit.USAGE
    except ValueError as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.USAGE
    if for_people(as_json=as_json):
        for line in sentences(report):
            print(printable(line))
    else:
        show_json(_plain(report), people=False)
    return Exit.OK if report.valid else Exit.TOOL_FAILED


def verify_server(address: str | None, scope: Scope, *, as_json: bool) -> int:
    """Have a server verify its own trail; the exit code: 0 if nothing is wrong, 1 if something is."""

    def ask(channel: grpc.Channel) -> int:
        scope.check()
        request = pb.VerifyAuditRecordsRequest(tenant_id=scope.tenant, all_tenants=scope.everything)
        found = audit_pb2_grpc.AuditServiceStub(channel).VerifyAuditRecords(request, timeout=_LONG_SECONDS)
        if for_people(as_json=as_json):
            _tell(found)
        else:
            show_json({"valid": found.valid, **document(found)}, people=False)
        return Exit.OK if found.valid else Exit.TOOL_FAILED

    return reaching.ask(address, ask)


def _listed(
    stub: audit_pb2_grpc.AuditServiceStub, request: pb.ListAuditRecordsRequest, limit: int
) -> Iterator[pb.AuditRecord]:
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        page = stub.ListAuditRecords(request, timeout=_SECONDS)
        yield from page.records
        limit -= len(page.records)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def _table(found: Sequence[pb.AuditRecord]) -> None:
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("time", "kind", "principal", "user", "execution", "facts", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for record in found:
        cells = (
            record.record_time.ToJsonString(),
            record.kind,
            record.principal,
            record.user_id,
            record.execution_id,
            record.facts_json,
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)


def _tell(found: pb.VerifyAuditRecordsResponse) -> None:
    verdict = "valid" if found.valid else "NOT VALID"
    counts = f"{found.entry_count} entries in {found.chain_count} chains, {found.checkpoint_count} checkpoints"
    print(f"{verdict}: {counts}")
    if found.unsigned_count:
        print(f"{found.unsigned_count} entries stand behind the last checkpoint of their server: linked, not signed")
    for problem in found.problems:
        where = f"chain {problem.chain_id}: " if problem.chain_id else ""
        print(printable(f"{problem.fault}: {where}{problem.description}"))
    if found.problem_count > len(found.problems):
        print(f"and {found.problem_count - len(found.problems)} more problems")


def _plain(report: Report) -> dict[str, object]:
    return {
        "valid": report.valid,
        "tenant": report.tenant,
        "entry_count": report.entries,
        "checkpoint_count": report.checkpoints,
        "chain_count": report.chains,
        "unsigned_count": report.unsigned,
        "problem_count": report.problem_count,
        "problems": [
            {
                "fault": problem.fault.value,
                "line": problem.line,
                "chain_id": problem.chain,
                "sequence": problem.sequence,
                "description": problem.says,
            }
            for problem in report.problems
        ],
    }
