"""FastMCP with one tool that echoes its arguments: `python benchmarks/fastmcp_server.py PORT`.

Runs in an environment of its own that has FastMCP (`make bench` makes it) and imports nothing of this project. It is
set as it is fastest: stateless, one JSON object as the answer instead of a stream of events, no log of accesses.
"""
# Strict typing ends where an environment begins that the type checker does not see.
# pyright: basic, reportMissingImports=false

import sys
from typing import Any

from fastmcp import FastMCP
from starlette.requests import Request
from starlette.responses import PlainTextResponse

server = FastMCP("rival")
calls = 0


# With its arguments by name, from which FastMCP makes the schema that it holds them to.
@server.tool
async def echo(  # noqa: PLR0917 (the schema is made of them)
    name: str, email: str, tags: list[str], score: float, visits: int, notes: str
) -> dict[str, Any]:
    """Returns its arguments."""
    global calls  # noqa: PLW0603 (a counter of a script)
    calls += 1
    return {"name": name, "email": email, "tags": tags, "score": score, "visits": visits, "notes": notes}


@server.custom_route("/calls", methods=["GET"])
async def counted(_: Request) -> PlainTextResponse:
    """How many calls there were."""
    return PlainTextResponse(str(calls))


if __name__ == "__main__":
    server.run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        stateless_http=True,
        json_response=True,
        show_banner=False,
        uvicorn_config={"access_log": False, "log_level": "warning"},
    )
