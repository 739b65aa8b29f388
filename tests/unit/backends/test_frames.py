"""Frames survive any way of being cut, and nothing else passes for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.backends.forked.frames import HEADER_LIMIT, Frames, Garbage, frame

HEADERS = st.lists(st.one_of(st.text(), st.integers(-(2**53), 2**53), st.booleans(), st.none()), min_size=1)


@given(st.lists(st.tuples(HEADERS, st.binary()), max_size=5), st.integers(1, 40))
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    sent: list[tuple[list[object], bytes]], step: int
) -> None:
    stream = b"".join(frame(header, payload) for header, payload in sent)
    frames = Frames(10_000)
    received: list[tuple[list[object], bytes]] = []
    for start in range(0, len(stream), step):
        frames.feed(stream[start : start + step])
        while (found := frames.next()) is not None:
            received.append(found)
    assert received == sent


@given(st.binary(min_size=8, max_size=200))
def test_noise_is_garbage_or_not_yet_a_frame_and_never_another_error(noise: bytes) -> None:
    frames = Frames(100)
    frames.feed(noise)
    try:
        frames.next()
    except Garbage:
        pass


@pytest.mark.parametrize("lengths", [(HEADER_LIMIT + 1, 0), (2, 101)])
def test_lengths_beyond_the_limits_are_garbage_before_anything_is_kept(lengths: tuple[int, int]) -> None:
    frames = Frames(100)
    frames.feed(lengths[0].to_bytes(4, "little") + lengths[1].to_bytes(4, "little"))
    with pytest.raises(Garbage):
        frames.next()
