"""The context of a tool in a worker process: reports and nested calls travel to the server as frames."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from toolwright_server.artifacts.writing import DEFAULT_TYPE, ArtifactFile
from toolwright_server.backends.forked.drafts import RemoteDrafts
from toolwright_server.backends.forked.frames import Header, frame
from toolwright_server.backends.reports import Reporting
from toolwright_server.catalog.context import ToolCallError
from toolwright_server.identity import Caller

Frame = tuple[Header, bytes]


class WorkerContext(Reporting):
    """One call's context. Threads of the tool may share it; after the call has ended it refuses."""

    __slots__ = ("_asking", "_deadline_at", "_ended", "_receive", "_send", "_sending")

    def __init__(
        self,
        execution_id: str,
        task_id: str,
        caller: Caller,
        *,
        deadline_at: float,
        send: Callable[[bytes], None],
        receive: Callable[[], Frame],
        reports_price: bool = False,
    ) -> None:
        super().__init__(execution_id, task_id, caller, reports_price=reports_price)
        self._deadline_at = deadline_at
        self._send = send
        self._receive = receive
        self._sending = threading.Lock()
        self._asking = threading.Lock()
        self._ended = False

    @property
    def remaining(self) -> float:
        return max(0.0, self._deadline_at - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Always False: a worker whose call is told to stop is killed."""
        return False

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        payload = _json(tool, arguments or {})
        header, value = self._exchange(frame(["ask", str(tool)], payload))
        if header[0] != "reply":
            raise RuntimeError(f"the server sent {header[0]!r} instead of a reply")
        if header[1] is None:
            return orjson.loads(value)
        raise ToolCallError(**header[1])

    def artifact(self, name: str, media_type: str = DEFAULT_TYPE) -> ArtifactFile:
        return ArtifactFile(lambda: RemoteDrafts(self._exchange), name, media_type)

    def end(self) -> None:
        """Let nobody report any more: the next frame is the call's end."""
        with self._sending:
            self._ended = True

    def _progress(self, done: float, total: float | None, message: str) -> None:
        self._write(frame(["progress", done, total, message]))

    def _output(self, chunk: str | bytes, channel: str) -> None:
        if isinstance(chunk, str):
            self._write(frame(["output", channel, True], chunk.encode()))
        else:
            self._write(frame(["output", channel, False], chunk))

    def _log(self, level: str, text: str) -> None:
        self._write(frame(["log", level, text]))

    def _charge(self, micros: int) -> None:
        self._write(frame(["charge", micros]))

    def _exchange(self, data: bytes) -> Frame:
        with self._asking:
            self._write(data)
            return self._receive()

    def _write(self, data: bytes) -> None:
        with self._sending:
            if self._ended:
                raise RuntimeError(f"the call {self.execution_id} has ended: nothing can be reported any more")
            self._send(data)


def _json(tool: str, arguments: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(dict(arguments))
    except (TypeError, ValueError) as error:
        raise TypeError(f"the arguments for {tool} are not JSON: {error}") from error
