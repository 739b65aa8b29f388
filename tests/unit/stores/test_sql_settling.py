"""An end that is not recorded yet is no end."""

import asyncio
from pathlib import Path

import pytest

from tests.contracts.executions import OWNER
from toolwright_server.execution.model import State
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.stores.sql.executions import SqlExecutionStore

from .written import ended, locked, opened, row, writing

pytestmark = pytest.mark.asyncio


async def test_nobody_reads_of_an_end_before_it_is_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path, 20.0) as file, writing(file) as writer:
        store = SqlExecutionStore(file, writer)
        execution = row("a", request_id="r", create_time=9e9)
        assert await store.add(execution) is None
        with locked(file):
            settling = asyncio.create_task(store.settle(ended(execution)))
            await asyncio.sleep(0)
            got = asyncio.ensure_future(store.get(OWNER, "a"))
            found = asyncio.ensure_future(store.find(OWNER, "r"))
            listed = asyncio.ensure_future(store.list(OWNER, ExecutionQuery(10)))
            done, _ = await asyncio.wait((got, found, listed), timeout=0.1)
            assert not done
        await asyncio.wait_for(settling, 10.0)
        told = [await asyncio.wait_for(got, 10.0), await asyncio.wait_for(found, 10.0)]
        told += await asyncio.wait_for(listed, 10.0)
    assert [each and each.state for each in told] == [State.SUCCEEDED] * 3
