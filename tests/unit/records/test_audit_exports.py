import hashlib
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.records.audit import encoding
from toolwright_server.records.audit.offline.report import Fault

from .audit_trails import eventful, judged, members, signing_key

FILE = eventful().export()
LINES = FILE.splitlines(keepends=True)
MEMBERS = members(FILE)
OTHER = eventful(signing_key(2)).export().splitlines(keepends=True)
STARTS = [sum(map(len, LINES[:number])) for number in range(len(LINES))]
ENTRIES = [number for number, line in enumerate(LINES) if line.startswith(b'{"type":"entry"')]

anywhere = st.integers(0, len(FILE) - 1)
a_line = st.integers(0, len(LINES) - 1)


def line_at(position: int) -> int:
    """The index of the line in which this byte stands."""
    return max(number for number, start in enumerate(STARTS) if start <= position)


def test_an_export_that_nobody_touched_is_valid() -> None:
    report = judged(FILE)
    assert report.valid, report.problems
    assert (report.entries, report.checkpoints, report.chains, report.unsigned) == (30, 7, 5, 2)


@pytest.mark.parametrize("tenant", ["acme", "zenith", "nobody"])
def test_a_tenants_export_is_valid_and_has_nothing_of_others(tenant: str) -> None:
    file = eventful().export(tenant)
    assert judged(file).valid
    others = {"acme", "zenith"} - {tenant}
    assert not any(other.encode() in file for other in others)


@settings(max_examples=300, deadline=None)
@given(anywhere, st.integers(0, 255))
def test_every_changed_byte_is_found_and_the_line_in_which_it_stands_named(position: int, byte: int) -> None:
    if FILE[position] == byte:
        return
    report = judged(FILE[:position] + bytes([byte]) + FILE[position + 1 :])
    assert not report.valid
    first, number = report.problems[0], line_at(position)
    if number:
        assert first.line == number + 1
    if number and b"\n"[0] not in {byte, FILE[position]}:
        assert (first.chain, first.sequence) == MEMBERS[number]


def test_no_byte_of_an_entry_can_be_changed_unnoticed() -> None:
    number = ENTRIES[7]
    for position in range(STARTS[number], STARTS[number + 1]):
        report = judged(FILE[:position] + bytes([FILE[position] ^ 1]) + FILE[position + 1 :])
        assert report.problems[0].line == number + 1


@settings(max_examples=200, deadline=None)
@given(anywhere)
def test_every_byte_that_is_taken_out_is_found(position: int) -> None:
    assert not judged(FILE[:position] + FILE[position + 1 :]).valid


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(FILE)), st.binary(min_size=1, max_size=3))
def test_whatever_is_put_in_is_found(position: int, put_in: bytes) -> None:
    assert not judged(FILE[:position] + put_in + FILE[position:]).valid


@settings(max_examples=200, deadline=None)
@given(anywhere)
def test_every_truncation_is_found(length: int) -> None:
    report = judged(FILE[:length])
    assert Fault.TRUNCATED in {problem.fault for problem in report.problems}


@pytest.mark.parametrize("number", range(1, len(LINES) - 1))
def test_every_line_that_is_taken_out_is_named(number: int) -> None:
    report = judged(b"".join(LINES[:number] + LINES[number + 1 :]))
    first = report.problems[0]
    assert first.fault in {Fault.REMOVED, Fault.TRUNCATED}
    assert (first.chain, first.sequence) == MEMBERS[number]


@settings(max_examples=100, deadline=None)
@given(a_line, st.integers(0, len(LINES)))
def test_every_line_that_is_there_twice_is_found(number: int, place: int) -> None:
    assert not judged(b"".join([*LINES[:place], LINES[number], *LINES[place:]])).valid


@settings(max_examples=200, deadline=None)
@given(a_line, a_line)
def test_every_two_lines_that_are_swapped_are_found(one: int, two: int) -> None:
    if one == two:
        return
    first, second = sorted((one, two))
    lines = list(LINES)
    lines[first], lines[second] = lines[second], lines[first]
    report = judged(b"".join(lines))
    assert not report.valid
    assert report.problems[0].line <= first + 2


def test_two_neighbours_that_are_swapped_are_named() -> None:
    first, second = ENTRIES[7], ENTRIES[8]
    assert MEMBERS[first][0] == MEMBERS[second][0]
    lines = list(LINES)
    lines[first], lines[second] = lines[second], lines[first]
    problem = judged(b"".join(lines)).problems[0]
    assert problem.fault is Fault.REORDERED
    assert (problem.chain, problem.sequence) == MEMBERS[first]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(OTHER) - 1), st.integers(0, len(LINES)))
def test_every_line_of_another_export_that_is_put_in_is_found(number: int, place: int) -> None:
    if OTHER[number] not in LINES:
        assert not judged(b"".join([*LINES[:place], OTHER[number], *LINES[place:]])).valid


def test_lines_that_are_shuffled_are_found() -> None:
    for seed in range(50):
        lines = list(LINES)
        random.Random(seed).shuffle(lines)
        assert not judged(b"".join(lines)).valid


def test_a_dropped_tail_with_its_trailer_left_is_named() -> None:
    # No checkpoint covers the two last entries of the last run: only the trailer knows of them.
    last = max(number for number in ENTRIES if MEMBERS[number][0] == encoding.chain_id("acme", "server-1", 3))
    problem = judged(b"".join(LINES[: last - 1] + LINES[last + 1 :])).problems[0]
    assert problem.fault is Fault.TRUNCATED
    assert (problem.chain, problem.sequence) == MEMBERS[last - 1]


def test_a_whole_chain_that_is_taken_out_is_named() -> None:
    gone = MEMBERS[ENTRIES[0]][0]
    lines = [line for line, (chain, _) in zip(LINES, MEMBERS, strict=True) if chain != gone]
    report = judged(b"".join(lines))
    assert (report.problems[0].fault, report.problems[0].chain, report.problems[0].sequence) == (Fault.REMOVED, gone, 1)


def test_the_trailer_of_another_export_is_none_of_this_one() -> None:
    trail = eventful()
    before = trail.export()
    trail.write()
    after = trail.export().splitlines(keepends=True)
    assert not judged(before.replace(before.splitlines(keepends=True)[-1], after[-1])).valid
    assert not judged(b"".join(after[:-1]) + before.splitlines(keepends=True)[-1]).valid


def test_an_export_signed_with_another_key_is_not_trusted() -> None:
    report = judged(FILE, signing_key(2))
    assert {problem.fault for problem in report.problems} >= {Fault.UNTRUSTED}


def test_an_empty_file_is_no_export() -> None:
    assert not judged(b"").valid
    assert not judged(b"\n").valid


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"type":"entry","sequence":' + b"9" * 5_000 + b"}",
        b'{"type":"checkpoint"}',
        b'{"type":"trailer"}',
        b'{"type":"entry"}',
        b"\xff\xfe",
        b"null",
    ],
)
@pytest.mark.parametrize("number", [0, 1, 4, 12, len(LINES)])
def test_no_line_is_too_strange_to_be_judged(line: bytes, number: int) -> None:
    assert not judged(b"".join([*LINES[:number], line + b"\n", *LINES[number:]])).valid


def test_what_the_documentation_says_of_a_line_holds() -> None:
    before, line = (LINES[number].rstrip(b"\n") for number in ENTRIES[7:9])
    assert hashlib.sha256(line[:-75] + b"}").hexdigest() == json.loads(line)["hash"]
    assert json.loads(line)["previous"] == json.loads(before)["hash"]
