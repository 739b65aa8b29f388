import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolwright_server.catalog import discovery
from toolwright_server.catalog.discovery import LoadPlan, load, load_again
from toolwright_server.errors import SettingsError

GREETINGS = """
from toolwright_server import Effect, tool

@tool("greetings.hello", effect=Effect.READ_ONLY)
def hello(name: str) -> str:
    '''Greets.'''
    return f"hello {name}"
"""

TOOLKIT = """
from toolwright_server import Toolkit
from toolwright_server.catalog.functions import ToolkitSettings

class Options(ToolkitSettings):
    greeting: str = "hello"

toolkit = Toolkit("{name}", settings=Options, loopback_only={loopback})

@toolkit.tool("greet")
def greet(name: str) -> str:
    return toolkit.settings.greeting + name
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(discovery, "GROUP", "toolwright.tested")
    return tmp_path


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """Make `folder` a place of installed packages with one entry point for each module."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / "some_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-package\nVersion: 1\n")
    points = "".join(f"{name.removesuffix('_module')} = {name}:toolkit\n" for name in modules)
    (info / "entry_points.txt").write_text(f"[{discovery.GROUP}]\n{points}")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])


def loaded(
    folder: Path, *tools: str, toolkits: tuple[str, ...] = (), loopback: bool = True, **settings: dict[str, object]
) -> discovery.Loaded:
    return load(toolkits, tools, settings, folder / "data", loopback)


def names(found: discovery.Loaded) -> list[str]:
    return sorted(tool.name for tool in found.tools)


def test_a_file_is_loaded_by_its_path(folder: Path) -> None:
    (folder / "greetings.py").write_text(GREETINGS)
    assert names(loaded(folder, "greetings.py")) == ["greetings.hello"]
    assert names(loaded(folder, str(folder / "greetings.py"))) == ["greetings.hello"]


def test_a_module_is_loaded_by_its_name_from_the_current_folder(folder: Path) -> None:
    (folder / "greetings_here.py").write_text(GREETINGS)
    assert names(loaded(folder, "greetings_here")) == ["greetings.hello"]


def test_a_package_offers_what_it_gathers_from_its_parts_but_not_what_it_imports_from_others(folder: Path) -> None:
    (folder / "others.py").write_text(GREETINGS.replace("greetings", "others"))
    package = folder / "gathered"
    package.mkdir()
    (package / "part.py").write_text(GREETINGS.replace("greetings", "gathered"))
    (package / "__init__.py").write_text("from others import hello\nfrom gathered.part import hello as mine\n")
    assert names(loaded(folder, "gathered")) == ["gathered.hello"]


def test_files_of_one_name_in_two_folders_do_not_hide_each_other(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text(GREETINGS.replace("greetings", name))
    assert names(loaded(folder, "one/mine.py", "two/mine.py")) == ["one.hello", "two.hello"]


def test_another_process_loads_the_same_from_the_plan_without_grpc_or_an_event_loop(folder: Path) -> None:
    (folder / "greetings.py").write_text(GREETINGS)
    (folder / "kit_in_file.py").write_text(TOOLKIT.format(name="kit", loopback=False))
    plan = loaded(folder, "greetings.py", "kit_in_file", kit={"greeting": "hi "}).plan
    code = (
        "import sys\n"
        "from toolwright_server.catalog.discovery import LoadPlan, load_again\n"
        "found = load_again(LoadPlan.from_json(sys.stdin.read()))\n"
        "assert not {'grpc', 'asyncio'} & set(sys.modules)\n"
        "tool = next(tool for tool in found.tools if tool.name == 'kit.greet')\n"
        "print(*sorted(tool.name for tool in found.tools), tool.target.function('you'))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        input=plan.to_json(),
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.stderr == ""
    assert answer.stdout == "greetings.hello kit.greet hi you\n"


def test_the_plan_survives_json(folder: Path) -> None:
    (folder / "greetings.py").write_text(GREETINGS)
    plan = loaded(folder, "greetings.py").plan
    again = LoadPlan.from_json(plan.to_json())
    assert [tool.name for tool in load_again(again).tools] == ["greetings.hello"]
    assert again.to_json() == plan.to_json()


def test_installed_toolkits_are_found_and_configured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, welcome_module=TOOLKIT.format(name="welcome", loopback=False))
    found = loaded(folder, welcome={"greeting": "welcome "})
    assert names(found) == ["welcome.greet"]
    assert found.toolkits["welcome"].settings.greeting == "welcome "
    assert found.plan.toolkits == {"welcome": "welcome_module:toolkit"}


def test_a_toolkit_for_loopback_is_left_out_elsewhere_unless_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, folder, local_module=TOOLKIT.format(name="local", loopback=True))
    assert names(loaded(folder)) == ["local.greet"]
    assert names(loaded(folder, loopback=False)) == []
    assert names(loaded(folder, toolkits=("local",), loopback=False)) == ["local.greet"]


