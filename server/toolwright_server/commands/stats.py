"""`stats`: how often what was called and how it went; a table for people, JSON or CSV for programs."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.commands import csv_table, usage_figures
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import for_people, printable, show_json
from toolwright_server.commands.reaching import ask
from toolwright_server.commands.usage_figures import HEADS, Wanted


def show(address: str | None, wanted: Wanted, limit: int, *, as_csv: bool, as_json: bool) -> int:
    """Print at most `limit` rows; the exit code."""

    def question(channel: grpc.Channel) -> int:
        request = wanted.request(datetime.now(UTC))
        found, last = usage_figures.rows(usage_figures.Stub(channel), request, limit)
        if as_csv:
            write_csv(found, wanted.by)
        elif for_people(as_json=as_json):
            print_table(found, last, wanted.by)
        else:
            show_json(document(found, last, wanted.by), people=False)
        return Exit.OK

    return ask(address, question)


def document(found: Sequence[pb.UsageRow], last: pb.QueryUsageResponse, by: Sequence[str]) -> dict[str, Any]:
    """The rows, their sum and the period for programs."""
    return {
        "start_time": last.start_time.ToJsonString(),
        "end_time": last.end_time.ToJsonString(),
        "rows": [_named(row, by) | usage_figures.values(row.figures) for row in found],
        "total": usage_figures.values(last.total),
    }


def write_csv(found: Sequence[pb.UsageRow], by: Sequence[str]) -> None:
    """One line for each row, below the names of the columns."""
    heads = [*by, *usage_figures.values(pb.UsageFigures())]
    csv_table.write(heads, (_named(row, by) | usage_figures.values(row.figures) for row in found))


def print_table(found: Sequence[pb.UsageRow], last: pb.QueryUsageResponse, by: Sequence[str]) -> None:
    """The rows for people, and a line for all together."""
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    table = Table(box=None, pad_edge=False)
    for head in by:
        table.add_column(head)
    for head in HEADS:
        table.add_column(head, justify="right", no_wrap=True)
    for row in found:
        cells = [*usage_figures.names(row, by), *usage_figures.words_of(row.figures)]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    if by:
        heading = ["all", *[""] * (len(by) - 1)]
        table.add_row(*(Text(cell, style="bold") for cell in (*heading, *usage_figures.words_of(last.total))))
    console.print(table)
    console.print(f"calls made from {_moment(last.start_time)} to {_moment(last.end_time)} (UTC)", highlight=False)


def _named(row: pb.UsageRow, by: Sequence[str]) -> dict[str, Any]:
    return dict(zip(by, usage_figures.names(row, by), strict=True))


def _moment(time: Any) -> str:
    return f"{time.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M}"
