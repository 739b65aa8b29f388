"""What is inside the wheels, and whether their metadata agrees."""

import email
import email.message
import re
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = {"server": "toolwright_server", "client": "toolwright_client", "protos": "toolwright/v1"}
BOUNDED = pytest.mark.timeout(300)


def names_in(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata_of(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


@BOUNDED
@pytest.mark.parametrize("member", PACKAGES)
def test_a_wheel_says_that_it_is_typed_and_carries_its_licence(wheels: dict[str, Path], member: str) -> None:
    names = names_in(wheels[member])
    assert f"{PACKAGES[member]}/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@BOUNDED
@pytest.mark.parametrize("member", PACKAGES)
def test_a_wheel_holds_its_package_and_nothing_else(wheels: dict[str, Path], member: str) -> None:
    own = f"{PACKAGES[member]}/"
    outside = [name for name in names_in(wheels[member]) if not own.startswith(name) and not name.startswith(own)]
    assert [name for name in outside if ".dist-info/" not in name] == []


@BOUNDED
@pytest.mark.parametrize("member", PACKAGES)
def test_a_wheel_holds_no_tests_and_no_compiled_leftovers(wheels: dict[str, Path], member: str) -> None:
    names = names_in(wheels[member])
    assert [name for name in names if re.search(r"(^|/)(tests?|__pycache__)/|conftest|\.pyc$", name)] == []


@BOUNDED
def test_every_module_and_table_of_the_tree_is_in_its_wheel(wheels: dict[str, Path]) -> None:
    folders = {"server": ROOT / "server", "client": ROOT / "client", "protos": ROOT / "generated" / "python"}
    for member, folder in folders.items():
        files = (path for ending in ("py", "toml") for path in (folder / PACKAGES[member]).rglob(f"*.{ending}"))
        modules = {str(path.relative_to(folder)) for path in files}
        assert modules - set(names_in(wheels[member])) == set()


@BOUNDED
def test_the_scripts_of_the_shared_store_are_in_the_wheel_of_the_server(wheels: dict[str, Path]) -> None:
    folder = ROOT / "server"
    scripts = {str(path.relative_to(folder)) for path in (folder / "toolwright_server").rglob("*.lua")}
    assert scripts
    assert scripts <= set(names_in(wheels["server"]))


@BOUNDED
def test_the_three_wheels_have_one_version_and_pin_each_other(wheels: dict[str, Path]) -> None:
    metadata = {member: metadata_of(wheel) for member, wheel in wheels.items()}
    (version,) = {message["Version"] for message in metadata.values()}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == version
    for member in ("server", "client"):
        assert f"toolwright-protos=={version}" in metadata[member].get_all("Requires-Dist", [])
