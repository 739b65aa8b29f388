"""The commands, settings and lines of docs/identity.md, as they stand there, with a real server that asks for keys."""

import ast
import inspect
import os
import re
import subprocess
import tomllib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.live import ALL_TOOLKITS, LiveServer, live_server
from toolwright_server.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "identity.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("identity"), env=ALL_TOOLKITS | {"TOOLWRIGHT_AUTH": "api-key"}) as running:
        yield running


def test_the_walk_with_keys_goes_as_described(server: LiveServer, tmp_path: Path) -> None:
    (script,) = blocks("sh")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TOOLWRIGHT_")}
    environment = clean | {
        "TOOLWRIGHT_ADDRESS": server.address,
        "TOOLWRIGHT_DATA_DIR": str(server.data_dir),
        "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("exit code 5") == 2
    assert '"contacts":' in done.stdout
    assert "the credential may not call 'diagnostics.echo'" in done.stderr
    assert "the credentials are not valid" in done.stderr
    secret = (tmp_path / "ada.key").read_text().strip()
    assert re.fullmatch(r"tw_[0-9a-z]{16}_[0-9A-Za-z]{51}", secret)
    assert secret not in done.stdout + done.stderr + server.log.read_text()
    reasons = 'toolwright_authentication_failures_total{reason="revoked_key"} 1'
    assert reasons in server.http("/metrics")[1]


@pytest.mark.asyncio
async def test_the_lines_of_python_run(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.chdir(tmp_path)
    (snippet,) = blocks("python")
    admin = (server.data_dir / "admin.key").read_text().strip()
    source = snippet.replace("127.0.0.1:50051", server.address).replace("tw_...", admin)
    running = eval(compile(source, "identity.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
    assert inspect.isawaitable(running)
    await running
    assert "." in capsys.readouterr().out


@pytest.mark.parametrize("text", blocks("toml"), ids=["tokens", "encryption"])
def test_the_settings_are_a_configuration(text: str, tmp_path: Path) -> None:
    path = tmp_path / "toolwright.toml"
    path.write_text(text)
    settings: Any = load_settings(path)
    assert settings.auth
    assert set(tomllib.loads(text)) <= set(Settings.model_fields)


def test_every_setting_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:jwt|tls|pepper|api_key)_[a-z_]+?)`", PAGE)) - {"api_key"}
    assert named
    assert named <= set(Settings.model_fields)
