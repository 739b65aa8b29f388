"""One of several server processes: what the supervisor runs, `… server_process NAME FD`.

Dies with the supervisor, and ends only when that says so: who signals a whole group or unit signals both of them.
"""

import gc
import os
import signal
import socket
import sys
from types import FrameType
from typing import TYPE_CHECKING

from toolwright_server.backends.forked.linux import die_with_parent

if TYPE_CHECKING:
    from toolwright_server.supervision.order import ProcessOrder


def main() -> int:
    """Serve until told to end; the exit code. FD is the descriptor of the link, NAME for people."""
    die_with_parent(signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not SIG_IGN, which the programs that tools start would inherit.
        signal.signal(number, _left_to_the_supervisor)
    text = sys.stdin.buffer.read()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    from toolwright_server.supervision.order import ProcessOrder  # noqa: PLC0415 (dying comes before long imports)

    order = ProcessOrder.from_json(text)
    if os.getppid() != order.supervisor_pid:
        return 1  # it died before the kernel was told
    sys.path += [entry for entry in order.path if entry not in sys.path]
    connection = socket.socket(fileno=int(sys.argv[2]))
    os.set_inheritable(connection.fileno(), False)
    return _served(order, connection)


def _served(order: "ProcessOrder", connection: socket.socket) -> int:
    gc.disable()  # As serving.py does.
    from toolwright_server.commands import serving  # noqa: PLC0415 (as above)
    from toolwright_server.settings import Settings  # noqa: PLC0415

    def run() -> int:
        from toolwright_server.app import serve  # noqa: PLC0415
        from toolwright_server.supervision.link import SupervisorLink  # noqa: PLC0415

        return serve(Settings(**order.settings), SupervisorLink(connection, order.number))

    return serving.refusing(run)


def _left_to_the_supervisor(number: int, frame: FrameType | None) -> None:
    """Nothing."""


if __name__ == "__main__":
    sys.exit(main())
