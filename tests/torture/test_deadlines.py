"""Deadlines hold whatever the tool does: the long form of the promise, with figures printed (`pytest -s`)."""

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from tests.live import LiveServer, eventually, live_server

from .deadlines import KINDS, measure, report

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
CALLS = max(8, int(100 * SCALE))

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]


def of_tools(server: LiveServer) -> list[psutil.Process]:
    """Processes below the server that a tool has made: whatever is neither its helpers nor an idle worker."""
    helpers = {process.pid for process in server.descendants() if "toolwright_server" in " ".join(_command(process))}
    return [process for process in server.descendants() if process.pid not in helpers]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def leftovers() -> list[psutil.Process]:
    """What `spawn` leaves behind, wherever in the process tree it went."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        command = _command(process)
        if any("heartbeat.py" in part for part in command) or command[:2] == ["sleep", "90"]:
            found.append(process)
    return found


@pytest.mark.parametrize("by", ["client", "timeout"])
@pytest.mark.parametrize("callers", [1, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_past_its_deadline_is_answered_in_time_and_its_work_is_ended(
    tmp_path: Path, kind: str, callers: int, by: str
) -> None:
    calls = CALLS if callers > 1 else max(4, CALLS // 4 if SCALE < 1 else CALLS)
    with live_server(tmp_path, env={"TOOLWRIGHT_TOOLKITS": "diagnostics"}) as server:
        asyncio.run(measure(server, kind, calls=callers, callers=callers, by=by))  # warm-up
        heartbeats = server.data_dir / "toolkits" / "diagnostics" / "heartbeats"
        seen = asyncio.run(measure(server, kind, calls=calls, callers=callers, by=by, heartbeats=heartbeats))
        figures = report(f"{kind} by {by}, {callers} callers", seen)
        assert figures["deadline_exceeded"] == len(seen)
        assert figures["with_details"] >= 0.99 * len(seen) - (0 if len(seen) >= 100 else 1)
        if len(seen) >= 100:
            assert figures["overrun_p99_ms"] < 50
        assert {one.outcome for one in seen if one.reason} == {"none"}
        eventually(lambda: not leftovers() and not of_tools(server), seconds=1.0)


def test_64_callers_past_their_deadline_get_our_details(tmp_path: Path) -> None:
    with live_server(tmp_path, env={"TOOLWRIGHT_TOOLKITS": "diagnostics"}) as server:
        for kind in KINDS:
            seen = asyncio.run(measure(server, kind, calls=max(64, CALLS), callers=64, by="client"))
            figures = report(f"{kind} by client, 64 callers", seen)
            assert figures["deadline_exceeded"] == len(seen)
            assert figures["with_details"] >= 0.95 * len(seen)
        eventually(lambda: not leftovers() and not of_tools(server), seconds=1.0)
