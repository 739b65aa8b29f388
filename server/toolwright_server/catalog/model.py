"""What a tool is: name, effect, schemas, and how it runs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from toolwright_server.catalog.schema import Schema

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
CATEGORY = re.compile(r"[a-z][a-z0-9_]*")
VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
NAME_LIMIT = 128


class Effect(Enum):
    """What a tool does to the world; decides whether a call may be repeated."""

    READ_ONLY = "READ_ONLY"
    IDEMPOTENT = "IDEMPOTENT"
    SIDE_EFFECT = "SIDE_EFFECT"


class Runs(StrEnum):
    """Where a function runs: on the event loop, in a killable worker process, or in a thread (cannot be stopped)."""

    LOOP = "loop"
    PROCESS = "process"
    THREAD = "thread"


@dataclass(frozen=True, slots=True, eq=False)
class Tool:
    """One version of one tool. `target` belongs to the backend named by `runs` and is opaque to everybody else."""

    name: str
    version: str
    description: str
    category: str
    effect: Effect
    runs: Runs
    input_schema: Schema
    output_schema: Schema | None
    target: object
    display_name: str = ""
    timeout_seconds: float | None = None
    memory_limit_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def version_key(self) -> tuple[int, ...]:
        """For comparing versions: `2.10` is newer than `2.9`."""
        return tuple(int(part) for part in self.version.split("."))


class DeclarationError(Exception):
    """A tool that is declared wrongly; the text names the tool and what to change."""
