"""Options that many commands have in the same form."""

from typing import Annotated

import typer

Address = Annotated[
    str | None,
    typer.Option("--address", metavar="ADDRESS", help="The server, or TOOLWRIGHT_ADDRESS. [127.0.0.1:50051]"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what a pipe would get.")]
