import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolwright_server.execution.events import (
    DROPPABLE,
    Event,
    EventLog,
    EventsGone,
    Happening,
    Logged,
    Progressed,
    StateChanged,
    Wrote,
)
from toolwright_server.execution.model import State

from .conftest import MakeLogs

PATIENCE = 5.0
PLENTY = 1 << 20
SHORTEST = 0.001


def everything(log: EventLog, after: int = 0) -> list[Event]:
    """All kept events, batch by batch."""
    found: list[Event] = []
    while batch := log.after(found[-1].sequence if found else after):
        found += batch
    return found


def fill(log: EventLog, *happenings: Happening) -> None:
    for number, what in enumerate(happenings):
        log.append(float(number), what)


def wrote(text: str | bytes, channel: str = "output") -> Wrote:
    return Wrote(channel, text)


def test_events_come_in_order_numbered_from_one_with_their_time(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    happenings = [StateChanged(State.QUEUED, State.RUNNING), Progressed(1, 2, "half"), wrote("x"), Logged("info", "y")]
    fill(log, *happenings)
    assert everything(log) == [Event(i + 1, float(i), what) for i, what in enumerate(happenings)]
    assert (log.first_sequence, log.last_sequence) == (1, 4)


def test_an_empty_log_has_nothing_before_and_nothing_after(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    assert (log.first_sequence, log.last_sequence, log.closed) == (1, 0, False)
    assert log.after(0) == log.after(7) == []


@pytest.mark.parametrize("after", range(6))
def test_a_reader_gets_what_follows_its_place(make_logs: MakeLogs, after: int) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    fill(log, *(wrote(str(number)) for number in range(5)))
    assert [event.sequence for event in everything(log, after)] == list(range(after + 1, 6))


def test_one_batch_is_bounded_and_many_give_everything(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY * 8, PLENTY).open("a")
    fill(log, *(wrote(str(number)) for number in range(1_000)))
    assert 0 < len(log.after(0)) < 1_000
    assert [event.sequence for event in everything(log)] == list(range(1, 1_001))


def test_droppable_events_go_without_a_trace_when_room_is_needed(make_logs: MakeLogs) -> None:
    logs = make_logs(2_000, PLENTY)
    log = logs.open("a")
    fill(log, wrote("first"), *(Progressed(number, None, "") for number in range(100)), wrote("last"))
    kept = everything(log)
    assert [event.what for event in kept if isinstance(event.what, Wrote)] == [wrote("first"), wrote("last")]
    assert len(kept) < 30
    assert log.first_sequence == 1
    assert everything(log, 50)
    logs.forget("a")


@pytest.mark.parametrize(
    "chunk",
    ["text", "", "é😀\x00", "half \ud83d pair", b"bytes", b"", bytes(range(256)), "x" * 300_000, b"\xff" * 300_000],
    ids=["text", "empty text", "wide", "surrogate", "bytes", "no bytes", "every byte", "long text", "long bytes"],
)
def test_output_on_disk_reads_back_as_it_was(make_logs: MakeLogs, chunk: str | bytes) -> None:
    logs = make_logs(400, PLENTY)
    log = logs.open("a")
    before = [
        StateChanged(State.QUEUED, State.RUNNING),
        wrote(chunk),
        wrote("between"),
        wrote(chunk, channel="chänn\ud800el"),
    ]
    fill(log, *before, *(Logged("info", "x" * 100) for _ in range(20)))
    found = everything(log)[:4]
    assert found == [Event(i + 1, float(i), what) for i, what in enumerate(before)]
    for event, what in zip(found[1:], before[1:], strict=True):
        assert isinstance(event.what, Wrote)
        assert isinstance(what, Wrote)
        assert type(event.what.chunk) is type(what.chunk)
    logs.forget("a")


def test_much_small_output_on_disk_is_read_from_any_place(make_logs: MakeLogs) -> None:
    logs = make_logs(400, 8 * PLENTY)
    log = logs.open("a")
    fill(log, *(wrote(str(number)) for number in range(20_000)))
    assert [event.sequence for event in everything(log)] == list(range(1, 20_001))
    for place in range(0, 20_000, 997):
        assert log.after(place)[0] == Event(place + 1, float(place), wrote(str(place)))
    assert logs.size_bytes("a") <= 400
    logs.forget("a")


def test_what_is_gone_is_said_with_the_first_number_that_is_kept(make_logs: MakeLogs) -> None:
    logs = make_logs(1_000, 2_000)
    log = logs.open("a")
    fill(log, *(wrote("x" * 100) for _ in range(200)))
    first = log.first_sequence
    assert 1 < first <= 200
    for after in (0, 1, first - 2):
        with pytest.raises(EventsGone) as gone:
            log.after(after)
        assert gone.value.first_sequence == first
    assert [event.sequence for event in everything(log, first - 1)] == list(range(first, 201))
    logs.forget("a")


def test_an_event_too_large_for_memory_and_disk_is_gone_at_once(make_logs: MakeLogs) -> None:
    logs = make_logs(1_000, 2_000)
    log = logs.open("a")
    fill(log, wrote("small"), wrote("x" * 5_000), wrote("after"))
    assert log.first_sequence == 3
    assert [event.sequence for event in everything(log, 2)] == [3]
    logs.forget("a")


def test_without_room_on_disk_events_are_gone_and_no_file_is_made(make_logs: MakeLogs, spill_folder: Path) -> None:
    log = make_logs(1_000, 0).open("a")
    fill(log, *(wrote("x" * 100) for _ in range(20)))
    assert log.first_sequence > 1
    assert not spill_folder.exists()


def test_a_disk_that_refuses_costs_events_and_nothing_else(
    make_logs: MakeLogs, spill_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spill_folder.write_text("a file where a folder should be")
    log = make_logs(1_000, PLENTY).open("a")
    fill(log, *(wrote("x" * 100) for _ in range(50)))
    assert log.last_sequence == 50
    assert everything(log, log.first_sequence - 1)[-1].sequence == 50
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(spill_folder) in caplog.text


def test_a_spilled_log_leaves_nothing_in_the_folder(make_logs: MakeLogs, spill_folder: Path) -> None:
    logs = make_logs(1_000, PLENTY)
    log = logs.open("a")
    fill(log, *(wrote("x" * 100) for _ in range(50)))
    assert log.first_sequence == 1
    assert list(spill_folder.iterdir()) == []
    logs.forget("a")
    assert list(spill_folder.iterdir()) == []


def test_wide_characters_count_as_the_bytes_that_they_take(make_logs: MakeLogs) -> None:
    logs = make_logs(PLENTY, 0)
    log = logs.open("a")
    fill(log, *(wrote("😀" * 1_000) for _ in range(50)))
    assert logs.size_bytes("a") >= 50 * 4_000


@pytest.mark.asyncio
async def test_a_waiting_reader_is_woken_by_the_next_event(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    readers = [asyncio.create_task(log.wait(0, PATIENCE)) for _ in range(3)]
    await asyncio.sleep(0)
    fill(log, wrote("x"))
    assert await asyncio.gather(*readers) == [True, True, True]


@pytest.mark.asyncio
async def test_closing_wakes_who_waits_and_who_comes_later_does_not_wait(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    reader = asyncio.create_task(log.wait(0, PATIENCE))
    await asyncio.sleep(0)
    log.close()
    assert await reader
    assert await log.wait(0, PATIENCE)
    assert log.closed
    assert log.after(0) == []


@pytest.mark.asyncio
async def test_a_reader_that_lags_does_not_wait(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    fill(log, wrote("x"), wrote("y"))
    assert await log.wait(1, PATIENCE)


@pytest.mark.asyncio
async def test_a_reader_waits_no_longer_than_it_said(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    assert not await asyncio.wait_for(log.wait(0, SHORTEST), PATIENCE)
    fill(log, wrote("x"))
    assert await log.wait(0, SHORTEST)


@pytest.mark.asyncio
async def test_a_reader_that_was_cancelled_does_not_disturb_the_others(make_logs: MakeLogs) -> None:
    log = make_logs(PLENTY, PLENTY).open("a")
    leaving, staying = (asyncio.create_task(log.wait(0, PATIENCE)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    fill(log, wrote("x"))
    assert await staying


@pytest.mark.asyncio
async def test_a_forgotten_log_tells_its_readers_that_the_events_are_gone(make_logs: MakeLogs) -> None:
    logs = make_logs(PLENTY, PLENTY)
    log = logs.open("a")
    fill(log, wrote("x"), wrote("y"))
    reader = asyncio.create_task(log.wait(2, PATIENCE))
    await asyncio.sleep(0)
    logs.forget("a")
    assert await reader
    with pytest.raises(EventsGone) as gone:
        log.after(0)
    assert gone.value.first_sequence == 3
    assert log.after(2) == []
    assert logs.find("a") is None


def test_logs_are_found_by_their_execution_and_forgetting_twice_is_once(make_logs: MakeLogs) -> None:
    logs = make_logs(PLENTY, PLENTY)
    one, other = logs.open("a"), logs.open("b")
    assert logs.find("a") is one
    assert logs.find("b") is other
    logs.forget("a")
    logs.forget("a")
    assert (logs.find("a"), logs.size_bytes("a")) == (None, 0)
    assert logs.find("b") is other


HAPPENINGS = st.one_of(
    st.builds(Wrote, st.sampled_from(["output", "b"]), st.text(max_size=300) | st.binary(max_size=300)),
    st.builds(Progressed, st.integers(), st.none(), st.text(max_size=50)),
    st.builds(Logged, st.just("info"), st.text(max_size=50)),
    st.just(StateChanged(State.QUEUED, State.RUNNING)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(HAPPENINGS, max_size=80), st.integers(0, 4_000), st.integers(0, 4_000), st.data())
def test_a_log_keeps_what_a_list_would_keep_except_what_had_to_go(
    make_logs: MakeLogs, happenings: list[Happening], memory_bytes: int, spill_bytes: int, data: st.DataObject
) -> None:
    # Before there is a file to close: drawing may break off.
    after = data.draw(st.integers(0, len(happenings)))
    logs = make_logs(memory_bytes, spill_bytes)
    log, model, first = logs.open("a"), list[Event](), 1
    for number, what in enumerate(happenings):
        log.append(float(number), what)
        model.append(Event(number + 1, float(number), what))
        assert log.last_sequence == len(model)
        assert logs.size_bytes("a") <= memory_bytes
        assert first <= log.first_sequence <= log.last_sequence + 1
        first = log.first_sequence
    if first > 1:
        assert not isinstance(model[first - 2].what, DROPPABLE), "only an undroppable event leaves a gap"
    if after + 1 < first:
        with pytest.raises(EventsGone):
            log.after(after)
    else:
        found = everything(log, after)
        assert all(model[event.sequence - 1] == event for event in found)
        assert all(one.sequence < next_one.sequence for one, next_one in pairwise(found))
        kept = {event.sequence for event in found}
        assert all(event.sequence in kept for event in model[after:] if not isinstance(event.what, DROPPABLE))
    logs.forget("a")
