"""What commands that only ask a server something share: the connection, and words and exit code when it fails."""

import sys
from collections.abc import Callable

import grpc

from toolwright_server.commands import failures
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.connecting import Unreachable, connected
from toolwright_server.commands.exits import Exit


def ask(address: str | None, question: Callable[[grpc.Channel], int]) -> int:
    """Ask `question` on a connected channel; its exit code, or that of what went wrong, which standard error says."""
    try:
        with connected(address) as channel:
            return question(channel)
    except UsageError as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.USAGE
    except Unreachable as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except grpc.RpcError as error:
        return failures.of_rpc(error).tell()
