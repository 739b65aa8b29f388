"""What a server process is told at its start: the whole settings, resolved, so that all processes have the same ones.

A process that is started again later reads neither a file nor a variable that somebody may have changed meanwhile.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pydantic import SecretStr

from toolwright_server.settings import Settings


@dataclass(frozen=True, slots=True)
class ProcessOrder:
    """As it is written into the process's standard input. `number` counts from 1; `path` is the `sys.path`."""

    number: int
    settings: Mapping[str, Any]
    supervisor_pid: int
    path: list[str]

    @property
    def server_id(self) -> str:
        """The process's name in every record."""
        return self.settings["server_id"]

    def to_json(self) -> bytes:
        """The order as JSON, secrets included: for a file that nobody else can open."""
        return json.dumps(asdict(self), default=_plain).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The order that `to_json` wrote."""
        return cls(**json.loads(text))


def part_of(settings: Settings, number: int) -> dict[str, Any]:
    """The settings of one of the processes: a server of its own name, with its share, and without a page."""
    part = settings.model_dump()
    part |= {"server_id": f"{settings.server_id}-{number}", "workers": 1, "http_listen": ""}
    for name in ("process_workers", "process_extra_workers"):
        # The defaults are for the machine; who chose a number said "for each process".
        if name not in settings.model_fields_set:
            part[name] = -(-part[name] // settings.workers)
    return part


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
