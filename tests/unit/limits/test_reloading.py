"""The limits file while the server runs."""

import asyncio
import os
from pathlib import Path

import pytest

from toolwright_server.errors import SettingsError
from toolwright_server.limits.reloading import RuleFile
from toolwright_server.limits.rulefile import ready_made

pytestmark = pytest.mark.asyncio

RULE = '[[rule]]\nname = "mine"\nper = "user+category"\nwindow_seconds = 60\nlimit = {}\n'


class Followed:
    """A limits file and who follows it; every change of it has a time of its own, however fast they come."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "limits.toml"
        self._time = 1_000_000_000
        self.write(5)
        self.refusals = 0
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self.resume = asyncio.Semaphore(0)
        self.file = RuleFile(self.path, 7.0, refused=self._refused, pause=self._pause)

    def write(self, limit: object) -> None:
        self.path.write_text(RULE.replace("{}", str(limit)))
        self._time += 1_000
        os.utime(self.path, ns=(self._time, self._time))

    async def look(self) -> None:
        """Let the periodic look come round once."""
        self.resume.release()
        await asyncio.wait_for(self.pauses.get(), 30)

    @property
    def limit(self) -> int:
        (check,) = [check for check in self.checks() if check.rule == "mine"]
        return check.limit

    def checks(self):
        return self.file.rulebook.checks_for("acme", "ada", "games.play", "games")

    def _refused(self) -> None:
        self.refusals += 1

    async def _pause(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self.resume.acquire()


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    return Followed(tmp_path)


async def test_what_is_changed_holds_at_the_next_look(followed: Followed) -> None:
    assert followed.limit == 5
    followed.file.start()
    assert await asyncio.wait_for(followed.pauses.get(), 30) == 7
    await followed.look()
    assert followed.limit == 5
    followed.write(6)
    await followed.look()
    assert followed.limit == 6
    await followed.file.close()


async def test_a_file_that_is_wrong_changes_nothing_and_is_said_once(
    followed: Followed, caplog: pytest.LogCaptureFixture
) -> None:
    followed.write(0)
    for _ in range(3):
        await followed.file.look()
    assert (followed.limit, followed.refusals) == (5, 1)
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == (
        f"the limits stay as they were: {followed.path}, line 5: rule mine: limit must be a whole number from 1 to "
        '1000000, "unlimited", or a table of them by tier'
    )
    followed.write(8)
    await followed.file.look()
    assert (followed.limit, followed.refusals) == (8, 1)


async def test_a_file_that_is_gone_changes_nothing_until_it_is_back(followed: Followed) -> None:
    followed.path.unlink()
    for _ in range(2):
        await followed.file.look()
    assert (followed.limit, followed.refusals) == (5, 1)
    followed.write(9)
    await followed.file.look()
    assert followed.limit == 9


async def test_a_file_that_is_put_in_its_place_is_seen_although_it_is_as_old_and_as_long(followed: Followed) -> None:
    before = followed.path.stat()
    other = followed.path.with_suffix(".new")
    other.write_text(RULE.replace("{}", "4"))
    os.utime(other, ns=(before.st_mtime_ns, before.st_mtime_ns))
    other.replace(followed.path)
    await followed.file.look()
    assert followed.limit == 4


async def test_a_defect_is_not_the_last_look(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(rules: object) -> None:
        raise RuntimeError("defect")

    followed.file.start()
    await asyncio.wait_for(followed.pauses.get(), 30)
    with monkeypatch.context() as broken:
        broken.setattr(followed.file.rulebook, "replace", fail)
        followed.write(6)
        await followed.look()
    followed.write(7)
    await followed.look()
    assert followed.limit == 7
    await followed.file.close()


async def test_a_file_that_is_wrong_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        RuleFile(tmp_path / "none.toml", 1.0)


async def test_without_a_file_there_is_nothing_to_look_at() -> None:
    file = RuleFile(None, 1.0)
    file.start()
    await file.close()
    assert file.rulebook.rules == ready_made()
