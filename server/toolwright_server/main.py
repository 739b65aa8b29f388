"""The command line. Each command imports what it needs when it runs, so that `toolwright --help` is quick."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from pathlib import Path
from typing import Annotated

import typer

from toolwright_server.commands import calling, reporting, usage
from toolwright_server.commands.setting import settings
from toolwright_server.commands.typed import Address as _Address
from toolwright_server.commands.typed import AsJson as _Json

app = typer.Typer(
    name="toolwright",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings, or TOOLWRIGHT_CONFIG.")
]
_Listen = Annotated[str | None, typer.Option("--listen", metavar="ADDRESS", help="host:port or unix:/path.")]
_DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="FOLDER", help="Where everything is kept.")]
_Tools = Annotated[
    list[str] | None, typer.Option("--tools", metavar="MODULE", help="A module or .py file with tools; repeatable.")
]
_Insecure = Annotated[bool, typer.Option("--insecure", help="Allow an address other than loopback.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"toolwright {version('toolwright-server')}")
        raise typer.Exit


@app.callback()
def toolwright(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and exit.")
    ] = False,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="Proves who calls: TOOLWRIGHT_API_KEY[_FILE].")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="The server encrypts: TOOLWRIGHT_TLS.")] = False,
    tls_ca_file: Annotated[
        Path | None,
        typer.Option("--tls-ca-file", metavar="FILE", help="Who signed its certificate: TOOLWRIGHT_TLS_CA_FILE."),
    ] = None,
) -> None:
    """Runs tools for AI agents. `serve` starts a server; `tools`, `exec`, `keys` and `trace` work with one."""
    del version  # Said and done before this.
    if api_key_file or tls or tls_ca_file:
        from toolwright_server.commands.access import prefer

        prefer(api_key_file=api_key_file, tls=tls, tls_ca_file=tls_ca_file)


@app.command()
def serve(
    config: _Config = None,
    listen: _Listen = None,
    data_dir: _DataDir = None,
    tools: _Tools = None,
    insecure: _Insecure = False,
) -> None:
    """Start a server; SIGTERM or Ctrl-C drains it. Exit code 0, or 78 for a configuration that cannot be right."""
    from toolwright_server.commands import serving

    options = serving.options(listen, data_dir, tools, insecure=insecure)
    raise typer.Exit(serving.serve(config, options))


@app.command()
def check_config(
    config: _Config = None,
    listen: _Listen = None,
    data_dir: _DataDir = None,
    tools: _Tools = None,
    insecure: _Insecure = False,
) -> None:
    """Say what `serve` would run, without starting it. Exit code 0, or 78 with what is wrong."""
    from toolwright_server.commands import checking, serving

    options = serving.options(listen, data_dir, tools, insecure=insecure)
    raise typer.Exit(checking.check(config, options))


@app.command()
def tools(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One tool, with its schemas.")] = None,
    category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only this category.")] = None,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """List the tools of a server, or describe one. JSON when piped."""
    from toolwright_server.commands import listing

    raise typer.Exit(listing.show(address, name, category, as_json=as_json))


app.command("exec")(calling.execute)


@app.command()
def history(
    state: Annotated[
        list[str] | None, typer.Option("--state", metavar="STATE", help="Such as failed; repeatable: any of them.")
    ] = None,
    tool: Annotated[str | None, typer.Option("--tool", metavar="NAME", help="Or its beginning: 'crm.*'.")] = None,
    category: Annotated[str | None, typer.Option("--category", metavar="C", help="Only this category.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="For whom the calls were made.")] = None,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="The agent's session.")] = None,
    task: Annotated[str | None, typer.Option("--task", metavar="ID", help="The task that the calls belong to.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID", help="The agent that called.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY[=VALUE]", help="Of the call; repeatable: all of them.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Made then or later: 30m, 12h, 7d, or a date and time."),
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Made before.")] = None,
    filter_text: Annotated[
        str | None, typer.Option("--filter", metavar="TEXT", help="Further conditions, as ListExecutions takes them.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="At most so many.")] = 50,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """List calls and what became of them, newest first. JSON when piped."""
    from toolwright_server.commands import history as listing
    from toolwright_server.commands.history import Wanted

    wanted = Wanted(
        states=state or (),
        tool=tool,
        category=category,
        user=user,
        session=session,
        task=task,
        agent=agent,
        labels=label or (),
        since=since,
        until=until,
        filter=filter_text,
    )
    raise typer.Exit(listing.show(address, wanted, limit, as_json=as_json))


@app.command()
def show(
    execution_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The id of an execution.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="Instead: the name of the request.")
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="The task that it belongs to, with all steps.")] = False,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Show all that is kept of one call. JSON when piped."""
    from toolwright_server.commands import showing

    raise typer.Exit(showing.show(address, execution_id, request_id, tree=tree, as_json=as_json))


