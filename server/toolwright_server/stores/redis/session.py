"""One connection to the store, ready for use: the scripts are known there, and what it can do has been tried.

Knows nothing of what the commands are for.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self, cast

from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    MovedError,
    NoScriptError,
    RedisError,
    ResponseError,
)

from toolwright_server.stores.redis.address import Address
from toolwright_server.stores.redis.scripts import SCRIPTS, SERVERS, evaluated, packed

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

SERVERS_KEY: Final = b"tw:{servers}"
# What says that this server can do nothing at all for the moment, and not only that it refuses one command.
_UNABLE: Final = ("READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "OOM", "MISCONF")
_UNABLE_CLASSES: Final = (
    "ReadOnlyError",
    "OutOfMemoryError",
    "AuthenticationError",
    "NoPermissionError",
    "MasterDownError",
)

Broken = (RedisError, OSError, TimeoutError, EOFError)


class UnableError(RedisConnectionError):
    """The server answers, and can do nothing for us. The text is one word that may be shown."""


class Session:
    """See the module. `identity` names the connection to the server."""

    def __init__(self, connection: "AbstractConnection") -> None:
        self._connection = connection
        self.identity: tuple[bytes, bytes] | None = None

    @classmethod
    async def open(cls, address: Address, seconds: float, previous: tuple[bytes, bytes] | None) -> Self:
        """Connect, end what a `previous` connection may still have to say, teach the scripts and try one.

        Raises one of Broken.
        """
        session = cls(address.connection(seconds))
        try:
            await session._connection.connect()
            await session._introduce(previous)
        except BaseException:
            await session.close()
            raise
        return session

    async def send(self, commands: Iterable[bytes]) -> None:
        """Write commands that are already packed. Raises one of Broken."""
        await self._connection.send_packed_command(b"".join(commands), check_health=False)

    async def receive(self) -> Any:
        """The next answer; one that is an error comes as a ResponseError, unless it is about the server as a whole.

        Raises one of Broken: the connection is of no use any more.
        """
        try:
            return await cast("Any", self._connection).read_response()
        except ResponseError as error:
            if is_unable(error):
                raise UnableError(word_of(error)) from None
            return error

    async def close(self) -> None:
        """Close at once; never raises."""
        try:
            await self._connection.disconnect(nowait=True)
        except Broken:
            pass

    async def _introduce(self, previous: tuple[bytes, bytes] | None) -> None:
        commands = [packed((b"CLIENT", b"INFO"))]
        if previous is not None:
            # A server that stood still may have read what was sent before and not done it yet: it must not do so
            # after it was undone.
            commands.append(packed((b"CLIENT", b"KILL", b"ID", previous[0], b"ADDR", previous[1])))
        await self.send(commands)
        info, *_ = [await self.receive() for _ in commands]
        if isinstance(info, bytes):
            told = dict(re.findall(rb"(\w+)=(\S+)", info))
            self.identity = (told.get(b"id", b""), told.get(b"addr", b""))
        await self.send([*(script.load() for script in SCRIPTS), evaluated(SERVERS, [SERVERS_KEY], (b"0", b"", b""))])
        *_, tried = [await self.receive() for _ in (*SCRIPTS, SERVERS)]
        # Another node of a cluster has the key; that this one runs scripts has been seen.
        if isinstance(tried, ResponseError) and not isinstance(tried, MovedError):
            raise UnableError(word_of(tried))


def is_unable(error: ResponseError) -> bool:
    """Whether an answer says that the server can do nothing at all."""
    return type(error).__name__ in _UNABLE_CLASSES or str(error).startswith(_UNABLE)


def is_forgotten(answer: Any) -> bool:
    """Whether the server does not know the script."""
    return isinstance(answer, NoScriptError)


def word_of(error: BaseException) -> str:
    """What may be shown of a failure: a code of Redis, or the error's class. The rest may hold a secret."""
    if isinstance(error, UnableError):
        return str(error)
    first = str(error).split(" ", 1)[0]
    if isinstance(error, ResponseError) and re.fullmatch(r"[A-Z]{3,20}", first):
        return first
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
