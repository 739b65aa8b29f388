"""Between the protos and the audit trail."""

import math

from toolwright.v1 import audit_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.records.audit.model import Row
from toolwright_server.records.audit.offline.report import Report


def record(row: Row) -> pb.AuditRecord:
    """An entry in its place."""
    message = pb.AuditRecord(
        chain_id=row.chain_id,
        sequence=row.sequence,
        kind=row.kind,
        tenant_id=row.tenant,
        principal=row.principal,
        user_id=row.user,
        execution_id=row.execution_id,
        facts_json=row.body.decode("utf-8", "replace"),
        previous=row.previous.hex(),
        hash=row.hash.hex(),
    )
    message.record_time.FromMicroseconds(round(row.time * 1e6))
    return message


def verified(report: Report) -> pb.VerifyAuditRecordsResponse:
    """What a verification found."""
    return pb.VerifyAuditRecordsResponse(
        valid=report.valid,
        entry_count=report.entries,
        checkpoint_count=report.checkpoints,
        chain_count=report.chains,
        unsigned_count=report.unsigned,
        problem_count=report.problem_count,
        problems=[
            pb.AuditProblem(
                fault=problem.fault.value,
                chain_id=problem.chain,
                sequence=problem.sequence,
                description=problem.says,
            )
            for problem in report.problems
        ],
    )


def place(row: Row) -> str:
    """An entry's place in a list, for a page token."""
    return f"{row.time!r} {row.chain_id} {row.sequence}"


def read_place(text: str) -> tuple[float, str, int] | None:
    """The entry behind which a page begins; None for the first. Raises INVALID_ARGUMENTS."""
    if not text:
        return None
    try:
        time, chain, sequence = text.split(" ")
        found = float(time), chain, int(sequence)
    except ValueError:
        raise invalid("page_token", "is not one that this server gave out") from None
    if not math.isfinite(found[0]) or not 0 <= found[2] < 2**63:
        raise invalid("page_token", "is not one that this server gave out")
    return found
