"""What only operators are told of a failure.

A copy of the column as it was then: a migration must not change when `tables.py` does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column("executions", sa.Column("admin_message", sa.Text))
