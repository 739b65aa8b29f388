"""Every command of the README's tour is run, as it stands there, against a real server."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import ALL_TOOLKITS, TRACED, LiveServer, live_server

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def tour() -> list[str]:
    text = (ROOT / "README.md").read_text()
    return BLOCK.findall(text[text.index("## A tour") : text.index("## Where to read on")])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("readme")
    with live_server(folder, "--config", str(ROOT / "examples" / "local.toml"), env=ALL_TOOLKITS | TRACED) as running:
        yield running


def run(server: LiveServer, script: str) -> str:
    here = script.replace("127.0.0.1:50051", server.address)
    environment = os.environ | {
        "TOOLWRIGHT_ADDRESS": server.address,
        "TOOLWRIGHT_DATA_DIR": str(server.data_dir),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "-ec", here], cwd=ROOT, env=environment, text=True, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 0, f"{here}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("script", tour(), ids=lambda script: script.split("\n", 1)[0][:60])
def test_the_tour_does_what_the_readme_says(server: LiveServer, script: str) -> None:
    printed = run(server, script)
    if "knowledge.search" in script:
        assert "docs/" in printed
    if "crm.contact" in script:
        assert printed.count("ada@example.org") == 2
    if "diagnostics.count" in script:
        assert '"progress"' in printed
    if "diagnostics.burn" in script:
        assert "exit code 6" in printed
    if "toolwright trace" in script:
        assert "execute_tool diagnostics.echo" in printed
    if "buf curl" in script:
        assert '"greeting": "hello"' in printed
    if "first_client" in script:
        assert "3 of 3" in printed


def test_the_tour_shows_every_part() -> None:
    whole = "".join(tour())
    for part in ("knowledge.search", "crm.contact", "--stream", "--timeout", "trace", "buf curl", "first_client"):
        assert part in whole


def test_it_names_every_document() -> None:
    text = (ROOT / "README.md").read_text()
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in text] == []