def test_an_unknown_toolkit_is_refused_naming_the_nearest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, nearby_module=TOOLKIT.format(name="nearby", loopback=False))
    with pytest.raises(SettingsError, match=r"there is no toolkit 'neerby'; did you mean 'nearby'\?"):
        loaded(folder, toolkits=("neerby",))


def test_settings_for_a_toolkit_that_is_not_loaded_are_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[toolkit\.crm\]: this toolkit is not loaded; loaded: none"):
        loaded(folder, crm={"a": 1})


def test_a_wrong_key_of_a_toolkit_is_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, keyed_module=TOOLKIT.format(name="keyed", loopback=False))
    with pytest.raises(SettingsError, match=r"\[toolkit\.keyed\] greting"):
        loaded(folder, keyed={"greting": "x"})


def test_a_toolkit_under_another_name_than_its_own_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, outer_module=TOOLKIT.format(name="inner", loopback=False))
    with pytest.raises(SettingsError, match="calls itself 'inner'"):
        loaded(folder)


def test_an_entry_point_that_leads_to_no_toolkit_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, wrong_module="toolkit = 3\n")
    with pytest.raises(SettingsError, match=r"toolkit 'wrong' \(wrong_module:toolkit\): is a int, not a Toolkit"):
        loaded(folder)


def test_an_installed_toolkit_that_cannot_be_imported_is_refused_with_the_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, folder, broken_module="x = 1\nimport there_is_no_such_thing\n")
    with pytest.raises(SettingsError, match=r"toolkit 'broken' .*ModuleNotFoundError.*broken_module\.py, line 2"):
        loaded(folder)


def test_two_tools_of_one_name_and_version_are_refused_naming_both_places(folder: Path) -> None:
    (folder / "first_place.py").write_text(GREETINGS)
    (folder / "second_place.py").write_text(GREETINGS)
    with pytest.raises(SettingsError, match=r"'greetings\.hello' version 1 .* first_place\.hello and second_place"):
        loaded(folder, "first_place", "second_place")


@pytest.mark.parametrize(("other", "refused"), [("CircuitPolicy()", False), ("CircuitPolicy(minimum_calls=3)", True)])
def test_tools_that_share_an_upstream_must_agree_when_it_opens(folder: Path, other: str, refused: bool) -> None:
    module = f"billing_{refused}".lower()
    (folder / f"{module}.py").write_text(
        "from toolwright_server import CircuitPolicy, tool\n"
        "@tool('billing.one', upstream='billing')\nasync def one() -> None: ...\n"
        f"@tool('billing.two', upstream='billing', circuit={other})\nasync def two() -> None: ...\n"
    )
    if not refused:
        assert len(loaded(folder, module).tools) >= 2
        return
    with pytest.raises(SettingsError, match=r"billing\.one and billing\.two share the upstream 'billing'"):
        loaded(folder, module)


def test_a_tool_found_twice_is_one_tool(folder: Path) -> None:
    (folder / "once.py").write_text(GREETINGS.replace("greetings", "once"))
    assert names(loaded(folder, "once", "once")) == ["once.hello"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import sys\nsys.exit(3)\n", r"importing it raised SystemExit: 3 \(.*bad\.py, line 2\)"),
        ("\n1 +\n", r"invalid syntax \(.*bad\.py, line 2\)"),
        ("raise ValueError('no')\n", r"importing it raised ValueError: no \(.*bad\.py, line 1\)"),
        ("x = 1\n", "declares no tools"),
        (
            "from toolwright_server import tool\n@tool('Bad Name')\ndef f() -> None: ...\n",
            "tool 'Bad Name'.*lower-case",
        ),
        ("from toolwright_server import tool\n@tool('a.b')\ndef f(x) -> None: ...\n", "'x' has no type annotation"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_reason(folder: Path, text: str, sentence: str) -> None:
    (folder / "bad.py").write_text(text)
    with pytest.raises(SettingsError, match=sentence):
        loaded(folder, "bad.py")


@pytest.mark.parametrize(
    ("tools", "sentence"),
    [
        ("no_such_module_here", "there is no such module, neither installed nor in"),
        ("no_such_file.py", "there is no such file"),
        ("no/such/file.py", "there is no such file"),
    ],
)
def test_what_is_not_there_is_refused(folder: Path, tools: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        loaded(folder, tools)
