"""What tenants' settings change about tools.

A copy of the table as it was then: a migration must not change when `tables.py` does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_TIME: sa.types.TypeEngine[float] = sa.Double()
_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tool_settings",
        sa.Column("tenant", _KEY, nullable=False),
        sa.Column("tool", _KEY, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
        sa.Column("updater", _KEY, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "tool", name="tool_settings_pk"),
    )
    op.create_index("tool_settings_changed", "tool_settings", ["revision"], unique=True)
