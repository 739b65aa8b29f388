"""Servers with the acting tools, one after the other or side by side on one database, each with a log of its own."""

import contextlib
import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.counter import Counter
from tests.live import LiveServer, live_server, starting_server

TOOLS = Path(__file__).parents[1] / "acting_tools.py"
LEASE_SECONDS = 2.0
# One start in so many is killed before it is over, so also in the middle of a recovery.
KILLED_STARTS = 8


@dataclass
class House:
    """What the servers share. `database_url` empty: a SQLite file in each one's data directory, which is `data_dir`
    where that is given, and else one for each slot. `more` are further settings.
    """

    folder: Path
    counter: Counter
    database_url: str = ""
    data_dir: Path | None = None
    lives: int = 0
    tools: Path = TOOLS
    more: Mapping[str, str] = field(default_factory=dict[str, str])

    def settings(self, slot: str) -> dict[str, str]:
        """The environment of the servers in a slot, one after the other."""
        settings = {
            "TOOLWRIGHT_TOOLKITS": "diagnostics",
            "TOOLWRIGHT_DATA_DIR": str(self.data_dir or self.folder / f"data-{slot}"),
            "TOOLWRIGHT_DATABASE_URL": self.database_url,
            "TOOLWRIGHT_AUDIT_KEY_FILE": str(self.folder / "audit.key"),
            "TOOLWRIGHT_LEASE_SECONDS": str(LEASE_SECONDS),
            "COUNTER_SOCKET": str(self.counter.socket),
            **self.more,
        }
        return {name: value for name, value in settings.items() if value}

    @contextlib.contextmanager
    def life(self, slot: str = "one", **settings: str) -> Generator[LiveServer]:
        """A server that answers."""
        with live_server(self._folder(), "--tools", str(self.tools), env=self.settings(slot) | settings) as server:
            yield server

    def hard_life(self, chance: random.Random, slot: str = "one") -> contextlib.AbstractContextManager[LiveServer]:
        """The same; now and then another one was killed before while it started."""
        if self.lives % KILLED_STARTS == KILLED_STARTS - 1:
            with starting_server(self._folder(), "--tools", str(self.tools), env=self.settings(slot)) as server:
                time.sleep(chance.uniform(0.2, 2.0))
                server.process.kill()
                server.process.wait(10)
        return self.life(slot)

    def _folder(self) -> Path:
        self.lives += 1
        return self.folder / f"life-{self.lives}"
