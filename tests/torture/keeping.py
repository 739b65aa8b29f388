"""What must hold of everything that servers on one database have promised, after they were killed again and again."""

from collections.abc import Mapping
from pathlib import Path

from tests.counter import Counter
from tests.live import LiveServer, eventually

from .auditing import Trail, audited
from .counting import miscounted
from .housing import LEASE_SECONDS, House
from .killing import Load, figures
from .surviving import Survived, survived


def settled(server: LiveServer, load: Load, counter: Counter) -> Survived:
    """The history, once everything in it has an end: what the last one to die left behind takes a lease's time."""
    found = survived(server.address, load.asked, counter.effects())

    def ended() -> bool:
        nonlocal found
        if not found.unfinished():
            return True
        found = survived(server.address, load.asked, counter.effects())
        return False

    eventually(ended, seconds=10 * LEASE_SECONDS, interval=0.2)
    return found


def told(house: House, load: Load, where: str, found: Survived) -> None:
    """What happened, for the long run's reader."""
    print(f"\n{where}: {figures(load, house.lives, len(found.effects))}")  # noqa: T201
    print(f"  {len(found.rows)} in the history, unknown {found.unknown()}, not done {found.settled_by_look_up()}")  # noqa: T201


def kept(
    server: LiveServer, load: Load, counter: Counter, folder: Path, *, settings: Mapping[str, str], name: str
) -> tuple[Survived, Trail]:
    """Holds all to what was promised, and says what there is, `name` in every complaint."""
    found = survived(server.address, load.asked, counter.effects())
    none(found.wrong(), name, "things")
    none(miscounted(server.address, found.rows.values()), name, "figures")
    assert all(effect.intended for effect in found.effects)
    trail = audited(server, folder, settings)
    none(trail.wrong(found), name, "things in the audit trail")
    return found, trail


def none(wrong: list[str], name: str, what: str) -> None:
    """That nothing is wrong."""
    assert not wrong, f"{name}: {len(wrong)} {what} are wrong, among them:\n" + "\n".join(wrong[:20])
