"""An executor with everything around it, put together as a server does it, without gRPC.

Tools are async functions run by the PythonBackend; what only other backends do is played by `Scripted`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.resources import Resource

from toolwright_server.backends.python import PythonBackend
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.model import Effect, Runs, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.tenants import Tenants
from toolwright_server.execution.attendance import outlast
from toolwright_server.execution.backend import Work
from toolwright_server.execution.circuits.breaker import Breaker
from toolwright_server.execution.circuits.model import Change
from toolwright_server.execution.events import Event, Happening, Retold
from toolwright_server.execution.executor import Executor
from toolwright_server.execution.flight import Flight, Stop
from toolwright_server.execution.intake import ExecutorOptions, declared_timeout
from toolwright_server.execution.model import Execution, Stopped
from toolwright_server.execution.recall.engine import Results
from toolwright_server.execution.retrying import Chances
from toolwright_server.limits.limiter import Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rules import CostLimits, Rules, Tier
from toolwright_server.stores.memory.circuits import MemoryCircuitStore
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore
from toolwright_server.stores.memory.limits import MemoryLimitStore
from toolwright_server.stores.memory.results import MemoryResultStore, ResultBounds
from toolwright_server.telemetry import Metrics, Tracing
from toolwright_server.telemetry.sampling import sampling_from
from toolwright_server.telemetry.span_buffer import SpanBuffer

from .corridor import invocation

PATIENCE = 5.0
UNLIMITED = Rules((), {tier: CostLimits(10**9, 10**9) for tier in Tier})
MEBIBYTE = 1 << 20
OPTIONS: dict[str, Any] = {
    "server_id": "server-1",
    "epoch": 7,
    "default_timeout": 30.0,
    "maximum_timeout": 60.0,
    "category_timeouts": {},
    "stop_grace": 0.02,
    "nesting_limit": 3,
    "result_limit": 1_000,
    "output_limit": 1_000,
}


class Scripted:
    """A backend that does what its tool's function says, and cannot tell whether cancelled work has ended."""

    unconfirmed = Stopped.UNKNOWN

    def __init__(self) -> None:
        self.scripts: dict[str, Callable[[Work], Awaitable[bytes]]] = {}

    async def run(self, work: Work) -> bytes:
        return await self.scripts[work.tool.name](work)


class WatchedStore(MemoryExecutionStore):
    """Says when a record was added or corrected."""

    added: asyncio.Event
    corrected: asyncio.Event

    async def add(self, execution: Execution, *, awaited: bool = True) -> Execution | None:
        holder = await super().add(execution, awaited=awaited)
        self.added.set()
        return holder

    async def correct(self, execution_id: str, stopped: Stopped) -> None:
        await super().correct(execution_id, stopped)
        self.corrected.set()


class House:
    """See the module. Tools are added before the first call."""

    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        self.logs = MemoryEventLogs(LogBounds(MEBIBYTE, MEBIBYTE, folder))
        self.store = WatchedStore(Bounds(1_000, 100 * MEBIBYTE, 3_600.0), self.logs)
        self.store.added, self.store.corrected = asyncio.Event(), asyncio.Event()
        self.options: dict[str, Any] = dict(OPTIONS)
        self.pauses: list[float] = []
        self.chances = Chances(self._pause, lambda low, _: low)
        self.rules = UNLIMITED
        self.clock = time.monotonic
        self.results = Results(MemoryResultStore(ResultBounds(1_000, MEBIBYTE)))
        self.now = 0.0
        self.changes: list[Change] = []
        self._scripted = Scripted()
        self._tools: list[Tool] = []
        self._executor: Executor | None = None
        self._tenants: Tenants | None = None

    def tool(self, function: Callable[..., Any], effect: Effect = Effect.READ_ONLY, **options: Any) -> None:
        """Declare `tests.<function>`."""
        declare = tool(f"tests.{function.__name__}", effect=effect, **options)
        found = declared_tool(declare(function))
        assert found is not None
        self._tools.append(found)

    def remote(
        self, script: Callable[[Work], Awaitable[bytes]], effect: Effect = Effect.READ_ONLY, **options: Any
    ) -> None:
        """Declare `tests.remote`, which is run as `script` says."""

        def remote() -> Any: ...

        self._scripted.scripts["tests.remote"] = script
        self.tool(remote, effect, runs=Runs.THREAD, **options)

    def tenant_sets(self, name: str, **settings: Any) -> None:
        """What the tenant `default` changes about `tests.<name>`, from the next call on."""
        assert self.executor is not None
        assert self._tenants is not None
        self._tenants.adopt([ToolSettings(tenant="default", tool=f"tests.{name}", revision=1, **settings)])

    @property
    def executor(self) -> Executor:
        """Made when it is first asked for."""
        if self._executor is None:
            options, catalog = ExecutorOptions(**self.options), Catalog(self._tools)
            self._tenants = catalog.tenants
            self._executor = Executor(
                options=options,
                catalog=catalog,
                backends={Runs.LOOP: PythonBackend(), Runs.THREAD: self._scripted},
                store=self.store,
                limiter=Limiter(
                    MemoryLimitStore(self.clock), Rulebook(self.rules), Line(8), self.metrics, clock=self.clock
                ),
                results=self.results,
                breaker=Breaker(
                    MemoryCircuitStore(self.changes.append, 30.0, lambda: self.now),
                    catalog,
                    lambda tool: declared_timeout(options, tool)[0],
                    self.metrics,
                    lease_seconds=30.0,
                    uniform=lambda low, _: low,
                ),
                logs=self.logs,
                tracing=Tracing(
                    sampling_from("always_off", ""),
                    SpanBuffer(flush_count=100, max_count=100),
                    Resource.get_empty(),
                    recording=False,
                ),
                metrics=self.metrics,
                chances=self.chances,
            )
        return self._executor

    async def _pause(self, seconds: float) -> None:
        """Between two attempts no time passes, but for circuits."""
        self.pauses.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)

    async def begin(self, name: str, arguments: Mapping[str, Any] | None = None, **facts: Any) -> Flight:
        """Start a call of `tests.<name>`; `facts` are fields of its Invocation."""
        flight = await self.executor.execute(invocation(f"tests.{name}", arguments, **facts))
        assert isinstance(flight, Flight)
        return flight

    async def run(self, name: str, arguments: Mapping[str, Any] | None = None, **facts: Any) -> Execution:
        """A call from its beginning to its end."""
        flight = await self.begin(name, arguments, **facts)
        return await asyncio.wait_for(outlast(flight, flight.invocation), PATIENCE)

    def events(self, execution: Execution) -> list[Event]:
        """What is in its log, or else what its row tells."""
        return (self.logs.find(execution.execution_id) or Retold(execution)).after(0)

    def happenings(self, execution: Execution) -> list[Happening]:
        """The same without numbers and times."""
        return [event.what for event in self.events(execution)]

    def stubborn(self, name: str) -> bool:
        """Whether `tests.<name>` was counted among the tools that did not stop."""
        return f'toolwright_tools_stubborn_total{{gen_ai_tool_name="tests.{name}"}} 1' in self.metrics.render()

    async def close(self) -> None:
        """Stop what runs and forget the logs, so that no file stays open."""
        await asyncio.wait_for(self.executor.stop_all(Stop.DRAINING), PATIENCE)
        for execution_id in list(self.logs._logs):  # pyright: ignore[reportPrivateUsage]
            self.logs.forget(execution_id)
