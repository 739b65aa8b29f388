"""The disk and the descriptors that all spilled events of a process share: those of ended executions go first.

Knows files and bytes only; what a holder forgets, and what it tells its readers then, is the holder's to say.
"""

from typing import Protocol


class Spilling(Protocol):
    """An event log that has a file."""

    def forget_spill(self) -> None:
        """Give the file back, by `SpillRoom.free`."""
        ...


class SpillRoom:
    """Counts the files of running and ended executions alike. Used on the event loop only."""

    def __init__(self, size_bytes: int, files: int) -> None:
        self._size_limit = size_bytes
        self._files_limit = files
        self.size_bytes = 0
        self.files = 0
        # In the order in which their executions ended.
        self._ended: dict[Spilling, None] = {}

    def take(self, size: int, files: int) -> bool:
        """Make room for so much more by letting the oldest ended ones go; False, and nothing is taken, if that is not
        enough.
        """
        while self.size_bytes + size > self._size_limit or self.files + files > self._files_limit:
            oldest = next(iter(self._ended), None)
            if oldest is None:
                return False
            oldest.forget_spill()
        self.size_bytes += size
        self.files += files
        return True

    def free(self, holder: Spilling, size: int) -> None:
        """The holder gave its file back, which had so many bytes."""
        self._ended.pop(holder, None)
        self.size_bytes -= size
        self.files -= 1

    def ended(self, holder: Spilling) -> None:
        """The holder's file will not grow any more: it may go when room is needed."""
        self._ended[holder] = None
