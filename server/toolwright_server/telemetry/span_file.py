"""Spans in a bounded file of the data directory, for the time before anybody runs a collector.

One JSON object per line; `spans.jsonl` becomes `spans.1.jsonl` when it is full, so at most twice the limit is kept.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

import orjson

from toolwright_server.telemetry.spans import SpanRecord, kind_from

FILE_NAME = "spans.jsonl"
ROTATED_NAME = "spans.1.jsonl"
LOCK_NAME = "spans.lock"
_STATUS = ("UNSET", "OK", "ERROR")


class StoredSpan(TypedDict):
    """One line of the file. Ids are hex, times Unix nanoseconds, `status` is UNSET, OK or ERROR."""

    trace_id: str
    span_id: str
    parent_span_id: str
    parent_is_remote: bool
    name: str
    kind: str
    start_time_unix_nano: int
    end_time_unix_nano: int
    status: str
    status_message: str | None
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    scope: str
    server_id: str


class SpanFile:
    """Appends spans; the folder is made at the first one, readable by its owner only."""

    def __init__(self, folder: Path, *, max_bytes: int, resource: Mapping[str, Any]) -> None:
        self._path = folder / FILE_NAME
        self._rotated = folder / ROTATED_NAME
        self._max_bytes = max_bytes
        self._server_id = str(resource.get("service.instance.id", ""))

    def append(self, records: Sequence[SpanRecord]) -> None:
        """Write the spans in one go.

        Raises:
            OSError: the folder cannot be written, the disk is full, ...; it names the file, and nothing was written.
        """
        text = b"".join(orjson.dumps(self._stored(record), option=orjson.OPT_APPEND_NEWLINE) for record in records)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Server processes of one data directory share the file: none may turn it while another one writes.
        with self._path.with_name(LOCK_NAME).open("ab") as lock:
            fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
            self._write(text)

    def _write(self, text: bytes) -> None:
        if self._path.exists() and self._path.stat().st_size + len(text) > self._max_bytes:
            self._path.replace(self._rotated)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            try:
                left = memoryview(text)
                while left:
                    left = left[file.write(left) :]
            except OSError as error:
                # Half a line would spoil the next one.
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise OSError(error.errno, error.strerror, str(self._path)) from None

    def _stored(self, record: SpanRecord) -> StoredSpan:
        (name, trace_id, span_id, parent_id, remote, _, _, kind, start, end, status, message, attributes, events, _,
         scope) = record  # fmt: skip
        return {
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_span_id": parent_id,
            "parent_is_remote": remote,
            "name": name,
            "kind": kind_from(kind).name,
            "start_time_unix_nano": start,
            "end_time_unix_nano": end,
            "status": _STATUS[status],
            "status_message": message,
            "attributes": attributes,
            "events": [{"name": each[0], "time_unix_nano": each[1], "attributes": each[2]} for each in events or ()],
            "scope": scope[0],
            "server_id": self._server_id,
        }


def read_traces_of(execution_id: str, folder: Path) -> list[StoredSpan]:
    """Every kept span of the traces in which this execution ran, oldest first; empty when there is none."""
    needle = orjson.dumps(execution_id)
    traces = {
        span["trace_id"]
        for span in _spans_with([needle], folder)
        if span["attributes"].get("gen_ai.tool.call.id") == execution_id
    }
    needles = [orjson.dumps(trace_id) for trace_id in traces]
    spans = (span for span in _spans_with(needles, folder) if span["trace_id"] in traces) if needles else ()
    return sorted(spans, key=lambda span: span["start_time_unix_nano"])


def oldest_kept_ns(folder: Path) -> int | None:
    """When the oldest kept span began, in Unix nanoseconds; None without a span file."""
    for name in (ROTATED_NAME, FILE_NAME):
        path = folder / name
        if path.exists():
            with path.open("rb") as lines:
                line = lines.readline()
            if line.endswith(b"\n"):
                return orjson.loads(line)["start_time_unix_nano"]
    return None


def _spans_with(needles: Sequence[bytes], folder: Path) -> Iterator[StoredSpan]:
    for name in (ROTATED_NAME, FILE_NAME):
        path = folder / name
        if not path.exists():
            continue
        with path.open("rb") as lines:
            for line in lines:
                # Most lines are of other traces: look for the text before parsing.
                if line.endswith(b"\n") and any(needle in line for needle in needles):
                    yield orjson.loads(line)
