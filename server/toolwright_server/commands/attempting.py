"""What all commands that call tools share: the connection, Ctrl-C, a pipe that nobody reads, and words for failures."""

import os
import sys
from collections.abc import Callable
from typing import Protocol

import grpc

from toolwright_server.commands import failures
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.connecting import Unreachable, connected
from toolwright_server.commands.exits import Exit


class Attempt(Protocol):
    """What is done on a connected channel. The ids, as far as they are known, tell people what to look up."""

    execution_id: str
    request_id: str

    def run(self) -> int:
        """Do it; the exit code. Raises grpc.RpcError."""
        ...

    def farewell(self) -> str:
        """What becomes of it after Ctrl-C, in a few words."""
        ...


def attempt(address: str | None, prepare: Callable[[], Callable[[grpc.Channel], Attempt]]) -> int:
    """Do what `prepare` makes of what was typed, once there is a connection; the exit code."""
    try:
        make = prepare()
        with connected(address) as channel:
            made = make(channel)
            try:
                return made.run()
            except grpc.RpcError as error:
                return failures.of_rpc(error, request_id=made.request_id, execution_id=made.execution_id).tell()
            except KeyboardInterrupt:
                _say_interrupted(made)
                sys.stderr.flush()
                # gRPC was interrupted anywhere, locks in hand, and closing the channel may wait for them for ever. The
                # connection ends with the process, and the server stops the call.
                os._exit(Exit.CANCELLED)
            except BrokenPipeError:
                # Nothing more can be told, also not while the interpreter ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return Exit.CANCELLED
    except UsageError as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.USAGE
    except Unreachable as error:
        print(f"toolwright: {error}", file=sys.stderr)
        return Exit.UNAVAILABLE
    except KeyboardInterrupt:
        return Exit.CANCELLED


def _say_interrupted(made: Attempt) -> None:
    print(f"toolwright: interrupted; {made.farewell()}", file=sys.stderr)
    for name, text in (("execution", made.execution_id), ("request", made.request_id)):
        if text:
            print(f"  {name}: {text}", file=sys.stderr)
