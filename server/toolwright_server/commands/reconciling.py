"""`reconcile`: learn what became of calls whose outcome is unknown, or say it. Never makes a call again."""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import failures, reaching
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.history import listed, state
from toolwright_server.commands.printing import for_people, printable, show_json

# Look-ups ask other systems.
_SECONDS = 120.0
# In one run; the next one goes on with what is unknown then.
LIMIT = 10_000

Execution = common_pb2.Execution
Stub = tool_execution_pb2_grpc.ToolExecutionStub


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What somebody found out; neither `succeeded` nor `failed`: the tools' look-ups are asked."""

    succeeded: bool = False
    failed: bool = False
    result: str | None = None
    note: str = ""

    def request(self, execution_id: str) -> tool_execution_pb2.ReconcileExecutionRequest:
        """About one execution. Raises UsageError for what cannot be meant together."""
        if self.succeeded and self.failed:
            raise UsageError("--succeeded and --failed: it is one of them")
        if self.result is not None and not self.succeeded:
            raise UsageError("--result goes with --succeeded")
        if self.note and not self.declares:
            raise UsageError("--note goes with --succeeded or --failed")
        request = tool_execution_pb2.ReconcileExecutionRequest(
            execution_id=text(execution_id, "ID"), note=text(self.note, "--note")
        )
        if self.declares:
            done, not_done = tool_execution_pb2.VERDICT_SUCCEEDED, tool_execution_pb2.VERDICT_NOT_DONE
            request.verdict = done if self.succeeded else not_done
        if self.result is not None:
            request.value_json = text(self.result, "--result")
        return request

    @property
    def declares(self) -> bool:
        """Whether it says what became of a call, rather than to ask."""
        return self.succeeded or self.failed


def reconcile(address: str | None, execution_id: str | None, found: Found, *, as_json: bool) -> int:
    """Settle one execution, or ask for all that the caller sees; the exit code, OUTCOME_UNKNOWN if any stays so."""

    def ask(channel: grpc.Channel) -> int:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        people = for_people(as_json=as_json)
        if execution_id is None:
            return _all(stub, found, people=people)
        settled = stub.ReconcileExecution(found.request(execution_id), timeout=_SECONDS).execution
        if people:
            print(_line(settled))
        else:
            show_json(document(settled), people=False)
        return _exit([settled])

    return reaching.ask(address, ask)


def _all(stub: Stub, found: Found, *, people: bool) -> int:
    if found.declares:
        raise UsageError("--succeeded and --failed: say of which execution")
    left: list[Execution] = []
    for each in list(listed(stub, 'state = "OUTCOME_UNKNOWN"', LIMIT)):
        settled, why = _asked(stub, found.request(each.execution_id), each)
        left.append(settled)
        if people:
            print(_line(settled, why))
    if people and not left:
        print("no outcome is unknown")
    if not people:
        show_json([document(each) for each in left], people=False)
    return _exit(left)


def _asked(
    stub: Stub, request: tool_execution_pb2.ReconcileExecutionRequest, before: Execution
) -> tuple[Execution, str]:
    """The execution afterwards, and why it stays as it is. What one look-up cannot do must not hold up the others."""
    try:
        return stub.ReconcileExecution(request, timeout=_SECONDS).execution, ""
    except grpc.RpcError as error:
        trouble = failures.of_rpc(error)
        if trouble.reason not in ("INVALID_STATE", "UPSTREAM_UNAVAILABLE"):
            raise
        return before, trouble.message


def _line(execution: Execution, why: str = "") -> str:
    words = f"{execution.execution_id}  {execution.tool}  {state(execution)}"
    return printable(f"{words}  ({why})" if why else words)


def _exit(executions: Sequence[Execution]) -> int:
    unknown = any(each.state == common_pb2.STATE_OUTCOME_UNKNOWN for each in executions)
    return Exit.OUTCOME_UNKNOWN if unknown else Exit.OK
