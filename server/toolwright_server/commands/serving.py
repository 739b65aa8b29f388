"""`serve` and `check-config`: settings and tools, refused with a sentence before anything starts."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolwright_server.catalog.discovery import Loaded, load
from toolwright_server.catalog.model import DeclarationError
from toolwright_server.catalog.registry import Catalog
from toolwright_server.errors import SettingsError, ToolwrightError
from toolwright_server.limits.rulefile import read as read_rules
from toolwright_server.settings import Settings, load_settings
from toolwright_server.telemetry import TelemetryConfigError

EX_TEMPFAIL = 75
EX_CONFIG = 78
_REFUSALS = (SettingsError, DeclarationError, TelemetryConfigError)


def options(
    listen: str | None, data_dir: Path | None, tools: Sequence[str] | None, *, insecure: bool
) -> Mapping[str, Any]:
    """The settings that were given as options of a command; absent ones are left to the file and the variables."""
    given: dict[str, Any] = {"listen": listen, "data_dir": data_dir, "tools": ",".join(tools) if tools else None}
    if insecure:
        given["insecure"] = True
    return {name: value for name, value in given.items() if value is not None}


def serve(config: Path | None, given: Mapping[str, Any]) -> int:
    """Serve until drained; the exit code."""
    return refusing(lambda: _serve(config, given))


def refusing(run: Callable[[], int]) -> int:
    """What `run` returns; for what it refuses, a sentence on standard error and the exit code that says so."""
    try:
        return run()
    except _REFUSALS as error:
        return _refuse(error)
    except ToolwrightError as error:
        # The configuration may be right: the database went away while the server began.
        _refuse(error)
        return EX_TEMPFAIL


def _serve(config: Path | None, given: Mapping[str, Any]) -> int:
    settings = load_settings(config, given)
    _make_folder(settings.data_dir)
    # Imported when chosen: a wrong file is refused before the long import, and a supervisor must not have gRPC.
    if settings.workers > 1:
        from toolwright_server.supervision.supervisor import SupervisorOptions, supervise  # noqa: PLC0415

        return supervise(settings, SupervisorOptions(command=("-m", "toolwright_server.commands.server_process")))
    from toolwright_server.app import serve as run  # noqa: PLC0415

    return run(settings)


def check(config: Path | None, given: Mapping[str, Any]) -> int:
    """Print what would run; the exit code."""
    try:
        settings = load_settings(config, given)
        _check_folder(settings.data_dir)
        found = load(settings.toolkits, settings.tools, settings.toolkit, settings.data_dir, settings.is_loopback)
        Catalog(found.tools)
        if settings.limits_file:
            read_rules(Path(settings.limits_file))
    except _REFUSALS as error:
        return _refuse(error)
    for line in _summary(settings, found):
        print(line)
    return 0


def data_dir(given: Path | None) -> Path:
    """The data directory for commands that read it: the option's or the settings'; a wrong setting is no obstacle."""
    if given is not None:
        return given
    try:
        return load_settings().data_dir
    except SettingsError:
        return Path(os.environ.get("TOOLWRIGHT_DATA_DIR", ".toolwright"))


def _make_folder(folder: Path) -> None:
    """For its owner only: what tools keep is nobody else's. Raises SettingsError where nothing could be kept."""
    _check_folder(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror) from None


def _check_folder(folder: Path) -> None:
    """The same as far as it can be told without making the folder."""
    try:
        nearest = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        is_folder = nearest.is_dir()
    except OSError as error:
        raise _unusable(folder, error.strerror) from None
    if not is_folder:
        raise _unusable(folder, f"{nearest} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unusable(folder, f"{nearest} cannot be written")


def _unusable(folder: Path, why: str | None) -> SettingsError:
    return SettingsError(
        f"data_dir (TOOLWRIGHT_DATA_DIR) = {str(folder)!r} cannot be used: {why or 'it cannot be made'}"
    )


def _summary(settings: Settings, found: Loaded) -> list[str]:
    counts: dict[str, int] = {}
    for tool in found.tools:
        counts[tool.category] = counts.get(tool.category, 0) + 1
    by_category = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return [
        f"listen     {settings.listen}",
        *((f"processes  {settings.workers}",) if settings.workers > 1 else ()),
        f"http       {settings.http_listen or 'off'}",
        f"data       {settings.data_dir.absolute()}",
        f"toolkits   {', '.join(found.toolkits) or 'none'}",
        f"tools      {len(found.tools)}" + (f" ({by_category})" if counts else ""),
        *(f"           {tool.name} {tool.version}" for tool in sorted(found.tools, key=lambda tool: tool.name)),
    ]


def _refuse(error: Exception) -> int:
    for sentence in str(error).splitlines():
        print(f"toolwright: {sentence}", file=sys.stderr)
    return EX_CONFIG
