"""What a user gets who installs one distribution alone. A shared environment would hide an import across members."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from .conftest import run

pytestmark = pytest.mark.slow

BOUNDED = pytest.mark.timeout(420)

ALL_MODULES = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
failed = {}
for module in pkgutil.walk_packages(package.__path__, sys.argv[1] + "."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed[module.name] = repr(error)
server = importlib.util.find_spec("toolwright_server") is not None
client = importlib.util.find_spec("toolwright_client") is not None
print(json.dumps({"failed": failed, "server": server, "client": client}))
"""


def import_all(python: Path, package: str, cwd: Path) -> dict[str, object]:
    return json.loads(run(python, "-I", "-W", "error", "-c", ALL_MODULES, package, cwd=cwd))


@BOUNDED
def test_the_client_alone_imports_without_the_server(install: Callable[..., Path], tmp_path: Path) -> None:
    binaries = install("client", "protos")
    report = import_all(binaries / "python", "toolwright_client", tmp_path)
    assert report == {"failed": {}, "server": False, "client": True}


ASK_FOR_THE_STORE = """
from toolwright_server.errors import SettingsError
from toolwright_server.stores.redis import opening
try:
    opening.Address.parse("redis://localhost")
except SettingsError as error:
    print(error)
"""


@BOUNDED
def test_the_server_alone_imports_and_lacks_only_the_shared_store_until_its_extra_is_there(
    install: Callable[..., Path], tmp_path: Path
) -> None:
    binaries = install("server", "protos")
    failed = cast("dict[str, str]", import_all(binaries / "python", "toolwright_server", tmp_path)["failed"])
    assert failed
    for module, error in failed.items():
        assert module.startswith("toolwright_server.stores.redis.")
        assert "No module named 'redis'" in error
    sentence = run(binaries / "python", "-I", "-c", ASK_FOR_THE_STORE, cwd=tmp_path)
    assert "pip install 'toolwright-server[redis]'" in sentence

    assert install("server[redis]", into=binaries) == binaries
    report = import_all(binaries / "python", "toolwright_server", tmp_path)
    assert report == {"failed": {}, "server": True, "client": False}
    text = run(binaries / "toolwright", "--help", cwd=tmp_path)
    for command in ("serve", "check-config", "tools", "exec", "trace"):
        assert command in text
