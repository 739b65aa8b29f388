"""What the writer is asked to keep, and how it says that it could not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa

from toolwright_server.execution.model import Execution
from toolwright_server.records.audit.model import Head
from toolwright_server.records.ledger.model import Denial, Move, Moved
from toolwright_server.records.usage.model import Use

# An entry of the audit trail as its author wrote it, and as a row: in the order of the columns of `audit_entries`.
Entry = Any
AuditRow = tuple[Any, ...]


class Unkept(Exception):
    """A change that is not in the database. `in_doubt`: its commit broke off, so that it may be after all."""

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt


class Unavailable(Unkept):
    """The database is gone, locked, full, read-only or too slow. The same change may succeed later."""


class Fenced(Unkept):
    """This server's lease was taken over: whatever it ran is somebody else's to settle. Never tried again."""


class Denied(Unkept):
    """The ledger does not allow a move of this change: nothing of it was kept. Others of its group were."""

    def __init__(self, denial: Denial, *, in_doubt: bool = False) -> None:
        super().__init__(f"{denial.reason.name}: {denial.subject}", in_doubt=in_doubt)
        self.denial = denial


class Refused(Unkept):
    """The database does not take this row, whenever it is asked. Others of its group were kept."""


# Called once, on the event loop, when a change was kept (holder or None) or not.
Done = Callable[[str | None, Unkept | None], None]

# Looks at the tables inside the transaction and writes what follows from it; answers the audit entries of that. Runs
# anew when the group must be tried again.
Work = Callable[[sa.Connection], Sequence[Entry]]


@dataclass(slots=True)
class Change:
    """What is kept in one transaction, all or nothing. Once submitted it belongs to the writer."""

    # Written as it is when the change is submitted; one that is there already is overwritten.
    execution: Execution | None = None
    # Claim execution.request_id first. Lost: nothing of this change is kept, and the result is the holder's id.
    claims: bool = False
    # Give the claim back.
    frees: bool = False
    # Linked into their chain when the group is put together.
    entries: Sequence[Entry] = ()
    # Anything else for the same commit, with its parameters.
    statements: Sequence[tuple[sa.Executable, Mapping[str, Any]]] = field(default=())
    # What must look before it writes: it sees the rows of the group that were written before.
    work: Work | None = None
    # Of credits, for the same commit; `work` may set them. A hold or a grant is alone: when it is denied, nothing of
    # the change is kept.
    moves: Sequence[Move] = ()
    # What decisions of `work` add to the figures of usage (1) or take from them (-1), which `work` may set. What an
    # execution that has ended counts for is counted with its row.
    uses: Sequence[tuple[int, Use]] = ()
    # What became of the last of the moves, once the change is kept.
    moved: Moved | None = None
    # Called before whoever awaits the change is woken, and also when nobody does.
    done: Done | None = None


class Linker(Protocol):
    """Links audit entries into chains. Called from the writer's own thread, in this order, never twice at once."""

    def link(self, entries: Sequence[Entry]) -> Sequence[AuditRow]:
        """The rows of these entries, in their order; may be called several times before `keep` or `drop`."""
        ...

    def keep(self) -> None:
        """What was linked since the last time is committed."""
        ...

    def drop(self) -> None:
        """What was linked since the last time is not in the database: link as if it had never been."""
        ...

    def doubt(self) -> None:
        """What was linked since the last time may be in the database: its commit broke off."""
        ...

    def doubts(self) -> Sequence[Head]:
        """Entries to look for before `link` is called: one of each commit that broke off."""
        ...

    def resolve(self, found: Head) -> None:
        """This one is in the database, and so is all of its commit."""
        ...


class Spill(Protocol):
    """Keeps outcomes that the database does not take, until it does."""

    def keep(self, change: Change) -> bool:
        """Write a change down, durably; False when there is no room. Blocks for one write to disk."""
        ...

    def remember(self, change: Change) -> bool:
        """Hold a change that could not be written down in memory: the database is given it all the same if this
        process lives until then. False when there is too much of it.
        """
        ...


class NoLinker:
    """For a server without an audit trail: entries are an error, not lost in silence."""

    def link(self, entries: Sequence[Entry]) -> Sequence[AuditRow]:
        if entries:
            raise RuntimeError("audit entries were written, but no audit trail is connected")
        return ()

    def keep(self) -> None:
        """Nothing was linked."""

    def drop(self) -> None:
        """Nothing was linked."""

    def doubt(self) -> None:
        """Nothing was linked."""

    def doubts(self) -> Sequence[Head]:
        return ()

    def resolve(self, found: Head) -> None:
        """Nothing is ever looked for."""
