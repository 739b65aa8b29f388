"""Where data is kept: told before a server starts if it cannot be there, and found again by commands that read it."""

import os
from pathlib import Path

from toolwright_server.errors import SettingsError
from toolwright_server.settings import load_settings


def data_dir(given: Path | None) -> Path:
    """The data directory for commands that read it: the option's or the settings'; a wrong setting is no obstacle."""
    if given is not None:
        return given
    try:
        return load_settings().data_dir
    except SettingsError:
        return Path(os.environ.get("TOOLWRIGHT_DATA_DIR", ".toolwright"))


def make_folder(folder: Path) -> None:
    """For its owner only: what tools keep is nobody else's. Raises SettingsError where nothing could be kept."""
    check_folder(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror) from None


def check_folder(folder: Path) -> None:
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
