"""What an operator may set, read from a TOML file and from `TOOLWRIGHT_*` variables. Starts nothing."""

from typing import TYPE_CHECKING, Any

from toolwright_server.settings.address import Address

if TYPE_CHECKING:
    from toolwright_server.settings.model import CATEGORY_TIMEOUTS_SECONDS, Settings
    from toolwright_server.settings.sources import load_settings

__all__ = ["CATEGORY_TIMEOUTS_SECONDS", "Address", "Settings", "load_settings"]


def __getattr__(name: str) -> Any:
    # Commands that only call a server need an Address and not the 50 ms that the model's libraries take.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolwright_server.settings import model, sources  # noqa: PLC0415

    return getattr(sources if name == "load_settings" else model, name)
