"""Ports for servers that tests start, that nothing else on the machine is given in the meantime.

A port the kernel has chosen is free again before the server that is to have it listens: another process of the same
tests, or a connection to somewhere, may have been given it by then. So these lie below those that the kernel gives out,
and each is locked for as long as this process lives.
"""

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import BinaryIO

# Linux gives out those from 32,768 on (ip_local_port_range).
CHOICE = range(12_000, 32_000)
TRIES = 1_000
_taken: set[int] = set()


def free_port() -> int:
    """One on which nobody listens, and that no other process of any tests of this user takes."""
    for port in random.sample(CHOICE, min(TRIES, len(CHOICE))):
        if port not in _taken and _locked(port):
            _taken.add(port)
            if _nobody_listens(port):
                return port
    raise RuntimeError(f"no free port among {TRIES:,} of {CHOICE.start} to {CHOICE.stop - 1}")


def _locked(port: int) -> bool:
    """The byte of this number is this process's until it ends."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _locks() -> BinaryIO:
    return (Path(tempfile.gettempdir()) / f"toolwright-test-ports-{os.getuid()}").open("ab")


def _nobody_listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
