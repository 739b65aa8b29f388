"""`show`: all that is kept of one execution, or the tree of its task; for people, or as JSON for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from toolwright.v1 import common_pb2, tool_execution_pb2, tool_execution_pb2_grpc
from toolwright_server.commands import reaching
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.commands.documents import document
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.history import listed, quoted, started, state, took
from toolwright_server.commands.printing import for_people, printable, show_json

_SECONDS = 30.0
# Of one task; larger ones are shown as far as that.
TREE_LIMIT = 10_000
_JSON = ("arguments", "result", "error", "usage", "labels", "warnings")

Execution = common_pb2.Execution


def show(address: str | None, execution_id: str | None, request_id: str | None, *, tree: bool, as_json: bool) -> int:
    """Print the execution with this id, or the newest with this request id; the exit code."""

    def ask(channel: grpc.Channel) -> int:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        found = stub.GetExecution(_request(execution_id, request_id), timeout=_SECONDS).execution
        people = for_people(as_json=as_json)
        if tree:
            steps = list(listed(stub, f"task_id = {_exactly(found.task_id)}", TREE_LIMIT))
            _show_tree(found, steps, people=people)
        elif people:
            _show_one(document(found))
        else:
            show_json(document(found), people=False)
        return Exit.OK

    return reaching.ask(address, ask)


def _request(execution_id: str | None, request_id: str | None) -> tool_execution_pb2.GetExecutionRequest:
    if (execution_id is None) == (request_id is None):
        raise UsageError("give the ID of an execution, or its --request-id")
    request = tool_execution_pb2.GetExecutionRequest(value_json=True)
    if execution_id is not None:
        request.execution_id = text(execution_id, "ID")
    elif request_id is not None:
        request.request_id = text(request_id, "--request-id")
    return request


def _exactly(value: str) -> str:
    """Quoted for a filter, without a meaning for the `*` that a task's id may end in."""
    return quoted(value[:-1])[:-1] + '\\*"' if value.endswith("*") else quoted(value)


def _show_one(described: dict[str, Any]) -> None:
    documents = {name: described.pop(name) for name in _JSON if name in described}
    for key, value in described.items():
        print(f"{key.replace('_', ' ')}: {printable(str(value))}")
    for key, value in documents.items():
        print(f"{key}:")
        show_json(value, people=True)


def _show_tree(asked: Execution, steps: Sequence[Execution], *, people: bool) -> None:
    tree = in_order({each.execution_id: each for each in [asked, *steps]})
    if people:
        _draw(tree, asked.execution_id)
    else:
        show_json([{**document(each), "depth": depth} for each, depth in tree], people=False)


def in_order(known: Mapping[str, Execution]) -> list[tuple[Execution, int]]:
    """The executions with their depth, each followed by its steps, oldest first. Depth 0: its parent is not known.

    Ids grow with time and a step is younger than its parent: what claims otherwise hangs on nothing.
    """
    below: dict[str, list[str]] = {}
    for execution_id in sorted(known, reverse=True):
        parent = known[execution_id].parent_execution_id
        below.setdefault(parent if parent in known and parent < execution_id else "", []).append(execution_id)
    found: list[tuple[Execution, int]] = []
    # An explicit stack: nested calls may go deeper than the interpreter's.
    waiting = [(root, 0) for root in below.get("", ())]
    while waiting:
        execution_id, depth = waiting.pop()
        found.append((known[execution_id], depth))
        waiting += [(step, depth + 1) for step in below.get(execution_id, ())]
    return found


def _draw(tree: Sequence[tuple[Execution, int]], asked: str) -> None:
    from rich.console import Console  # noqa: PLC0415 (scripts do not need it)
    from rich.tree import Tree  # noqa: PLC0415

    path: list[Tree] = []
    roots: list[Tree] = []
    for execution, depth in tree:
        line = _line(execution, asked)
        branch = path[depth - 1].add(line) if depth else Tree(line)
        path[depth:] = [branch]
        if not depth:
            roots.append(branch)
    for root in roots:
        Console().print(root)


def _line(execution: Execution, asked: str) -> Any:
    from rich.text import Text  # noqa: PLC0415 (scripts do not need it)

    line = Text(printable(execution.tool), style="bold cyan" if execution.execution_id == asked else "cyan")
    good = execution.state == common_pb2.STATE_SUCCEEDED or not execution.HasField("error")
    line.append(f"  {printable(state(execution))}", style="green" if good else "red")
    line.append(f"  {took(execution)}  {started(execution)}  {execution.execution_id}", style="dim")
    return line
