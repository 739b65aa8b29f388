"""Large artifacts and the server's memory; SIGKILL while artifacts are written. The long form, with figures (`-s`)."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import writing_tools
from tests.counter import running_counter
from tests.e2e.artifact_tools import CHUNK, piece
from tests.live import LiveServer, live_server
from toolwright_client import Client

from .attempting import Attempted
from .housing import House
from .keeping import kept, none, settled, told
from .killing import Load, Mix
from .shelving import Shelf

SCALE = float(os.environ.get("TORTURE_SCALE", "1"))
SEED = int(os.environ.get("TORTURE_SEED", "0")) or random.SystemRandom().randrange(1, 1_000_000)
KILLS = max(5, round(50 * SCALE))
SIZE_BYTES = 50_000_000
GROWTH_BYTES = 10_000_000
WRITERS = 4
SECONDS = 60.0
TOOLS = str(Path(__file__).parents[1] / "e2e" / "artifact_tools.py")
ENVIRONMENT = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_PROCESS_WORKERS": str(WRITERS)}

pytestmark = [pytest.mark.torture, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("large"), "--tools", TOOLS, env=ENVIRONMENT) as running:
        yield running


def resident(pid: int, which: str) -> int:
    """VmRSS or VmHWM (its highest since it was reset) of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {which} of {pid}")


def reset_peak(pid: int) -> int:
    """Forget the highest; what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return resident(pid, "VmRSS")


def test_the_figure_that_is_compared_grows_with_what_passes_through_memory() -> None:
    before = reset_peak(os.getpid())
    taken = len(bytearray(os.urandom(1)) * SIZE_BYTES)
    assert resident(os.getpid(), "VmHWM") - before > taken - GROWTH_BYTES


@pytest.mark.parametrize("where", ["worker", "thread", "loop"])
def test_50_megabytes_pass_through_without_the_memory_of_the_server(
    server: LiveServer, tmp_path: Path, where: str
) -> None:
    chunks = SIZE_BYTES // CHUNK + 1
    with Client(server.address) as client:
        # What is loaded and allocated by the first ones is no growth of a large one.
        for _ in range(3):
            list(client.read_artifact(client.execute(f"files.{where}", {"chunks": 20}).artifacts[0]))
        before = reset_peak(server.pid)
        (artifact,) = client.execute(f"files.{where}", {"chunks": chunks, "seed": 3}, timeout=SECONDS).artifacts
        written = resident(server.pid, "VmHWM") - before
        before_reading = reset_peak(server.pid)
        client.save_artifact(artifact, tmp_path / "saved.bin", timeout=SECONDS)
        read = resident(server.pid, "VmHWM") - before_reading
        assert artifact.size_bytes == chunks * CHUNK > SIZE_BYTES
        with (tmp_path / "saved.bin").open("rb") as file:
            for number in range(chunks):
                assert file.read(CHUNK) == piece(3, number)
            assert not file.read(1)
        offset = 31 * CHUNK + 5
        page = b"".join(client.read_artifact(artifact, offset=offset, limit=3 * CHUNK))
        assert page == (piece(3, 31) + piece(3, 32) + piece(3, 33) + piece(3, 34))[5 : 5 + 3 * CHUNK]
    # The long run's product.
    print(  # noqa: T201
        f"{where}: {artifact.size_bytes / 1e6:.1f} MB; the server's memory at its highest grew by "
        f"{written / 1e6:.2f} MB while it was written and {read / 1e6:.2f} MB while it was read"
    )
    assert written < GROWTH_BYTES
    assert read < GROWTH_BYTES


def _sizes(chance: random.Random) -> dict[str, int]:
    """Small ones and large ones, some of them written more than once."""
    return {"chunks": chance.choice((1, 1, 4, 16, 64)), "refused": chance.choice((0, 0, 0, 1, 1, 2, 3))}


def test_sigkill_while_artifacts_are_written_leaves_whole_ones_or_none(tmp_path: Path) -> None:
    mix = Mix({"writing.act": 3, "writing.worker": 3, "writing.thread": 2, "writing.value": 1}, _sizes)
    more = {
        "TOOLWRIGHT_PROCESS_WORKERS": str(WRITERS),
        "TOOLWRIGHT_PROCESS_ENVIRONMENT": "COUNTER_SOCKET",
        "TOOLWRIGHT_RESULT_INLINE_LIMIT_BYTES": str(writing_tools.INLINE_LIMIT),
    }
    chance, hits = random.Random(SEED), 0
    folder = tmp_path / "data-one" / "artifacts"
    with running_counter(tmp_path / "counter", str(tmp_path / "data-one" / "toolwright.sqlite3")) as counter:
        house, load = House(tmp_path, counter, tools=Path(writing_tools.__file__), more=more), Load(SEED, mix)
        for _ in range(KILLS):
            with house.hard_life(chance) as server:
                load.life([server.address], moment=chance.uniform(0.2, 0.8), kill=server.process.kill)
                hits += any(folder.glob("*.part"))
        with house.life() as server:
            load.finish([server.address])
            name = f"artifacts, seed {SEED}"
            told(house, load, name, settled(server, load, counter))
            found, trail = kept(server, load, counter, tmp_path, settings=house.settings("one"), name=name)
            attempted = Attempted(found, trail, counter.attempts(), writing_tools.ALLOWED)
            none(attempted.wrong(), name, "attempts")
            shelf = Shelf(server.address, folder, attempted)
            none(shelf.wrong(), name, "artifacts")
    print(  # noqa: T201
        f"  {shelf.whole} artifacts whole and byte-identical, {len(shelf.strays)} that no row names; "
        f"{hits} of {KILLS} kills left one that was being written"
    )
    assert shelf.whole
    assert found.unknown()
    assert hits >= KILLS / 2
