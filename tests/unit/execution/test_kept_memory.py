"""What an execution that has ended holds in memory is no more than what it counts for."""

import gc
import tracemalloc

import pytest

from toolwright_server.stores.memory.executions import ROW_BYTES

from .corridor import invocation
from .house import House

pytestmark = pytest.mark.asyncio

CALLS = 300


async def test_a_call_that_waits_holds_its_arguments_and_no_more() -> None:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        waiting = [invocation("tests.echo", {"text": str(number)}) for number in range(CALLS)]
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(waiting) == CALLS
    assert held <= CALLS * 1_024


async def test_an_ended_execution_holds_no_more_than_it_counts_for(house: House) -> None:
    async def echo(text: str) -> str:
        return text

    house.tool(echo)
    await house.run("echo", {"text": "warm"})
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        counted = house.store.size_bytes
        for number in range(CALLS):
            await house.run("echo", {"text": str(number)})
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held <= house.store.size_bytes - counted
    assert held <= CALLS * ROW_BYTES
