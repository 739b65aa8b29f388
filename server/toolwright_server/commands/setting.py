"""`settings show` and `settings set` as they are typed. What they do is in tool_settings.py, imported when they run."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from typing import Annotated

import typer

from toolwright_server.commands.typed import Address, AsJson

settings = typer.Typer(
    help="What a tenant's settings change about tools: for operators.", no_args_is_help=True, rich_markup_mode=None
)

_Tool = Annotated[str, typer.Argument(help="Its name, for example crm.contact.search.")]
_Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Yours unless given.")]


@settings.command("show")
def show_settings(tool: _Tool, tenant: _Tenant = "", address: Address = None, as_json: AsJson = False) -> None:
    """Show what is set for a tool. JSON when piped."""
    from toolwright_server.commands import tool_settings as commands

    raise typer.Exit(commands.show(address, tenant, tool, as_json=as_json))


@settings.command("set")
def set_settings(
    tool: _Tool,
    tenant: _Tenant = "",
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it can be called.")] = None,
    hidden: Annotated[bool | None, typer.Option("--hide/--unhide", help="Whether it looks as if not there.")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", help="Seconds, where a call names none.")
    ] = None,
    price: Annotated[str | None, typer.Option("--price", metavar="CREDITS", help="Of one call, as 2 or 0.25.")] = None,
    fixed: Annotated[
        str | None, typer.Option("--fixed", metavar="JSON", help="Arguments that it always gets, all of them.")
    ] = None,
    default: Annotated[
        str | None, typer.Option("--default", metavar="JSON", help="Arguments that it gets where none are sent, all.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", metavar="KIND=N", help="window, day, month or running; repeatable."),
    ] = None,
    clear: Annotated[
        list[str] | None,
        typer.Option("--clear", metavar="WHAT", help="As the tool has it: enabled, hidden, timeout, price, fixed, "
                     "default or limits; repeatable."),
    ] = None,
    etag: Annotated[
        str, typer.Option("--etag", metavar="ETAG", help="Only if this is still the current one (see show).")
    ] = "",
    address: Address = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Change what is set for a tool; what is not named stays. It holds at once, on every server of the database."""
    from toolwright_server.commands import tool_settings as commands

    wanted = commands.Wanted(
        tool=tool, tenant=tenant, enabled=enabled, hidden=hidden, timeout_seconds=timeout, price=price, fixed=fixed,
        default=default, limits=limit or [], clear=clear or [], etag=etag,
    )  # fmt: skip
    raise typer.Exit(commands.change(address, wanted, as_json=as_json))
