"""The command line. Each command imports what it needs when it runs, so that `toolwright --help` is quick."""
# ruff: noqa: PLC0415, PLR0917 - see above; and each parameter is an option

from pathlib import Path
from typing import Annotated

import typer

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
_Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="The server, or TOOLWRIGHT_ADDRESS. [127.0.0.1:50051]"),
]
_Json = Annotated[bool, typer.Option("--json", help="Print what a pipe would get.")]


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
) -> None:
    """Runs tools for AI agents. `serve` starts a server; `tools`, `exec` and `trace` work with one."""


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
    from toolwright_server.commands import serving

    options = serving.options(listen, data_dir, tools, insecure=insecure)
    raise typer.Exit(serving.check(config, options))


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


@app.command("exec")
def execute(
    tool: Annotated[str, typer.Argument(help="Its name, for example crm.contact.search.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JSON | KEY=VALUE... | -]", help="A JSON object, pairs, or - for standard input."),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show what happens while it happens.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", help="Deadline of the whole call, in seconds.")
    ] = None,
    tool_timeout: Annotated[
        float | None, typer.Option("--tool-timeout", metavar="S", help="Longest time the tool may take, in seconds.")
    ] = None,
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole execution as JSON; with --stream, each event on a line.")
    ] = False,
) -> None:
    """Call a tool. Prints its result as JSON; errors go to standard error.

    A VALUE that is JSON is taken as such, anything else as text. Ctrl-C cancels the call.

    Exit codes: 0 ok, 1 the tool ran and failed, 2 usage, 3 not found, 4 invalid arguments, 5 refused, 6 deadline,
    7 cancelled, 8 unavailable, 9 the outcome is not known (look it up before doing it again), 10 internal.
    """
    from toolwright_server.commands import executing
    from toolwright_server.commands.asking import Ask

    ask = Ask(
        tool=tool,
        arguments=arguments or [],
        timeout_seconds=timeout,
        tool_timeout_seconds=tool_timeout,
        request_id=request_id,
        labels=label or [],
        detach=detach,
    )
    raise typer.Exit(executing.execute(address, ask, stream=stream, as_json=as_json))


@app.command()
def trace(
    execution_id: Annotated[str, typer.Argument(help="Its id: `exec` names it, and so do the server's logs.")],
    data_dir: _DataDir = None,
) -> None:
    """Draw the trace of an execution from the server's data directory. JSON when piped."""
    from toolwright_server.commands import serving
    from toolwright_server.commands.trace import draw

    raise typer.Exit(draw(execution_id, serving.data_dir(data_dir)))


def main() -> None:
    """The `toolwright` command."""
    app()


if __name__ == "__main__":
    main()
