"""A sample of what tests/torture/test_upstream_faults.py does at length: an upstream that answers nothing well."""

import asyncio
from pathlib import Path

import pytest

from tests.live import live_server
from tests.torture.ailing import HEAD, Illness, suffer, wrong
from tests.upstream import Fault, running_upstream

SECONDS = 1.0
# And until all circuits have opened: slow answers are fewer, and a busy machine makes them fewer still.
PATIENCE = 20.0
TOOLS = str(Path(__file__).parents[1] / "upstream_tools.py")

pytestmark = pytest.mark.slow


def test_an_upstream_that_fails_in_any_way_is_left_alone_and_found_again_when_it_is_well(tmp_path: Path) -> None:
    illnesses = [Illness(fault, 100, retries) for fault in Fault for retries in (False, True)]

    async def all_at_once() -> None:
        await asyncio.gather(*(suffer(server, upstream, each, SECONDS, patience=PATIENCE) for each in illnesses))

    with running_upstream() as upstream:
        env = {"UPSTREAM_URL": upstream.url, "TOOLWRIGHT_DATABASE_URL": "memory:"}
        with live_server(tmp_path, "--tools", TOOLS, env=env) as server:
            asyncio.run(all_at_once())
    print("", HEAD, *(each.line() for each in illnesses), sep="\n")  # noqa: T201 (shown by `-s`, and of a failure)
    found = [line for each in illnesses for line in wrong(each)]
    assert not found, "\n".join(found)
