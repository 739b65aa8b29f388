"""The commands of docs/tool-settings.md, as they stand there, against a real server."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.live import live_server

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tool-settings.md").read_text()


def test_the_walk_goes_as_described(tmp_path: Path) -> None:
    (script,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOOLWRIGHT_")}
    with live_server(tmp_path) as server:
        environment = clean | {
            "TOOLWRIGHT_ADDRESS": server.address,
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["sh", "-ec", script],
            cwd=tmp_path,
            env=environment,
            text=True,
            capture_output=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exit code 5") == 1
    assert "TOOL_DISABLED" in done.stderr
    off, on, answer, _, shown, cleared = (json.loads(line) for line in done.stdout.splitlines() if line[0] == "{")
    assert (off["enabled"], on["timeout_seconds"], answer) == (False, 2.0, {"greeting": "hello", "language": "en"})
    assert (shown["fixed_arguments"], shown["limits"], shown["price_micros"]) == (
        {"channel": "support"},
        {"day": 1000},
        250_000,
    )
    assert set(cleared) == {"tenant_id", "tool", "enabled", "etag", "update_time", "updater"}
