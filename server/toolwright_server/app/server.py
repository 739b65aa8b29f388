"""One server from its start to its end: puts the parts together on the event loop, serves, drains."""

import asyncio
import contextlib
import gc
import logging
import signal
import time
from importlib.metadata import version

import uvloop

from toolwright.v1 import audit_pb2, keys_pb2, tool_catalog_pb2, tool_execution_pb2, usage_pb2
from toolwright_server.app import circuits
from toolwright_server.app.artifacts import Artifacts
from toolwright_server.app.limits import Limits, standing
from toolwright_server.app.record import IN_MEMORY, MemoryRecord, Record
from toolwright_server.app.results import open_results
from toolwright_server.backends.process import ProcessBackend, ProcessOptions
from toolwright_server.backends.python import PythonBackend
from toolwright_server.backends.thread import ThreadBackend
from toolwright_server.catalog.discovery import LoadPlan, load
from toolwright_server.catalog.model import Runs, Tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.service import ToolCatalogService
from toolwright_server.catalog.settings_registry import ToolSettingsRegistry
from toolwright_server.execution import canonical, wire
from toolwright_server.execution.executor import Executor
from toolwright_server.execution.flight import Stop
from toolwright_server.execution.intake import ExecutorOptions, declared_timeout
from toolwright_server.execution.library import Library
from toolwright_server.execution.recall.engine import Results
from toolwright_server.execution.recovery.leases import Lease
from toolwright_server.execution.service import ToolExecutionService
from toolwright_server.keys.credentials import Credentials
from toolwright_server.keys.service import KeyService
from toolwright_server.records.audit.service import AuditService
from toolwright_server.records.ledger.service import UsageService
from toolwright_server.records.usage.usage import Usage
from toolwright_server.rpc.drain import Drain
from toolwright_server.rpc.observe import Observed
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.settings import Address, Settings
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds
from toolwright_server.stores.memory.kept_logs import KeptLogs
from toolwright_server.supervision.link import Report, SupervisorLink
from toolwright_server.telemetry import Telemetry, TelemetryOptions

_logger = logging.getLogger(__name__)

# EX_TEMPFAIL: whoever supervises the server starts it again.
EXIT_LOST = 75


def serve(settings: Settings, link: SupervisorLink | None = None) -> int:
    """Run a server until it is drained; returns the exit code. Raises SettingsError for what cannot be right.

    With a `link` it is one of several processes that share the port, and ends when their supervisor says so. Turns the
    garbage collector on, which whoever imports this may have turned off.
    """
    loaded = load(
        settings.toolkits,
        settings.tools,
        settings.toolkit,
        settings.data_dir,
        Address.parse(settings.listen).is_loopback,
    )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    telemetry = Telemetry(_telemetry_options(settings, link))
    telemetry.start()
    if link is not None:
        link.start(lambda: _report(telemetry))
    # Before gRPC and its threads: nothing may be forked afterwards.
    processes = _processes(settings, loaded.plan, telemetry)
    # What was loaded is never garbage, and rows are freed by count: with Python's own thresholds full collections over
    # the rows that are kept cost about 30 µs a call, and 90 ms each.
    gc.collect()
    gc.freeze()
    gc.set_threshold(1_000, 10, 1_000)
    gc.enable()
    return uvloop.run(_Server(settings, loaded.tools, telemetry, processes, link).run())


