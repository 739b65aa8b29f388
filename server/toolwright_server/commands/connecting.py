"""A connection to the server that was named, or a sentence about why there is none. Never retries."""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

import grpc

from toolwright_server.commands.access import access
from toolwright_server.commands.asking import UsageError, text
from toolwright_server.settings import Address

DEFAULT = "127.0.0.1:50051"
_CONNECT_SECONDS = 5.0

# A dead machine is noticed although a long call is silent; servers tolerate a ping every 10 s.
_OPTIONS = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", -1),
    # A call has an effect: only its caller may repeat it.
    ("grpc.enable_retries", 0),
]


class Unreachable(Exception):
    """There is no server at the address."""


@contextmanager
def connected(address: str | None) -> Generator[grpc.Channel]:
    """A channel that has been connected, so that a later UNAVAILABLE means a lost call and not an absent server.

    Raises Unreachable, and UsageError for an address that is none and for credentials that cannot be sent there.
    """
    target = text(address or os.environ.get("TOOLWRIGHT_ADDRESS") or DEFAULT, "--address")
    options = list(_OPTIONS)
    local = _is_loopback(target)
    if local:
        # A proxy of the environment is for other machines.
        options.append(("grpc.enable_http_proxy", 0))
    how = access()
    how.check(target, local=local)
    with how.channel(target, options) as channel:
        _connect(channel, target, encrypted=how.tls)
        yield how.proving(channel)


def _is_loopback(target: str) -> bool:
    if target.startswith(("http://", "https://")):
        raise UsageError(f"--address: {target!r} is no address: write host:port alone, without http://")
    if "://" in target:
        return False
    try:
        return Address.parse(target).is_loopback
    except ValueError as error:
        raise UsageError(f"--address: {error}") from None


def _connect(channel: grpc.Channel, target: str, *, encrypted: bool) -> None:
    decided = threading.Event()
    seen: list[grpc.ChannelConnectivity] = []

    def watch(state: grpc.ChannelConnectivity) -> None:
        seen.append(state)
        if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            decided.set()

    channel.subscribe(watch, try_to_connect=True)
    decided.wait(_CONNECT_SECONDS)
    channel.unsubscribe(watch)
    if grpc.ChannelConnectivity.READY not in seen:
        if encrypted:
            raise Unreachable(
                f"there is no server at {target}, it does not encrypt, or one side does not trust the other's "
                "certificate; name the authority that signed the server's with TOOLWRIGHT_TLS_CA_FILE"
            )
        raise Unreachable(
            f"there is no server at {target}; start one with `toolwright serve`, or name another with --address or "
            "TOOLWRIGHT_ADDRESS (one that encrypts is reached with TOOLWRIGHT_TLS_CA_FILE or TOOLWRIGHT_TLS=true)"
        )
