"""docs/workers.md names what the code does: variables, settings, reasons."""

import re
from pathlib import Path

import pytest

from toolwright_server.backends.forked.plan import MARK
from toolwright_server.backends.process.options import ENVIRONMENT
from toolwright_server.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "workers.md").read_text()


@pytest.mark.parametrize("name", [*ENVIRONMENT, MARK])
def test_every_variable_that_workers_see_is_named(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_the_settings_that_are_named_exist() -> None:
    named = set(re.findall(r"`(process_\w+)`", PAGE))
    assert named == {name for name in Settings.model_fields if name.startswith("process_")}


def test_every_reason_to_kill_a_worker_is_named() -> None:
    folder = ROOT / "server" / "toolwright_server" / "backends"
    source = "".join(
        (folder / name).read_text() for name in ("process/worker.py", "process/pool.py", "forked/footprint.py")
    )
    reasons = set(re.findall(r'(?:kill\(|_condemn\(.*, |reason = |else )"(\w+)"', source)) - {"died"}
    reasons |= set(re.findall(r'put_down\("(\w+)"', source))
    assert len(reasons) >= 10
    assert not [reason for reason in reasons if f"`{reason}`" not in PAGE]
