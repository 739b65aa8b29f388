"""The Lua scripts that ship with this package, and how commands are written for the wire. Never sends one."""

import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import Final


class Script:
    """One script: `evalsha` and `text` say the same to a server that knows the script and to one that does not."""

    def __init__(self, name: str) -> None:
        self.body: Final = files("toolwright_server.stores.redis").joinpath(name).read_bytes()
        self.sha: Final = hashlib.sha1(self.body, usedforsecurity=False).hexdigest().encode()

    def load(self) -> bytes:
        """The command that makes the server know it."""
        return packed((b"SCRIPT", b"LOAD", self.body))


COUNTERS: Final = Script("counters.lua")
CIRCUITS: Final = Script("circuits.lua")
SERVERS: Final = Script("servers.lua")
SCRIPTS: Final = (COUNTERS, CIRCUITS, SERVERS)


def bulk(argument: bytes) -> bytes:
    """One argument as Redis reads it."""
    return b"$%d\r\n%b\r\n" % (len(argument), argument)


def packed(arguments: Iterable[bytes]) -> bytes:
    """A whole command as Redis reads it."""
    parts = [bulk(argument) for argument in arguments]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def evaluated(script: Script, keys: Iterable[bytes], arguments: Iterable[bytes]) -> bytes:
    """The command that runs a script."""
    keys = list(keys)
    return packed((b"EVALSHA", script.sha, b"%d" % len(keys), *keys, *arguments))


def in_full(command: bytes) -> bytes:
    """The same command for a server that has forgotten the scripts: with its text, which it knows from then on."""
    for script in SCRIPTS:
        short = bulk(b"EVALSHA") + bulk(script.sha)
        if short in command:
            return command.replace(short, bulk(b"EVAL") + bulk(script.body), 1)
    return command
