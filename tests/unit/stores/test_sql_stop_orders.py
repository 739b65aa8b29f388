"""Orders to stop on each database: for the server that is meant, once, until they are obeyed."""

import pytest

from tests.databases import database, database_url, postgres
from tests.unit.stores.written import row, writing
from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.leases import SqlLeases
from toolwright_server.stores.sql.stop_orders import SqlStopOrders

__all__ = ["database", "database_url", "postgres"]

pytestmark = pytest.mark.asyncio


async def test_an_order_waits_for_the_server_that_runs_the_execution(database: Database) -> None:
    async with writing(database) as writer:
        await SqlLeases(database, writer).register(Lease("one", 1), 60.0)
        orders = SqlStopOrders(database, writer)
        execution = row("0190-a", server_id="one")
        await orders.give(execution)
        await orders.give(execution)
        assert list(await orders.waiting("two")) == []
        assert list(await orders.waiting("one")) == ["0190-a"]
        await orders.done(["0190-a"])
        assert list(await orders.waiting("one")) == []


async def test_orders_to_servers_that_are_gone_are_cleaned_up(database: Database) -> None:
    async with writing(database) as writer:
        await SqlLeases(database, writer).register(Lease("one", 1), 60.0)
        orders = SqlStopOrders(database, writer)
        await orders.give(row("0190-a", server_id="gone"))
        await orders.give(row("0190-b", server_id="one"))
        assert list(await orders.waiting("gone")) == []
        assert list(await orders.waiting("one")) == ["0190-b"]


async def test_a_database_that_is_gone_is_said_to_be(database: Database) -> None:
    async with writing(database) as writer:
        orders = SqlStopOrders(database, writer)
    await database.close()
    with pytest.raises(ToolwrightError, match="the database cannot be used now"):
        await orders.give(row("0190-a", server_id="one"))
