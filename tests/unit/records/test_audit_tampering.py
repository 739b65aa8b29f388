"""What somebody finds out who verifies a database that somebody else could write to, but without the key."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.model import Row
from toolwright_server.records.audit.offline.report import Fault, Report

from .audit_trails import Trail, eventful, judged, rehashed, relinked, signing_key

CHAIN = encoding.chain_id("acme", "server-1", 1)
# Heads of that chain which checkpoints sign: after the first, the second, and by the survivor.
SIGNED = (5, 8, 10)


def first(report: Report) -> tuple[Fault, str, int]:
    problem = report.problems[0]
    return problem.fault, problem.chain, problem.sequence


def trusted_before(sequence: int) -> int:
    return max(signed for signed in (0, *SIGNED) if signed < sequence)


CHANGES: list[dict[str, Any]] = [
    {"chain_id": "0" * 24},
    {"time": 1.0},
    {"tenant": "other"},
    {"kind": "call"},
    {"principal": "somebody"},
    {"user": "bob"},
    {"execution_id": "id-99"},
    {"body": b'{"tool":"crm.contact.delete"}'},
    {"body": b"no JSON\n{}"},
    {"body": None},
    {"previous": bytes(32)},
    {"hash": bytes(32)},
    {"hash": b""},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("sequence", [2, 5, 10])
def test_every_changed_column_is_found_and_its_entry_named(change: dict[str, Any], sequence: int) -> None:
    trail = eventful()
    rows = trail.rows[CHAIN]
    rows[sequence - 1] = rows[sequence - 1]._replace(**change)
    assert first(trail.verify()) == (Fault.CHANGED, CHAIN, sequence)
    assert not judged(trail.export()).valid


@pytest.mark.parametrize("sequence", range(2, 11))
def test_an_entry_that_was_exchanged_for_one_with_a_good_hash_is_named(sequence: int) -> None:
    trail = eventful()
    rows = trail.rows[CHAIN]
    rows[sequence - 1] = rehashed(rows[sequence - 1]._replace(user="bob"))
    fault, chain, named = first(trail.verify())
    assert (fault, chain) == (Fault.CHANGED, CHAIN)
    # Of one that was signed itself it could be any since the signature before: all hashes between may be new.
    assert trusted_before(sequence) < named <= sequence if sequence in SIGNED else named == sequence


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10), st.sampled_from(["change", "remove", "insert", "swap"]))
def test_a_chain_that_was_linked_anew_behind_a_change_is_found(sequence: int, how: str) -> None:
    trail = eventful()
    rows = trail.rows[CHAIN]
    changed = {
        "change": lambda: [*rows[: sequence - 1], rows[sequence - 1]._replace(user="bob"), *rows[sequence:]],
        "remove": lambda: [*rows[: sequence - 1], *rows[sequence:]],
        "insert": lambda: [*rows[:sequence], rows[sequence - 1]._replace(user="bob"), *rows[sequence:]],
        "swap": lambda: [
            *rows[: sequence - 1],
            *rows[sequence : sequence + 1],
            rows[sequence - 1],
            *rows[sequence + 1 :],
        ],
    }[how]()
    if sequence == 1:
        # The first one says whose the chain is.
        changed = [rehashed(changed[0]._replace(sequence=1, previous=bytes(32))), *changed[1:]]
    if how == "swap" and sequence == len(rows):
        return
    trail.rows[CHAIN] = relinked(changed)
    report = trail.verify()
    fault, chain, named = first(report)
    assert chain == CHAIN
    # Which one of those since the last signature it was nobody can say any more.
    assert trusted_before(sequence) < named <= sequence + 1, report.problems
    assert fault in {Fault.CHANGED, Fault.TRUNCATED, Fault.INSERTED}


@pytest.mark.parametrize("left", range(1, 10))
def test_a_tail_that_was_cut_off_is_named(left: int) -> None:
    trail = eventful()
    del trail.rows[CHAIN][left:]
    assert first(trail.verify()) == (Fault.TRUNCATED, CHAIN, left + 1)


@pytest.mark.parametrize("gone", range(1, 10))
def test_a_beginning_that_was_cut_off_is_named(gone: int) -> None:
    trail = eventful()
    del trail.rows[CHAIN][:gone]
    assert first(trail.verify()) == (Fault.REMOVED, CHAIN, 1)


def test_a_whole_chain_that_was_removed_is_named_to_everybody_whom_it_concerns() -> None:
    trail = eventful()
    del trail.rows[CHAIN]
    assert first(trail.verify()) == (Fault.REMOVED, CHAIN, 1)
    assert first(trail.verify("acme")) == (Fault.REMOVED, CHAIN, 1)
    assert trail.verify("zenith").valid


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_entry_that_was_added_to_the_chain_of_a_server_that_ended_is_named(epoch: int) -> None:
    trail = eventful()
    chain = trail.chain("acme", epoch)
    last = trail.rows[chain][-1]
    trail.rows[chain] = relinked([*trail.rows[chain], last])
    assert first(trail.verify()) == (Fault.INSERTED, chain, last.sequence + 1)


def test_a_run_that_was_removed_with_its_checkpoints_is_missed_by_a_later_one() -> None:
    trail = eventful()
    checkpoints = encoding.chain_id(None, "server-1", 2)
    for tenant in ("acme", "zenith"):
        del trail.rows[trail.chain(tenant, 2)]
    for place in [place for place in trail.kept if place[0] == checkpoints]:
        del trail.kept[place]
    assert {problem.chain for problem in trail.verify().problems} == {checkpoints}


@pytest.mark.parametrize("sequence", [1, 2])
def test_a_checkpoint_that_was_removed_is_named(sequence: int) -> None:
    trail = eventful()
    checkpoints = encoding.chain_id(None, "server-1", 1)
    del trail.kept[checkpoints, sequence]
    assert first(trail.verify())[1:] == (checkpoints, sequence)


def test_a_checkpoint_that_another_key_signed_is_not_trusted() -> None:
    trail = eventful()
    forged = Trail(signing_key(2))
    forged.write(3)
    forged.sign()
    place, checkpoint = next(iter(forged.kept.items()))
    trail.kept[place] = checkpoint
    assert first(trail.verify())[0] is Fault.UNTRUSTED


def test_a_trail_that_was_made_anew_with_the_key_is_found_by_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trail = eventful()
    logged = {
        (chain, int(sequence)): (bytes.fromhex(digest), int(time))
        for chain, sequence, time, digest in re.findall(
            r"audit checkpoint (\w{24}) (\d+) (\d+) (\w{64})", "\n".join(caplog.messages)
        )
    }
    assert judged(trail.export(), logged=logged).valid
    anew = Trail()
    anew.write(3)
    anew.sign()
    anew.now = trail.now
    file = anew.export()
    assert judged(file).valid
    assert not judged(file, logged=logged).valid
    assert not judged(anew.export(), logged=logged).valid


def test_entries_behind_the_last_checkpoint_of_a_killed_server_can_be_cut_off_until_somebody_signs_them() -> None:
    trail = Trail()
    trail.write(3)
    trail.sign()
    trail.write(3)
    chain = trail.chain("acme", 1)
    whole: list[Row] = list(trail.rows[chain])
    assert trail.verify().unsigned == 3
    del trail.rows[chain][4:]
    assert trail.verify().valid
    trail.rows[chain] = whole
    # The next server signs for the one that was killed, at its start.
    trail.start()
    trail.sign()
    assert trail.verify().unsigned == 0
    del trail.rows[chain][4:]
    assert not trail.verify().valid