@app.command()
def reconcile(
    execution_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of an execution; else all whose outcome is unknown.")
    ] = None,
    succeeded: Annotated[bool, typer.Option("--succeeded", help="It happened: somebody looked.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="It did not happen, and will not any more.")] = False,
    result: Annotated[
        str | None, typer.Option("--result", metavar="JSON", help="With --succeeded: what the tool returned.")
    ] = None,
    note: Annotated[
        str, typer.Option("--note", metavar="WORDS", help="How it was found out, kept in the audit trail.")
    ] = "",
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Ask tools what became of calls whose outcome is unknown, or say it. Exit code 0, or 9 if any stays unknown."""
    from toolwright_server.commands import reconciling
    from toolwright_server.commands.reconciling import Found

    found = Found(succeeded=succeeded, failed=failed, result=result, note=note)
    raise typer.Exit(reconciling.reconcile(address, execution_id, found, as_json=as_json))


@app.command()
def trace(
    execution_id: Annotated[str, typer.Argument(help="Its id: `exec` names it, and so do the server's logs.")],
    data_dir: _DataDir = None,
) -> None:
    """Draw the trace of an execution from the server's data directory. JSON when piped."""
    from toolwright_server.commands import folders
    from toolwright_server.commands.trace import draw

    raise typer.Exit(draw(execution_id, folders.data_dir(data_dir)))


keys = typer.Typer(help="API keys of a server: make, list and end them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(keys, name="keys")


@keys.command("create")
def create_key(
    user: Annotated[str, typer.Option("--user", metavar="USER", help="For whom it calls when a call names nobody.")],
    role: Annotated[str, typer.Option("--role", metavar="ROLE", help="agent, operator or admin.")] = "agent",
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Yours unless given.")] = "",
    principal: Annotated[
        str, typer.Option("--principal", metavar="NAME", help="Whose key; the user's unless given.")
    ] = "",
    acts_for: Annotated[
        list[str] | None, typer.Option("--acts-for", metavar="USER", help="A further user, or *; repeatable.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="TOOLS", help="crm.contact.get or crm.*; repeatable. [*]")
    ] = None,
    label: Annotated[str, typer.Option("--label", metavar="WORDS", help="Words for people.")] = "",
    days: Annotated[
        float | None, typer.Option("--days", metavar="N", help="Until when; for ever unless given.")
    ] = None,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Make a key. Its text goes to standard output, and is shown only now."""
    from toolwright_server.commands import keys as commands

    wanted = commands.Wanted(
        user=user, role=role, tenant=tenant, principal=principal, acts_for=acts_for or [], scopes=scope or [],
        label=label, days=days,
    )  # fmt: skip
    raise typer.Exit(commands.create(address, wanted, as_json=as_json))


@keys.command("list")
def list_keys(
    tenant: Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Only this tenant's.")] = "",
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """List keys, revoked ones too, without their texts. JSON when piped."""
    from toolwright_server.commands import keys as commands

    raise typer.Exit(commands.show(address, tenant, as_json=as_json))


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Its id: the middle part of its text.")],
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """End a key: at once on the server that is asked, within seconds on others."""
    from toolwright_server.commands import keys as commands

    raise typer.Exit(commands.revoke(address, key_id, as_json=as_json))


app.add_typer(settings, name="settings")

audit = typer.Typer(
    help="The audit trail: list it, take a copy of it, verify it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(audit, name="audit")

_Tenant = Annotated[str, typer.Option("--tenant", metavar="TENANT", help="Whose trail; yours unless given.")]
_AllTenants = Annotated[bool, typer.Option("--all-tenants", help="Everybody's; for admins.")]


@audit.command("list")
def list_audit(
    filter_text: Annotated[
        str,
        typer.Option("--filter", metavar="FILTER", help='For example: kind = refusal AND time > "2026-01-31T12:00Z"'),
    ] = "",
    tenant: _Tenant = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Most records.")] = 100,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """List records, newest first. JSON when piped."""
    from toolwright_server.commands import auditing

    raise typer.Exit(auditing.show(address, tenant, filter_text, limit, as_json=as_json))


@audit.command("export")
def export_audit(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Appears when it is complete; else standard output.")
    ] = None,
    tenant: _Tenant = "",
    all_tenants: _AllTenants = False,
    address: _Address = None,
) -> None:
    """Take a copy of the whole trail, which `audit verify` verifies anywhere."""
    from toolwright_server.commands import auditing

    raise typer.Exit(auditing.export(address, auditing.Scope(tenant=tenant, everything=all_tenants), output))


@audit.command("verify")
def verify_audit(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An export; else the server's trail.")] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", metavar="PUBLIC", help="Public key of the server, PEM; repeatable.")
    ] = None,
    log: Annotated[
        list[Path] | None,
        typer.Option("--log", metavar="LOG", help="The server's log, for its checkpoints; repeatable."),
    ] = None,
    tenant: _Tenant = "",
    all_tenants: _AllTenants = False,
    address: _Address = None,
    as_json: _Json = False,
) -> None:
    """Verify an export without any server, or have a server verify its trail. Exit code 0: valid, 1: not."""
    from toolwright_server.commands import auditing

    if file is not None:
        raise typer.Exit(auditing.verify_export(file, key or [], log or [], as_json=as_json))
    scope = auditing.Scope(tenant=tenant, everything=all_tenants)
    raise typer.Exit(auditing.verify_server(address, scope, as_json=as_json))


app.command()(calling.artifact)
app.command()(reporting.stats)
app.command()(reporting.report)
app.command()(usage.quota)
app.add_typer(usage.credit_app, name="credits")
app.add_typer(usage.ledger_app, name="ledger")


def main() -> None:
    """The `toolwright` command."""
    app()


if __name__ == "__main__":
    main()
