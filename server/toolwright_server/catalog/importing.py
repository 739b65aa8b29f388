"""Imports what an operator or an installed package names: a module, a `.py` file, a toolkit's entry point.

Whatever goes wrong in there becomes a SettingsError that names the culprit and the line. Knows nothing of tools.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from toolwright_server.catalog.model import DeclarationError
from toolwright_server.errors import SettingsError

# Files get a module name of their own, so that `json.py` does not hide a library. Derived from the path: the fork
# server arrives at the same one.
_FILES = "toolwright_tools_file"


def is_file(tools: str) -> bool:
    """Whether `--tools` was given a path and not a module's name."""
    return tools.endswith(".py") or os.sep in tools


def import_tools(tools: str, folder: Path) -> ModuleType:
    """Import a module by name (also from `folder`), or a file by its path. Raises SettingsError."""
    if is_file(tools):
        return _import_file(folder / tools)
    _search(folder)
    try:
        return importlib.import_module(tools)
    except ModuleNotFoundError as error:
        if error.name and (tools == error.name or tools.startswith(error.name + ".")):
            raise SettingsError(
                f"--tools {tools}: there is no such module, neither installed nor in {folder}; "
                "name a module, or a file by its path and .py"
            ) from None
        raise _refused(f"--tools {tools}", error) from error
    except (Exception, SystemExit) as error:
        raise _refused(f"--tools {tools}", error) from error


def import_object(value: str, where: str) -> Any:
    """What an entry point's value (`package.module:attribute`) leads to. Raises SettingsError naming `where`."""
    module, _, attribute = value.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:
        raise _refused(f"{where} ({value})", error) from error
    return found


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise SettingsError(f"--tools {path}: there is no such file")
    name = f"{_FILES}.{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingsError(f"--tools {path}: is no Python file; its name must end in .py")
    _search(path.parent)
    module = importlib.util.module_from_spec(spec)
    # Before it runs: dataclasses and pydantic look their module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _refused(f"--tools {path}", error) from error
    return module


def _search(folder: Path) -> None:
    # At the end: a folder must not hide what is installed.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _refused(where: str, error: BaseException) -> SettingsError:
    if isinstance(error, (DeclarationError, SettingsError)):
        return SettingsError(f"{where}: {error}")
    if isinstance(error, SyntaxError):
        return SettingsError(f"{where}: {error.msg} ({error.filename}, line {error.lineno})")
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]
    line = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return SettingsError(f"{where}: importing it raised {type(error).__name__}: {error}{line}")


def _is_machinery(filename: str) -> bool:
    return filename.startswith("<frozen") or filename in (__file__, importlib.__file__)
