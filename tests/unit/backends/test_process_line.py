"""Who gets a worker: in order, bounded, and never by waiting for an ancestor's."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from toolwright_server.errors import Reason
from toolwright_server.execution.backend import NotSent

from .conftest import StartBackend
from .rig import Heard, Tools, cancel, run

pytestmark = pytest.mark.asyncio


async def test_calls_beyond_the_workers_wait_in_order(start: StartBackend, tools: Tools, tmp_path: Path) -> None:
    backend = await start(workers=1)
    gate = tmp_path / "gate"
    first = tools.work("process_hold", {"path": str(gate)})
    tasks = [run(backend, first)]
    await first.first_progress()
    waiting = [tools.work("process_echo", {"place": place}) for place in range(5)]
    order: list[int] = []
    for place, heard in enumerate(waiting):
        task = run(backend, heard)
        task.add_done_callback(lambda _, place=place: order.append(place))
        tasks.append(task)
    await asyncio.sleep(0)
    assert backend.queued == 5
    assert [heard.starts for heard in waiting] == [0] * 5
    gate.touch()
    await asyncio.wait_for(asyncio.gather(*tasks), 20)
    assert order == [0, 1, 2, 3, 4]
    assert backend.queued == 0


async def test_a_full_line_refuses_with_a_delay_and_starts_nothing(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1, queue_limit=2)
    held = tools.work("process_hold")
    holding = run(backend, held)
    await held.first_progress()
    waiting = [tools.work("process_echo") for _ in range(2)]
    tasks = [run(backend, heard) for heard in waiting]
    await asyncio.sleep(0)
    refused = tools.work("process_echo")
    with pytest.raises(NotSent) as raised:
        await asyncio.wait_for(run(backend, refused), 20)
    assert raised.value.failure.reason is Reason.CONCURRENCY_LIMITED
    assert raised.value.failure.retry_delay is not None
    assert raised.value.failure.retry_delay > 0
    assert refused.starts == 0
    await cancel(holding, held)
    await asyncio.wait_for(asyncio.gather(*tasks), 20)


async def test_a_call_that_is_cancelled_in_the_line_was_never_started(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1)
    held = tools.work("process_hold")
    holding = run(backend, held)
    await held.first_progress()
    heard = tools.work("process_echo")
    task = run(backend, heard)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard.starts == 0
    assert backend.queued == 0
    await cancel(holding, held)


async def test_a_call_cancelled_in_the_moment_of_its_turn_gives_the_worker_on(
    start: StartBackend, tools: Tools, tmp_path: Path
) -> None:
    backend = await start(workers=1)
    for turn in range(20):
        gate = tmp_path / f"gate{turn}"
        held = tools.work("process_hold", {"path": str(gate)})
        holding = run(backend, held)
        await held.first_progress()
        leaving, staying = tools.work("process_echo"), tools.work("process_echo")
        leaves, stays = run(backend, leaving), run(backend, staying)
        holding.add_done_callback(lambda _, task=leaves: task.cancel())
        gate.touch()
        await asyncio.wait_for(stays, 20)
        await asyncio.wait((leaves,), timeout=20)
        assert leaves.done()


async def test_a_nested_call_gets_a_worker_of_its_own_while_all_are_busy(
    start: StartBackend, tools: Tools, kills: list[str]
) -> None:
    backend = await start(workers=1, extra_workers=1)

    async def nested(tool: str, arguments: object) -> object:
        return int(await run(backend, tools.work("process_nested_leaf", nested=True)))

    outer = tools.work("process_nest", {"tool": "any", "arguments": {}}, call=nested)
    queued = tools.work("process_echo")
    tasks = [run(backend, outer), run(backend, queued)]
    assert await asyncio.wait_for(tasks[0], 20) == b"1"
    await asyncio.wait_for(tasks[1], 20)
    assert backend.workers == 1, "the extra one has retired"
    assert kills == ["extra"]


async def test_a_nested_call_beyond_the_extra_workers_is_refused_at_once(start: StartBackend, tools: Tools) -> None:
    backend = await start(workers=1, extra_workers=1)
    held: list[Heard] = [tools.work("process_hold"), tools.work("process_hold", nested=True)]
    tasks = [run(backend, heard) for heard in held]
    for heard in held:
        await heard.first_progress()
    refused = tools.work("process_echo", nested=True)
    with pytest.raises(NotSent) as raised:
        await asyncio.wait_for(run(backend, refused), 20)
    assert raised.value.failure.reason is Reason.CONCURRENCY_LIMITED
    assert refused.starts == 0
    for task, heard in zip(tasks, held, strict=True):
        await cancel(task, heard)


async def test_deep_nesting_with_every_worker_busy_ends(start: StartBackend, tools: Tools) -> None:
    """Eight callers on two workers, each calling three levels deep: answered or refused, and nobody waits for ever."""
    backend = await start(workers=2, extra_workers=4, queue_limit=64)

    def level(depth: int) -> Heard:
        async def nested(tool: str, arguments: object) -> object:
            if depth == 3:
                return "bottom"
            try:
                return (await run(backend, level(depth + 1))).decode()
            except NotSent:
                return "refused"

        arguments: dict[str, Any] = {"tool": "any", "arguments": {}}
        return tools.work("process_nest", arguments, nested=depth > 0, call=nested)

    answers = await asyncio.wait_for(asyncio.gather(*(run(backend, level(0)) for _ in range(8))), 40)
    assert all("bottom" in str(answer) or "refused" in str(answer) for answer in answers)
    assert await asyncio.wait_for(run(backend, tools.work("process_echo", {"ok": 1})), 20) == b'{"ok":1}'


async def test_a_worker_is_replaced_after_so_many_calls(start: StartBackend, tools: Tools, kills: list[str]) -> None:
    backend = await start(workers=1, calls_per_worker=3)
    pids = [await asyncio.wait_for(run(backend, tools.work("process_pid")), 20) for _ in range(9)]
    assert len(set(pids)) == 3
    assert kills == ["recycled"] * 3
