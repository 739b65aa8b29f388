"""`history`: which calls were made and what became of them, newest first; a table for people, JSON for programs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import reaching
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json

_PAGE = 1_000
_SECONDS = 60.0
_AGO = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

Execution = common_pb2.Execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The typed conditions, which all must hold; of several states one. `since` and `until`: as `when` reads them."""

    states: Sequence[str] = ()
    tool: str | None = None
    category: str | None = None
    user: str | None = None
    session: str | None = None
    task: str | None = None
    agent: str | None = None
    labels: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    filter: str | None = None

    def filter_text(self, now: datetime) -> str:
        """The filter of ListExecutions. Raises UsageError."""
        fields = (
            ("tool", self.tool),
            ("category", self.category),
            ("user_id", self.user),
            ("session_id", self.session),
            ("task_id", self.task),
            ("agent_id", self.agent),
        )
        parts = [f"{name} = {quoted(value)}" for name, value in fields if value is not None]
        if self.states:
            parts.append(" OR ".join(f"state = {quoted(state.upper())}" for state in self.states))
        parts += [_label(each) for each in self.labels]
        if self.since is not None:
            parts.append(f"create_time >= {quoted(when(self.since, now, '--since'))}")
        if self.until is not None:
            parts.append(f"create_time < {quoted(when(self.until, now, '--until'))}")
        if self.filter is not None:
            parts.append(f"({self.filter})")
        return text(" AND ".join(parts), "the filter")


def show(address: str | None, wanted: Wanted, limit: int, *, as_json: bool) -> int:
    """Print the newest `limit` executions that are wanted; the exit code."""

    def ask(channel: grpc.Channel) -> int:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        found = list(listed(stub, wanted.filter_text(datetime.now(UTC)), limit))
        if for_people(as_json=as_json):
            _table(found)
        else:
            show_json([document(each) for each in found], people=False)
        return Exit.OK

    return reaching.ask(address, ask)


def listed(stub: tool_execution_pb2_grpc.ToolExecutionStub, asked: str, limit: int) -> Iterator[Execution]:
    """At most `limit` executions, newest first. Raises grpc.RpcError."""
    request = tool_execution_pb2.ListExecutionsRequest(filter=asked)
    while limit > 0:
        request.page_size = min(limit, _PAGE)
        page = stub.ListExecutions(request, timeout=_SECONDS)
        yield from page.executions
        limit -= len(page.executions)
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return


def quoted(value: str) -> str:
    """A value as the filter reads it; a `*` at its end keeps its meaning."""
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def when(typed: str, now: datetime, option: str) -> str:
    """A time in RFC 3339, typed as such or as how long ago it was (`90s`, `30m`, `12h`, `7d`). Raises UsageError."""
    ago = _AGO.fullmatch(typed)
    try:
        moment = datetime.fromisoformat(typed) if ago is None else now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {typed}: write 2026-01-31T12:00:00Z, 2026-01-31, or how long ago: 30m") from None
    # A time without a zone is the machine's, as people mean it.
    return moment.astimezone(UTC).isoformat()


def started(execution: Execution) -> str:
    """When the call was made, in the machine's time."""
    return execution.create_time.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def took(execution: Execution) -> str:
    """How long it took from acceptance to its end; empty while it runs."""
    if not execution.HasField("end_time"):
        return ""
    seconds = (execution.end_time.ToNanoseconds() - execution.create_time.ToNanoseconds()) / 1e9
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def state(execution: Execution) -> str:
    """The state, with the reason of what did not succeed."""
    name = str(document(execution).get("state", ""))
    return f"{name} {execution.error.reason}" if execution.HasField("error") else name


def _label(typed: str) -> str:
    key, separator, value = typed.partition("=")
    if not key:
        raise UsageError(f"--label {typed!r}: write KEY or KEY=VALUE")
    return f"labels.{quoted(key)} = {quoted(value)}" if separator else f"labels:{quoted(key)}"


def _table(found: Sequence[Execution]) -> None:
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("created", "tool", "state", "took", "user", "execution", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[5].no_wrap = True
    for each in found:
        cells = (started(each), each.tool, state(each), took(each), each.user_id, each.execution_id)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console().print(table)
