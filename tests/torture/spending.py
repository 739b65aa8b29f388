"""Many callers at once who spend the credits of one tenant over several servers, and what each of them was told.

A caller whose connection breaks asks again under the same request id, of the next server, until it knows.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from tests.live import execute_request
from tests.refused import unpacked
from toolwright.v1 import common_pb2, tool_execution_pb2_grpc

from .killing import CHANNEL, Told, told_by

CALL_SECONDS = 60.0
# One who was told to come back comes back after so long.
AGAIN_SECONDS = 0.05
# Connections to each server.
CONNECTIONS = 4
# With a request id that is asked again until it is answered; without one it is asked once.
UNPROTECTED = 0.1
SIDE_EFFECTS = frozenset({"acting.paid", "acting.paid_known"})
ACTS = SIDE_EFFECTS | {"acting.paid_put"}
# Weights of the tools where servers are killed.
MIXED = {"acting.paid": 4, "acting.paid_known": 2, "acting.paid_put": 2, "acting.paid_read": 2}


@dataclass(frozen=True, slots=True)
class Answer:
    """The last word of a call. `pushback` is the trailer's text; `cost_micros` what an answered call says of itself."""

    told: Told
    cost_micros: int = 0
    pushback: str | None = None
    has_retry_info: bool = False


@dataclass(slots=True)
class Purchase:
    """One call that somebody wants made once. `answer` is None when its connection broke and nobody asked again."""

    key: str
    tool: str
    before: float
    after: float
    request_id: str
    answer: Answer | None = None
    lost: int = 0
    # What it was told meanwhile, and asked again.
    deferred: list[Told] = field(default_factory=list[Told])

    @property
    def reason(self) -> str:
        """Of its last word: OK, the reason of a refusal, or `lost`."""
        return "lost" if self.answer is None else self.answer.told.reason or self.answer.told.code

    @property
    def succeeded(self) -> bool:
        """Whether its caller has the result."""
        return self.answer is not None and self.answer.told.state == common_pb2.STATE_SUCCEEDED

    def request(self) -> Any:
        arguments = {"key": self.key, "before": self.before, "after": self.after}
        return execute_request(self.tool, arguments, request_id=self.request_id)


def alike(callers: int, name: str) -> list[Purchase]:
    """Calls of one tool that act at once, each with a request id of its own."""
    return [Purchase(f"{name}-{number}", "acting.paid", 0, 0, f"{name}-{number}") for number in range(callers)]


def mixed(callers: int, name: str, chance: random.Random, pause_seconds: float) -> list[Purchase]:
    """Calls of all kinds of tools, that take up to `pause_seconds` before they act, and after it."""
    made: list[Purchase] = []
    for number in range(callers):
        tool = chance.choices(list(MIXED), weights=list(MIXED.values()))[0]
        before, after = (round(chance.random() * pause_seconds, 4) for _ in range(2))
        key = f"{name}-{number}"
        made.append(Purchase(key, tool, before, after, "" if chance.random() < UNPROTECTED else key))
    return made


def spend(
    addresses: Sequence[str],
    purchases: Sequence[Purchase],
    secret: str,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Have all of them asked at once; each keeps its answer. `meanwhile` is done in another thread."""
    asyncio.run(_spend(addresses, purchases, secret, meanwhile))


async def _spend(
    addresses: Sequence[str],
    purchases: Sequence[Purchase],
    secret: str,
    meanwhile: Callable[[], None],
) -> None:
    channels = [grpc.aio.insecure_channel(each, options=CHANNEL) for _ in range(CONNECTIONS) for each in addresses]
    try:
        # Nobody's first call is about a connection.
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        stubs: list[Any] = [tool_execution_pb2_grpc.ToolExecutionStub(channel) for channel in channels]
        calls = [
            asyncio.create_task(_bought(stubs, number, one, secret), name=one.key)
            for number, one in enumerate(purchases)
        ]
        await asyncio.to_thread(meanwhile)
        await asyncio.gather(*calls)
    finally:
        for channel in channels:
            await channel.close()


async def _bought(stubs: Sequence[Any], number: int, one: Purchase, secret: str) -> None:
    request, metadata = one.request(), (("authorization", f"Bearer {secret}"),)
    while True:
        try:
            answer = await stubs[number % len(stubs)].Execute(request, timeout=CALL_SECONDS, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            refused = unpacked(error)
            told = Told(refused.code, refused.reason, refused.metadata.get("execution_id", ""))
            if refused.code == "UNAVAILABLE" and not refused.reason:
                one.lost += 1
                number += 1
                if not one.request_id:
                    return
            elif not _comes_back(one, told):
                pushback = refused.trailers.get("grpc-retry-pushback-ms")
                one.answer = Answer(told, 0, str(pushback), refused.retry_seconds is not None)
                return
            else:
                one.deferred.append(told)
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            row = answer.execution
            one.answer = Answer(told_by(row), row.usage.cost_micros)
            return


def _comes_back(one: Purchase, told: Told) -> bool:
    """Whether the caller was told that it may ask again: nothing was begun, or what was begun does no harm twice."""
    return told.code == "UNAVAILABLE" or (told.reason == "INTERNAL" and one.tool not in SIDE_EFFECTS)
