"""The part of the command line about limits and credits. Each command imports what it needs when it runs."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from typing import Annotated

import typer

_Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="The server, or TOOLWRIGHT_ADDRESS. [127.0.0.1:50051]"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print what a pipe would get.")]
_Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose ledger; yours unless given.")]


def quota(
    user: Annotated[
        str, typer.Option("--user", metavar="USER", help="For whom; the credential's own user unless given.")
    ] = "",
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose user; for admins.")] = "",
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Show every limit that holds for a user, and the credits of its tenant. JSON when piped."""
    from toolwright_server.commands import quota as commands

    raise typer.Exit(commands.show(address, user, tenant, as_json=as_json))


credit_app = typer.Typer(help="Credits of tenants: give and list them.", no_args_is_help=True, rich_markup_mode=None)


@credit_app.command("grant")
def grant_credits(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Who gets them.")],
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="In credits: 500, or 0.25.")],
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="Name of this grant; else a random one.")
    ] = None,
    days: Annotated[
        float | None, typer.Option("--days", metavar="N", help="What is left expires then; never unless given.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="The same as a moment: 2026-12-31T00:00:00Z.")
    ] = None,
    note: Annotated[str, typer.Option("--note", metavar="WORDS", help="Kept in the ledger.")] = "",
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Give credits to a tenant. With the same request id it is done once, however often it is typed."""
    from toolwright_server.commands import crediting as commands

    wanted = commands.Wanted(tenant=tenant, amount=amount, request_id=request_id, days=days, expires=expires, note=note)
    raise typer.Exit(commands.grant(address, wanted, as_json=as_json))


@credit_app.command("list")
def list_credits(
    tenant: _Tenant = "",
    execution_id: Annotated[str, typer.Option("--execution", metavar="ID", help="Only about this execution.")] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """List the entries of the ledger, newest first. JSON when piped."""
    from toolwright_server.commands import crediting as commands

    raise typer.Exit(commands.show(address, tenant, execution_id, limit, as_json=as_json))


ledger_app = typer.Typer(help="The ledger of credits: verify it.", no_args_is_help=True, rich_markup_mode=None)


@ledger_app.callback()
def _ledger() -> None:  # pyright: ignore[reportUnusedFunction] (typer makes a group of it)
    """With one command alone typer would leave its name out."""


@ledger_app.command("check")
def check_ledger(
    tenant: _Tenant = "",
    all_tenants: Annotated[bool, typer.Option("--all-tenants", help="Everybody's; for admins.")] = False,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Have a server verify its ledger. Exit code 0: nothing is wrong, 1: something is."""
    from toolwright_server.commands import ledger as commands

    raise typer.Exit(commands.check(address, tenant, everything=all_tenants, as_json=as_json))
