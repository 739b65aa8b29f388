"""An upstream that is ill for a while, callers who call on all the time, and what became of their calls.

When circuits changed is what the server's own log says.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import grpc

from tests.live import LiveServer, eventually, execute_request
from tests.refused import unpacked
from tests.upstream import Fault, Upstream
from tests.upstream_tools import POLICY, RETRY, name_of
from toolwright.v1 import tool_execution_pb2_grpc

CALLERS = 5
# Callers that are refused come again at once: how long one rests between two calls.
REST_SECONDS = 0.05
DEADLINE_SECONDS = 20.0
# So many calls of each caller that are answered in a row: it is well again.
WELL = 10
RECOVERY_SECONDS = POLICY.max_open_seconds + 8.0


@dataclass(frozen=True, slots=True)
class Call:
    """One call: when it was sent, when its end was heard of (seconds since the epoch), and that; empty: answered."""

    sent: float
    heard: float
    reason: str


@dataclass
class Illness:
    """One run: a way to be ill, how often, and whether the server tries again."""

    fault: Fault
    percent: int
    retries: bool
    calls: list[Call] = field(default_factory=list[Call])
    reached: list[float] = field(default_factory=list[float])
    # When it opened, and when it let a probe through.
    openings: list[float] = field(default_factory=list[float])
    probes: list[float] = field(default_factory=list[float])
    healed: float = 0.0

    @property
    def name(self) -> str:
        return name_of(self.fault, self.percent, self.retries)

    @property
    def ill(self) -> list[Call]:
        """Calls that ended while it was ill."""
        return [call for call in self.calls if call.heard <= self.healed]

    @property
    def let_through(self) -> list[Call]:
        return [call for call in self.ill if call.reason != "CIRCUIT_OPEN"]

    @property
    def answered(self) -> float:
        """The part of those that were let through which was answered."""
        answered = sum(not call.reason for call in self.let_through)
        return answered / len(self.let_through) if self.let_through else 0.0

    @property
    def opened(self) -> float:
        """When it opened first; never: when it was well again."""
        return min((*self.openings, self.healed))

    @property
    def before(self) -> int:
        """Calls that reached it until the circuit opened."""
        return sum(at <= self.opened for at in self.reached)

    @property
    def after(self) -> int:
        """And from then on, while it was ill."""
        return sum(self.opened < at <= self.healed for at in self.reached)

    @property
    def recovery(self) -> float | None:
        """From being well to the first call that is answered; None: it was not open then."""
        if not self.openings:
            return None
        return min(call.heard for call in self.calls if call.sent >= self.healed and not call.reason) - self.healed

    def line(self) -> str:
        """One line of the table."""
        recovery = "never opened" if self.recovery is None else f"{self.recovery:.2f} s"
        return (
            f"{self.fault:7} {self.percent:4} %  {'with' if self.retries else 'without':8}"
            f"{len(self.ill):7}{self.before:9}{self.after:8}{len(self.ill) - len(self.let_through):9}"
            f"{self.answered:10.1%}{sum(not call.reason for call in self.ill):9}   {recovery}"
        )


HEAD = (
    "fault     bad    retries   calls   before   after  refused  answered     done   recovery\n"
    "                          (reached it: before, after opening; answered: of those let through)"
)


async def suffer(
    server: LiveServer, upstream: Upstream, illness: Illness, seconds: float, *, patience: float = 0.0
) -> None:
    """Let the upstream be ill for so long, and up to `patience` longer until its circuit opens; then until it is well
    for its callers.
    """
    path = upstream.path(illness.name)
    path.fault, path.ratio = illness.fault, illness.percent / 100
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(_caller(stub, illness))
            await asyncio.sleep(seconds)
            # Whether it has opened is judged below, with all the rest.
            with contextlib.suppress(AssertionError):
                await asyncio.to_thread(eventually, lambda: _changes(server, illness), patience, REST_SECONDS)
            path.ratio, illness.healed = 0.0, time.time()
    illness.reached = [seen.at for seen in path.seen]
    for line in _changes(server, illness):
        at = datetime.fromisoformat(line["time"]).timestamp()
        if line["circuit_state"] == "open":
            illness.openings.append(at)
        elif line["circuit_state"] == "half_open":
            illness.probes.append(at)


def _changes(server: LiveServer, illness: Illness) -> list[dict[str, Any]]:
    """What the log says of its circuit."""
    return [line for line in server.lines() if line.get("circuit") == illness.name]


async def _caller(stub: Any, illness: Illness) -> None:
    """Calls until it is well; gives up, as nobody can say that it is, some time after it should be."""
    well = 0
    while well < WELL and not (illness.healed and time.time() > illness.healed + RECOVERY_SECONDS):
        call = await _call(stub, illness.name)
        illness.calls.append(call)
        well = well + 1 if illness.healed and not call.reason else 0
        await asyncio.sleep(REST_SECONDS)


async def _call(stub: Any, path: str) -> Call:
    sent = time.time()
    try:
        answer = await stub.Execute(execute_request(f"upstream.{path}"), timeout=DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        return Call(sent, time.time(), unpacked(error).reason or error.code().name)
    return Call(sent, time.time(), answer.execution.error.reason)


def wrong(illness: Illness) -> list[str]:
    """What should not have been."""
    found: list[str] = []
    # Reports come in until it opens; then those of the calls that were under way.
    until_open = POLICY.minimum_calls + CALLERS * (RETRY.attempts if illness.retries else 1)

    def must(holds: bool, what: str) -> None:
        if not holds:
            found.append(f"{illness.name}: {what}")

    ends = {call.reason for call in illness.calls}
    must(ends <= {"", "TOOL_FAILED", "CIRCUIT_OPEN"}, f"calls ended {ends}")
    last = sorted(illness.calls, key=lambda call: call.heard)[-CALLERS:]
    must(not any(call.reason for call in last), "it is not well again for its callers")
    if illness.recovery is not None:
        must(illness.recovery <= RECOVERY_SECONDS, f"it took {illness.recovery:.1f} s to recover")
    if illness.percent == 100:
        must(bool(illness.openings), "it did not open")
        # What was under way when it opened may still arrive; then probes alone, as none of them is lucky.
        most = CALLERS + len(illness.probes)
        must(illness.after <= most, f"{illness.after} calls reached it after it had opened, {most} at most were to")
        must(
            illness.before <= until_open,
            f"{illness.before} calls reached it before it opened, {until_open} at most were to",
        )
    return found
