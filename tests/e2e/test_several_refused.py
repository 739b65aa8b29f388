"""What several processes cannot be started with: refused once, with a sentence, before anything is served."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import Postgres
from tests.ports import free_port
from tests.several import SECONDS, Stores, settings, several
from tests.valkeys import Server

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
NOWHERE = Stores("postgresql://nobody@127.0.0.1:1/none", "redis://127.0.0.1:1")


@pytest.fixture
def stores(postgres: Postgres, valkey: Server) -> Stores:
    return Stores.of(postgres, valkey)


def run(folder: Path, command: str, env: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Exit code, and what was said on standard error but for the log's lines."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "TOOLWRIGHT_"))}
    mine = {
        "TOOLWRIGHT_DATA_DIR": str(folder / "data"),
        "TOOLWRIGHT_AUDIT_KEY_FILE": str(folder / "audit.key"),
        "TOOLWRIGHT_LISTEN": f"127.0.0.1:{free_port()}",
        "TOOLWRIGHT_HTTP_LISTEN": "",
        "TOOLWRIGHT_LOG_FORMAT": "json",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "toolwright_server.main", command, *arguments],
        env=clean | mine | env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return ended.returncode, [line for line in ended.stderr.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize("command", ["serve", "check-config"])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"TOOLWRIGHT_REDIS_URL": ""}, "workers = 2 needs a Redis or Valkey"),
        ({"TOOLWRIGHT_DATABASE_URL": ""}, "workers = 2 needs a PostgreSQL"),
        ({"TOOLWRIGHT_DATABASE_URL": "memory:"}, "workers = 2 needs a PostgreSQL"),
        ({"TOOLWRIGHT_LISTEN": "unix:/tmp/several.sock"}, "workers = 2 cannot share listen"),
    ],
)
def test_a_configuration_that_processes_cannot_share_ends_with_78(
    tmp_path: Path, command: str, wrong: dict[str, str], sentence: str
) -> None:
    code, said = run(tmp_path, command, settings(NOWHERE) | wrong)
    assert code == 78
    assert len(said) == 1
    assert said[0].startswith(f"toolwright: {sentence}")


def test_check_config_names_how_many_processes_there_would_be(tmp_path: Path) -> None:
    env = {**os.environ, **settings(NOWHERE), "TOOLWRIGHT_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", "toolwright_server.main", "check-config"],
        env=env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert "processes  2" in ended.stdout


def test_a_port_that_another_program_has_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = run(tmp_path, "serve", settings(NOWHERE, TOOLWRIGHT_LISTEN=f"127.0.0.1:{port}"))
    assert (code, len(said)) == (78, 1)
    assert f"cannot listen on 127.0.0.1:{port}: another program listens there" in said[0]


def test_an_address_of_the_page_that_another_program_has_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = run(tmp_path, "serve", settings(NOWHERE, TOOLWRIGHT_HTTP_LISTEN=f"127.0.0.1:{port}"))
    assert (code, len(said)) == (78, 1)
    assert f"TOOLWRIGHT_HTTP_LISTEN=127.0.0.1:{port} cannot be used" in said[0]


def test_a_second_server_on_their_port_is_refused(tmp_path: Path, stores: Stores) -> None:
    with several(tmp_path / "first", stores) as server:
        for processes in (1, 2):
            env = settings(stores, processes, TOOLWRIGHT_LISTEN=server.address)
            code, said = run(tmp_path / f"second-{processes}", "serve", env)
            assert (code, len(said)) == (78, 1)
            assert "another program listens there" in said[0]


def test_a_database_that_does_not_answer_is_said_once_and_ends_the_start(tmp_path: Path) -> None:
    code, said = run(tmp_path, "serve", settings(NOWHERE, 3))
    assert code == run(tmp_path, "serve", {"TOOLWRIGHT_DATABASE_URL": NOWHERE.database_url})[0]
    assert code in (75, 78)
    assert len(said) == 1, said
    assert said[0].startswith("toolwright: ")


def test_a_wrong_database_url_is_said_once_and_ends_the_start(tmp_path: Path) -> None:
    code, said = run(tmp_path, "serve", settings(Stores("mysql://u:hunter2@h/d", NOWHERE.redis_url), 3))
    assert (code, len(said)) == (78, 1)
    assert "use postgresql://" in said[0]
    assert "hunter2" not in said[0]


def test_tools_that_cannot_be_loaded_are_said_once_and_end_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken_tools.py"
    broken.write_text("raise RuntimeError('broken')\n")
    code, said = run(tmp_path, "serve", settings(NOWHERE, 3), "--tools", str(broken))
    assert code == 78
    assert sum("importing it raised RuntimeError: broken" in line for line in said) == 1
