"""What alembic runs: on the connection, and in the transaction, that `migrating.upgrade` hands over."""

from alembic import context

from toolwright_server.stores.sql.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # The caller's transaction holds all steps together, and the lock.
    transactional_ddl=False,
)
context.run_migrations()
