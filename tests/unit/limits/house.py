"""A limiter with all that belongs to it, and a store elsewhere, for tests."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tests.unit.limits.clock import Clock
from toolwright_server.errors import Failure, ToolwrightError
from toolwright_server.limits.limiter import Admission, Asked, Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.model import Check, Reading, Taking
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import parse, ready_made
from toolwright_server.limits.store import LimitStore
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.telemetry import Metrics

LONG = 30.0

RULES = """
ready_made = false
[[rule]]
name = "browsing"
per = "user+category"
category = "browser"
window_seconds = 60
limit = 30
[[rule]]
name = "user-running"
per = "user"
count = "running"
limit = 2
[[rule]]
name = "tool-running"
per = "tenant+tool"
count = "running"
limit = 3
"""


class Elsewhere:
    """A LimitStore that has to be asked: the one in process, behind a suspension and behind `open`."""

    def __init__(self, inside: MemoryLimitStore) -> None:
        self._inside = inside
        self.open = asyncio.Event()
        self.open.set()
        self.renewed: list[tuple[Sequence[str], Sequence[str]]] = []

    async def take(self, checks: Sequence[Check], token: str) -> Taking:
        taking = self._inside.take_now(checks, token)
        await self.open.wait()
        await asyncio.sleep(0)
        return taking

    async def give_back(self, checks: Sequence[Check], token: str) -> None:
        await asyncio.sleep(0)
        self._inside.give_back_now(checks, token)

    async def release(self, checks: Sequence[Check], token: str) -> None:
        await asyncio.sleep(0)
        self._inside.release_now(checks, token)

    async def renew(self, checks: Sequence[Check], tokens: Sequence[str]) -> None:
        self.renewed.append(([check.rule for check in checks], list(tokens)))

    async def read(self, checks: Sequence[Check]) -> Sequence[Reading]:
        return self._inside.read_now(checks)


class House:
    """A limiter with all that belongs to it."""

    def __init__(self, rules: str = RULES, *, shared: bool = False, queue: int = 10, poll: float | None = None) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.rulebook = Rulebook(parse(rules, "limits.toml", ready_made()))
        self.memory = MemoryLimitStore(self.clock, self.clock.wall)
        self.elsewhere = Elsewhere(self.memory)
        store: LimitStore = self.elsewhere if shared else self.memory
        self.line = Line(queue, poll)
        self.limiter = Limiter(store, self.rulebook, self.line, self.metrics, clock=self.clock)
        self._number = 0

    async def call(
        self,
        user: str = "ada",
        tool: str = "browser.open",
        *,
        tenant: str = "acme",
        wait: float = 0,
        nested: bool = False,
    ) -> Admission:
        self._number += 1
        asked = Asked(tenant, user, tool, tool.partition(".")[0], None, nested)
        token = f"call-{self._number}"
        admitted = self.limiter.admit_now(self.limiter.checks_for(asked), token, may_wait=wait > 0)
        return admitted or await self.limiter.admit(asked, token, wait)

    async def refused(
        self,
        user: str = "ada",
        tool: str = "browser.open",
        *,
        tenant: str = "acme",
        wait: float = 0,
        nested: bool = False,
    ) -> Failure:
        with pytest.raises(ToolwrightError) as raised:
            await self.call(user, tool, tenant=tenant, wait=wait, nested=nested)
        return raised.value.failure

    async def used(self) -> Mapping[str, int]:
        readings = await self.limiter.quota("acme", "ada", [("browser.open", "browser")])
        return {reading.check.rule: reading.used for reading in readings}

    def counted(self, name: str) -> Mapping[str, float]:
        """Values of a metric by the rule, with `~` before it for shadow."""
        (snapshot,) = [found for found in self.metrics.snapshot() if found["name"] == name]
        return {
            ("~" if "toolwright.limit.shadow" in point["attributes"] else "")
            + point["attributes"]["toolwright.limit.rule"]: point["value"]
            for point in snapshot["points"]
        }


async def settled() -> None:
    """Long enough for every task to go on as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)
