"""Exit codes that scripts can rely on, and which failure has which."""

from enum import IntEnum

from google.rpc import code_pb2  # pyright: ignore[reportMissingTypeStubs]

from toolwright.v1 import common_pb2


class Exit(IntEnum):
    """What became of a call, for scripts."""

    OK = 0
    TOOL_FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    INVALID_ARGUMENTS = 4
    REFUSED = 5
    DEADLINE = 6
    CANCELLED = 7
    UNAVAILABLE = 8
    OUTCOME_UNKNOWN = 9
    INTERNAL = 10


_BY_CODE: dict[int, Exit] = {
    code_pb2.OK: Exit.OK,
    code_pb2.CANCELLED: Exit.CANCELLED,
    code_pb2.INVALID_ARGUMENT: Exit.INVALID_ARGUMENTS,
    code_pb2.OUT_OF_RANGE: Exit.INVALID_ARGUMENTS,
    code_pb2.DEADLINE_EXCEEDED: Exit.DEADLINE,
    code_pb2.NOT_FOUND: Exit.NOT_FOUND,
    code_pb2.ALREADY_EXISTS: Exit.REFUSED,
    code_pb2.PERMISSION_DENIED: Exit.REFUSED,
    code_pb2.UNAUTHENTICATED: Exit.REFUSED,
    code_pb2.RESOURCE_EXHAUSTED: Exit.REFUSED,
    code_pb2.FAILED_PRECONDITION: Exit.REFUSED,
    code_pb2.ABORTED: Exit.OUTCOME_UNKNOWN,
    code_pb2.UNAVAILABLE: Exit.UNAVAILABLE,
}


def exit_of_status(code: int, outcome: str) -> Exit:
    """For a call that failed: by its google.rpc.Code, unless nobody knows whether the tool's effect happened."""
    if outcome == "unknown":
        return Exit.OUTCOME_UNKNOWN
    if code == code_pb2.ABORTED and outcome == "not_started":
        # An etag that is not the current one any more: nothing was changed.
        return Exit.REFUSED
    return _BY_CODE.get(code, Exit.INTERNAL)


def exit_of_execution(execution: common_pb2.Execution) -> Exit:
    """For an execution that ended."""
    if execution.state == common_pb2.STATE_SUCCEEDED:
        return Exit.OK
    if execution.state == common_pb2.STATE_FAILED:
        return Exit.TOOL_FAILED
    if execution.state == common_pb2.STATE_OUTCOME_UNKNOWN:
        return Exit.OUTCOME_UNKNOWN
    return exit_of_status(execution.error.code, execution.error.metadata.get("outcome", ""))
