"""Orders to stop an execution that runs on another server."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "stop_orders",
        sa.Column("execution_id", _KEY, nullable=False),
        sa.Column("server_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("execution_id", name="stop_orders_pk"),
        sqlite_with_rowid=False,
    )
    op.create_index("stop_orders_of_server", "stop_orders", ["server_id"])
