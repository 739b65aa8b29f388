"""A live view of an execution for a terminal: progress bar, output, log lines. Prints nothing for programs."""

from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from toolwright.v1 import common_pb2
from toolwright_server.commands.printing import printable

_STYLES = {"debug": "dim", "info": "", "warning": "yellow", "error": "red"}


def watch(events: Iterator[common_pb2.ExecutionEvent]) -> Iterator[common_pb2.ExecutionEvent]:
    """Show each event on standard error and hand it on."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=None)
        for event in events:
            _show(event, progress, task)
            yield event


def _show(event: common_pb2.ExecutionEvent, progress: Progress, task: TaskID) -> None:
    kind = event.WhichOneof("event")
    if kind == "snapshot":
        progress.update(task, description=printable(event.snapshot.tool))
    elif kind == "progress":
        step = event.progress
        total = step.total if step.HasField("total") else None
        progress.update(task, completed=_whole(step.progress), total=None if total is None else _whole(total))
        if step.message:
            progress.update(task, description=printable(step.message))
    elif kind == "output":
        progress.console.print(_output(event.output), soft_wrap=True)
    elif kind == "log":
        _note(progress, event.log.level, event.log.text)
    elif kind == "retry":
        retry = event.retry
        pause = retry.delay.ToTimedelta().total_seconds()
        _note(progress, "warning", f"attempt {retry.attempt} failed, again in {pause:g} s: {retry.error.message}")
    elif kind == "warning":
        _note(progress, "warning", f"{event.warning.reason}: {event.warning.message}")


def _whole(number: float) -> float:
    # Rich shows a count as it is: 3 and not 3.0.
    return int(number) if number == int(number) else number


def _output(output: common_pb2.Output) -> Text:
    if output.HasField("data"):
        return Text(f"({len(output.data)} bytes on {printable(output.channel or 'output')})", style="dim")
    return Text(printable(output.text).removesuffix("\n"))


def _note(progress: Progress, level: str, text: str) -> None:
    progress.console.print(Text(f"{printable(level)}: {printable(text)}", style=_STYLES.get(level, "")), soft_wrap=True)
