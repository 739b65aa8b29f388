import asyncio
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from toolwright_server.telemetry.watchdog import Watchdog

SECONDS = 20


@dataclass
class Seen:
    """What a watchdog reported."""

    lags: list[float] = field(default_factory=list[float])
    ticked: asyncio.Event = field(default_factory=asyncio.Event)
    tools: list[str] = field(default_factory=list[str])
    reported: threading.Event = field(default_factory=threading.Event)

    def on_lag(self, seconds: float) -> None:
        self.lags.append(seconds)
        self.ticked.set()

    def on_blocked(self, tool: str) -> None:
        self.tools.append(tool)
        self.reported.set()

    def watchdog(self) -> Watchdog:
        return Watchdog(blocked_after_seconds=0.1, tick_seconds=0.01, on_lag=self.on_lag, on_blocked=self.on_blocked)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING):
        yield caplog


async def next_tick(seen: Seen) -> None:
    """Wait until the loop has run its timer once more."""
    seen.ticked.clear()
    await asyncio.wait_for(seen.ticked.wait(), SECONDS)


@pytest.mark.asyncio
async def test_a_tool_that_blocks_the_loop_is_named_while_it_does(log: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    watchdog = seen.watchdog()
    watchdog.start(asyncio.get_running_loop())
    told: list[tuple[str, float] | None] = []

    async def block() -> None:
        seen.reported.wait(SECONDS)  # blocks the whole loop until the watchdog has noticed it
        told.append(watchdog.blocked())

    await asyncio.create_task(block(), name="tool:diagnostics.block:0190-abc")
    await next_tick(seen)
    watchdog.stop()
    assert seen.tools == ["diagnostics.block"]
    assert told[0] is not None
    assert told[0][0] == "tool diagnostics.block (execution 0190-abc)"
    assert told[0][1] >= 0.1
    assert watchdog.blocked() is None
    blocked, released = (record for record in log.records if record.name.endswith("watchdog"))
    assert "by tool diagnostics.block (execution 0190-abc)" in blocked.getMessage()
    assert "seen.reported.wait(SECONDS)" in blocked.__dict__["stack"]
    assert "runs again" in released.getMessage()
    assert max(seen.lags) >= 0.05


@pytest.mark.asyncio
async def test_the_server_itself_is_named_when_no_tool_did_it(log: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    watchdog = seen.watchdog()
    loop = asyncio.get_running_loop()
    watchdog.start(loop)
    loop.call_soon(lambda: seen.reported.wait(SECONDS))
    await next_tick(seen)
    watchdog.stop()
    assert seen.tools == [""]
    assert "by no tool, but the server itself" in log.text


@pytest.mark.asyncio
async def test_a_loop_that_runs_is_never_reported(log: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    watchdog = seen.watchdog()
    watchdog.start(asyncio.get_running_loop())
    for _ in range(20):
        await next_tick(seen)
        assert watchdog.blocked() is None or seen.tools
    watchdog.stop()
    assert len(seen.lags) >= 20
    assert all(lag >= 0 for lag in seen.lags)


@pytest.mark.asyncio
async def test_after_stop_nothing_ticks_and_no_thread_is_left() -> None:
    seen = Seen()
    watchdog = seen.watchdog()
    watchdog.start(asyncio.get_running_loop())
    await next_tick(seen)
    watchdog.stop()
    seen.ticked.clear()
    assert "toolwright-watchdog" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(seen.ticked.wait(), 0.05)
