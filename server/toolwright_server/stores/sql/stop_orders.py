"""Orders to stop in the table `stop_orders`: written through the writer, looked for by the server that is meant."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.execution.model import Execution
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import servers, stop_orders
from toolwright_server.stores.sql.writer import Writer

_TAKE_BACK = sa.delete(stop_orders).where(stop_orders.c.execution_id == sa.bindparam("id"))
# Of servers that are gone: what they ran is settled by others.
_CLEAN_UP = sa.delete(stop_orders).where(stop_orders.c.server_id.not_in(sa.select(servers.c.server_id)))
_WAITING = sa.select(stop_orders.c.execution_id).where(stop_orders.c.server_id == sa.bindparam("server"))


class SqlStopOrders:
    """The StopOrderStore of servers that share a database."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def give(self, execution: Execution) -> None:
        order = {"execution_id": execution.execution_id, "server_id": execution.server_id}
        again = (_TAKE_BACK, {"id": execution.execution_id})
        await self._write((_CLEAN_UP, {}), again, (sa.insert(stop_orders), order))

    async def waiting(self, server_id: str) -> Sequence[str]:
        try:
            async with self._database.reading() as connection:
                return list((await connection.execute(_WAITING, {"server": server_id})).scalars())
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise unavailable(error) from error

    async def done(self, execution_ids: Sequence[str]) -> None:
        await self._write(*((_TAKE_BACK, {"id": execution_id}) for execution_id in execution_ids))

    async def _write(self, *statements: tuple[sa.Executable, dict[str, str]]) -> None:
        try:
            await self._writer.submit(Change(statements=statements))
        except Unkept as error:
            raise unavailable(error) from error
