from collections.abc import Sequence

import pytest

from tests.unit.execution.corridor import row
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Reason
from toolwright_server.execution.model import TERMINAL, Execution, State, Stopped
from toolwright_server.execution.recovery import takeover
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.recovery.takeover import Recovery, judged
from toolwright_server.execution.recovery.verdict import Verdict
from toolwright_server.records.audit.model import Kind
from toolwright_server.stores.memory.leases import MemoryLeases
from toolwright_server.stores.memory.recovery import MemoryRecovery

ALIVE, DEAD = Lease("alive", 2), Lease("dead", 1)


class Ward:
    """A store in which one server lives, and what is decided in it."""

    def __init__(self) -> None:
        self.rows: dict[str, Execution] = {}
        self.leases = MemoryLeases(lambda: 0.0)
        self.verdicts: list[Verdict] = []
        self.unsettled: list[str] = []
        self.store = MemoryRecovery(self.rows, self.leases, self.verdicts.append)
        self.recovery = Recovery(self.store, ALIVE, unsettled=self._unsettled, now=lambda: 2_000.0)

    def add(self, execution_id: str, server: Lease, effect: Effect = Effect.SIDE_EFFECT) -> Execution:
        added = row(execution_id=execution_id, server_id=server.server_id, epoch=server.epoch, effect=effect)
        self.rows[execution_id] = added
        return added

    def _unsettled(self, executions: Sequence[Execution]) -> None:
        self.unsettled += [execution.execution_id for execution in executions]


@pytest.mark.asyncio
async def test_only_what_the_dead_left_behind_is_settled() -> None:
    ward = Ward()
    await ward.leases.register(ALIVE, 10.0)
    mine, left = ward.add("mine", ALIVE), ward.add("left", DEAD)
    await ward.recovery.run(anew=True)
    assert (mine.state, left.state) == (State.QUEUED, State.OUTCOME_UNKNOWN)
    assert ward.recovery.settled == 1


@pytest.mark.asyncio
async def test_own_executions_are_never_settled_even_without_a_lease() -> None:
    ward = Ward()
    mine = ward.add("mine", ALIVE)
    await ward.recovery.run(anew=True)
    assert mine.state is State.QUEUED


@pytest.mark.asyncio
async def test_an_earlier_process_of_the_same_name_is_dead() -> None:
    ward = Ward()
    await ward.leases.register(ALIVE, 10.0)
    left = ward.add("left", Lease("alive", 1))
    await ward.recovery.run(anew=True)
    assert left.ended


@pytest.mark.asyncio
async def test_more_than_a_batch_is_settled_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover, "BATCH", 3)
    ward = Ward()
    for number in range(7):
        ward.add(f"left-{number}", DEAD)
    await ward.recovery.run(anew=True)
    assert all(each.ended for each in ward.rows.values())
    assert ward.recovery.settled == 7
    await ward.recovery.run(anew=True)
    assert ward.recovery.settled == 7


@pytest.mark.asyncio
async def test_only_unknown_outcomes_are_handed_on() -> None:
    ward = Ward()
    ward.add("side-effect", DEAD)
    ward.add("read", DEAD, Effect.READ_ONLY)
    await ward.recovery.run(anew=True)
    assert ward.unsettled == ["side-effect"]


@pytest.mark.asyncio
async def test_what_a_dead_survivor_left_unasked_is_handed_on_when_a_server_may_have_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "BATCH", 2)
    ward = Ward()
    await ward.leases.register(ALIVE, 10.0)
    for name in ("a", "b", "c"):
        ward.add(name, DEAD).state = State.OUTCOME_UNKNOWN
    # A caller of this server does not know; its tool may still be at work.
    ward.add("mine", ALIVE).state = State.OUTCOME_UNKNOWN
    await ward.recovery.run(anew=False)
    assert ward.unsettled == []
    await ward.recovery.run(anew=True)
    assert ward.unsettled == ["a", "b", "c"]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
@pytest.mark.parametrize(
    ("effect", "ends", "outcome"),
    [
        (Effect.SIDE_EFFECT, State.OUTCOME_UNKNOWN, "unknown"),
        (Effect.IDEMPOTENT, State.FAILED, "unknown"),
        (Effect.READ_ONLY, State.FAILED, "none"),
    ],
)
def test_what_it_comes_to_depends_on_the_effect_alone(state: State, effect: Effect, ends: State, outcome: str) -> None:
    left = row(state=state, effect=effect, server_id="dead", last_sequence=1)
    verdict = judged(left, "survivor", 2_000.0)
    assert (left.state, left.end_time, left.stopped, left.last_sequence) == (ends, 2_000.0, Stopped.UNKNOWN, 3)
    assert left.failure is not None
    assert left.failure.metadata == {"outcome": outcome, "server_id": "dead", "execution_id": left.execution_id}
    assert verdict.kind is Kind.RECOVERY
    assert verdict.facts == {"dead_server": "dead", "dead_epoch": "1", "by_server": "survivor"}


def test_only_a_side_effect_keeps_its_request_id_and_must_not_be_sent_again() -> None:
    kept = judged(row(effect=Effect.SIDE_EFFECT), "survivor", 2_000.0)
    failure = kept.execution.failure
    assert failure is not None
    assert (kept.frees, failure.reason, failure.may_retry()) == (False, Reason.OUTCOME_UNKNOWN, False)
    for effect in (Effect.READ_ONLY, Effect.IDEMPOTENT):
        freed = judged(row(effect=effect), "survivor", 2_000.0)
        failure = freed.execution.failure
        assert failure is not None
        assert (freed.frees, failure.may_retry()) == (True, True)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_what_has_ended_cannot_be_judged(state: State) -> None:
    with pytest.raises(ValueError, match="cannot go from"):
        judged(row(state=state), "survivor", 2_000.0)
