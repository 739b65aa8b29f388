"""What is said about limits: refusals, and warnings before there is one. Pure words and numbers, decides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from toolwright_server.errors import Failure, QuotaViolation, Reason, crowded
from toolwright_server.limits.model import Check, Kind, Reading, Taking

WARN_PERCENT: Final = (95, 80)

_KINDS = {Kind.WINDOW: "rate", Kind.DAY: "day", Kind.MONTH: "month", Kind.RUNNING: "running"}
# In seconds, the most that is said in the unit.
_SECONDS_UP_TO, _MINUTES_UP_TO, _HOURS_UP_TO = 120, 7_200, 172_800
_PERIODS = {1.0: "a second", 60.0: "a minute", 3_600.0: "an hour", 86_400.0: "in 24 hours"}
_NOT_STARTED = "not_started"


@dataclass(frozen=True, slots=True)
class LimitWarning:
    """A limit that is nearly used up: this call was the one that crossed `threshold_percent` (80 or 95) of it.

    `kind` is rate, day or month here; whoever meters something else adds its own. `reset_seconds` as in a Reading.
    """

    kind: str
    subject: str
    threshold_percent: int
    used: int
    limit: int
    reset_seconds: float


def kind_of(check: Check) -> str:
    """How a kind of counter is called outside: rate, day, month or running."""
    return _KINDS[check.kind]


def warnings_of(checks: Sequence[Check], taking: Taking) -> tuple[LimitWarning, ...]:
    """The thresholds that one taking crossed. None for running calls, which come and go, and for rules in shadow."""
    used = taking.used if taking.used is not None else [reading.used for reading in taking.readings]
    for check, count in zip(checks, used, strict=True):
        # Asked of every call: most are far from every threshold.
        if count * 100 >= check.limit * WARN_PERCENT[-1]:
            return tuple(_crossed(reading) for reading in taking.readings if _threshold(reading))
    return ()


def _threshold(reading: Reading) -> int:
    """The highest percentage that the last one taken crossed; 0 for none."""
    check, used = reading.check, reading.used
    if check.kind is Kind.RUNNING or check.shadow:
        return 0
    for percent in WARN_PERCENT:
        if (used - 1) * 100 < check.limit * percent <= used * 100:
            return percent
    return 0


def _crossed(reading: Reading) -> LimitWarning:
    check = reading.check
    return LimitWarning(
        kind=kind_of(check),
        subject=f"{check.what} of {check.subject}",
        threshold_percent=_threshold(reading),
        used=reading.used,
        limit=check.limit,
        reset_seconds=reading.reset_seconds,
    )


def uncounted(reading: Reading) -> Failure:
    """What a caller is told when nobody can count and a rule is closed then: STORE_UNAVAILABLE, with a delay."""
    check = reading.check
    return Failure(
        Reason.STORE_UNAVAILABLE,
        f"the limit {check.rule} for {check.subject} cannot be counted at the moment, and is closed meanwhile",
        user_message="The service cannot count your calls at the moment.",
        retry_delay=reading.reset_seconds,
        metadata={"rule": check.rule, "outcome": _NOT_STARTED},
    )


def refusal(reading: Reading, *, because: str = "") -> Failure:
    """What a caller is told that one counter refused: RATE_LIMITED or CONCURRENCY_LIMITED, with the exact delay."""
    check = reading.check
    if check.kind is Kind.RUNNING:
        return _no_place(reading, because)
    sentence = f"{_so_many(check)} {_period(check)} {'is' if check.limit == 1 else 'are'} used up"
    return Failure(
        Reason.RATE_LIMITED,
        f"{sentence} by {check.subject} (rule {check.rule}); one more fits in {reading.reset_seconds:.3f} s",
        user_message=f"{sentence}; try again in {_duration(reading.reset_seconds)}",
        retry_delay=reading.reset_seconds,
        metadata={**_facts(check, reading.used), "reset_seconds": f"{reading.reset_seconds:.3f}"},
        quota=(QuotaViolation(check.subject, sentence),),
    )


def _no_place(reading: Reading, because: str) -> Failure:
    check = reading.check
    sentence = f"{_so_many(check)} may run at once"
    said = crowded(check.limit, f"{sentence} for {check.subject} (rule {check.rule}){because}")
    return Failure(
        said.reason,
        said.message,
        user_message=f"{sentence}, and that many are running; try again in a moment",
        retry_delay=said.retry_delay,
        metadata={**_facts(check, reading.used), "reset_seconds": f"{said.retry_delay or 0:.3f}"},
        quota=(QuotaViolation(check.subject, sentence),),
    )


def _facts(check: Check, used: int) -> dict[str, str]:
    return {
        "rule": check.rule,
        "limit": str(check.limit),
        "used": str(used),
        "subject": check.subject,
        "outcome": _NOT_STARTED,
    }


def _so_many(check: Check) -> str:
    """`30 browser calls`, `1 call of crm.contact.get`."""
    what = check.what.replace("calls", "call", 1) if check.limit == 1 else check.what
    return f"{check.limit} {what}"


def _period(check: Check) -> str:
    if check.kind is Kind.WINDOW:
        return _PERIODS.get(check.window_seconds) or f"in {check.window_seconds:g} s"
    return f"a {kind_of(check)}"


def _duration(seconds: float) -> str:
    """Rounded up: whoever waits so long gets in."""
    if seconds <= _SECONDS_UP_TO:
        return f"{max(1, ceil(seconds))} s"
    if seconds <= _MINUTES_UP_TO:
        return f"{ceil(seconds / 60)} min"
    return f"{ceil(seconds / 3_600)} h" if seconds <= _HOURS_UP_TO else f"{ceil(seconds / 86_400)} days"
