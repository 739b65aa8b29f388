"""Load on servers that are killed meanwhile, as callers see it: what they asked, what they were told, how they repeat.

A caller that lost its connection asks again under the same request id, of whichever server answers, until it knows.
Some calls are made in batches.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
from google.rpc import code_pb2  # pyright: ignore[reportMissingTypeStubs]

from tests.live import execute_request
from tests.refused import unpacked
from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.errors import IN_BAND

CALLERS = 24
CALL_SECONDS = 30.0
# Tools with side effects, and those of them whose outcome can be looked up.
KNOWN = frozenset({"acting.act_known", *(f"faltering.{name}_known" for name in ("act", "order", "elsewhere"))})
ACTS = KNOWN | {
    *(f"faltering.{name}" for name in ("act", "order", "elsewhere", "order_fixed")),
    *("acting.act", "writing.act", "writing.worker"),
}
UNPROTECTED, REPEATED, BATCHED = 0.1, 0.05, 0.15
# Calls that narrow the attempts, to so many at most.
NARROWED, MOST_ATTEMPTS = 0.2, 5
# Calls of a batch, at most.
BATCH_CALLS = 12
# The longest pause before the side effect, and after it: what a kill can fall into.
PAUSE_SECONDS = 0.03
REASONS_IN_BAND = frozenset(reason.name for reason in IN_BAND)
CHANNEL = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclass(frozen=True, slots=True)
class Mix:
    """What is called: tools by weight, and `more` arguments than all have, drawn for each call."""

    tools: Mapping[str, int]
    more: Callable[[random.Random], dict[str, Any]] = lambda _: {}


# Most calls are those for which something may go wrong.
ACTING = Mix({"acting.act": 4, "acting.act_known": 4, "acting.put": 1, "acting.read": 2})


@dataclass(frozen=True, slots=True)
class Told:
    """One answer. `code` is gRPC's name; `outcome` what a refusal says of the work; the rest comes with OK: `instead`
    is the tool that answered in the place of the one that was called, and `replaced` why; `artifacts` by id and digest.
    """

    code: str
    reason: str = ""
    execution_id: str = ""
    outcome: str = ""
    state: int = 0
    value: str = ""
    attempts: int = 0
    source: int = 0
    instead: str = ""
    replaced: str = ""
    artifacts: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Asked:
    """One call that somebody wants made once. Without `request_id` it is never repeated. `lost`: how often the
    connection broke; `refused`: when the server said that it could not, for the time being; `most`: attempts.
    """

    key: str
    tool: str
    before: float
    after: float
    request_id: str
    told: list[Told] = field(default_factory=list[Told])
    refused: list[Told] = field(default_factory=list[Told])
    lost: int = 0
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    most: int | None = None

    @property
    def answers(self) -> list[Told]:
        return [told for told in self.told if told.code == "OK"]

    def request(self) -> Any:
        arguments = {"key": self.key, "before": self.before, "after": self.after, **self.more}
        limits = {} if self.most is None else {"max_attempts": self.most}
        return execute_request(self.tool, arguments, request_id=self.request_id, **limits)


class Stubs:
    """One for each server."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels = [grpc.aio.insecure_channel(address, options=CHANNEL) for address in addresses]
        self.all: list[Any] = [tool_execution_pb2_grpc.ToolExecutionStub(channel) for channel in self._channels]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels:
            await channel.close()


