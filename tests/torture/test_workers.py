"""Thousands of cancelled calls, at any moment and with anything left behind: nobody and nothing stays."""

import asyncio
import os
import random
import time
from pathlib import Path

import psutil
import pytest

from tests.live import eventually
from tests.unit.backends.rig import Tools, alive, cancel, descriptors, process_backend, run
from toolwright_server.backends.process import ProcessBackend

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
CANCELS = max(40, int(2_000 * SCALE))
CALLERS = 8

pytestmark = [pytest.mark.torture, pytest.mark.timeout(900)]


@pytest.mark.asyncio
async def test_two_thousand_cancels_leave_nothing(tmp_path: Path) -> None:
    tools = Tools(tmp_path)
    backend = await process_backend(tools, workers=4)
    left: list[int] = []
    chance = random.Random(7)

    async def one() -> float:
        kind = chance.choice(["process_hold", "process_burn", "process_leave_behind", "process_echo"])
        heard = tools.work(kind, {"seconds": 300} if kind == "process_leave_behind" else {})
        task = run(backend, heard)
        if chance.random() < 0.7:
            await heard.until(lambda: heard.starts == 1)
        await asyncio.sleep(chance.random() * 0.02)
        began = time.monotonic()
        await cancel(task, heard)
        left.extend(int(pid) for pid, _, _ in heard.of("progress"))
        assert not any(alive(int(pid)) for pid, _, _ in heard.of("progress"))
        return time.monotonic() - began

    async def many(count: int) -> list[float]:
        return [await one() for _ in range(count)]

    await asyncio.gather(*(many(4) for _ in range(CALLERS)))
    await _settled(backend)
    before = descriptors(), _below()
    figures = await asyncio.gather(*(many(CANCELS // CALLERS) for _ in range(CALLERS)))
    await _settled(backend)
    after = descriptors(), _below()
    seconds = sorted(figure for each in figures for figure in each)
    print(  # noqa: T201 (the figures are what the long run is for)
        f"\n{len(seconds)} cancels: confirmed after p50 {seconds[len(seconds) // 2] * 1e3:.1f} ms, "
        f"p99 {seconds[int(len(seconds) * 0.99)] * 1e3:.1f} ms; descriptors {before[0]} → {after[0]}, "
        f"processes {before[1]} → {after[1]}, {len(left)} processes seen"
    )
    assert after == before
    assert not any(map(alive, left))
    await backend.close()
    assert _below() == 0


async def _settled(backend: ProcessBackend) -> None:
    """All workers are there and idle, and the dead are buried."""
    await asyncio.to_thread(eventually, lambda: backend.idle == backend.workers == 4 and _below() == 5, 30.0)


def _below() -> int:
    """Processes below this one, zombies included."""
    return len(psutil.Process().children(recursive=True))
