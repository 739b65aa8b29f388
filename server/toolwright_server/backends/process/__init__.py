"""Synchronous tools in worker processes that can be killed with everything they started: the server's side."""

from toolwright_server.backends.process.backend import ProcessBackend
from toolwright_server.backends.process.options import ProcessOptions

__all__ = ["ProcessBackend", "ProcessOptions"]
