"""Finds the tools that a server is to offer: installed toolkits (entry points) and what `--tools` names.

The fork server loads the same again from the `LoadPlan`. Never runs a tool.
"""

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Self, cast

from toolwright_server.catalog.functions import FunctionTarget, Toolkit, declared_tool
from toolwright_server.catalog.importing import import_object, import_tools, is_file
from toolwright_server.catalog.model import Tool
from toolwright_server.errors import SettingsError

GROUP = "toolwright.toolkits"

AnyToolkit = Toolkit[Any]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """What was loaded, in plain values, so that another process of this machine loads exactly the same."""

    # Name → where it is, as in an entry point: `package.module:attribute`.
    toolkits: Mapping[str, str]
    # Names of modules and absolute paths of files.
    tools: Sequence[str]
    # Toolkit's name → its settings.
    settings: Mapping[str, Mapping[str, Any]]
    data_dir: str
    # Where modules are found that are not installed.
    folder: str

    def to_json(self) -> str:
        """The plan as JSON text; dates in settings become ISO texts, which their models read as well."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The plan that `to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Loaded:
    """The tools, the configured toolkits by name, and how to load the same again."""

    tools: list[Tool]
    toolkits: dict[str, AnyToolkit]
    plan: LoadPlan


def load(
    toolkits: Collection[str],
    tools: Sequence[str],
    toolkit_settings: Mapping[str, Mapping[str, Any]],
    data_dir: Path,
    loopback: bool,
) -> Loaded:
    """Load what the settings name. `toolkits` empty: all that are installed, those for loopback only there.

    Raises SettingsError naming the culprit.
    """
    folder = Path.cwd()
    installed = _installed()
    for name in toolkits:
        if name not in installed:
            raise SettingsError(f"there is no toolkit {name!r}; {_nearest(name, installed, 'installed')}")
    chosen = {name: _toolkit(name, installed[name]) for name in (sorted(set(toolkits)) or installed)}
    plan = LoadPlan(
        toolkits={n: installed[n] for n, kit in chosen.items() if toolkits or loopback or not kit.loopback_only},
        tools=tuple(str((folder / name).resolve()) if is_file(name) else name for name in tools),
        settings=toolkit_settings,
        data_dir=str(data_dir.absolute()),
        folder=str(folder),
    )
    return load_again(plan)


def load_again(plan: LoadPlan) -> Loaded:
    """Load what a plan says. Raises SettingsError naming the culprit."""
    toolkits = {name: _toolkit(name, value) for name, value in plan.toolkits.items()}
    found: list[Tool] = []
    for name in dict.fromkeys(plan.tools):
        module = import_tools(name, Path(plan.folder))
        kits = _kits(module)
        functions = _functions(module)
        if not functions and not any(kit.tools for kit in kits):
            raise SettingsError(f"--tools {name}: declares no tools; decorate a function with toolwright_server.tool")
        _add(toolkits, kits, name)
        found += functions
    _configure(toolkits, plan)
    return Loaded(_distinct([*(tool for kit in toolkits.values() for tool in kit.tools), *found]), toolkits, plan)


def _installed() -> dict[str, str]:
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP)):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise SettingsError(
                f"two packages bring a toolkit {point.name!r}: {_origin(other)} and {_origin(point)}; uninstall one"
            )
    return {name: point.value for name, point in found.items()}


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name if point.dist else 'an unknown package'} ({point.value})"


def _toolkit(name: str, value: str) -> AnyToolkit:
    found = import_object(value, f"toolkit {name!r}")
    if not isinstance(found, Toolkit):
        raise SettingsError(f"toolkit {name!r} ({value}): is a {type(found).__name__}, not a Toolkit")
    toolkit = cast("AnyToolkit", found)
    if toolkit.name != name:
        raise SettingsError(f"toolkit {name!r} ({value}): calls itself {toolkit.name!r}; both names must be the same")
    return toolkit


def _kits(module: ModuleType) -> list[AnyToolkit]:
    """Toolkits in the module, also one from elsewhere, to which the module may have added tools."""
    return [cast("AnyToolkit", value) for value in vars(module).values() if isinstance(value, Toolkit)]


def _functions(module: ModuleType) -> list[Tool]:
    """Tools that the module declares or, being a package, gathers from its own parts; not what it merely imports."""
    found: list[Tool] = []
    for value in vars(module).values():
        tool = declared_tool(value)
        if tool is not None and isinstance(tool.target, FunctionTarget):
            home = tool.target.module
            if home == module.__name__ or home.startswith(module.__name__ + "."):
                found.append(tool)
    return found


def _add(toolkits: dict[str, AnyToolkit], kits: Iterable[AnyToolkit], tools: str) -> None:
    for kit in kits:
        if toolkits.setdefault(kit.name, kit) is not kit:
            raise SettingsError(f"--tools {tools}: another toolkit is named {kit.name!r} already; rename one")


def _configure(toolkits: Mapping[str, AnyToolkit], plan: LoadPlan) -> None:
    for name in plan.settings:
        if name not in toolkits:
            raise SettingsError(
                f"[toolkit.{name}]: this toolkit is not loaded; {_nearest(name, toolkits, 'loaded')}. "
                "Remove the table, or add the toolkit to `toolkits`"
            )
    for name, toolkit in toolkits.items():
        toolkit.configure(plan.settings.get(name, {}), Path(plan.data_dir))


def _distinct(tools: Iterable[Tool]) -> list[Tool]:
    """Each tool once, also when it is found twice; two tools of one name and version are refused."""
    found: dict[tuple[str, str], Tool] = {}
    for tool in tools:
        other = found.setdefault((tool.name, tool.version), tool)
        if other is not tool:
            raise SettingsError(
                f"tool {tool.name!r} version {tool.version} is declared twice, by {_place(other)} and {_place(tool)}; "
                "rename one or give it another version"
            )
    _agreeing(found.values())
    return list(found.values())


def _agreeing(tools: Iterable[Tool]) -> None:
    """Tools that share an upstream share its circuit: it cannot open by two policies."""
    first: dict[str, Tool] = {}
    for tool in tools:
        other = first.setdefault(tool.upstream, tool) if tool.upstream else tool
        if other.circuit != tool.circuit:
            raise SettingsError(
                f"{other.name} and {tool.name} share the upstream {tool.upstream!r} and declare different circuits for "
                "it; give both the same CircuitPolicy"
            )


def _place(tool: Tool) -> str:
    if isinstance(tool.target, FunctionTarget):
        return f"{tool.target.function.__module__}.{tool.target.function.__qualname__}"
    return "another source"


def _nearest(name: str, known: Collection[str], what: str) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    listed = f"{what}: {', '.join(sorted(known)) or 'none'}"
    return f"did you mean {near[0]!r}? ({listed})" if near else listed
