"""Small programs that stand behind a link as a server process does, for tests of who supervises them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from toolwright_server.supervision.order import ProcessOrder
from toolwright_server.supervision.process import ServerProcess

SECONDS = 20.0

# What all of them begin with: the order from standard input, the link from the descriptor in the last argument.
_HEAD = """
import json, os, signal, socket, sys, time
sys.path[:0] = {path!r}
from toolwright_server.supervision.link import SupervisorLink
order = json.load(sys.stdin)
link = SupervisorLink(socket.socket(fileno=int(sys.argv[-1])), order["number"])
calls = 0
def report():
    global calls
    calls += 1
    point = dict(attributes={{}}, value=calls, counts=[], sum=0.0)
    return dict(healthy={healthy}, why="it is ill", metrics=[dict(
        name="asked", unit="1", description="", kind="counter", bounds=[], start_ns=1, time_ns=2, points=[point])])
"""
_SERVE = """
import asyncio
async def serve():
    told = asyncio.Event()
    link.start(report)
    link.obey(asyncio.get_running_loop(), told.set)
    await link.ready("127.0.0.1:1")
    await told.wait()
    await link.close()
asyncio.run(serve())
"""
SERVES = _SERVE
# Serves, and hears nothing: its loop, and its thread, stand still.
DEAF = 'link._send({"ready": "127.0.0.1:1"}); time.sleep(600)'
CRASHES = "sys.exit(3)"
# Serves until it is told to end, and then does not.
STUBBORN = 'link.start(report); link._send({"ready": "127.0.0.1:1"}); time.sleep(600)'
# Is told to end while it starts.
SLOW = """
link.start(report)
while not link.is_told:
    time.sleep(0.01)
sys.exit(0)
"""


def command(program: str, *, healthy: bool = True) -> Sequence[str]:
    """What Python is to run."""
    head = _HEAD.format(path=[entry or str(Path.cwd()) for entry in sys.path], healthy=healthy)
    return ("-c", head + program)


def order(number: int = 1, supervisor_pid: int = 0) -> ProcessOrder:
    return ProcessOrder(number, {"server_id": f"test-{number}"}, supervisor_pid, [])


def started(program: str, number: int = 1, *, healthy: bool = True) -> ServerProcess:
    return ServerProcess(order(number), command(program, healthy=healthy))
