"""`serve`: the settings, refused with a sentence before anything is loaded that takes long, and then the server."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolwright_server.commands.folders import make_folder
from toolwright_server.errors import SettingsError, ToolwrightError
from toolwright_server.settings import load_settings

EX_TEMPFAIL = 75
EX_CONFIG = 78


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
    except SettingsError as error:
        return _refuse(error)
    except ToolwrightError as error:
        # The configuration may be right: the database went away while the server began.
        _refuse(error)
        return EX_TEMPFAIL


def _serve(config: Path | None, given: Mapping[str, Any]) -> int:
    settings = load_settings(config, given)
    make_folder(settings.data_dir)
    # Imported when chosen: a wrong file is refused before the long import, and a supervisor must not have gRPC.
    if settings.workers > 1:
        from toolwright_server.supervision.supervisor import SupervisorOptions, supervise  # noqa: PLC0415

        return supervise(settings, SupervisorOptions(command=("-m", "toolwright_server.commands.server_process")))
    # Looking for garbage among what is being imported takes a fifth of the start; `run` turns it on again.
    gc.disable()
    from toolwright_server.app import serve as run  # noqa: PLC0415

    return run(settings)


def _refuse(error: Exception) -> int:
    for sentence in str(error).splitlines():
        print(f"toolwright: {sentence}", file=sys.stderr)
    return EX_CONFIG
