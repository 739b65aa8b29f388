"""The part of the command line about usage. Each command imports what it needs when it runs."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from typing import Annotated, Literal

import typer

from toolwright_server.commands.typed import Address, AsJson

_Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Made then or later: 12h, 7d, or a date and time; by full hours."),
]
_Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Made before.")]
_Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Only this tenant; all that you may see.")]
_User = Annotated[str, typer.Option("--user", metavar="ID", help="For whom the calls were made.")]
_Agent = Annotated[str, typer.Option("--agent", metavar="ID", help="The agent that called.")]
_Category = Annotated[str, typer.Option("--category", metavar="C", help="Only this category.")]


def stats(
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="WHAT", help="tool, category, tenant, user, agent, day, hour; several: tool,day."),
    ] = None,
    since: _Since = None,
    until: _Until = None,
    tool: Annotated[str, typer.Option("--tool", metavar="NAME", help="Only this tool.")] = "",
    category: _Category = "",
    tenant: _Tenant = "",
    user: _User = "",
    agent: _Agent = "",
    order: Annotated[
        str, typer.Option("--order", metavar="BY", help="calls, fewest, failures, slowest or cost; else by name.")
    ] = "",
    unused: Annotated[bool, typer.Option("--unused", help="With --by tool: also those that were not called.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many rows.")] = 100,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show calls, success, latency, attempts and cost, of the last seven days unless told. JSON when piped."""
    from toolwright_server.commands import stats as commands
    from toolwright_server.commands.usage_figures import Wanted, split

    wanted = Wanted(
        by=split(by or ["tool"]), since=since, until=until, tool=tool, category=category, tenant=tenant, user=user,
        agent=agent, order=order, unused=unused,
    )  # fmt: skip
    raise typer.Exit(commands.show(address, wanted, limit, as_csv=as_csv, as_json=as_json))


def report(
    week: Annotated[bool, typer.Option("--week", help="The last seven days, today among them: the default.")] = False,
    since: _Since = None,
    until: _Until = None,
    format_: Annotated[Literal["markdown", "csv"], typer.Option("--format", help="How it is written.")] = "markdown",
    rare: Annotated[int, typer.Option("--rare", metavar="N", min=0, help="So many calls are few.")] = 5,
    category: _Category = "",
    tenant: _Tenant = "",
    user: _User = "",
    agent: _Agent = "",
    address: Address = None,
) -> None:
    """Write a report: all together, by tool and day, the slowest, failing, most costly and rarely used tools."""
    from toolwright_server.commands import report as commands
    from toolwright_server.commands.usage_figures import Wanted

    if week and (since or until):
        raise typer.BadParameter("--week is a period of its own: leave --since and --until out")
    wanted = Wanted(since=since, until=until, category=category, tenant=tenant, user=user, agent=agent)
    raise typer.Exit(commands.show(address, wanted, rare, as_csv=format_ == "csv"))
