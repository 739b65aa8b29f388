"""What a tool is: name, effect, schemas, and how it runs."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Literal

from toolwright_server.catalog.look_up import LookedUp, UnknownExecution
from toolwright_server.catalog.schema import Schema
from toolwright_server.errors import SettingsError

NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*")
CATEGORY = re.compile(r"[a-z][a-z0-9_]*")
VERSION = re.compile(r"[0-9]+(\.[0-9]+){0,2}")
NAME_LIMIT = 128
# Of one call, also when it asks for more than its tool does.
ATTEMPTS_LIMIT = 100


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


class Record(StrEnum):
    """When the record of an outcome is durable: before the answer is sent, or soon after it (READ_ONLY tools only)."""

    AWAITED = "awaited"
    LAZY = "lazy"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when a failed attempt is repeated. Times in seconds.

    `attempts` counts the first one too. The pause before the second is about `base_seconds` and doubles from then on,
    up to `maximum_seconds`; a random part of at most `base_seconds` is added, so that callers do not come back at once.
    """

    attempts: int = 4
    base_seconds: float = 1.0
    maximum_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How calls of a READ_ONLY tool that ask the same share an answer: those of one version with the same arguments.

    An answer is kept for `ttl_seconds`, 0: not at all; calls that run at the same time are joined in any case.
    `scope`: shared by the calls of one user with one credential, or by all of the tenant.
    """

    ttl_seconds: float
    scope: Literal["user", "tenant"] = "user"


@dataclass(frozen=True, slots=True)
class FallbackPolicy:
    """What is answered in the place of a tool that could not: a fixed `value`, or what another `tool` answers to the
    same arguments. `value` is JSON text; `tool` a name.

    Only for failures that speak of what the tool depends on, and never after a side effect may have happened.
    `automatic`: in every call that does not say otherwise; else only in those that allow it.
    """

    value: str | None = None
    tool: str = ""
    automatic: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When a tool's upstream is left alone, and for how long. Times in seconds, ratios above 0 and at most 1.

    The circuit opens when, of at least `minimum_calls` within `window_seconds`, `failure_ratio` have failed, or
    `slow_ratio` took `slow_call_seconds` or longer (None: nobody counts slow calls). It is open for `open_seconds`,
    twice as long each time that it opens again, up to `max_open_seconds`; then one call tries whether all is well.
    """

    failure_ratio: float = 0.5
    slow_call_seconds: float | None = None
    slow_ratio: float = 1.0
    window_seconds: float = 60.0
    minimum_calls: int = 10
    open_seconds: float = 5.0
    max_open_seconds: float = 120.0


LookUp = Callable[[dict[str, Any] | None, UnknownExecution], LookedUp | Awaitable[LookedUp]]
"""Says what became of a call: from its arguments as they were kept (None: not kept) and its execution."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Terms:
    """What a tenant's settings change about a tool (see terms.py). Arguments are JSON text by name."""

    enabled: bool
    price_micros: int | None
    # Kind of rule (settings_model.LIMIT_KINDS) → its number in this tenant.
    limits: Mapping[str, int]
    fixed: Mapping[str, bytes]
    defaults: Mapping[str, bytes]
    # What callers are shown in place of the tool's input schema.
    listed_schema: Schema
    # Why the settings do not fit this version of the tool; empty: they do.
    misfit: str

    @property
    def completes(self) -> bool:
        """Whether the tool may be given other arguments than were sent."""
        return bool(self.fixed or self.defaults)


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
    keep_arguments: bool = True
    keep_result: bool = True
    record: Record = Record.AWAITED
    look_up: LookUp | None = None
    retry: RetryPolicy = RetryPolicy()
    # None: every call is made by itself.
    cache: CachePolicy | None = None
    # None: a failure is answered as such.
    fallback: FallbackPolicy | None = None
    # What it calls, by a name that several tools may share: they share one circuit then.
    upstream: str = ""
    # None: it is called however often it fails.
    circuit: CircuitPolicy | None = None
    # Names of tools that can do its work, the best one first.
    alternatives: tuple[str, ...] = ()
    # None: the tool is as it was declared.
    terms: Terms | None = None
    # What a call costs; the most that it may cost where the tool itself reports what it did.
    price_micros: int = 0
    reports_price: bool = False

    @property
    def has_secrets(self) -> bool:
        """Whether a schema marks a part of the arguments or of the result as secret."""
        output = self.output_schema
        return self.input_schema.redaction is not None or (output is not None and output.redaction is not None)

    @property
    def asked_price_micros(self) -> int:
        """What a call costs in the tenant whose tool it is; the most that it may cost where the tool reports that."""
        if self.terms is None or self.terms.price_micros is None:
            return self.price_micros
        return self.terms.price_micros

    @property
    def circuit_name(self) -> str:
        """Whose circuit is asked: the upstream's, or else that of this version of the tool, `name@version`."""
        return self.upstream or f"{self.name}@{self.version}"

    def kept_arguments(self, canonical: bytes) -> bytes | None:
        """What the record keeps of a call's canonical arguments: without secrets; None for a tool that keeps none."""
        if not self.keep_arguments:
            return None
        return self.input_schema.redacted(canonical)

    def kept_result(self, result: bytes | None) -> bytes | None:
        """What the record keeps of a result's JSON text: without secrets; None for a tool that keeps none."""
        if result is None or not self.keep_result:
            return None
        return result if self.output_schema is None else self.output_schema.redacted(result)

    def version_key(self) -> tuple[int, ...]:
        """For comparing versions: `2.10` is newer than `2.9`."""
        return tuple(int(part) for part in self.version.split("."))


class DeclarationError(SettingsError):
    """A tool that is declared wrongly; the text names the tool and what to change."""
