"""`report`: what was called in a week, as a document: Markdown for people, CSV for spreadsheets."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.commands import csv_table, usage_figures
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.printing import printable
from toolwright_server.commands.reaching import ask
from toolwright_server.commands.usage_figures import HEADS, Wanted

WEEK_DAYS: Final = 7
# Rows of a section that shows the first ones only.
TOP: Final = 10


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the report. `by`: the dimension of its rows."""

    title: str
    by: str
    rows: Sequence[pb.UsageRow]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it, with its period."""

    begin: datetime
    end: datetime
    total: pb.UsageFigures
    sections: Sequence[Section]


def show(address: str | None, wanted: Wanted, rare: int, *, as_csv: bool) -> int:
    """Print the report of the period, of the last seven days unless one is given; the exit code."""

    def question(channel: grpc.Channel) -> int:
        found = gathered(usage_figures.Stub(channel), wanted, rare, datetime.now(UTC))
        if as_csv:
            write_csv(found)
        else:
            sys.stdout.writelines(f"{line}\n" for line in markdown(found))
        return Exit.OK

    return ask(address, question)


def gathered(stub: usage_figures.Stub, wanted: Wanted, rare: int, now: datetime) -> Report:
    """Ask for all of it. Raises grpc.RpcError and UsageError."""
    if wanted.since is None:
        # Days as they are counted, today among them.
        first = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=WEEK_DAYS - 1)
        wanted = replace(wanted, since=first.isoformat())
    if wanted.until is None:
        wanted = replace(wanted, until=now.isoformat())
    tools, last = usage_figures.rows(stub, replace(wanted, by=("tool",), order="calls", unused=True).request(now))
    days, _ = usage_figures.rows(stub, replace(wanted, by=("day",)).request(now))
    return Report(
        last.start_time.ToDatetime(tzinfo=UTC),
        last.end_time.ToDatetime(tzinfo=UTC),
        last.total,
        [section for section in _sections(tools, days, rare) if section.rows],
    )


def markdown(report: Report) -> Iterator[str]:
    """The lines of the document."""
    yield f"# Usage from {report.begin:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} (UTC)"
    yield ""
    yield from _table([], [usage_figures.words_of(report.total)])
    for section in report.sections:
        yield from ("", f"## {section.title}", "")
        rows = [
            [*map(_cell, usage_figures.names(row, (section.by,))), *usage_figures.words_of(row.figures)]
            for row in section.rows
        ]
        yield from _table([section.by], rows)


def write_csv(report: Report) -> None:
    """One table: the section, what the row is for, the figures."""
    heads = ["section", "name", *usage_figures.values(pb.UsageFigures())]
    csv_table.write(heads, _lines(report))


def _lines(report: Report) -> Iterator[dict[str, Any]]:
    yield {"section": "Total", "name": "", **usage_figures.values(report.total)}
    for section in report.sections:
        for row in section.rows:
            name = usage_figures.names(row, (section.by,))[0]
            yield {"section": section.title, "name": name, **usage_figures.values(row.figures)}


def _sections(tools: Sequence[pb.UsageRow], days: Sequence[pb.UsageRow], rare: int) -> Iterator[Section]:
    called = [row for row in tools if row.figures.call_count]
    yield Section("By tool", "tool", called)
    yield Section("By day", "day", days)
    timed = [row for row in called if row.figures.HasField("latency_p95")]
    yield Section("Slowest tools", "tool", _top(timed, lambda figures: figures.latency_p95.ToMicroseconds()))
    yield Section("Failing tools", "tool", _top(called, _failures))
    yield Section("Most costly tools", "tool", _top(called, lambda figures: figures.cost_micros))
    seldom = [row for row in tools if row.figures.call_count <= rare]
    seldom.sort(key=lambda row: (row.figures.call_count, row.tool))
    yield Section(f"Rarely used tools (at most {rare} calls)", "tool", seldom)


def _top(rows: Sequence[pb.UsageRow], figure: Callable[[pb.UsageFigures], int]) -> Sequence[pb.UsageRow]:
    """The first rows by a figure that is more than 0."""
    found = [row for row in rows if figure(row.figures) > 0]
    return sorted(found, key=lambda row: (-figure(row.figures), row.tool))[:TOP]


def _failures(figures: pb.UsageFigures) -> int:
    return figures.call_count - figures.succeeded_count - figures.cancelled_count


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join((*heads, *HEADS))} |"
    yield f"| {' | '.join([*['---'] * len(heads), *['---:'] * len(HEADS)])} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _cell(text: str) -> str:
    """A name as Markdown shows it, whatever is in it."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", printable(text).replace("\n", " ").replace("\t", " "))
