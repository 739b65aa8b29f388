"""Two servers that share one store of limits, and callers whose rules say different things of its absence.

Callers come to both all the time, and what they were told is written down; judging.py compares it with the rules.
A store's absence is what the servers' own logs say it was: before they notice, rules decide call by call.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from tests.live import LiveServer, eventually, execute_request, starting_server
from tests.refused import unpacked
from tests.valkeys import Server
from toolwright.v1 import tool_execution_pb2_grpc
from toolwright_server.limits.model import Fail

# What the servers share: calls that one user may begin in a second, and have running.
RATE, PLACES = 20, 4
# How long the calls run, and how long their callers rest: both together make more than the rules let in.
BRIEF, LONG, REST = 0.02, 0.2, 0.06
CALLERS = 3
DEADLINE_SECONDS = 5.0
LEASE_SECONDS = 3.0
BACK_SECONDS = 5.0


def _rules() -> Iterator[str]:
    yield "ready_made = false"
    for fail in Fail:
        for user, count, limit in ((f"{fail}-rate", "window", RATE), (f"{fail}-places", "running", PLACES)):
            length = "window_seconds = 1" if count == "window" else ""
            yield f'[[rule]]\nname = "{user}"\nper = "user"\ntenant = "default"\nuser = "{user}"'
            yield f'count = "{count}"\n{length}\nlimit = {limit}\nfail = "{fail}"'


@dataclass(frozen=True, slots=True)
class Told:
    """One call as its caller saw it. Instants in seconds since the epoch; `ran` those of the tool, if it ran."""

    server: int
    user: str
    sent: float
    heard: float
    code: str
    reason: str = ""
    delay: float | None = None
    ran: tuple[float, float] = (0.0, 0.0)

    @property
    def took(self) -> float:
        return self.heard - self.sent


@dataclass
class Pair:
    """The servers, their store, and all that callers were told."""

    servers: Sequence[LiveServer]
    store: Server
    told: list[Told] = field(default_factory=list[Told])
    # When the store was made to fail.
    faults: list[float] = field(default_factory=list[float])
    stopping: bool = False

    def knows_both(self) -> bool:
        """Whether each server knows that two share the store."""
        return all(server.metric("toolwright_limits_store_servers") == 2 for server in self.servers)

    def up(self) -> bool:
        """Whether each server says in its metrics that the store answers."""
        return all(server.metric("toolwright_limits_store_up") == 1 for server in self.servers)

    def down(self) -> bool:
        """Whether none does."""
        return all(server.metric("toolwright_limits_store_up") == 0 for server in self.servers)

    def absences(self, number: int) -> list[tuple[float, float]]:
        """When one server could not ask the store, by its log; the last one may not have ended."""
        found: list[tuple[float, float]] = []
        for line in self.servers[number].lines():
            # Answers that calls share are kept in the same one, and say for themselves when it is gone.
            if "limit store at" not in line["message"]:
                continue
            at = datetime.fromisoformat(line["time"]).timestamp()
            if "does not answer" in line["message"]:
                found.append((at, float("inf")))
            elif "limits are shared" in line["message"] and found:
                found[-1] = (found[-1][0], at)
        return found


@contextlib.contextmanager
def pair(folder: Path, store: Server) -> Generator[Pair]:
    """Two servers on a store, which need not be there."""
    folder.mkdir(parents=True, exist_ok=True)
    limits = folder / "limits.toml"
    limits.write_text("\n".join(_rules()), encoding="utf-8")
    env = {
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_LIMITS_FILE": str(limits),
        "TOOLWRIGHT_REDIS_URL": store.url,
        "TOOLWRIGHT_REDIS_LEASE_SECONDS": str(LEASE_SECONDS),
        "TOOLWRIGHT_DATABASE_URL": "memory:",
    }
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(starting_server(folder / name, env={**env, "TOOLWRIGHT_SERVER_ID": name}))
            for name in ("one", "two")
        ]
        for server in servers:
            server.wait_ready()
        yield Pair(servers, store)


@contextlib.asynccontextmanager
async def crowd(pair: Pair, seed: int) -> AsyncGenerator[None]:
    """Callers of every kind at both servers, until the end of the block."""
    chance = random.Random(seed)
    async with contextlib.AsyncExitStack() as stack:
        callers: list[asyncio.Task[None]] = []
        for number, server in enumerate(pair.servers):
            channel = grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)])
            await stack.enter_async_context(channel)
            stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
            for fail in Fail:
                for user, seconds in ((f"{fail}-rate", BRIEF), (f"{fail}-places", LONG)):
                    call = partial(_call, number, stub, user, seconds)
                    callers += [asyncio.create_task(_caller(pair, call, chance)) for _ in range(CALLERS)]
        try:
            yield
            pair.stopping = True
            await asyncio.wait_for(asyncio.gather(*callers), 3 * DEADLINE_SECONDS)
        finally:
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)


async def _caller(pair: Pair, call: Callable[[], Awaitable[Told]], chance: random.Random) -> None:
    while not pair.stopping:
        pair.told.append(await call())
        await asyncio.sleep(REST * (0.5 + chance.random()))


async def _call(server: int, stub: Any, user: str, seconds: float) -> Told:
    request = execute_request("diagnostics.sleep", {"seconds": seconds}, user_id=user)
    sent = time.time()
    try:
        answer = await stub.Execute(request, timeout=DEADLINE_SECONDS)
    except grpc.aio.AioRpcError as error:
        heard, refused = time.time(), unpacked(error)
        return Told(server, user, sent, heard, refused.code, refused.reason, refused.retry_seconds)
    heard, row = time.time(), answer.execution
    ran = row.start_time.ToNanoseconds() / 1e9, row.end_time.ToNanoseconds() / 1e9
    return Told(server, user, sent, heard, "OK", row.error.reason, ran=ran)


Fault = Callable[[Server, float], Coroutine[None, None, None]]


async def absent(pair: Pair, fault: Fault, seconds: float) -> None:
    """One fault that lasts long enough to be noticed, which the metrics say while it lasts, and are over it after."""
    pair.faults.append(time.time())
    failing = asyncio.create_task(fault(pair.store, seconds))
    try:
        await asyncio.to_thread(eventually, pair.down, seconds)
        await failing
    finally:
        await asyncio.wait((failing,))
    await back(pair)


async def back(pair: Pair) -> None:
    """Every server has found the store again, by itself, and knows how many share it."""
    await asyncio.to_thread(eventually, pair.up, BACK_SECONDS)
    await asyncio.to_thread(eventually, pair.knows_both, BACK_SECONDS)
