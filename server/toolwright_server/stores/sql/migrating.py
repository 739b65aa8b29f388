"""Brings the tables up to date at start. Loads alembic only when there is something to do: it costs start-up time."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from toolwright_server.errors import SettingsError
from toolwright_server.stores.sql.tables import REVISION

# Of PostgreSQL's advisory lock; 63 bits of SHA-256("toolwright migrations"), so that nobody else has it.
LOCK: Final = 4_264_219_471_290_671_873
FOLDER: Final = Path(__file__).parent / "migrations"


def upgrade(connection: sa.Connection) -> None:
    """Inside the caller's transaction. Raises SettingsError for tables that a newer release made."""
    found = current(connection)
    if found == REVISION:
        return
    from alembic import command  # noqa: PLC0415 (see the module)
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SettingsError(
            f"the database was written by a newer release (schema {found}, this one knows {REVISION}): run that "
            "release, or use another database"
        )
    command.upgrade(config, REVISION)


def load() -> None:
    """What an upgrade needs, before it holds anything up. Takes a second where modules are not compiled yet."""
    from alembic import command  # noqa: F401, PLC0415 (see the module) # pyright: ignore[reportUnusedImport]


def current(connection: sa.Connection) -> str | None:
    """The revision of the tables that are there; None when there are none."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
