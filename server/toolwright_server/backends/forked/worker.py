"""One worker process: takes a call, runs the tool, answers; again and again until it is killed.

Everything it needs of the server comes in frames. It dies with the fork server.
"""

import faulthandler
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
from opentelemetry import context as otel
from opentelemetry.propagate import extract

from toolwright_server.backends.forked.context import Frame, WorkerContext
from toolwright_server.backends.forked.footprint import Footprint
from toolwright_server.backends.forked.frames import Frames, Header, frame
from toolwright_server.backends.forked.linux import become_subreaper, die_with_parent
from toolwright_server.backends.forked.plan import WorkerLimits
from toolwright_server.backends.invoke import (
    Refused,
    answer,
    bind,
    failure_in_full,
    failure_of,
    for_operators,
    target_of,
    vouches,
)
from toolwright_server.catalog.model import Tool
from toolwright_server.errors import Failure, Reason
from toolwright_server.identity import Caller

Tools = Mapping[tuple[str, str], Tool]

_READ_BYTES = 256 * 1024
_DEFAULT_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
# The kernel's memory killer takes workers before the server.
_OOM_SCORE = "500"
# The keys under which the client library looks for what to hand on: see execution/propagation.py.
_DEADLINE_KEY = "toolwright-deadline"
_EXECUTION_KEY = "toolwright-execution-id"


def serve(connection: socket.socket, tools: Tools, limits: WorkerLimits, parent: int) -> None:
    """In the new process, until the server closes the connection."""
    _settle_in(limits, parent)
    Worker(connection, tools, limits).run()


def _settle_in(limits: WorkerLimits, parent: int) -> None:
    # A group and not a session of its own: autogroups would give each worker its own share of the processor.
    os.setpgid(0, 0)
    die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before it could be watched
    become_subreaper()
    os.nice(limits.nice)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _DEFAULT_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    except OSError:
        pass  # only a preference
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # Python's own generator reseeds itself
    faulthandler.enable()


class Worker:
    """The loop."""

    def __init__(self, connection: socket.socket, tools: Tools, limits: WorkerLimits) -> None:
        self._connection = connection
        self._tools = tools
        self._limits = limits
        self._frames = Frames(limits.payload_bytes)
        self._footprint = Footprint()
        self._pid = os.getpid()
        self._hard_limit = resource.getrlimit(resource.RLIMIT_DATA)[1]
        self._memory_limit = 0

    def run(self) -> None:
        """Serve calls until the connection ends."""
        self._send(frame(["ready"]))
        while True:
            header, payload = self._receive()
            self._send(self._carried(header[1], payload))

    def _receive(self) -> Frame:
        while (found := self._frames.next()) is None:
            data = self._connection.recv(_READ_BYTES)
            if not data:
                os._exit(0)
            self._frames.feed(data)
        return found

    def _send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def _carried(self, call: dict[str, Any], payload: bytes) -> bytes:
        """One call: its last frame."""
        tool = self._tools.get((call["tool"], call["version"]))
        if tool is None:
            return _unknown(call)
        context = self._context(call, tool)
        limit = tool.memory_limit_bytes or self._limits.memory_bytes
        self._allow(limit)
        token = otel.attach(self._telemetry(call))
        try:
            header, end = _run(tool, payload, context, call["result_limit"])
        finally:
            otel.detach(token)
        if os.getpid() != self._pid:
            os._exit(0)  # a fork of the tool's has returned from it: only the original answers
        context.end()
        retire = self._footprint.tidy(limit)
        if header[0] == "lost":
            retire = "memory"
        return frame([*header, retire], end)

    def _context(self, call: dict[str, Any], tool: Tool) -> WorkerContext:
        return WorkerContext(
            call["execution_id"],
            call["task_id"],
            Caller(*call["caller"]),
            deadline_at=call["deadline"],
            send=self._send,
            receive=self._receive,
            reports_price=tool.reports_price,
        )

    def _telemetry(self, call: dict[str, Any]) -> otel.Context:
        known = extract(call["headers"], otel.Context())
        return otel.Context({**known, _DEADLINE_KEY: call["deadline"], _EXECUTION_KEY: call["execution_id"]})

    def _allow(self, limit: int) -> None:
        """On top of what the worker used before its first call; private writable memory counts (RLIMIT_DATA)."""
        if limit != self._memory_limit:
            self._memory_limit = limit
            soft = self._footprint.used_bytes + limit
            if self._hard_limit != resource.RLIM_INFINITY:
                soft = min(soft, self._hard_limit)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, self._hard_limit))


def _run(tool: Tool, payload: bytes, context: WorkerContext, result_limit: int) -> tuple[Header, bytes]:
    target = target_of(tool)
    try:
        arguments = bind(tool, orjson.loads(payload))
        if target.signature.context is not None:
            arguments[target.signature.context] = context
        value = target.function(**arguments)
        return ["result"], answer(tool, value, result_limit)
    except Refused as refused:
        return ["refused"], failure_to_json(refused.failure, "")
    except MemoryError as error:
        # No words about where: there may be no room for them.
        error.__traceback__ = None
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return ["lost"], failure_to_json(failure_of(tool.name, error), "")
    except BaseException as error:  # noqa: BLE001 (whatever a tool raises is its answer)
        kind = "refused" if vouches(error) else "failed"
        return [kind], failure_to_json(failure_in_full(tool, error), for_operators(tool, error))


def failure_to_json(failure: Failure, detail: str) -> bytes:
    """A failure as `server` reads it; `detail` is for its log."""
    return orjson.dumps(
        {
            "reason": failure.reason.name,
            "message": failure.message,
            "user_message": failure.user_message,
            "suggested_action": failure.suggested_action,
            "retryable": failure.retryable,
            "retry_delay": failure.retry_delay,
            "metadata": dict(failure.metadata),
            "violations": [(each.field, each.description) for each in failure.violations],
            "admin_message": failure.admin_message,
            "detail": detail.encode("utf-8", "replace").decode(),
        }
    )


def _unknown(call: dict[str, Any]) -> bytes:
    failure = Failure(
        Reason.UPSTREAM_UNAVAILABLE,
        f"the worker processes do not know {call['tool']} version {call['version']}: "
        "its module declares other tools there than in the server; restart the server",
    )
    return frame(["refused", ""], failure_to_json(failure, ""))
