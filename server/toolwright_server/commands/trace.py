"""`toolwright trace EXECUTION_ID`: the spans of an execution's trace as a tree in the terminal, or as JSON in a pipe.

Reads the span file of a data directory; never asks a server or a collector.
"""

import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import orjson
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from toolwright_server.telemetry.span_file import FILE_NAME, StoredSpan, oldest_kept_ns, read_traces_of

_UUID7 = 7
_POLL_SECONDS = 0.1
# Said by the span's name or shown in a column of its own.
_SAID = frozenset({"rpc.system.name", "rpc.method", "gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.type"})
_MAX_VALUE = 60


def draw(execution_id: str, data_dir: Path, *, wait_seconds: float = 2.0) -> int:
    """Print the trace; waits up to `wait_seconds` for spans that are still on their way to the file.

    The exit code: 0 when there is one, 1 when not; then standard error says why.
    """
    # What was typed may not even be text; then it is no execution's id.
    execution_id = execution_id.encode(errors="replace").decode()
    spans = _awaited(execution_id, data_dir, wait_seconds)
    if not spans:
        print(why_not_found(execution_id, data_dir), file=sys.stderr)
        return 1
    if sys.stdout.isatty():
        for tree in trees(spans, execution_id):
            Console().print(tree)
    else:
        document = {"execution_id": execution_id, "spans": spans}
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    return 0


def trees(spans: Sequence[StoredSpan], execution_id: str) -> list[Tree]:
    """One tree per span whose parent is not among `spans`; the execution asked for is marked."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[StoredSpan]] = {}
    for span in spans:
        children.setdefault(span["parent_span_id"] if span["parent_span_id"] in known else "", []).append(span)
    drawn: list[Tree] = []
    for root in children.get("", []):
        title = f"trace {root['trace_id']}  {_clock(root['start_time_unix_nano'])}"
        if root["parent_span_id"]:
            title += f"  called from span {root['parent_span_id']}"
        tree = Tree(Text(title, style="bold"))
        # An explicit stack: nested calls may go deeper than the interpreter's.
        waiting = [(tree, root)]
        while waiting:
            branch, span = waiting.pop()
            below = branch.add(_line(span, root, execution_id))
            waiting += [(below, child) for child in reversed(children.get(span["span_id"], []))]
        drawn.append(tree)
    return drawn


def why_not_found(execution_id: str, data_dir: Path) -> str:
    """The most likely reason, as far as it can be told from here."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if os.environ.get(name):
            return f"no trace of {execution_id} in {data_dir}: {name} is set, so spans go to that collector; look there"
    oldest = oldest_kept_ns(data_dir)
    if oldest is None:
        return (
            f"no trace of {execution_id}: there is no {data_dir / FILE_NAME}. Name the data directory of the server; "
            "a server that sends its spans over OTLP, or traces nothing, writes no such file"
        )
    began = _began_ns(execution_id)
    if began is not None and began < oldest:
        return (
            f"no trace of {execution_id}: it began {_clock(began)} and the oldest span still kept is from "
            f"{_clock(oldest)}; the file is rotated when it is full"
        )
    return (
        f"no trace of {execution_id} in {data_dir}: it was not sampled (see OTEL_TRACES_SAMPLER and the caller's "
        "traceparent), it still runs, or it ran on a server with another data directory"
    )


def _awaited(execution_id: str, data_dir: Path, seconds: float) -> list[StoredSpan]:
    deadline = time.monotonic() + seconds
    while True:
        spans = read_traces_of(execution_id, data_dir)
        if _complete(spans, execution_id) or time.monotonic() >= deadline:
            return spans
        time.sleep(_POLL_SECONDS)


def _complete(spans: Sequence[StoredSpan], execution_id: str) -> bool:
    """Whether the execution's own span is there, and each span above it that this server made."""
    by_id = {span["span_id"]: span for span in spans}
    for span in spans:
        if span["attributes"].get("gen_ai.tool.call.id") != execution_id:
            continue
        above = span
        for _ in spans:  # a bound: a damaged file could name spans in a circle
            if not above["parent_span_id"] or above["parent_is_remote"]:
                return True
            if above["parent_span_id"] not in by_id:
                return False
            above = by_id[above["parent_span_id"]]
    return False


def _line(span: StoredSpan, root: StoredSpan, execution_id: str) -> Text:
    milliseconds = (span["end_time_unix_nano"] - span["start_time_unix_nano"]) / 1e6
    after = (span["start_time_unix_nano"] - root["start_time_unix_nano"]) / 1e6
    attributes = span["attributes"]
    asked = attributes.get("gen_ai.tool.call.id") == execution_id
    text = Text(span["name"], style="bold cyan" if asked else "cyan")
    text.append(f"  {milliseconds:.1f} ms", style="green")
    text.append(f"  +{after:.1f}", style="dim")
    if span["status"] != "UNSET":
        text.append(f"  {span['status']}", style="red" if span["status"] == "ERROR" else "green")
    if span["status_message"]:
        text.append(f" {span['status_message']}", style="red")
    for key, value in attributes.items():
        if key not in _SAID:
            text.append(f"  {_short(key)}={_shortened(value)}", style="dim")
    for event in span["events"]:
        text.append(f"\n· {event['name']} {_shortened(event['attributes'])}", style="dim")
    return text


def _short(key: str) -> str:
    return {"rpc.response.status_code": "code", "gen_ai.tool.call.id": "execution"}.get(key, key)


def _shortened(value: object) -> str:
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= _MAX_VALUE else f"{text[:_MAX_VALUE]}…"


def _clock(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _began_ns(execution_id: str) -> int | None:
    """When an execution began, from its UUIDv7."""
    try:
        parsed = UUID(execution_id)
    except ValueError:
        return None
    return (parsed.int >> 80) * 1_000_000 if parsed.version == _UUID7 else None