class _Server:
    """The parts of one server, put together on its event loop."""

    def __init__(
        self,
        settings: Settings,
        tools: list[Tool],
        telemetry: Telemetry,
        processes: ProcessBackend,
        link: SupervisorLink | None,
    ) -> None:
        self._settings = settings
        self._link = link
        self._telemetry = telemetry
        self._processes = processes
        self._threads = ThreadBackend(settings.thread_workers, settings.thread_queue_limit)
        self._catalog = Catalog(tools)
        self._options = _executor_options(settings)
        self._logs = MemoryEventLogs(_log_bounds(settings))
        self._told = asyncio.Event()
        self._drain: Drain | None = None
        self._is_lost = False

    async def run(self) -> int:
        """Start, serve, drain; the exit code."""
        self._telemetry.run(asyncio.get_running_loop())
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._telemetry.close)
            if self._link is not None:
                stack.push_async_callback(self._link.close)
            await self._processes.start()
            stack.push_async_callback(self._processes.close)
            stack.push_async_callback(self._threads.close)
            record = await self._record()
            stack.push_async_callback(record.close)
            count = self._telemetry.metrics.authentication_failed
            credentials = Credentials(self._settings, record.keys, count, record.listen)
            await credentials.start()
            stack.push_async_callback(credentials.close)
            limits = await Limits.open(self._settings, self._telemetry.metrics)
            stack.push_async_callback(limits.close)
            results, close_results = await open_results(self._settings, self._telemetry.metrics)
            stack.push_async_callback(close_results)
            artifacts = Artifacts.open(self._settings, record.artifacts)
            record.on_recovered = artifacts.sweep.soon
            stack.push_async_callback(artifacts.close)
            executor = self._executor(record, limits, results, artifacts)
            await self._serve(executor, record, credentials, limits, artifacts)
        return EXIT_LOST if self._is_lost else 0

    async def _record(self) -> Record | MemoryRecord:
        settings = self._settings
        if settings.database_url.get_secret_value() == IN_MEMORY:
            return MemoryRecord(_bounds(settings), self._logs, credits_required=settings.credits == "required")
        lease = Lease(self._options.server_id, self._options.epoch)
        kept = KeptLogs(_bounds(settings), self._logs)
        return await Record.open(settings, lease, self._catalog, ended=kept.add, lost=self._lost)

    async def _serve(
        self,
        executor: Executor,
        record: Record | MemoryRecord,
        credentials: Credentials,
        limits: Limits,
        artifacts: Artifacts,
    ) -> None:
        rpc = self._rpc(record, credentials, executor, limits, artifacts)
        self._observe(record, executor, artifacts)
        if self._link is not None and self._link.is_told:
            return
        if record.stop_orders is not None:
            record.stop_orders.start(lambda execution_id: executor.stop(execution_id, Stop.REQUESTED))
        address = await rpc.start()
        _logger.info(
            "serving %d tools on %s (server %s)",
            len(self._catalog.newest()),
            address,
            self._settings.server_id,
            extra={"address": address},
        )
        if self._link is not None:
            await self._link.ready(address)
        await self._until_drained(rpc, executor)

    def _executor(
        self, record: Record | MemoryRecord, limits: Limits, results: Results, artifacts: Artifacts
    ) -> Executor:
        return Executor(
            options=self._options,
            catalog=self._catalog,
            backends={Runs.LOOP: PythonBackend(), Runs.PROCESS: self._processes, Runs.THREAD: self._threads},
            store=record.store,
            limiter=limits.limiter,
            results=results,
            breaker=circuits.breaker(self._settings, self._options, self._catalog, limits, self._telemetry.metrics),
            joining=record.joining,
            logs=self._logs,
            tracing=self._telemetry.tracing,
            metrics=self._telemetry.metrics,
            artifacts=artifacts.keeper,
        )

    def _rpc(
        self,
        record: Record | MemoryRecord,
        credentials: Credentials,
        executor: Executor,
        limits: Limits,
        artifacts: Artifacts,
    ) -> RpcServer:
        telemetry, limit = self._telemetry, self._settings.arguments_limit_bytes
        refused = None if record.trail is None else record.trail.refusals.refused
        observer = Observed(telemetry.tracing, telemetry.metrics, telemetry.call_log, refused)
        rpc = RpcServer(
            RpcOptions.of(self._settings, shares_port=self._link is not None), observer, credentials.authenticator
        )
        rpc.add(
            tool_execution_pb2.DESCRIPTOR.services_by_name["ToolExecution"],
            ToolExecutionService(
                executor,
                record.store,
                self._logs,
                limit,
                self._settings.message_limit_bytes,
                reconciler=record.reconciler,
                stop_orders=record.stop_orders,
                artifacts=Library(
                    record.store, artifacts.keeper.store, self._settings.server_id, record.leases.is_held
                ),
            ),
            ends_at_drain=("WaitExecution",),
        )
        rpc.add(
            tool_catalog_pb2.DESCRIPTOR.services_by_name["ToolCatalogService"],
            ToolCatalogService(
                self._catalog,
                timeout_of=lambda tool: declared_timeout(self._options, tool)[0],
                read_arguments=lambda message: wire.read_arguments(message, limit)[0],
                settings=ToolSettingsRegistry(
                    self._catalog, record.tool_settings, self._options.maximum_timeout, canonical.parse
                ),
            ),
        )
        rpc.add(
            usage_pb2.DESCRIPTOR.services_by_name["UsageService"],
            UsageService(
                record.ledger,
                Usage(record.usage, self._offered),
                standing(limits.limiter, self._catalog),
            ),
        )
        if record.trail is not None:
            rpc.add(audit_pb2.DESCRIPTOR.services_by_name["AuditService"], AuditService(record.trail))
        if credentials.registry is not None:
            rpc.add(keys_pb2.DESCRIPTOR.services_by_name["KeyService"], KeyService(credentials.registry))
        return rpc

    def _offered(self, tenant: str) -> list[tuple[str, str]]:
        tools = self._catalog.newest(tenant)
        return [(tool.name, tool.category) for tool in tools if tool.terms is None or tool.terms.enabled]

    def _lost(self) -> None:
        """Another server took this one for dead: what runs here is not its own any more, and it ends at once."""
        self._is_lost = True
        if self._drain is not None:
            self._drain.hurry()
        self._told.set()

    async def _until_drained(self, rpc: RpcServer, executor: Executor) -> None:
        drain = Drain(rpc, cancel=lambda: executor.stop_all(Stop.DRAINING), settled=executor.settled)
        self._drain, told = drain, self._told
        if self._is_lost:
            drain.hurry()

        def tell() -> None:
            if told.is_set():
                drain.hurry()
            told.set()

        loop = asyncio.get_running_loop()
        if self._link is not None:
            self._link.obey(loop, tell)
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, tell)
        await told.wait()
        # Health is the whole's: a process that ends alone leaves others that serve.
        announced = self._link is None or self._link.is_told
        await drain.run(self._settings.drain_notice_seconds, self._settings.drain_grace_seconds, announced=announced)

    def _observe(self, record: Record | MemoryRecord, executor: Executor, artifacts: Artifacts) -> None:
        observe = self._telemetry.metrics.observe
        record.observe(self._telemetry.metrics)
        observe("toolwright.executions.running", lambda: executor.running)
        observe("toolwright.executions.kept", lambda: len(record.store))
        observe("toolwright.artifacts.bytes", lambda: artifacts.keeper.room.used_bytes)
        observe("toolwright.workers", lambda: self._processes.workers)
        observe("toolwright.workers.busy", lambda: self._processes.workers - self._processes.idle)
        observe("toolwright.worker.queue.length", lambda: self._processes.queued)


