"""What a sweep erases of a real folder, and what it leaves, whatever a tool or another program put there."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from toolwright_server.artifacts.desk import Desk
from toolwright_server.artifacts.keeper import ArtifactKeeper
from toolwright_server.artifacts.model import Artifact, ArtifactLimits, ArtifactRefused
from toolwright_server.artifacts.store import Lying
from toolwright_server.artifacts.sweeping import YOUNG_SECONDS, Known, Sweep
from toolwright_server.artifacts.writing import ArtifactFile
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.stores.files.artifacts import FileArtifacts

pytestmark = pytest.mark.asyncio

NOW = 1_795_000_000.0
IDS = {name: f"0197{number:04x}-0000-7000-8000-000000000000" for number, name in enumerate("abcdef")}


def described(number: int = 1, expire_time: float | None = None) -> Artifact:
    return Artifact(number, "a", "text/plain", 4, "0" * 64, "", expire_time)


class Rows:
    def __init__(self, **known: Known) -> None:
        self._known = {IDS[name]: each for name, each in known.items()}
        self.fails = False

    async def known(self, execution_ids: Sequence[str]) -> Mapping[str, Known]:
        if self.fails:
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")
        return {each: self._known[each] for each in execution_ids if each in self._known}


def keeper(folder: Path) -> ArtifactKeeper:
    return ArtifactKeeper(FileArtifacts.open(folder), ArtifactLimits(1_000, 4, 10_000), 3_600.0)


def put(folder: Path, name: str, *, age: float = 0.0) -> str:
    """A file of four bytes of execution `name[0]`."""
    path = folder / (IDS[name[0]] + name[1:])
    path.write_bytes(b"byte")
    os.utime(path, (NOW - age, NOW - age))
    return path.name


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_what_a_row_names_stays_until_it_expires(tmp_path: Path) -> None:
    kept, expired, unnamed = put(tmp_path, "a.1"), put(tmp_path, "b.1"), put(tmp_path, "a.2")
    rows = Rows(a=Known(True, False, [described()]), b=Known(True, False, [described(expire_time=NOW)]))
    keeping = keeper(tmp_path)
    sweep = Sweep(keeping, rows, 60.0, lambda: NOW)
    await sweep.run()
    assert left(tmp_path) == {kept}
    assert {expired, unnamed}.isdisjoint(left(tmp_path))
    assert (sweep.erased, keeping.room.used_bytes) == (2, 4)


async def test_what_runs_anywhere_stays_and_what_is_half_written_goes_with_its_execution(tmp_path: Path) -> None:
    running = {put(tmp_path, "a.1", age=9e6), put(tmp_path, "a.2.part", age=9e6)}
    put(tmp_path, "b.1.part")
    put(tmp_path, "c.1.part")
    rows = Rows(a=Known(False, False, []), b=Known(True, False, []), c=Known(True, True, []))
    await Sweep(keeper(tmp_path), rows, 60.0, lambda: NOW).run()
    assert left(tmp_path) == running


async def test_what_no_row_knows_and_what_is_in_doubt_stays_for_an_hour(tmp_path: Path) -> None:
    young = {put(tmp_path, "a.1", age=YOUNG_SECONDS - 1), put(tmp_path, "b.1", age=YOUNG_SECONDS - 1)}
    put(tmp_path, "c.1", age=YOUNG_SECONDS + 1)
    put(tmp_path, "d.1", age=YOUNG_SECONDS + 1)
    await Sweep(keeper(tmp_path), Rows(b=Known(True, True, []), d=Known(True, True, [])), 60.0, lambda: NOW).run()
    assert left(tmp_path) == young


async def test_other_files_are_nobodys_business(tmp_path: Path) -> None:
    for name in ("notes.txt", "x.part", "..1", f"{IDS['a']}.0", f"{IDS['a']}", f"{IDS['a']}.1.bak"):
        (tmp_path / name).write_text("theirs")
    before = left(tmp_path)
    await Sweep(keeper(tmp_path), Rows(), 60.0, lambda: NOW + 9e6).run()
    assert left(tmp_path) == before


async def test_what_is_being_written_here_stays_although_no_row_knows_it(tmp_path: Path) -> None:
    mine = put(tmp_path, "a.1", age=9e6)
    keeping = keeper(tmp_path)
    desk = keeping.desk(IDS["a"])
    sweep = Sweep(keeping, Rows(), 60.0, lambda: NOW)
    await sweep.run()
    assert left(tmp_path) == {mine}
    keeping.end(desk, NOW, keep=False)
    keeping.dismiss(IDS["a"], desk, ())
    await sweep.run()
    assert left(tmp_path) == set()


async def test_a_record_that_cannot_be_read_costs_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a.1", age=9e6)
    rows = Rows()
    rows.fails = True
    keeping = keeper(tmp_path)
    with pytest.raises(ToolwrightError):
        await Sweep(keeping, rows, 60.0, lambda: NOW).run()
    assert len(left(tmp_path)) == 1
    assert keeping.room.used_bytes == 4, "what lies there takes room, whosever it is"


def begun(desk: Desk) -> ArtifactFile:
    file = ArtifactFile(lambda: desk, "a", "text/plain")
    file.open()
    return file


def wrote(desk: Desk, size: int) -> None:
    file = begun(desk)
    file.write(b"x" * size)
    file.close()


async def ended(keeping: ArtifactKeeper, desk: Desk, name: str, *, keep: bool = True) -> None:
    keeping.dismiss(IDS[name], desk, keeping.end(desk, NOW, keep=keep))
    await keeping.close()


async def test_a_sweep_counts_what_is_reserved_and_not_what_is_written_of_it(tmp_path: Path) -> None:
    put(tmp_path, "b.1")
    keeping = keeper(tmp_path)
    desk = keeping.desk(IDS["a"])
    file = begun(desk)
    file.write(b"x" * 10)
    sweep = Sweep(keeping, Rows(a=Known(False, False, []), b=Known(False, False, [])), 60.0, lambda: NOW)
    await sweep.run()
    assert keeping.room.used_bytes == 1_000 + 4
    file.write(b"x" * 10)
    file.close()
    assert keeping.room.used_bytes == 20 + 4
    await ended(keeping, desk, "a")
    await sweep.run()
    assert keeping.room.used_bytes == 20 + 4


async def test_what_is_given_its_name_while_it_is_erased_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Path(tmp_path, put(tmp_path, "a.1.part"))
    unlink = Path.unlink

    def unlinked(path: Path) -> None:
        try:
            unlink(path)
        finally:
            with suppress(FileNotFoundError):
                part.rename(part.with_suffix(""))

    monkeypatch.setattr(Path, "unlink", unlinked)
    await FileArtifacts(tmp_path).erase({IDS["a"]: [1]})
    assert left(tmp_path) == set()


class Busy(FileArtifacts):
    """While it looks for what lies there, more happens."""

    async def lying(self) -> Sequence[Lying]:
        await self.before()
        found = await super().lying()
        await self.after()
        return found

    async def before(self) -> None: ...

    async def after(self) -> None: ...


async def test_what_ends_and_what_begins_while_a_sweep_looks_is_counted_once(tmp_path: Path) -> None:
    store = Busy(tmp_path)
    keeping = ArtifactKeeper(store, ArtifactLimits(1_000, 4, 10_000), 3_600.0)
    desks = {name: keeping.desk(IDS[name]) for name in "ab"}
    for desk in desks.values():
        wrote(desk, 10)

    async def first() -> None:
        await ended(keeping, desks["a"], "a")
        begun(keeping.desk(IDS["c"])).write(b"x")

    async def then() -> None:
        await ended(keeping, desks["b"], "b")

    store.before, store.after = first, then
    running = Known(False, False, [])
    await Sweep(keeping, Rows(a=running, b=running, c=running), 60.0, lambda: NOW).run()
    assert keeping.room.used_bytes == 10 + 10 + 1_000


async def test_what_failed_attempts_wrote_is_counted_until_it_is_erased(tmp_path: Path) -> None:
    keeping = keeper(tmp_path)
    desk = keeping.desk(IDS["a"])
    for _ in range(10):
        desk.begin_anew()
        wrote(desk, 1_000)
    assert len(left(tmp_path)) == 10
    assert keeping.room.used_bytes == 10_000
    with pytest.raises(ArtifactRefused):
        begun(keeping.desk(IDS["b"])).write(b"x")
    await ended(keeping, desk, "a")
    assert keeping.room.used_bytes == 1_000
    assert left(tmp_path) == {f"{IDS['a']}.10"}


async def test_nothing_becomes_whole_any_more_while_what_was_begun_is_erased(tmp_path: Path) -> None:
    keeping = keeper(tmp_path)
    desk = keeping.desk(IDS["a"])
    file = begun(desk)
    keeping.dismiss(IDS["a"], desk, ())
    with pytest.raises(ArtifactRefused):
        file.close()
    await keeping.close()
    assert left(tmp_path) == set()


async def test_what_cannot_be_erased_takes_room_until_a_sweep_erases_it(tmp_path: Path) -> None:
    keeping = keeper(tmp_path)
    desk = keeping.desk(IDS["a"])
    wrote(desk, 10)
    whole = tmp_path / f"{IDS['a']}.1"
    whole.unlink()
    whole.mkdir()  # which cannot be unlinked
    await ended(keeping, desk, "a", keep=False)
    assert keeping.room.used_bytes == 10
    whole.rmdir()
    await Sweep(keeping, Rows(), 60.0, lambda: NOW).run()
    assert keeping.room.used_bytes == 0
