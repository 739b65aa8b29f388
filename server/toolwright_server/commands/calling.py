"""The part of the command line that calls tools. It imports what it needs when it runs."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from pathlib import Path
from typing import Annotated

import typer

from toolwright_server.commands.typed import Address as _Address

_Tool = Annotated[str | None, typer.Argument(metavar="TOOL", help="Its name, for example crm.contact.search.")]
_Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[JSON | KEY=VALUE... | -]", help="A JSON object, pairs, or - for standard input."),
]
_Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="S", help="Deadline of the whole call or batch, in seconds.")
]
_ToolTimeout = Annotated[
    float | None, typer.Option("--tool-timeout", metavar="S", help="Longest time the tool may take, in seconds.")
]
_CacheMode = Annotated[
    str,
    typer.Option(
        "--cache-mode",
        metavar="MODE",
        show_default=False,
        help="What of answers that are shared: default, bypass, refresh.",
    ),
]
_User = Annotated[str, typer.Option("--user", metavar="ID", show_default=False, help="For whom the call is made.")]
_Task = Annotated[str, typer.Option("--task", metavar="ID", show_default=False, help="The task that it belongs to.")]
_Session = Annotated[str, typer.Option("--session", metavar="ID", show_default=False, help="The agent's session.")]
_Agent = Annotated[str, typer.Option("--agent", metavar="ID", show_default=False, help="The agent that calls.")]
_MaxAttempts = Annotated[
    int | None, typer.Option("--max-attempts", metavar="N", help="Most attempts in all; 1: never again.")
]
_MaxCost = Annotated[
    str | None, typer.Option("--max-cost", metavar="CREDITS", help="Refused if it may cost more: 5, or 0.25.")
]
_AllowFallback = Annotated[
    bool | None,
    typer.Option("--allow-fallback/--no-fallback", help="Whether the tool's fallback may answer; else as it says."),
]
_Batch = Annotated[
    str | None, typer.Option("--batch", metavar="FILE", help="Instead of TOOL: 1 to 100 calls, a line of JSON each.")
]
_MaxParallel = Annotated[
    int,
    typer.Option("--max-parallel", metavar="N", show_default=False, help="With --batch: how many run at a time. [10]"),
]
_StopOnFailure = Annotated[
    bool, typer.Option("--stop-on-failure", help="With --batch: begin no further call once one has failed.")
]


def execute(
    tool: _Tool = None,
    arguments: _Arguments = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show what happens while it happens.")] = False,
    timeout: _Timeout = None,
    tool_timeout: _ToolTimeout = None,
    address: _Address = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="Name of this request; else a random one.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Kept in the record; repeatable.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="The tool goes on when this command is interrupted.")
    ] = False,
    cache_mode: _CacheMode = "",
    user: _User = "",
    task: _Task = "",
    session: _Session = "",
    agent: _Agent = "",
    max_attempts: _MaxAttempts = None,
    max_cost: _MaxCost = None,
    allow_fallback: _AllowFallback = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole execution as JSON; with --stream, each event on a line.")
    ] = False,
    batch: _Batch = None,
    max_parallel: _MaxParallel = 0,
    stop_on_failure: _StopOnFailure = False,
) -> None:
    """Call a tool. Prints its result as JSON; errors go to standard error.

    A VALUE that is JSON is taken as such, anything else as text. Ctrl-C cancels the call.

    With --batch FILE (- for standard input) each line is a call, {"tool": "crm.contact.get", "arguments": {"id": 1}},
    with request_id, tool_timeout, labels, detach and cache_mode if need be; a line of JSON is printed for each, in
    their order.

    Exit codes: 0 ok, 1 the tool ran and failed, 2 usage, 3 not found, 4 invalid arguments, 5 refused, 6 deadline,
    7 cancelled, 8 unavailable, 9 the outcome is not known (look it up before doing it again), 10 internal. Of a batch:
    9 if it is that of any call, or else that of the first call that did not succeed.
    """
    from toolwright_server.commands.asking import Ask

    _check(tool, batch, alone=stream or request_id is not None, many=bool(max_parallel) or stop_on_failure)
    ask = Ask(
        tool=tool or "", arguments=arguments or [], timeout_seconds=timeout, tool_timeout_seconds=tool_timeout,
        request_id=request_id, labels=label or [], detach=detach, cache_mode=cache_mode, user=user, task=task,
        session=session, agent=agent, max_attempts=max_attempts, max_cost=max_cost, allow_fallback=allow_fallback,
    )  # fmt: skip
    if batch is None:
        from toolwright_server.commands import executing

        raise typer.Exit(executing.execute(address, ask, stream=stream, as_json=as_json))
    from toolwright_server.commands import batching

    raise typer.Exit(batching.execute(address, batching.Asked(batch, ask, max_parallel, stop_on_failure)))


def _check(tool: str | None, batch: str | None, *, alone: bool, many: bool) -> None:
    if batch is None and tool is None:
        raise typer.BadParameter("name a tool, or a file of calls with --batch")
    if batch is None and many:
        raise typer.BadParameter("--max-parallel and --stop-on-failure go with --batch")
    if batch is not None and (tool is not None or alone):
        raise typer.BadParameter("with --batch the lines name the tools and requests, and nothing is streamed")


def artifact(
    artifact_id: Annotated[str, typer.Argument(metavar="ID", help="As `exec` and `show` name it.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Written when all of it is there, and is right.")
    ] = None,
    address: _Address = None,
) -> None:
    """Read an artifact: a file that a tool wrote as part of its result."""
    from toolwright_server.commands.fetching import fetch

    raise typer.Exit(fetch(address, artifact_id, output))
