"""What several processes behind one port need to be one server. Each check returns what to change."""

from collections.abc import Iterator
from typing import Any


def shareable(settings: Any) -> Iterator[str]:
    """A sentence for each thing that would be kept by each process for itself. `settings` is the Settings model."""
    if settings.workers == 1:
        return
    wanted = f"workers = {settings.workers}"
    url = settings.database_url.get_secret_value()
    # What is no URL at all, and what is one of another kind, has a sentence of its own where the database is opened.
    if not url or url.startswith(("memory:", "sqlite")):
        yield (
            f"{wanted} needs a PostgreSQL: {_kept(url)}; set database_url (TOOLWRIGHT_DATABASE_URL) to "
            "postgresql://user:password@host/database, or workers to 1"
        )
    if not settings.redis_url.get_secret_value():
        yield (
            f"{wanted} needs a Redis or Valkey: each process would count limits by itself, and callers would get "
            f"{settings.workers} times what they may have; set redis_url (TOOLWRIGHT_REDIS_URL) to redis://host:6379, "
            "or workers to 1"
        )
    for name in ("listen", "tls_client_listen"):
        value = getattr(settings, name)
        if value.startswith("unix:"):
            yield (
                f"{wanted} cannot share {name} = {value!r}: a socket file belongs to one process; listen on "
                "127.0.0.1:50051 instead, or set workers to 1"
            )


def _kept(url: str) -> str:
    if url.startswith("memory:"):
        return "with memory: each process would have its own records, and know nothing of the others' calls"
    return "a SQLite file is for one process"
