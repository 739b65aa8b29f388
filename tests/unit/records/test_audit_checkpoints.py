import asyncio
import re
from typing import Any

import orjson
import pytest

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import Checkpointer, CheckpointOptions
from toolwright_server.records.audit.model import Checkpoint, Entry, Kind
from toolwright_server.stores.memory.audit import MemoryAuditStore

from .audit_trails import Trail, eventful, signing_key


class FlakyStore(MemoryAuditStore):
    """Fails as told: before it keeps a checkpoint, or after."""

    fails = ""

    async def keep(self, checkpoint: Checkpoint) -> None:
        if self.fails == "before":
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")
        await super().keep(checkpoint)
        if self.fails == "after":
            raise ToolwrightError(Reason.STORE_UNAVAILABLE, "gone")


class Server:
    def __init__(self) -> None:
        self.now = 1_000.0
        self.chains = Chains("server-1", 1)
        self.store = FlakyStore(self.chains)
        options = CheckpointOptions(seconds=30.0, entries=5)
        self.checkpointer = Checkpointer(self.chains, signing_key(), self.store, options, lambda: self.now)

    def write(self, count: int = 1) -> None:
        self.store.write(*(Entry(Kind.CALL, "acme", "p", "u", self.now) for _ in range(count)))

    @property
    def said(self) -> list[dict[str, Any]]:
        return [orjson.loads(self.store.kept[place].body) for place in sorted(self.store.kept)]

    @property
    def heads(self) -> list[int]:
        return [head[1] for said in self.said for head in said["heads"]]


def tick(server: Server, seconds: float = 0.0) -> None:
    server.now += seconds
    asyncio.run(server.checkpointer.tick())


def test_the_first_checkpoint_is_signed_at_once() -> None:
    server = Server()
    tick(server)
    assert len(server.said) == 1


def test_nothing_is_signed_while_nothing_happens() -> None:
    server = Server()
    tick(server)
    tick(server, 3_600.0)
    assert len(server.said) == 1


def test_what_happened_is_signed_after_a_while() -> None:
    server = Server()
    tick(server)
    server.write()
    tick(server, 29.0)
    assert len(server.said) == 1
    tick(server, 1.0)
    assert server.heads == [2]


def test_what_happened_is_signed_at_once_when_it_is_much() -> None:
    server = Server()
    tick(server)
    server.write(4)
    tick(server)
    assert server.heads == [5]


def test_only_chains_that_grew_are_named() -> None:
    trail = Trail()
    trail.write(1, "acme")
    trail.write(1, "zenith")
    trail.sign()
    trail.write(1, "zenith")
    trail.sign()
    said = [orjson.loads(trail.kept[place].body) for place in sorted(trail.kept)]
    assert [len(each["heads"]) for each in said] == [2, 1]


@pytest.mark.parametrize("fails", ["before", "after"])
def test_a_checkpoint_that_failed_is_made_again_and_none_twice(fails: str) -> None:
    server = Server()
    tick(server)
    server.write(4)
    server.store.fails = fails
    tick(server)
    assert server.checkpointer.failed == 1
    server.store.fails = ""
    server.write(4)
    tick(server, 30.0)
    assert server.heads[-1] == 9
    sequences = [said["sequence"] for said in server.said]
    assert sequences == list(range(1, len(sequences) + 1))


def test_a_database_that_is_gone_is_not_asked_at_every_tick() -> None:
    server = Server()
    tick(server)
    server.write()
    server.store.fails = "before"
    tick(server, 30.0)
    tick(server, 1.0)
    assert server.checkpointer.failed == 1


def test_the_first_checkpoint_names_the_newest_of_every_server_before() -> None:
    trail = eventful()
    tips = asyncio.run(trail.store.tips(10))
    trail.start()
    trail.sign()
    (said,) = [orjson.loads(each.body) for each in trail.kept.values() if orjson.loads(each.body)["epoch"] == 4]
    assert {named[0] for named in said["named"]} == {tip.chain_id for tip in tips}


def test_nothing_is_signed_behind_the_last_checkpoint() -> None:
    trail = Trail()
    trail.write()
    trail.sign(closing=True)
    trail.sign()
    assert len(trail.kept) == 1


def test_each_checkpoint_is_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    trail = Trail()
    trail.write()
    trail.sign()
    (checkpoint,) = trail.kept.values()
    found = re.search(r"audit checkpoint (\w{24}) 1 \d+ (\w{64})", caplog.text)
    assert found is not None
    assert found.groups() == (checkpoint.chain_id, checkpoint.hash.hex())
