"""How long an encoded answer may be when its points in time and durations are others. Reads no server and no clock."""

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

LONGEST_NANOS = 999_999_999
# No call of a benchmark lasts longer: its deadline is 30 s.
LONGEST_SECONDS = 30


@dataclass(frozen=True)
class Bounds:
    """The shortest and the longest encoding, in bytes."""

    low: int
    high: int

    def widened(self, other: "Bounds") -> "Bounds":
        """What covers both."""
        return Bounds(min(self.low, other.low), max(self.high, other.high))

    def hold(self, calls: int, received_bytes: int, prefix: int) -> bool:
        """Whether so many bytes can be that many answers, each with `prefix` bytes before it."""
        return calls * (self.low + prefix) <= received_bytes <= calls * (self.high + prefix)


def encoded_bounds(answer: Message) -> Bounds:
    """The bounds of one answer whose every other field is constant. Changes `answer`."""
    _set_times(answer, longest=False)
    low = answer.ByteSize()
    _set_times(answer, longest=True)
    return Bounds(low, answer.ByteSize())


def _set_times(message: Message, *, longest: bool) -> None:
    """Sets every point in time and duration inside to the one whose encoding is the shortest, or the longest."""
    for field, value in message.ListFields():
        values = [value] if isinstance(value, Message) else value if field.message_type else []
        for inner in values:
            if isinstance(inner, Timestamp):
                inner.nanos = LONGEST_NANOS if longest else 0
            elif isinstance(inner, Duration):
                inner.seconds = LONGEST_SECONDS if longest else 0
                inner.nanos = LONGEST_NANOS if longest else 0
            elif isinstance(inner, Message):
                _set_times(inner, longest=longest)
