import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server.stores.sql.spill_file import SpillFile

SIZE = 16_384
PAYLOADS = [b"first", b"", b"\x00" * 100, bytes(range(256)) * 4]


def opened(path: Path, size: int = SIZE) -> SpillFile:
    file = SpillFile.open(path, size)
    assert file is not None
    return file


def payloads(file: SpillFile) -> list[bytes]:
    return [payload for payload, _ in file.after(file.begin)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spill" / "0.spill"


@pytest.fixture
def file(path: Path) -> Iterator[SpillFile]:
    made = opened(path)
    yield made
    made.close()


def test_what_was_written_is_there_after_the_process(path: Path) -> None:
    file = opened(path)
    for payload in PAYLOADS:
        assert file.append(payload)
    file.close()
    again = opened(path)
    assert payloads(again) == PAYLOADS
    assert again.append(b"one more")
    assert payloads(again) == [*PAYLOADS, b"one more"]
    again.close()


def test_its_space_is_taken_when_it_is_made(file: SpillFile, path: Path) -> None:
    found = path.stat()
    assert found.st_size == SIZE
    assert found.st_blocks * 512 >= SIZE
    assert found.st_mode & 0o077 == 0
    file.append(b"x" * 1_000)
    assert path.stat().st_size == SIZE


def test_a_record_that_does_not_fit_is_refused_and_a_smaller_one_is_not(file: SpillFile) -> None:
    assert not file.append(bytes(SIZE))
    room = SIZE - file.begin - 28
    assert not file.append(bytes(room + 1))
    assert file.append(bytes(room))
    assert not file.append(b"")
    assert payloads(file) == [bytes(room)]


def test_a_cleared_file_is_empty_also_for_the_next_process(file: SpillFile, path: Path) -> None:
    for payload in PAYLOADS:
        file.append(payload)
    file.clear()
    assert (payloads(file), file.used_bytes) == ([], 0)
    copy = path.with_name("1.spill")
    copy.write_bytes(path.read_bytes())
    again = opened(copy)
    assert payloads(again) == []
    again.close()


def test_records_of_before_do_not_come_back_behind_new_ones(file: SpillFile, path: Path) -> None:
    for _ in range(3):
        file.append(b"old old old")
    file.clear()
    file.append(b"new new new")
    copy = path.with_name("1.spill")
    copy.write_bytes(path.read_bytes())
    again = opened(copy)
    assert payloads(again) == [b"new new new"]
    again.close()


def test_one_process_has_a_file_at_a_time(file: SpillFile, path: Path) -> None:
    assert SpillFile.open(path, SIZE) is None


def test_an_older_smaller_file_grows_and_keeps_its_records(path: Path) -> None:
    small = opened(path, 8_192)
    small.append(b"kept")
    small.close()
    large = opened(path, SIZE)
    assert path.stat().st_size == SIZE
    assert payloads(large) == [b"kept"]
    assert large.append(bytes(9_000))
    large.close()


def test_a_disk_that_refuses_is_not_asked_again(file: SpillFile, path: Path) -> None:
    file.append(b"kept")
    descriptor = os.open(path, os.O_RDONLY)
    os.dup2(descriptor, file.fileno())
    assert not file.append(b"refused")
    writable = os.open(path, os.O_RDWR)
    os.dup2(writable, file.fileno())
    assert not file.append(b"refused as well: what the disk holds is not known")
    assert payloads(file) == [b"kept"]
    os.close(descriptor)
    os.close(writable)


@pytest.mark.parametrize("payload", [b"the torn one", b""], ids=["text", "empty"])
def test_a_write_torn_at_any_byte_leaves_all_records_before_it(file: SpillFile, path: Path, payload: bytes) -> None:
    # Where the torn record comes to lie there was another one before.
    file.append(b"a")
    file.append(b"what lay here before, and a good deal longer than what comes")
    file.clear()
    file.append(b"first")
    before, begin = path.read_bytes(), file.end
    file.append(payload)
    after, end = path.read_bytes(), file.end
    copy = path.with_name("1.spill")
    for torn in range(begin, end + 1):
        copy.write_bytes(after[:torn] + before[torn:])
        found = opened(copy)
        # Whole is also what tore where old and new bytes are the same.
        whole = after[:torn] + before[torn:] == after
        assert payloads(found) == ([b"first", payload] if whole else [b"first"])
        assert found.append(b"next")
        assert payloads(found)[-1] == b"next"
        found.close()


@pytest.mark.slow
def test_a_clearing_torn_at_any_byte_leaves_all_records_or_none(file: SpillFile, path: Path) -> None:
    copy = path.with_name("1.spill")
    for generation in range(3):
        file.append(b"first")
        file.append(b"second")
        before = path.read_bytes()
        file.clear()
        after = path.read_bytes()
        seen: set[int] = set()
        for torn in range(file.begin + 1):
            copy.write_bytes(after[:torn] + before[torn:])
            found = opened(copy)
            assert payloads(found) in ([], [b"first", b"second"]), (generation, torn)
            seen.add(len(payloads(found)))
            found.close()
        assert seen == {0, 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=8), st.data())
def test_a_changed_bit_ends_the_records_before_it(path: Path, records: list[bytes], data: st.DataObject) -> None:
    path.unlink(missing_ok=True)
    made = opened(path)
    ends = [made.begin]
    for record in records:
        assert made.append(record)
        ends.append(made.end)
    made.close()
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(ends[0], ends[-1] - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    again = opened(path)
    untouched = sum(end <= place for end in ends[1:])
    assert payloads(again) == records[:untouched]
    again.close()
