"""Keeping a port for processes that share it, and from everybody else."""

import contextlib
import errno
import socket
from collections.abc import Generator

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.rpc.ports import Reservation, check_free
from toolwright_server.settings import Address

SECONDS = 10


@contextlib.contextmanager
def reserved(listen: str = "127.0.0.1:0") -> Generator[tuple[str, int]]:
    """A reservation; its host and port."""
    made = Reservation.make(listen)
    try:
        host, _, port = made.address.rpartition(":")
        yield host.strip("[]"), int(port)
    finally:
        made.close()


def bound(host: str, port: int, *options: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    for option in options:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def test_a_port_of_0_becomes_one_that_is_free() -> None:
    with reserved() as (host, port):
        assert (host, port > 0) == ("127.0.0.1", True)


@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,)])
def test_another_program_cannot_take_a_reserved_port(options: tuple[int, ...]) -> None:
    with reserved() as (host, port):
        with pytest.raises(OSError, match=r"in use") as taken:
            bound(host, port, *options)
        assert taken.value.errno == errno.EADDRINUSE


def test_a_second_server_is_refused_before_anybody_listens() -> None:
    with reserved() as (host, port):
        listen = f"{host}:{port}"
        with pytest.raises(SettingsError, match="another program listens there; set listen"):
            check_free(Address.parse(listen), listen)
        with pytest.raises(SettingsError, match="another program listens there"):
            Reservation.make(listen)


def test_connections_go_to_those_who_listen_and_never_to_the_reservation() -> None:
    with reserved() as (host, port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), SECONDS)
        with bound(host, port, socket.SO_REUSEPORT) as one, bound(host, port, socket.SO_REUSEPORT) as two:
            taken = 0
            for listener in (one, two):
                listener.listen(128)
                listener.setblocking(False)
            with contextlib.ExitStack() as stack:
                for _ in range(64):
                    stack.enter_context(socket.create_connection((host, port), SECONDS))
                for listener in (one, two):
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            stack.enter_context(listener.accept()[0])
                            taken += 1
            assert taken == 64


def test_a_port_on_which_somebody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}: another program listens there"):
            Reservation.make(f"127.0.0.1:{port}")


def test_connections_of_an_earlier_server_that_did_not_share_keep_no_port_from_being_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as earlier:
        host, port = earlier.getsockname()
        caller = socket.create_connection((host, port), SECONDS)
        taken = earlier.accept()[0]
        # Who closes first keeps the connection in TIME_WAIT.
        taken.close()
        caller.close()
    with reserved(f"{host}:{port}"), bound(host, port, socket.SO_REUSEPORT, socket.SO_REUSEADDR) as process:
        process.listen()


def test_a_closed_reservation_leaves_the_port_to_others() -> None:
    with reserved() as (host, port):
        pass
    bound(host, port).close()


def test_every_address_of_a_name_is_reserved_under_one_port() -> None:
    with reserved("localhost:0") as (host, port):
        assert host == "localhost"
        for where in {found[4][0] for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}:
            with pytest.raises(OSError, match=r"in use|not available|assign requested"):
                bound(str(where), port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:50051"):
        Reservation.make("192.0.2.1:50051")
