"""An index over executions whose outcome is unknown: the look-ups of dead servers are found by it.

A copy of the index as it was then: a migration must not change when `tables.py` does.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the index."""
    where = sa.text("state = 11")
    op.create_index("executions_doubtful", "executions", ["execution_id"], sqlite_where=where, postgresql_where=where)
