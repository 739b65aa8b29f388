import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.errors import ToolwrightError
from toolwright_server.records.audit.model import Entry, Head, Kind
from toolwright_server.records.audit.pruning import NotPrunable, Pruned, Pruning
from toolwright_server.stores.memory.audit import MemoryAuditStore

from .audit_trails import DAY, Trail, eventful, judged


def prune(trail: Trail, before: float) -> Pruned:
    return asyncio.run(trail.pruning.prune(before))


def test_what_is_left_of_a_pruned_trail_verifies() -> None:
    trail = eventful()
    middle = trail.rows[trail.chain("acme", 1)][5].time
    entries, checkpoints = prune(trail, middle)
    assert entries > 0
    assert checkpoints > 0
    assert trail.rows[trail.chain("acme", 1)][0].sequence == 6
    for tenant in (None, "acme", "zenith"):
        assert trail.verify(tenant).valid, trail.verify(tenant).problems
        assert judged(trail.export(tenant)).valid


def test_what_was_pruned_is_said_in_the_trail_of_its_tenant() -> None:
    trail = eventful()
    prune(trail, trail.now)
    said = {rows[-1].tenant: rows[-1] for rows in trail.rows.values() if rows and rows[-1].kind == Kind.RETENTION}
    assert set(said) == {"acme", "zenith"}


def test_somebody_who_cuts_off_more_than_was_pruned_is_found() -> None:
    trail = eventful()
    chain = trail.chain("acme", 1)
    prune(trail, trail.rows[chain][5].time)
    del trail.rows[chain][0]
    problem = trail.verify().problems[0]
    assert (problem.chain, problem.sequence) == (chain, 6)


def test_the_first_entry_that_is_left_cannot_be_changed() -> None:
    trail = eventful()
    chain = trail.chain("acme", 1)
    prune(trail, trail.rows[chain][5].time)
    trail.rows[chain][0] = trail.rows[chain][0]._replace(user="bob")
    assert not trail.verify().valid


def test_a_trail_that_does_not_verify_is_not_pruned() -> None:
    trail = eventful()
    rows = trail.rows[trail.chain("acme", 1)]
    rows[8] = rows[8]._replace(user="bob")
    count = len(rows)
    with pytest.raises(NotPrunable, match="does not verify"):
        prune(trail, rows[5].time)
    assert len(trail.rows[trail.chain("acme", 1)]) == count


class Dying(MemoryAuditStore):
    """Dies when something is to be deleted, after the first of it."""

    async def prune(self, entries: Sequence[Head], checkpoints: Sequence[Head], evidence: Sequence[Entry]) -> None:
        await super().prune(entries[:1], (), ())
        raise OSError("killed")


def test_a_server_that_dies_while_it_prunes_leaves_a_trail_that_verifies() -> None:
    trail = eventful()
    dying = Dying(trail.chains)
    dying.rows, dying.kept = trail.rows, trail.kept
    trail.pruning = Pruning(dying, trail.exporter, trail.checkpointer)
    with pytest.raises(OSError, match="killed"):
        prune(trail, trail.now)
    assert trail.verify().valid, trail.verify().problems
    trail.start()
    prune(trail, trail.now)
    assert trail.verify().valid, trail.verify().problems


def test_nothing_is_pruned_while_the_trail_is_read() -> None:
    trail = eventful()

    async def both() -> None:
        pieces = trail.exporter.export(None)
        await anext(pieces)
        await anext(pieces)
        with pytest.raises(ToolwrightError, match="being exported"):
            await trail.pruning.prune(trail.now)
        await pieces.aclose()

    asyncio.run(both())
    assert prune(trail, trail.now)[0] > 0


def test_retention_asks_once_a_day_and_verifies_only_when_there_is_something_to_do() -> None:
    trail = eventful()
    erase = trail.pruning.erase
    assert asyncio.run(erase(trail.now, 500)) == 0
    trail.now += DAY
    count = asyncio.run(erase(trail.now, 500))
    assert count > 20
    # The last entry of a chain that goes on is kept until there is a next one, which here says what was erased.
    assert asyncio.run(erase(trail.now, 500)) == 1
    assert asyncio.run(erase(trail.now, 500)) == 0
    assert trail.verify().valid, trail.verify().problems


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.sampled_from(["acme", "zenith"]), st.integers(1, 4)),
            st.tuples(st.just("sign")),
            st.tuples(st.just("restart"), st.booleans()),
            st.tuples(st.just("wait"), st.sampled_from([1.0, DAY / 2, DAY])),
            st.tuples(st.just("prune"), st.sampled_from([0.0, DAY / 2, DAY, 2 * DAY])),
        ),
        max_size=25,
    )
)
def test_whatever_servers_write_sign_and_prune_the_trail_verifies(steps: list[tuple[object, ...]]) -> None:
    trail = Trail()
    for step in steps:
        match step:
            case ("write", str(tenant), int(count)):
                trail.write(count, tenant)
            case ("sign",):
                trail.sign()
            case ("restart", bool(drained)):
                if drained:
                    trail.sign(closing=True)
                trail.start()
            case ("wait", float(seconds)):
                trail.now += seconds
            case ("prune", float(age)):
                trail.now += 1.0
                prune(trail, trail.now - age)
            case _:
                raise AssertionError(step)
        report = trail.verify()
        assert report.valid, report.problems
    assert trail.verify("acme").valid
    assert judged(trail.export()).valid
