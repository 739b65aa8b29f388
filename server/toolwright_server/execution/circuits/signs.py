"""What an attempt's end says of the upstream that it called. Pure decisions.

Only what speaks of the upstream counts: what a caller sends, how long it waits and when it leaves say nothing of it, or
one tenant could close a tool to all others.
"""

from dataclasses import dataclass
from typing import Final

from toolwright_server.execution.backend import Lost, NotSent, ToolFailed
from toolwright_server.execution.circuits.model import Report, Sign
from toolwright_server.execution.deadline import DeadlineSource
from toolwright_server.execution.flight import Stop
from toolwright_server.execution.retrying import NESTED_REASON

# Limits that callers do not choose.
_OURS: Final = frozenset({DeadlineSource.TOOL, DeadlineSource.CATEGORY, DeadlineSource.SERVER})
# An attempt whose time went on queueing, or on earlier attempts, says nothing of its upstream: it must have had so much
# of the time that its tool declares.
_HAD_ITS_TIME: Final = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """The facts of one that has ended, or was told to stop and goes on. Times in seconds.

    `ran`: since it was started; None: it never was. `stop`: why it was told to stop; `source`: what set its deadline.
    `timeout`: what its tool declares, whatever its tenant and its caller made of that. `slow`: from when on it is slow;
    None: never.
    """

    ran: float | None
    stop: Stop | None
    source: DeadlineSource
    timeout: float
    slow: float | None


def report(attempt: Attempt, error: BaseException | None) -> Report:
    """What its end says; `error` None: it answered."""
    if attempt.ran is None:
        return Report(Sign.NOTHING)
    slow = attempt.slow is not None and attempt.ran >= attempt.slow
    if error is None:
        return Report(Sign.ANSWERED, slow)
    if attempt.stop is None:
        return Report(*_spoken(error, slow=slow))
    if attempt.stop is Stop.DEADLINE and attempt.source in _OURS and attempt.ran >= _HAD_ITS_TIME * attempt.timeout:
        return Report(Sign.FAILED, slow)
    # That it took so long is a fact, whoever broke it off.
    return Report(Sign.ANSWERED if slow else Sign.NOTHING, slow)


def _spoken(error: BaseException, *, slow: bool) -> tuple[Sign, bool]:
    if not isinstance(error, (NotSent, ToolFailed, Lost)) or NESTED_REASON in error.failure.metadata:
        # A defect of ours; or a step, which has a circuit of its own.
        return Sign.NOTHING, False
    if error.failure.may_retry():
        return Sign.FAILED, slow
    # A tool that fails in words of its own has heard from its upstream, unless it never asked. An exception that it did
    # not expect, a crash, too much memory, a wrong answer: these are its own.
    if isinstance(error, ToolFailed) and error.failure.retryable is False:
        return Sign.ANSWERED, slow
    return Sign.NOTHING, False
