"""One artifact in a real folder: whole or not there, within its limits, and described as it is."""

import hashlib
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.artifacts.desk import Desk, Room
from toolwright_server.artifacts.model import Artifact, ArtifactLimits, ArtifactRefused
from toolwright_server.artifacts.preview import CHARACTERS, HEAD_BYTES, LINES, preview
from toolwright_server.artifacts.writing import PART, ArtifactFile
from toolwright_server.errors import Reason

KIB = 1024


@pytest.fixture
def room() -> Room:
    return Room(100 * KIB)


@pytest.fixture
def make_desk(tmp_path: Path, room: Room) -> Callable[..., Desk]:
    def made(name: str = "e", *, artifact_bytes: int = 64 * KIB, count: int = 2) -> Desk:
        limits = ArtifactLimits(artifact_bytes, count, 0)
        return Desk(limits, room, lambda number: str(tmp_path / f"{name}.{number}{PART}"))

    return made


def write(desk: Desk, *chunks: bytes | str) -> None:
    with ArtifactFile(lambda: desk, "a.txt", "text/plain") as file:
        for chunk in chunks:
            file.write(chunk)


def end(desk: Desk, *, keep: bool = True) -> tuple[Artifact, ...]:
    return desk.end(keep=keep, expire_time=None)


def test_it_has_its_name_only_when_it_is_whole(make_desk: Callable[..., Desk], tmp_path: Path, room: Room) -> None:
    desk = make_desk()
    with ArtifactFile(lambda: desk, "a.txt", "text/plain") as file:
        file.write("grün\n")
        assert [path.name for path in tmp_path.iterdir()] == ["e.1.part"]
        assert stat.S_IMODE((tmp_path / "e.1.part").stat().st_mode) == 0o600
    content = "grün\n".encode()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"e.1": content}
    digest = hashlib.sha256(content).hexdigest()
    assert end(desk) == (Artifact(1, "a.txt", "text/plain", len(content), digest, "grün\n", None),)
    assert room.used_bytes == len(content)


@pytest.mark.parametrize(
    ("media_type", "fits"),
    [
        ("text/csv", True),
        ('text/csv; charset="utf 8" ; header=present', True),
        ("text", False),
        ("text/csv; a=b\r\nSet-Cookie: c=d", False),
        ("text/csv; a=b\0", False),
        ("text/csv; a=b\x7f", False),
    ],
)
def test_a_media_type_is_one_and_begins_no_other_header(media_type: str, fits: bool) -> None:
    try:
        ArtifactFile(make_nothing, "a.txt", media_type)
    except ValueError:
        assert not fits
    else:
        assert fits


def make_nothing() -> Desk:
    raise AssertionError("nothing is written")


@pytest.mark.parametrize("limit", ["artifact", "total", "execution"])
def test_beyond_a_limit_it_is_refused_and_nothing_is_left(
    make_desk: Callable[..., Desk], tmp_path: Path, room: Room, limit: str
) -> None:
    if limit == "total":
        write(make_desk("other"), b"x" * 60 * KIB)
    desk = make_desk(count=0 if limit == "execution" else 2)
    with pytest.raises(ArtifactRefused) as caught:
        write(desk, b"x" * 50 * KIB, b"x" * (60 if limit == "artifact" else 1) * KIB)
    assert (caught.value.failure.reason, caught.value.failure.metadata) == (Reason.OUTPUT_LIMIT, {"limit": limit})
    assert end(desk) == ()
    assert [path.name for path in tmp_path.iterdir()] == (["other.1"] if limit == "total" else [])
    assert room.used_bytes == (60 * KIB if limit == "total" else 0)


def test_a_refusal_that_was_swallowed_still_leaves_nothing(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = make_desk()
    file = ArtifactFile(lambda: desk, "a", "text/plain")
    file.open()
    for size in (65 * KIB, 1):
        with pytest.raises(ArtifactRefused):
            file.write(b"x" * size)
    with pytest.raises(ArtifactRefused):
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_more_is_told_and_leaves_what_was_there(
    make_desk: Callable[..., Desk], tmp_path: Path, room: Room
) -> None:
    write(desk := make_desk(), "kept")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let any file grow beyond this: EFBIG, as a full disk is ENOSPC.
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * KIB, before[1]))
    try:
        with pytest.raises(ArtifactRefused) as caught:
            write(desk, b"x" * 10 * KIB, b"x" * 10 * KIB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.failure.reason, caught.value.failure.metadata) == (Reason.OUTPUT_LIMIT, {"limit": "disk"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"e.1": "kept"}
    assert [artifact.size_bytes for artifact in end(desk)] == [4]
    assert room.used_bytes == 4


def test_what_is_written_after_the_call_has_ended_is_refused(make_desk: Callable[..., Desk], room: Room) -> None:
    desk = make_desk()
    file = ArtifactFile(lambda: desk, "a", "text/plain")
    file.open()
    file.write(b"x" * KIB)
    assert end(desk) == ()
    with pytest.raises(ArtifactRefused):
        file.close()
    with pytest.raises(ArtifactRefused):
        write(desk, "more")
    desk.dismiss(0)
    assert room.used_bytes == 0


def test_what_is_refused_when_it_is_whole_is_taken_away(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    desk = make_desk()
    file = ArtifactFile(lambda: desk, "a", "text/plain")
    file.open()
    file.write(b"x")
    end(desk)
    with pytest.raises(ArtifactRefused, match="the call has ended"):
        file.close()
    assert list(tmp_path.iterdir()) == []


def test_another_attempt_begins_anew(make_desk: Callable[..., Desk], room: Room) -> None:
    desk = make_desk()
    write(desk, "first")
    write(desk, "second")
    desk.begin_anew()
    write(desk, "third")
    assert [(artifact.number, artifact.preview) for artifact in end(desk)] == [(3, "third")]
    assert list(desk.numbers) == [1, 2, 3]
    assert room.used_bytes == len("firstsecondthird"), "they lie there until they are erased"
    for _ in range(2):
        desk.dismiss(len("third"))
        assert room.used_bytes == len("third")


def test_a_room_that_is_counted_anew_keeps_what_was_left_meanwhile(room: Room) -> None:
    room.take(10, 10)
    left = room.left_bytes
    room.take(5, 5)
    room.leave(10)
    room.found(40, left)
    assert room.used_bytes == 55


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=2_000).map(str.encode)))
def test_a_preview_is_the_beginning_of_a_text_or_nothing(content: bytes) -> None:
    head = content[:HEAD_BYTES]
    shown = preview(head, is_whole=len(content) <= HEAD_BYTES)
    assert len(shown) <= CHARACTERS
    assert len(shown.splitlines()) <= LINES
    assert content.startswith(shown.encode())
    try:
        text = content.decode()
    except UnicodeDecodeError:
        assert not shown
    else:
        seen = text[: len(head.decode("utf-8", "ignore"))]
        is_plain = all(character >= " " or character in "\t\n\r\f" for character in seen)
        assert bool(shown) == (bool(text) and is_plain)


def test_a_preview_ends_before_a_character_that_is_cut() -> None:
    content = ("a" + "€" * HEAD_BYTES).encode()
    assert preview(content[:HEAD_BYTES], is_whole=False) == ("a" + "€" * HEAD_BYTES)[:CHARACTERS]
    assert preview(b"text \xe2\x82", is_whole=True) == ""
