"""Addresses before a server listens on them: whether they are free, and keeping them for processes that share them.

Never listens. Knows nothing of gRPC, so that a process which must not start it can use this.
"""

import contextlib
import errno
import socket
from pathlib import Path
from typing import Any, Self

from toolwright_server.errors import SettingsError
from toolwright_server.settings import Address

_ATTEMPTS = 20
# One of a name's addresses may be of a kind that this machine does not have.
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


class Reservation:
    """A port that is kept for the processes of this server as long as it is not closed: bound, and not listened on.

    The kernel gives connections to sockets that listen, so none goes astray here; and another program that does not
    ask to share the port finds it taken, also while none of the processes listens.
    """

    def __init__(self, address: str, sockets: list[socket.socket]) -> None:
        self.address = address
        self._sockets = sockets

    @classmethod
    def make(cls, listen: str) -> Self:
        """Keep `listen` (host:port; port 0: any that is free); `address` has the port then. Raises SettingsError."""
        address = Address.parse(listen)
        check_free(address, listen)
        attempts = 1 if address.port else _ATTEMPTS
        for left in reversed(range(attempts)):
            try:
                return cls._made(address, listen)
            except OSError as error:
                # Free for the first of a name's addresses is not free for all.
                if not left:
                    raise unusable(listen, _reason(error)) from error
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Give it up."""
        for each in self._sockets:
            each.close()

    @classmethod
    def _made(cls, address: Address, listen: str) -> Self:
        port = address.port
        with contextlib.ExitStack() as undo:
            taken: list[socket.socket] = []
            for family, where in _places(address, listen):
                try:
                    taken.append(undo.enter_context(_shared(family, (where[0], port, *where[2:]))))
                except OSError as error:
                    if error.errno not in _NOT_HERE:
                        raise
                    continue
                port = taken[0].getsockname()[1]
            undo.pop_all()
        return cls(f"{listen.rpartition(':')[0]}:{port}", taken)


def _shared(family: int, where: tuple[Any, ...]) -> socket.socket:
    """A socket that is bound to an address which others of this user may bind as well, if they ask for that."""
    try:
        return _bound(family, where, also_after_others=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    # Connections of an earlier server, which did not share, are still in TIME_WAIT: only this gets past them. It is
    # not the first choice because a program that binds in the same way would not be kept out before we listen.
    return _bound(family, where, also_after_others=True)


def _bound(family: int, where: tuple[Any, ...], *, also_after_others: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(also_after_others))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(where)
    except BaseException:
        made.close()
        raise
    return made


def check_free(address: Address, listen: str) -> None:
    """Refuses what gRPC would take in silence: a socket in use, a part of a name's addresses. And says why."""
    if address.path:
        _check_socket_free(Path(address.path), listen)
        return
    found = _places(address, listen)
    for family, where in found:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(where)
                probe.listen(1)
        except OSError as error:
            if error.errno not in _NOT_HERE or len(found) == 1:
                raise unusable(listen, _reason(error)) from error


def _places(address: Address, listen: str) -> list[tuple[int, tuple[Any, ...]]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise unusable(listen, f"{address.host} is not a name or address of this machine") from error
    return [(family, where) for family, _, _, _, where in found]


def _check_socket_free(path: Path, listen: str) -> None:
    if not path.parent.is_dir():
        raise unusable(listen, f"the folder {path.parent} does not exist")
    if path.exists() and not path.is_socket():
        raise unusable(listen, f"{path} is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            # Nobody answers: it does not exist, or was left behind and gRPC replaces it.
            return
    raise unusable(listen, "another server answers there")


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there"
    if error.errno == errno.EACCES:
        return "ports below 1024 need a privilege that this process does not have"
    return error.strerror or "it cannot be used"


def unusable(listen: str, why: str) -> SettingsError:
    """The refusal of an address."""
    return SettingsError(f"cannot listen on {listen}: {why}; set listen (TOOLWRIGHT_LISTEN) to another address")
