"""How far a batch is, as one line for a terminal. It asks the server for the executions that have come of the calls."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import grpc
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands.history import quoted

_SECONDS = 2.0
# The clocks of two machines differ.
_SLACK = timedelta(minutes=10)
# Of a filter, in characters, without what joins its parts.
_LONGEST = 3_500


class BatchProgress:
    """Shows while it is entered; `look` asks how far it is. What cannot be asked for shows as not ended yet."""

    def __init__(
        self,
        stub: tool_execution_pb2_grpc.ToolExecutionStub,
        calls: Sequence[common_pb2.ToolCall],
        names: str,
        metadata: Sequence[tuple[str, str]],
    ) -> None:
        """`names` is what the request ids of all calls match that were not given one."""
        self._stub = stub
        self._metadata = tuple(metadata)
        self._request = tool_execution_pb2.ListExecutionsRequest(page_size=len(calls), filter=_filter(calls, names))
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=len(calls))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def look(self) -> None:
        """Ask, and show it."""
        try:
            found = self._stub.ListExecutions(self._request, timeout=_SECONDS, metadata=self._metadata).executions
        except grpc.RpcError:
            # The batch goes on without it.
            return
        ended = [each for each in found if each.HasField("end_time")]
        failed = sum(each.state != common_pb2.STATE_SUCCEEDED for each in ended)
        says = f"{len(found) - len(ended)} running, {failed} failed"
        self._progress.update(self._task, completed=len(ended), description=says)


def _filter(calls: Sequence[common_pb2.ToolCall], names: str) -> str:
    since = (datetime.now(UTC) - _SLACK).isoformat(timespec="seconds")
    conditions = [f"create_time >= {quoted(since)} AND (request_id = {quoted(names)}"]
    for call in calls:
        condition = f"request_id = {quoted(call.request_id)}"
        is_named = not call.request_id.startswith(names.removesuffix("*"))
        if is_named and len(condition) + sum(map(len, conditions)) < _LONGEST:
            conditions.append(condition)
    return " OR ".join(conditions) + ")"
