"""Writes docs/errors.md from the table in errors.py; with --check it only compares. Decides nothing about errors."""

import sys
from pathlib import Path

from toolwright_server.errors import IN_BAND, IN_BATCH, Failure, Reason
from toolwright_server.rpc.status import DOMAIN, LIMIT_BYTES, PUSHBACK, SUGGESTED_ACTION, status_of

TARGET = Path(__file__).resolve().parent.parent / "docs" / "errors.md"

HEAD = f"""# Errors

<!-- Written by scripts/generate_errors_doc.py from server/toolwright_server/errors.py; change those. -->

The call failed: a gRPC status. The tool ran and failed: status OK, `state = FAILED`, and the error in the execution.
In GetExecution, ListExecutions, WaitExecution and BatchExecute the outcome of an execution is always data.

Every status carries google.rpc details in the trailer `grpc-status-details-bin`:

| detail | says |
| --- | --- |
| ErrorInfo | `domain` is `{DOMAIN}`, `reason` one of those below; `metadata` has `{SUGGESTED_ACTION}` (one sentence \
that a model can follow) and, where they apply, `execution_id`, `outcome` (`not_started`, `none`, `unknown`) and more |
| LocalizedMessage | one sentence for the end user, without internals |
| RetryInfo | how long to wait before the same call is made again; only where that may help |
| BadRequest | each field that is wrong, and why; with INVALID_ARGUMENT |
| QuotaFailure | whose limit was reached; with RESOURCE_EXHAUSTED |

The delay of RetryInfo is also in the trailer `{PUSHBACK}`, which gRPC's own retries obey; `-1` there
stops them. All trailers together stay below {LIMIT_BYTES} bytes: long texts lose their end, then the last violations
and metadata go. The text of an exception is in no status and no answer: INTERNAL carries a `trace_id`, under which the
operator finds it in the log. What a tool's own exception said is in `admin_message` of the execution's error, which
GetExecution tells to callers whose credential has the role `operator` or `admin`, and to nobody else.

What gRPC itself answers before a call reaches the server carries no details: a message or metadata over the transport's
limit (RESOURCE_EXHAUSTED), an rpc that does not exist (UNIMPLEMENTED), a caller's own deadline that passes first.

"""


def document() -> str:
    """The whole page."""
    rpcs = [reason for reason in Reason if reason not in IN_BAND | IN_BATCH]
    return (
        HEAD
        + "## As a status\n\n"
        + _table(rpcs)
        + "\n## In the execution, with status OK\n\n"
        + _table([reason for reason in Reason if reason in IN_BAND])
        + "\n## In a call of BatchExecute alone\n\n"
        + _table([reason for reason in Reason if reason in IN_BATCH])
    )


def _table(reasons: list[Reason]) -> str:
    rows = ["| reason | code | retry? | for the user | what to do |", "| --- | --- | --- | --- | --- |"]
    for reason in reasons:
        meaning = reason.value
        delayed = dict(status_of(Failure(reason, "")).trailers).get(PUSHBACK, "-1") != "-1"
        retry = "no" if not meaning.retryable else "after the delay" if delayed else "at once"
        rows.append(
            f"| {reason.name} | {meaning.code.name} | {retry} | {meaning.user_message} | {meaning.suggested_action} |"
        )
    return "\n".join(rows) + "\n"


def main() -> int:
    """Writes the page, or says that it is out of date (1)."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(document(), encoding="utf-8")
        return 0
    if TARGET.read_text(encoding="utf-8") == document():
        return 0
    print("docs/errors.md is not what the table says; run: .venv/bin/python scripts/generate_errors_doc.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())
