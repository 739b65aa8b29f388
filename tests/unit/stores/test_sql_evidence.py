from collections.abc import Sequence
from pathlib import Path

import pytest

from toolwright_server.execution.model import Execution
from toolwright_server.stores.sql.change import AuditRow, Entry, NoLinker
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.writer import WriterOptions

from .written import ended, locked, opened, row, writing

pytestmark = pytest.mark.asyncio


class Witness(NoLinker):
    """Evidence and Linker in one: entries are texts, and so are the rows of the chain."""

    def __init__(self) -> None:
        self.linked: list[Entry] = []

    def intent(self, execution: Execution) -> Sequence[Entry]:
        return [f"intent of {execution.execution_id}"]

    def outcome(self, execution: Execution) -> Sequence[Entry]:
        return [f"{execution.state.name} of {execution.execution_id}"]

    def link(self, entries: Sequence[Entry]) -> Sequence[AuditRow]:
        first = len(self.linked)
        self.linked += entries
        return [
            ("chain", number, 1.0, "acme", "kind", "key-1", "ann", "", str(entry).encode(), b"", b"")
            for number, entry in enumerate(entries, first)
        ]


async def test_intent_and_outcome_are_told_to_the_audit_trail(database: Database) -> None:
    witness = Witness()
    async with writing(database, linker=witness) as writer:
        store = SqlExecutionStore(database, writer, evidence=witness)
        waited, unwaited = row("a", request_id="r", create_time=9e9), row("b")
        await store.add(waited)
        await store.add(row("lost", request_id="r", create_time=9e9))
        await store.add(unwaited, awaited=False)
        await store.settle(ended(waited))
        await store.settle(ended(unwaited))
    assert [entry for entry in witness.linked if str(entry).endswith("a")] == ["intent of a", "SUCCEEDED of a"]
    assert [entry for entry in witness.linked if str(entry).endswith("b")] == ["intent of b", "SUCCEEDED of b"]
    assert len(witness.linked) == 4


async def test_an_intent_that_nobody_waited_for_and_was_not_kept_comes_with_the_outcome(tmp_path: Path) -> None:
    witness = Witness()
    hasty = WriterOptions(linger_seconds=0.001)
    async with opened(tmp_path, 0.2) as file, writing(file, hasty, linker=witness) as writer:
        store = SqlExecutionStore(file, writer, evidence=witness)
        execution = row("a")
        with locked(file):
            await store.add(execution, awaited=False)
            await writer.flush()
        assert witness.linked == []
        await store.settle(ended(execution))
    assert witness.linked == ["intent of a", "SUCCEEDED of a"]
