"""What a tool's look-up function is given and may answer: whether a call of unknown outcome happened after all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from toolwright_server.identity import Caller


class UnknownExecution(Protocol):
    """The facts of the execution that is looked up. Times in seconds since the epoch."""

    @property
    def execution_id(self) -> str:
        """Its id, a UUIDv7: what the tool saw as `context.execution_id`."""
        ...

    @property
    def request_id(self) -> str:
        """The caller's name of the request; may be empty."""
        ...

    @property
    def tool(self) -> str:
        """The tool's name."""
        ...

    @property
    def tool_version(self) -> str:
        """The version that was called."""
        ...

    @property
    def caller(self) -> Caller:
        """Tenant, principal and user of the call."""
        ...

    @property
    def create_time(self) -> float:
        """When the call was accepted."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """The caller's labels."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """It happened: the execution succeeded with this value, which must be what the tool could have returned."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class NotDone:
    """It did not happen and will not any more: the call may be made again."""


@dataclass(frozen=True, slots=True)
class StillUnknown:
    """Nobody can say yet: asked again later."""


LookedUp = Found | NotDone | StillUnknown
"""What a look-up function returns."""
