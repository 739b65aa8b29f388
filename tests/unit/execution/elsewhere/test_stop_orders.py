"""StopOrders: looks now and then, obeys, and lives through a store that is away."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.execution.elsewhere.stop_orders import StopOrders
from toolwright_server.execution.model import Execution

pytestmark = pytest.mark.asyncio
PATIENCE = 5.0


class Orders:
    """Those of one server, in memory; `away` while the store does not answer."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)
        self.away = False
        self.looks = 0
        self.looked = asyncio.Event()

    async def give(self, execution: Execution) -> None:
        self.ids.append(execution.execution_id)

    async def waiting(self, server_id: str) -> Sequence[str]:
        assert server_id == "one"
        self.looks += 1
        self.looked.set()
        if self.away:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "away")
        return tuple(self.ids)

    async def done(self, execution_ids: Sequence[str]) -> None:
        self.ids = [each for each in self.ids if each not in execution_ids]


async def test_an_order_is_obeyed_once() -> None:
    store, stopped = Orders("a", "b"), list[str]()
    orders = StopOrders(store, "one")
    await orders.look(stopped.append)
    await orders.look(stopped.append)
    assert stopped == ["a", "b"]
    assert not store.ids


async def test_a_store_that_is_away_is_said_once_and_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    store, stopped = Orders("a"), list[str]()
    store.away = True
    turns: asyncio.Queue[None] = asyncio.Queue()

    async def pause(seconds: float) -> None:
        assert seconds == 7.0
        await turns.get()

    async def looked() -> None:
        await asyncio.wait_for(store.looked.wait(), PATIENCE)
        store.looked.clear()

    orders = StopOrders(store, "one", interval_seconds=7.0, pause=pause)
    with caplog.at_level(logging.WARNING):
        orders.start(stopped.append)
        await looked()
        turns.put_nowait(None)
        await looked()
        store.away = False
        turns.put_nowait(None)
        await looked()
        turns.put_nowait(None)
        await looked()
        await orders.close()
    assert stopped == ["a"]
    assert len(caplog.records) == 1


async def test_a_stop_that_fails_does_not_end_the_looking() -> None:
    store, turns = Orders("a"), asyncio.Queue[None]()

    async def pause(seconds: float) -> None:
        del seconds
        await turns.get()

    def defective(execution_id: str) -> None:
        raise RuntimeError(execution_id)

    orders = StopOrders(store, "one", pause=pause)
    orders.start(defective)
    for _ in range(2):
        await asyncio.wait_for(store.looked.wait(), PATIENCE)
        store.looked.clear()
        turns.put_nowait(None)
    await orders.close()
    assert store.looks >= 2
    assert store.ids == ["a"]
