"""Any history in a real store, against the plain model that the store in process is held to as well."""

import asyncio
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_limits import age, opened
from tests.unit.limits.clock import Clock
from tests.unit.stores.test_memory_limits import CHECKS, DAY_SECONDS, STEPS, Model
from tests.valkeys import Server
from toolwright_server.limits.model import Check
from toolwright_server.stores.redis.limits import RedisLimitStore

# The model knows no leases.
FOREVER_SECONDS = 365 * DAY_SECONDS
HISTORIES = st.lists(STEPS, max_size=30)


class History:
    """The same steps for the store and for the model."""

    def __init__(self, server: Server, store: RedisLimitStore) -> None:
        self.server = server
        self.store = store
        self.clock = Clock()
        self.model = Model(self.clock)
        self.checks = list(CHECKS)
        self.tokens: list[str] = []

    def passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        age(self.server, seconds)

    async def take(self, asked: list[Check]) -> None:
        token = f"call-{len(self.tokens)}"
        taking = await self.store.take(asked, token)
        assert (taking.refused is None) == self.model.take(asked, token)
        assert [reading.used for reading in taking.readings] == [self.model.used(check) for check in asked]
        self.tokens.append(token)

    async def step(self, verb: str, value: object) -> None:
        match verb, value:
            case "take", list():
                await self.take([self.checks[int(index)] for index in value])  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - a list of numbers
            case "pass", float():
                self.passes(value)
            case "overnight", _:
                self.passes(DAY_SECONDS)
            case "give_back", int() if self.tokens:
                await self.store.give_back(CHECKS, self.tokens[value % len(self.tokens)])
                self.model.give_back(self.tokens[value % len(self.tokens)])
            case "release", int() if self.tokens:
                await self.store.release(CHECKS, self.tokens[value % len(self.tokens)])
                self.model.running.discard(self.tokens[value % len(self.tokens)])
            case "limit", (int() as index, int() as limit):
                self.checks[index] = replace(self.checks[index], limit=limit)
            case _:
                pass
        found = [reading.used for reading in await self.store.read(self.checks)]
        assert found == [self.model.used(check) for check in self.checks]


async def lived(server: Server, steps: list[tuple[str, object]]) -> None:
    server.run("FLUSHALL")
    async with opened(server, lease_seconds=FOREVER_SECONDS) as store:
        history = History(server, store)
        for verb, value in steps:
            await history.step(verb, value)


@settings(max_examples=60, deadline=None)
@given(steps=HISTORIES)
def test_it_lets_in_what_the_model_lets_in_and_counts_what_the_model_counts(
    valkey: Server, steps: list[tuple[str, object]]
) -> None:
    asyncio.run(lived(valkey, steps))
