"""What the fork server is told at its start: which tools to load, and what workers may take."""

from dataclasses import asdict, dataclass
from typing import Any, Self

import orjson

from toolwright_server.catalog.discovery import LoadPlan

# In the environment of every worker and of all that descend from it: how they are found should the fork server die.
MARK = "TOOLWRIGHT_FORK_SERVER"


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What holds for every worker. `nice` as in nice(1); `memory_bytes` is the default for tools that declare none."""

    memory_bytes: int
    nice: int
    # Largest payload of a frame that the server sends: arguments, or a nested call's value.
    payload_bytes: int


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The whole order, as it is written into the fork server's standard input. `path` is the server's `sys.path`."""

    plan: LoadPlan
    limits: WorkerLimits
    path: list[str]
    server_pid: int

    def to_json(self) -> bytes:
        """The order as JSON."""
        order: dict[str, Any] = {
            "plan": self.plan.to_json(),
            "limits": asdict(self.limits),
            "path": self.path,
            "server_pid": self.server_pid,
        }
        return orjson.dumps(order)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The order that `to_json` wrote."""
        order = orjson.loads(text)
        return cls(
            plan=LoadPlan.from_json(order["plan"]),
            limits=WorkerLimits(**order["limits"]),
            path=order["path"],
            server_pid=order["server_pid"],
        )