class Load:
    """All calls of a test, over as many lives of its servers as it has. `unanswered` waits for the next one.

    `kills` is when servers were killed, in seconds since the epoch; `broken_lives` how many of them lost a batch.
    """

    def __init__(self, seed: int, mix: Mix = ACTING) -> None:
        self.mix = mix
        self.kills: list[float] = []
        self.broken_lives = 0
        self.chance = random.Random(seed)
        self.asked: list[Asked] = []
        self.unanswered: list[Asked] = []
        self.repeats = 0
        self.batches = self.lost_batches = 0
        self._numbers = itertools.count()

    def life(self, addresses: Sequence[str], *, moment: float, kill: Callable[[], None], after: float = 0) -> None:
        """Load the servers; `kill` one after `moment` seconds, and end `after` seconds after that."""
        lost = self.lost_batches
        asyncio.run(self._life(addresses, moment, kill, after))
        self.broken_lives += self.lost_batches > lost

    def finish(self, addresses: Sequence[str]) -> None:
        """Ask again for whatever nobody has been told about; no server dies meanwhile."""
        asyncio.run(self._finish(addresses))

    def told(self) -> Tally[str]:
        """How often which answer was given."""
        return Tally(told.reason or told.code for asked in self.asked for told in asked.told)

    async def _life(self, addresses: Sequence[str], moment: float, kill: Callable[[], None], after: float) -> None:
        ending = asyncio.Event()
        async with Stubs(addresses) as stubs:
            callers = [asyncio.create_task(self._caller(stubs, number, ending)) for number in range(CALLERS)]
            await asyncio.sleep(moment)
            await asyncio.to_thread(kill)
            self.kills.append(time.time())
            await asyncio.sleep(after)
            ending.set()
            await asyncio.gather(*callers)

    async def _finish(self, addresses: Sequence[str]) -> None:
        async with Stubs(addresses) as stubs:
            left, self.unanswered = self.unanswered, []
            await asyncio.gather(*(self._ask([asked], stubs, number) for number, asked in enumerate(left)))

    async def _caller(self, stubs: Stubs, number: int, ending: asyncio.Event) -> None:
        home = number
        while not ending.is_set():
            if not await self._ask(self._some(), stubs, home):
                home += 1
                if len(stubs.all) == 1:
                    return

    def _some(self) -> Sequence[Asked]:
        """One call, or those of a batch."""
        if self.chance.random() >= BATCHED:
            return [self._next()]
        count = self.chance.randint(2, BATCH_CALLS)
        return list({asked.key: asked for asked in (self._next() for _ in range(count))}.values())

    def _next(self) -> Asked:
        if self.unanswered:
            return self.unanswered.pop()
        if self.asked and self.chance.random() < REPEATED:
            again = self.chance.choice(self.asked[-200:])
            if again.request_id and again.told and again not in self.unanswered:
                self.repeats += 1
                return again
        key = f"key-{next(self._numbers)}"
        chance = self.chance
        tool = chance.choices(list(self.mix.tools), weights=list(self.mix.tools.values()))[0]
        before, after = (round(chance.random() * PAUSE_SECONDS, 4) for _ in range(2))
        asked = Asked(key, tool, before, after, "" if chance.random() < UNPROTECTED else key)
        asked.more = self.mix.more(chance)
        asked.most = chance.randint(1, MOST_ATTEMPTS) if asked.more and chance.random() < NARROWED else None
        self.asked.append(asked)
        return asked

    async def _ask(self, asked: Sequence[Asked], stubs: Stubs, home: int) -> bool:
        """Whether the server answered at all."""
        stub = stubs.all[home % len(stubs.all)]
        if len(asked) == 1:
            return self._heard(asked[0], await _call(stub, asked[0]))
        self.batches += 1
        answered = [self._heard(*each) for each in zip(asked, await _batch(stub, asked, self.chance), strict=True)]
        self.lost_batches += not any(answered)
        return any(answered)

    def _heard(self, asked: Asked, told: Told) -> bool:
        """Whether anybody answered."""
        if told.code == "UNAVAILABLE":
            if told.reason:
                asked.refused.append(told)
            else:
                asked.lost += 1
            if asked.request_id:
                self.unanswered.append(asked)
            return bool(told.reason)
        asked.told.append(told)
        if asked.request_id and told.reason == "INTERNAL" and asked.tool not in ACTS:
            # It joined a call whose server died, which may be made again.
            self.unanswered.append(asked)
        return True


async def _call(stub: Any, asked: Asked) -> Told:
    try:
        answer = await stub.Execute(asked.request(), timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return told_off(error)
    return told_by(answer.execution)


async def _batch(stub: Any, asked: Sequence[Asked], chance: random.Random) -> list[Told]:
    request = tool_execution_pb2.BatchExecuteRequest(
        calls=[each.request().call for each in asked], max_parallel=chance.randint(1, len(asked))
    )
    try:
        answer = await stub.BatchExecute(request, timeout=CALL_SECONDS)
    except grpc.aio.AioRpcError as error:
        return [told_off(error)] * len(asked)
    return [told_in_batch(row) for row in answer.executions]


def told_off(error: grpc.aio.AioRpcError) -> Told:
    """What a status says."""
    refused = unpacked(error)
    about = refused.metadata
    return Told(refused.code, refused.reason, about.get("execution_id", ""), about.get("outcome", ""))


def told_by(row: common_pb2.Execution) -> Told:
    """What an execution says."""
    outcome = row.error.metadata["outcome"] if row.HasField("error") else ""
    result, attempts = row.result, row.usage.attempts
    return Told(
        "OK",
        row.error.reason,
        row.execution_id,
        outcome,
        row.state,
        result.value_json,
        attempts,
        result.source,
        result.fallback_tool,
        result.replaced_error.reason,
        tuple((each.artifact_id, each.sha256) for each in result.artifacts),
    )


def told_in_batch(row: common_pb2.Execution) -> Told:
    """What an execution of a batch says: as the status of a call alone, where it would be one."""
    error = row.error
    if not row.HasField("error") or error.reason in REASONS_IN_BAND:
        return told_by(row)
    about = error.metadata
    execution_id = row.execution_id or about.get("execution_id", "")
    return Told(code_pb2.Code.Name(error.code), error.reason, execution_id, about.get("outcome", ""))


def figures(load: Load, lives: int, effects: int) -> str:
    """What happened, in one line."""
    seen = {
        "lives": lives,
        "calls": len(load.asked),
        "batches": load.batches,
        "lost_batches": load.lost_batches,
        "kills_that_lost_batches": load.broken_lives,
        "lost": sum(asked.lost for asked in load.asked),
        "refused": dict(Tally(told.reason for asked in load.asked for told in asked.refused)),
        "repeats": load.repeats,
        "effects": effects,
        "told": dict(load.told()),
    }
    return json.dumps(seen)