def _processes(settings: Settings, plan: LoadPlan, telemetry: Telemetry) -> ProcessBackend:
    options = ProcessOptions(
        workers=settings.process_workers,
        extra_workers=settings.process_extra_workers,
        queue_limit=settings.process_queue_limit,
        memory_limit_bytes=settings.process_memory_limit_bytes,
        calls_per_worker=settings.process_calls_per_worker,
        environment=settings.process_environment,
    )
    processes = ProcessBackend(options, plan, on_kill=telemetry.metrics.worker_killed)
    processes.spawn()
    return processes


def _report(telemetry: Telemetry) -> Report:
    healthy, why = telemetry.health()
    return {"healthy": healthy, "why": why, "metrics": telemetry.metrics.snapshot()}


def _telemetry_options(settings: Settings, link: SupervisorLink | None) -> TelemetryOptions:
    return TelemetryOptions(
        data_dir=settings.data_dir,
        server_id=settings.server_id,
        process_number=0 if link is None else link.number,
        service_version=version("toolwright-server"),
        http_listen=settings.http_listen or None,
        log_format=settings.log_format,
        log_level=settings.log_level,
        span_file_max_bytes=settings.span_file_limit_bytes,
        loop_blocked_seconds=settings.loop_blocked_seconds,
    )


def _executor_options(settings: Settings) -> ExecutorOptions:
    return ExecutorOptions(
        server_id=settings.server_id,
        # Tells this process from an earlier one of the same name.
        epoch=time.time_ns(),
        default_timeout=settings.default_timeout_seconds,
        maximum_timeout=settings.maximum_timeout_seconds,
        category_timeouts=settings.category_timeouts_seconds,
        stop_grace=settings.stop_grace_seconds,
        nesting_limit=settings.nesting_limit,
        result_limit=settings.result_limit_bytes,
        output_limit=settings.output_limit_bytes,
        inline_limit=settings.result_inline_limit_bytes,
        storage_timeout=settings.storage_timeout_seconds,
        running_limit=settings.running_executions_limit,
    )


def _log_bounds(settings: Settings) -> LogBounds:
    return LogBounds(
        settings.events_limit_bytes,
        settings.events_spill_limit_bytes,
        settings.data_dir / "events",
        settings.events_spill_total_bytes,
        settings.events_spill_files_limit,
    )


def _bounds(settings: Settings) -> Bounds:
    return Bounds(settings.executions_kept_count, settings.executions_kept_bytes, settings.executions_kept_seconds)
