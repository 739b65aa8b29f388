"""What a worker says of its artifacts is believed only as far as it makes sense: a tool may write into its memory."""

from pathlib import Path
from typing import Any

import pytest

from toolwright_server.artifacts.desk import Desk, Room
from toolwright_server.artifacts.model import ArtifactLimits
from toolwright_server.backends.forked.drafts import answered
from toolwright_server.backends.forked.frames import Frames

RIGHT: dict[str, Any] = {"size_bytes": 5, "sha256": "0" * 64, "preview": "lines\n"}


@pytest.fixture
def room() -> Room:
    return Room(10_000)


@pytest.fixture
def desk(tmp_path: Path, room: Room) -> Desk:
    return Desk(ArtifactLimits(1_000, 4, 0), room, lambda number: str(tmp_path / str(number)))


def say(desk: Desk, verb: str, *arguments: object) -> Any:
    """What the server answers: nothing when the worker's wish was granted, or the name of the reason why not."""
    frames = Frames(1_000)
    frames.feed(answered(lambda: desk, verb, list(arguments)))
    found = frames.next()
    assert found is not None
    return found[0][1] and found[0][1][0]


def begin(desk: Desk) -> None:
    assert say(desk, "open", "a", "text/plain") is None
    assert say(desk, "grow", 1, 100, 1) is None


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("", "text/plain"), ("x" * 256, "text/plain"), ("a\nb", "text/plain"), ("a", "text"), ("a", "a/b\r\nc: d")],
)
def test_a_name_or_a_type_that_is_not_fit_to_show_begins_nothing(desk: Desk, name: str, media_type: str) -> None:
    with pytest.raises(ValueError, match=r"name must be|no media type"):
        say(desk, "open", name, media_type)
    assert len(desk.numbers) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"size_bytes": -1},
        {"sha256": "0" * 63},
        {"sha256": "0" * 64 + "\n"},
        {"preview": "x" * 1_025},
        {"preview": "\n" * 11},
        {"preview": "\x00"},
    ],
    ids=["negative", "short digest", "line in digest", "long", "many lines", "no text"],
)
def test_what_no_artifact_can_be_is_none(desk: Desk, room: Room, wrong: dict[str, Any]) -> None:
    begin(desk)
    with pytest.raises(ValueError, match="of an artifact"):
        say(desk, "close", 1, RIGHT | wrong)
    assert room.used_bytes == 100
    assert desk.end(keep=True, expire_time=None) == ()


def test_it_ends_once_and_is_no_larger_than_what_it_was_granted(desk: Desk, room: Room) -> None:
    begin(desk)
    assert say(desk, "close", 1, RIGHT | {"size_bytes": 101}) == "TOOL_FAILED"
    assert say(desk, "close", 1, RIGHT) is None
    assert say(desk, "close", 1, RIGHT | {"size_bytes": 0}) == "TOOL_FAILED"
    assert room.used_bytes == 5
    (artifact,) = desk.end(keep=True, expire_time=None)
    assert (artifact.size_bytes, artifact.sha256, artifact.preview) == tuple(RIGHT.values())
