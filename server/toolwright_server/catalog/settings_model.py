"""What a tenant may change about a tool, as it is kept. Whether it can be right is settings_check.py's to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LIMIT_KINDS: Final = ("window", "day", "month", "running")
"""The kinds of rules whose number a tenant's settings may replace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSettings:
    """The settings of one tool, all of its versions, in one tenant. None and empty mean: as the tool declares it.

    Arguments are canonical JSON text of an object. `revision` orders all changes of a database: each has a higher one
    than those committed before it. `update_time`: seconds since the epoch.
    """

    tenant: str
    tool: str
    enabled: bool | None = None
    hidden: bool | None = None
    fixed_arguments: bytes = b""
    default_arguments: bytes = b""
    timeout_seconds: float | None = None
    price_micros: int | None = None
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    revision: int = 0
    update_time: float = 0.0
    updater: str = ""

    @property
    def etag(self) -> str:
        """Names this state of the settings."""
        return str(self.revision)

    @property
    def changes_nothing(self) -> bool:
        """Whether the tool is as it declares itself."""
        return not (
            self.enabled is False
            or self.hidden
            or self.fixed_arguments
            or self.default_arguments
            or self.timeout_seconds is not None
            or self.price_micros is not None
            or self.limits
        )


FIELDS: Final = (
    "enabled",
    "hidden",
    "fixed_arguments",
    "default_arguments",
    "timeout_seconds",
    "price_micros",
    "limits",
)
"""What can be changed."""
