"""What breakers need kept: circuits, in a Protocol of four verbs. One suite of tests holds for every store."""

from typing import Protocol

from toolwright_server.execution.circuits.model import Circuit, Entry, Report, Standing


class CircuitStore(Protocol):
    """Keeps how circuits stand, for one server or for all that share it. Nothing here ever raises."""

    async def enter(self, circuit: Circuit, token: str) -> Entry:
        """Whether an attempt may begin; `token` names it, and asking again with the same one changes nothing.

        A half-open circuit lets one through, which holds a lease: when that ends before it was recorded or renewed,
        another one is let through. Who was admitted and then never recorded, because it was cancelled while it waited
        here, holds nothing.
        """
        ...

    def record(self, entry: Entry, report: Report) -> None:
        """An attempt that was admitted has ended. Never waits."""
        ...

    def renew(self, entry: Entry) -> None:
        """A probe still runs: its lease begins anew. Never waits."""
        ...

    def standing(self, circuit: Circuit) -> Standing:
        """How it stands as far as this server knows, without asking anybody. From any thread."""
        ...
