"""What differs between SQLite and PostgreSQL for a whole server. Loads PostgreSQL's driver only where it is used."""

from typing import TYPE_CHECKING

from toolwright_server.stores.sql.change import Linker
from toolwright_server.stores.sql.engine import DatabaseOptions
from toolwright_server.stores.sql.group import Sink
from toolwright_server.stores.sql.sqlite import SqliteSink

if TYPE_CHECKING:
    from toolwright_server.stores.sql.notices import PostgresNotices


def sink_of(options: DatabaseOptions, lease: tuple[str, int], linker: Linker) -> Sink:
    """Commits groups, as long as the server id and epoch in `lease` hold."""
    if options.is_sqlite:
        return SqliteSink(options, lease=lease, linker=linker)
    # 100 ms that servers on SQLite need not wait for.
    from toolwright_server.stores.sql.postgres import PostgresSink  # noqa: PLC0415

    return PostgresSink(options, lease=lease, linker=linker)


def notices_of(options: DatabaseOptions) -> "PostgresNotices | None":
    """What other servers say of their changes; None where there are no others."""
    if options.is_sqlite:
        return None
    from toolwright_server.stores.sql.notices import PostgresNotices  # noqa: PLC0415 (as above)

    return PostgresNotices(options)
