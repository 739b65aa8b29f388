"""The composition root: the only package that names concrete classes together. Starts a server, drains it, ends it."""

from toolwright_server.app.server import serve

__all__ = ["serve"]
