"""Descriptions of the artifacts of executions.

A copy of the column as it was then: a migration must not change when `tables.py` does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column("executions", sa.Column("artifacts", sa.LargeBinary))
