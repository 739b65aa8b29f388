"""What a repeated `request_id` means: the first answer again, joining the call in flight, or a refusal. Pure.

The key is (tenant, principal, request id); the payload is what the digest covers: tool, version, user and arguments.
"""

from enum import Enum, auto

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.model import Execution, State


class Repeated(Enum):
    """What is to be done for whoever repeats a call."""

    # The holder has ended: its outcome is the answer.
    REPLAY = auto()
    # It still runs: its outcome will be the answer.
    JOIN = auto()


def repeated(holder: Execution, asked: Execution, *, is_settled: bool = True) -> Repeated:
    """What the call `asked` comes to when `holder` has its request id already.

    Not `is_settled`: the outcome, if there is one, is not in the record yet, and nobody may hear of it. Raises
    REQUEST_ID_REUSED for another payload, and OUTCOME_UNKNOWN when nobody knows what became of the first.
    """
    if holder.digest != asked.digest:
        raise _reused(holder, asked)
    if not is_settled:
        return Repeated.JOIN
    if holder.state is State.OUTCOME_UNKNOWN:
        raise outcome_unknown(holder)
    return Repeated.REPLAY if holder.ended else Repeated.JOIN


def outcome_unknown(holder: Execution) -> ToolwrightError:
    """For whoever asks again for a call whose side effect was sent and whose outcome nobody knows."""
    metadata = {"execution_id": holder.execution_id, "outcome": "unknown"}
    if holder.failure is not None:
        metadata["first_reason"] = holder.failure.reason.name
    message = f"the first call with this request id, {holder.tool}, may or may not have been done; nothing was sent now"
    return ToolwrightError(Reason.OUTCOME_UNKNOWN, message, metadata=metadata)


def _reused(holder: Execution, asked: Execution) -> ToolwrightError:
    metadata = {"outcome": "not_started"}
    # The same credential may have called for a user whose executions this caller must not hear of.
    if asked.caller.sees(holder.caller.tenant, holder.caller.user):
        metadata["execution_id"] = holder.execution_id
    return ToolwrightError(
        Reason.REQUEST_ID_REUSED,
        f"the request id {asked.request_id[:128]!r} belongs to a call with another tool, version, user or arguments",
        metadata=metadata,
    )
