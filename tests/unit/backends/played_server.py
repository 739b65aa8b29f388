"""Plays a server, to be killed: starts workers, lets them work, says who is there, and waits. Run as a program."""

import asyncio
import json
import sys
from pathlib import Path

import psutil

from tests.unit.backends.rig import Tools, process_backend, run


async def play(folder: Path) -> None:
    tools = Tools(folder)
    backend = await process_backend(tools)
    busy, leaving = tools.work("process_burn"), tools.work("process_leave_behind", {"seconds": 300})
    tasks = [run(backend, busy), run(backend, leaving)]
    await busy.first_progress()
    await leaving.until(lambda: bool(leaving.of("log")))
    everybody = [process.pid for process in psutil.Process().children(recursive=True)]
    said = json.dumps({"fork_server": backend.fork_server_pid, "everybody": everybody})
    sys.stdout.write(f"{said}\n")
    sys.stdout.flush()
    await asyncio.wait(tasks)


if __name__ == "__main__":
    asyncio.run(play(Path(sys.argv[1])))
