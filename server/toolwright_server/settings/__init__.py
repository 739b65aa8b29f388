"""What an operator may set, read from a TOML file and from `TOOLWRIGHT_*` variables. Starts nothing."""

from toolwright_server.settings.address import Address
from toolwright_server.settings.model import CATEGORY_TIMEOUTS_SECONDS, Settings
from toolwright_server.settings.sources import load_settings

__all__ = ["CATEGORY_TIMEOUTS_SECONDS", "Address", "Settings", "load_settings"]
