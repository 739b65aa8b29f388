"""SIGKILL between attempts, and while another tool answers: what callers were told holds, and nothing is done again.

As test_kills.py, with tools whose attempts are refused by the world outside of the server (`pytest -s` for figures).
"""

import os
import random
from pathlib import Path

import pytest

from tests import faltering_tools
from tests.counter import Counter, running_counter
from tests.live import LiveServer

from .attempting import Attempted
from .housing import House
from .keeping import kept, none, settled, told
from .killing import Load, Mix

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
KILLS = max(5, round(50 * SCALE))
TOOLS = Path(faltering_tools.__file__)

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1800)]


def _refusals(chance: random.Random) -> dict[str, object]:
    """Most are refused a few times, and some too often; now and then one breaks off after all has happened."""
    return {
        "refused": chance.choice((0, 1, 1, 2, 2, 3, 4)),
        "spare_refused": chance.choice((0, 0, 1, 1, 2)),
        "doubt": chance.random() < 0.05,
    }


RETRIES = Mix(
    {"faltering.act": 4, "faltering.act_known": 4, "faltering.put": 1, "faltering.read": 3},
    _refusals,
)
FALLBACKS = Mix(
    {
        "faltering.order": 4,
        "faltering.order_known": 4,
        "faltering.order_fixed": 2,
        "faltering.spared": 2,
        "faltering.fixed": 1,
    },
    _refusals,
)


def lived(folder: Path, counter: Counter, mix: Mix) -> tuple[House, Load]:
    """Servers on one database, one after the other, each killed under load."""
    house, load, chance = House(folder, counter, tools=TOOLS), Load(SEED, mix), random.Random(SEED)
    for _ in range(KILLS):
        with house.hard_life(chance) as server:
            load.life([server.address], moment=chance.uniform(0.1, 0.6), kill=server.process.kill)
    return house, load


def judged(server: LiveServer, house: House, load: Load, title: str) -> Attempted:
    """What is left after all of them, held to what was promised."""
    load.finish([server.address])
    name = f"{title}, seed {SEED}"
    told(house, load, name, settled(server, load, house.counter))
    found, trail = kept(server, load, house.counter, house.folder, settings=house.settings("one"), name=name)
    attempted = Attempted(found, trail, house.counter.attempts(), faltering_tools.ALLOWED)
    none(attempted.wrong(), name, "attempts")
    return attempted


def test_a_server_that_is_killed_between_attempts_makes_no_more_of_them_than_it_may(tmp_path: Path) -> None:
    database = tmp_path / "data-one" / "toolwright.sqlite3"
    with running_counter(tmp_path / "counter", str(database)) as counter:
        house, load = lived(tmp_path, counter, RETRIES)
        with house.life() as server:
            attempted = judged(server, house, load, "retries")
    waiting, refused = attempted.between_attempts(), sum(not each.done for each in attempted.attempts)
    hits = attempted.hits(load, waiting)
    # The long run's product.
    print(  # noqa: T201
        f"  {len(attempted.attempts)} attempts came out, {refused} were refused; "
        f"{sum(attempted.recovered(each) for each in waiting)} calls were cut off after one, in {hits} of {KILLS} kills"
    )
    assert attempted.found.unknown()
    assert attempted.found.settled_by_look_up()
    assert hits >= KILLS / 2


def test_a_server_that_is_killed_while_another_tool_answers_does_nothing_twice(tmp_path: Path) -> None:
    database = tmp_path / "data-one" / "toolwright.sqlite3"
    with running_counter(tmp_path / "counter", str(database)) as counter:
        house, load = lived(tmp_path, counter, FALLBACKS)
        with house.life() as server:
            attempted = judged(server, house, load, "fallbacks")
    found = attempted.found
    hits = attempted.hits(load, found.steps)
    instead = sum(bool(answer.replaced) for answer in found.answers.values())
    print(  # noqa: T201
        f"  {len(found.steps)} calls came to another tool, {instead} callers were answered in the place of theirs; "
        f"{sum(attempted.recovered(each) for each in found.steps)} were cut off there, in {hits} of {KILLS} kills"
    )
    assert instead
    assert found.unknown()
    assert found.settled_by_look_up()
    assert hits >= KILLS / 2
