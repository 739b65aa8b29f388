"""What the record says of executions whose artifacts lie somewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.artifacts.model import decoded
from toolwright_server.artifacts.sweeping import Known
from toolwright_server.execution.large_results import known_of
from toolwright_server.execution.model import TERMINAL, Execution, State
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import unavailable
from toolwright_server.stores.sql.tables import executions

_C: Final = executions.c


class SqlArtifactRows:
    """`live` has what is newer in memory than in the tables."""

    def __init__(self, database: Database, live: Callable[[str], Execution | None]) -> None:
        self._database = database
        self._live = live

    async def known(self, execution_ids: Sequence[str]) -> Mapping[str, Known]:
        # Before the tables are asked: what leaves the memory meanwhile is in the tables then.
        live = {each: found for each in execution_ids if (found := self._live(each)) is not None}
        asked = [each for each in execution_ids if each not in live]
        query = sa.select(_C.execution_id, _C.state, _C.artifacts).where(_C.execution_id.in_(asked))
        try:
            async with self._database.reading() as connection:
                found = (await connection.execute(query)).all()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise unavailable(error) from error
        return {
            **{row[0]: _known(State(row[1]), row[2]) for row in found},
            **{each: known_of(execution) for each, execution in live.items()},
        }


def _known(state: State, artifacts: bytes | None) -> Known:
    return Known(state in TERMINAL, state is State.OUTCOME_UNKNOWN, decoded(artifacts))
