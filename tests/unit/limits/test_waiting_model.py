"""Any coming, ending and leaving: never over a limit, and nobody waits for a place that is free."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolwright_server.errors import ToolwrightError
from toolwright_server.limits.limiter import Admission, Asked

from .house import LONG, House, settled

LIMITS = {"user": 2, "tool": 3, "tenant": 4}
RULES = "ready_made = false\n" + "".join(
    f'[[rule]]\nname = "{name}"\nper = "{per}"\ncount = "running"\nlimit = {LIMITS[name]}\n'
    for name, per in (("user", "user"), ("tool", "tenant+tool"), ("tenant", "tenant"))
)

CALLS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from("xyz"), st.sampled_from(["t.one", "t.two"]))
STEPS = st.one_of(
    st.tuples(st.just("come"), CALLS),
    st.tuples(st.just("come"), CALLS),
    st.tuples(st.just("end"), st.integers(0, 99)),
    st.tuples(st.just("leave"), st.integers(0, 99)),
    st.tuples(st.just("pause"), st.just(0)),
)


class Crowd:
    """Calls that come, run, end and leave."""

    def __init__(self, *, shared: bool) -> None:
        self.house = House(RULES, shared=shared, queue=8)
        self._number = 0
        self._waiting: dict[asyncio.Task[Admission], Asked] = {}
        self._running: list[tuple[Asked, Admission]] = []

    def come(self, tenant: str, user: str, tool: str) -> None:
        self._number += 1
        asked = Asked(tenant, user, tool, "t")
        self._waiting[asyncio.create_task(self._call(asked, f"call-{self._number}"))] = asked

    def end(self, number: int) -> None:
        if self._running:
            self._running.pop(number % len(self._running))[1].release()

    def leave(self, number: int) -> None:
        if self._waiting:
            list(self._waiting)[number % len(self._waiting)].cancel()

    async def settle(self) -> None:
        """Let everybody get as far as they can, then look whether all is right."""
        await settled()
        for task in [task for task in self._waiting if task.done()]:
            asked = self._waiting.pop(task)
            if not task.cancelled() and task.exception() is None:
                self._running.append((asked, task.result()))
            elif not task.cancelled():
                assert isinstance(task.exception(), ToolwrightError)
        users = Counter((asked.tenant, asked.user) for asked, _ in self._running)
        tools = Counter((asked.tenant, asked.tool) for asked, _ in self._running)
        tenants = Counter(asked.tenant for asked, _ in self._running)
        assert max(users.values(), default=0) <= LIMITS["user"]
        assert max(tools.values(), default=0) <= LIMITS["tool"]
        assert max(tenants.values(), default=0) <= LIMITS["tenant"]
        assert self.house.line.waiting == len(self._waiting) <= 8
        for asked in self._waiting.values():
            assert (
                users[asked.tenant, asked.user] == LIMITS["user"]
                or tools[asked.tenant, asked.tool] == LIMITS["tool"]
                or tenants[asked.tenant] == LIMITS["tenant"]
            ), "somebody waits although all its places are free"

    async def go_home(self) -> None:
        while self._running or self._waiting:
            for _ in tuple(self._running):
                self.end(0)
            await self.settle()
        await self.house.limiter.close()
        assert self.house.line.waiting == 0

    async def _call(self, asked: Asked, token: str) -> Admission:
        limiter = self.house.limiter
        return limiter.admit_now(limiter.checks_for(asked), token) or await limiter.admit(asked, token, LONG)


async def play(steps: list[tuple[str, object]], *, shared: bool) -> None:
    crowd = Crowd(shared=shared)
    for verb, value in steps:
        match verb, value:
            case "come", (str() as tenant, str() as user, str() as tool):
                crowd.come(tenant, user, tool)
            case "end", int():
                crowd.end(value)
            case "leave", int():
                crowd.leave(value)
            case _:
                await crowd.settle()
    await crowd.settle()
    await crowd.go_home()


@pytest.mark.parametrize("shared", [False, True], ids=["in process", "shared"])
@settings(max_examples=80, deadline=None)
@given(steps=st.lists(STEPS, max_size=60))
def test_no_limit_is_passed_and_nobody_waits_for_a_place_that_is_free(
    steps: list[tuple[str, object]], shared: bool
) -> None:
    asyncio.run(play(steps, shared=shared))
