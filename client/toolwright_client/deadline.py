"""How long a call may take: the shortest of what the caller says, the default and what is left around it.

What is left around it travels in the OpenTelemetry context, set by the server around a tool and by the interceptors
of this package around a handler. Nothing here sends anything.
"""

import math
import time
from dataclasses import dataclass

import grpc
from opentelemetry import context as otel

from toolwright_client.errors import DeadlineExceeded
from toolwright_client.model import NOT_STARTED, Failure
from toolwright_client.statuses import CLIENT_DEADLINE

# Agreed with the server: an absolute `time.monotonic()` instant, and the execution in which the tool runs.
DEADLINE_KEY = "toolwright-deadline"
EXECUTION_KEY = "toolwright-execution-id"
# Who waits without a limit asks again after this long, so that every rpc has a deadline.
SLICE_SECONDS = 60.0
# gRPC counts nanoseconds from 1970 in 64 bits and takes what lies beyond for past.
LONGEST_SECONDS = 1e9


def surrounding_deadline(context: otel.Context | None = None) -> float | None:
    """The instant (`time.monotonic()`) by which the surrounding tool or handler must answer; absent: there is none."""
    value = otel.get_value(DEADLINE_KEY, context)
    return float(value) if isinstance(value, int | float) else None


def surrounding_execution() -> str:
    """Id of the execution in which the running code is a tool; empty outside of tools."""
    value = otel.get_value(EXECUTION_KEY)
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Budget:
    """The instant (`time.monotonic()`) by which a call must be answered, all its tries included."""

    until: float
    inherited: bool

    @classmethod
    def of(cls, timeout: float | None) -> "Budget":
        """The budget of a call that may take `timeout` seconds; absent: only what is left around it."""
        if timeout is not None and not timeout > 0:
            message = f"timeout must be a positive number of seconds, it is {timeout}"
            raise ValueError(message)
        own = math.inf if timeout is None else time.monotonic() + min(timeout, LONGEST_SECONDS)
        around = surrounding_deadline()
        return cls(own, False) if around is None or own < around else cls(around, True)

    def at_most(self, seconds: float) -> "Budget":
        """The same, ending after so many seconds at the latest."""
        return Budget(min(self.until, time.monotonic() + seconds), self.inherited)

    @property
    def unlimited(self) -> bool:
        """Whether there is no end: rpcs whose time is over are followed by others."""
        return self.until == math.inf

    def left(self) -> float:
        """Seconds left, 0 or less when it is over."""
        return self.until - time.monotonic()

    def seconds(self) -> float:
        """Seconds for one rpc, also when there is no end. Raises DeadlineExceeded when none are left."""
        left = self.left()
        if left <= 0:
            raise self.over()
        return left if left < math.inf else SLICE_SECONDS

    def over(self) -> DeadlineExceeded:
        """The error of a call that was never sent because its time was over."""
        whose = "inherited from the surrounding tool or handler" if self.inherited else "set by `timeout`"
        failure = Failure(
            code=grpc.StatusCode.DEADLINE_EXCEEDED,
            reason=CLIENT_DEADLINE,
            message=f"the deadline {whose} passed before the call was sent",
            metadata={"outcome": NOT_STARTED},
        )
        return DeadlineExceeded(failure)
