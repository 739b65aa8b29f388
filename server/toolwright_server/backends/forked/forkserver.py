"""The fork server: imports the tools once, makes workers on demand, kills them, buries them with all they left.

Started as a program before gRPC is; single-threaded; never runs a tool itself. It ends, with everything below it, when
the server's end of its control socket is closed or the server is gone, and ignores SIGINT and SIGTERM.
"""

import faulthandler
import gc
import io
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback

import orjson

from toolwright_server.backends.forked import worker
from toolwright_server.backends.forked.linux import ThreadCount, become_subreaper, children
from toolwright_server.backends.forked.orphans import Orphanage
from toolwright_server.backends.forked.plan import Bootstrap
from toolwright_server.catalog.discovery import load_again
from toolwright_server.errors import SettingsError

_MESSAGE_BYTES = 64 * 1024
_LAST_SECONDS = 5.0
_POLL_MILLISECONDS = 20
_BURIAL_SECONDS = 0.005

Tools = worker.Tools


def main() -> int:
    """Run until the server is gone. The control socket is the only argument: its descriptor."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control = socket.socket(fileno=int(sys.argv[1]))
    order = Bootstrap.from_json(_private_streams())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable()
    become_subreaper()
    gc.disable()
    try:
        tools = _loaded(order)
    except SettingsError as error:
        _say(control, ["unfit", str(error)])
        return 1
    ForkServer(control, order, tools).run()
    return 0


def _private_streams() -> bytes:
    """What standard input holds; from here on it is empty, and what tools print goes to standard error."""
    text = sys.stdin.buffer.read()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # Whole lines: what a killed worker printed must not be lost in its buffer, nor mixed with another's.
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True)
    return text


def _loaded(order: Bootstrap) -> Tools:
    sys.path += [entry for entry in order.path if entry not in sys.path]
    try:
        loaded = load_again(order.plan)
    except SettingsError:
        raise
    except BaseException as error:
        traceback.print_exc()
        raise SettingsError(f"loading the tools raised {type(error).__name__}: {error}") from error
    return {(tool.name, tool.version): tool for tool in loaded.tools}


def _say(control: socket.socket, message: list[object], descriptors: tuple[int, ...] = ()) -> None:
    data = orjson.dumps(message)[:_MESSAGE_BYTES]
    try:
        if descriptors:
            socket.send_fds(control, [data], list(descriptors))
        else:
            control.send(data)
    except OSError:
        pass  # the server is gone: the loop is about to notice


class ForkServer:
    """The loop. Messages in: `["fork"]`, `["kill", pid]`. Out: `ready`, `born`, `barren`, `buried`, `unfit`."""

    def __init__(self, control: socket.socket, order: Bootstrap, tools: Tools) -> None:
        self._control = control
        self._limits = order.limits
        self._tools = tools
        self._orphanage = Orphanage()
        self._threads = ThreadCount()
        self._wanted = 0
        self._fork_by = 0.0
        self._server = _pidfd_of_parent(order.server_pid)
        self._signals, self._signals_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._signals_in, warn_on_full_buffer=False)
        # What the imports made is shared with the workers for as long as the collector does not touch it.
        gc.collect()
        gc.freeze()
        gc.enable()

    def run(self) -> None:
        """Serve until the server is gone, then end everybody."""
        _say(self._control, ["ready", len(self._tools), self._threads() - 1])
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._signals, self._server):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._patience())}
            if self._signals in ready:
                _emptied(self._signals)
                self._bury()
            if self._server in ready or (self._control.fileno() in ready and not self._obey()):
                break
            self._fork_if_due()
        self._end_all()

    def _patience(self) -> float | None:
        """Milliseconds until there is something to do unasked; None: for ever."""
        if not self._wanted:
            return None
        return max(0.0, self._fork_by - time.monotonic()) * 1000 if self._orphanage.ending else 0.0

    def _fork_if_due(self) -> None:
        """One worker at a time, and not before those that are being killed are buried, which somebody waits for."""
        if self._wanted and (not self._orphanage.ending or time.monotonic() >= self._fork_by):
            self._wanted -= 1
            self._fork()

    def _obey(self) -> bool:
        """Do what the server asks; False when it is gone."""
        while True:
            try:
                data = self._control.recv(_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            message = orjson.loads(data)
            if message[0] == "fork":
                self._wanted += 1
                self._fork_by = time.monotonic() + _BURIAL_SECONDS
            elif message[0] == "kill":
                self._orphanage.kill(message[1])

    def _fork(self) -> None:
        server_end, worker_end = socket.socketpair()
        own_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            server_end.close()
            worker_end.close()
            _say(self._control, ["barren", error.strerror])
            return
        if pid == 0:
            server_end.close()
            self._become_worker(worker_end, own_pid)
        self._orphanage.workers.add(pid)
        worker_end.close()
        self._announce(pid, server_end)

    def _become_worker(self, connection: socket.socket, parent: int) -> None:
        """In the new process. Never returns: what follows on the stack is the fork server's business."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for descriptor in (self._signals, self._signals_in, self._server):
                os.close(descriptor)
            self._control.close()
            self._threads.close()
            worker.serve(connection, self._tools, self._limits, parent)
            code = 0
        except BaseException:  # noqa: BLE001 (nothing may travel up into the fork server's loop)
            traceback.print_exc()
        finally:
            os._exit(code)

    def _announce(self, pid: int, server_end: socket.socket) -> None:
        try:
            os.setpgid(pid, pid)  # the worker does the same: whoever is first
        except OSError:
            pass
        pidfd = os.pidfd_open(pid)
        _say(self._control, ["born", pid], (server_end.fileno(), pidfd))
        os.close(pidfd)
        server_end.close()

    def _bury(self) -> None:
        for burial in self._orphanage.collect():
            _say(self._control, ["buried", burial.pid, burial.status])

    def _end_all(self) -> None:
        """Kill and reap until nobody is left, for some seconds at most."""
        end = time.monotonic() + _LAST_SECONDS
        self._orphanage.kill_all()
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        while True:
            _emptied(self._signals)
            self._orphanage.collect()
            if not children() or time.monotonic() > end:
                return
            poll.poll(_POLL_MILLISECONDS)


def _pidfd_of_parent(pid: int) -> int:
    pidfd = os.pidfd_open(pid)
    if os.getppid() != pid:
        raise SystemExit(1)  # the server has died in the meantime
    return pidfd


def _emptied(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass


def _nothing(number: int, frame: object) -> None:
    """A handler, so that the signal wakes the poll."""


if __name__ == "__main__":
    sys.exit(main())
