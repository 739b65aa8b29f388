"""Tells the servers of one PostgreSQL that something was committed. notices.py hears of it; what, they look up anew.

A notice is part of the commit that it tells of: it is sent when that commit is durable, and not without it.
"""

from typing import Final

import sqlalchemy as sa

CHANNEL: Final = "toolwright"
_NOTIFY: Final = sa.text("SELECT pg_notify(:channel, :topic)")


def notify(connection: sa.Connection, topic: str) -> None:
    """Have every server told once the transaction is committed. Nothing on SQLite, whose file one server has."""
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY, {"channel": CHANNEL, "topic": topic})
