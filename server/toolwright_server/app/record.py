"""The durable record of one server, put together: database, writer, audit trail, lease, recovery, retention.

Opened before the first call is served, closed after the last one was settled.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.settings_store import TOPIC
from toolwright_server.catalog.settings_watch import SettingsWatch
from toolwright_server.execution.elsewhere.joining import Joining
from toolwright_server.execution.elsewhere.stop_orders import StopOrders
from toolwright_server.execution.evidence import ExecutionEvidence
from toolwright_server.execution.model import Execution
from toolwright_server.execution.recovery.leases import Lease, LeaseKeeper
from toolwright_server.execution.recovery.reconcile import Reconciler
from toolwright_server.execution.recovery.takeover import Recovery
from toolwright_server.freshness import Listen, deaf
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.checkpoints import CheckpointOptions
from toolwright_server.records.audit.keys import open_key
from toolwright_server.records.audit.model import Entry
from toolwright_server.records.audit.trail import AuditTrail
from toolwright_server.records.ledger.ledger import Ledger
from toolwright_server.records.retention import Retention, Rule
from toolwright_server.settings import Settings
from toolwright_server.stores.memory.artifacts import MemoryArtifactRows
from toolwright_server.stores.memory.events import MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore
from toolwright_server.stores.memory.keys import MemoryKeyStore
from toolwright_server.stores.memory.leases import MemoryLeases
from toolwright_server.stores.memory.tool_settings import MemoryToolSettingsStore
from toolwright_server.stores.sql.artifacts import SqlArtifactRows
from toolwright_server.stores.sql.audit import SqlAuditStore
from toolwright_server.stores.sql.breaker import Breaker
from toolwright_server.stores.sql.change import Change
from toolwright_server.stores.sql.engine import Database, DatabaseOptions
from toolwright_server.stores.sql.executions import SqlExecutionStore
from toolwright_server.stores.sql.keys import SqlKeyStore
from toolwright_server.stores.sql.leases import SqlLeases
from toolwright_server.stores.sql.ledger import SqlLedger
from toolwright_server.stores.sql.opening import notices_of, sink_of
from toolwright_server.stores.sql.recovery import SqlRecovery
from toolwright_server.stores.sql.retention import SqlRetention
from toolwright_server.stores.sql.spill import OutcomeSpill
from toolwright_server.stores.sql.stop_orders import SqlStopOrders
from toolwright_server.stores.sql.tool_settings import SqlToolSettingsStore
from toolwright_server.stores.sql.usage import SqlUsage
from toolwright_server.stores.sql.writer import Writer, WriterOptions
from toolwright_server.telemetry import Metrics


class Record:
    """See the module. `ended` is told of each execution that has ended; `lost` once, when another server took this
    one for dead.
    """

    def __init__(
        self,
        settings: Settings,
        lease: Lease,
        catalog: Catalog,
        database: Database,
        spill: OutcomeSpill,
        *,
        ended: Callable[[Execution], None],
        lost: Callable[[], None],
    ) -> None:
        chains = Chains(lease.server_id, lease.epoch)
        self._database = database
        self._spill = spill
        self._writer = Writer(
            sink_of(database.options, (lease.server_id, lease.epoch), chains),
            WriterOptions(timeout_seconds=settings.storage_timeout_seconds),
        )
        self.store = SqlExecutionStore(
            database,
            self._writer,
            evidence=ExecutionEvidence(),
            spill=spill,
            breaker=Breaker(),
            ended=ended,
            credits_required=settings.credits == "required",
        )
        self.artifacts = SqlArtifactRows(database, self.store.live)
        # Told when executions of dead servers were settled.
        self.on_recovered: Callable[[], None] = _nobody
        self.ledger = Ledger(SqlLedger(database, self._writer))
        self.usage = SqlUsage(database, self._writer)
        self.keys = SqlKeyStore(database, self._writer)
        self.tool_settings = SqlToolSettingsStore(database, self._writer)
        self._settings_watch = SettingsWatch(self.tool_settings, catalog.tenants)
        self._watching: asyncio.Task[None] | None = None
        self._notices = notices_of(database.options)
        self.listen: Listen = deaf if self._notices is None else self._notices.listen
        self.trail = AuditTrail(
            chains,
            open_key(_key_file(settings), settings.data_dir, tuple(map(Path, settings.audit_public_keys))),
            SqlAuditStore(database, self._writer),
            emit=self._emit,
            flush=self._writer.flush,
            checkpoints=CheckpointOptions(seconds=settings.audit_checkpoint_seconds),
        )
        self._verdicts = SqlRecovery(database, self._writer, usage_days=settings.retention_usage_days)
        self.reconciler = Reconciler(self._verdicts, catalog)
        self.joining = Joining(self._verdicts.ended)
        self.stop_orders = StopOrders(SqlStopOrders(database, self._writer), lease.server_id)
        self._recovery = Recovery(self._verdicts, lease, unsettled=self.reconciler.soon)
        self.leases = SqlLeases(database, self._writer, settings.listen)
        self._lease = LeaseKeeper(self.leases, lease, settings.lease_seconds, recover=self._recover, lost=lost)
        rules = _rules(settings, SqlRetention(database, self._writer), self.trail, self.usage)
        self._retention = Retention(rules, settings.retention_interval_seconds)

    @classmethod
    async def open(
        cls,
        settings: Settings,
        lease: Lease,
        catalog: Catalog,
        *,
        ended: Callable[[Execution], None],
        lost: Callable[[], None],
    ) -> "Record":
        """Bring the tables up to date, settle what dead servers left, begin.

        Raises SettingsError or STORE_UNAVAILABLE.
        """
        database = await Database.open(DatabaseOptions.of(settings))
        spill = OutcomeSpill.open(settings.data_dir, settings.spill_limit_bytes)
        record = cls(settings, lease, catalog, database, spill, ended=ended, lost=lost)
        await record._start()
        return record

    async def close(self) -> None:
        """Sign the trail, write what is left, give the lease back."""
        # Whoever writes by itself first: nothing may follow the last signature of the trail.
        await self._lease.stop()
        await self.stop_orders.close()
        await self._stop_listening()
        await self._retention.close()
        await self.reconciler.close()
        await self.joining.close()
        await self.trail.close()
        # Whatever is written after the lease was given back is refused.
        await self._writer.flush()
        await self._lease.close()
        await self._writer.close()
        self._spill.close()
        await self._database.close()

    def observe(self, metrics: Metrics) -> None:
        """Show how the record fares."""
        metrics.observe("toolwright.record.queue.length", lambda: self._writer.queued)
        metrics.observe("toolwright.record.lost", lambda: self._writer.lost)
        metrics.observe("toolwright.record.spilled", lambda: self._spill.waiting)
        metrics.observe("toolwright.record.failing", lambda: float(self._writer.failing))
        metrics.observe("toolwright.audit.checkpoints.failed", lambda: self.trail.checkpointer.failed)
        metrics.observe("toolwright.recovery.settled", lambda: self._recovery.settled)
        metrics.observe("toolwright.tool_settings.age", lambda: self._settings_watch.freshness.age)

    async def _start(self) -> None:
        await self._writer.open()
        await self._lease.start()
        await self._settings_watch.load()
        self._start_listening()
        self.trail.start()
        self._retention.start()

    def _start_listening(self) -> None:
        freshness = self._settings_watch.freshness
        self.listen(TOPIC, freshness.wake)
        if self._notices is not None:
            self._notices.start()
        self._watching = asyncio.create_task(freshness.watch(), name="tool settings")

    async def _stop_listening(self) -> None:
        if self._notices is not None:
            await self._notices.close()
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def _recover(self, anew: bool) -> None:
        await self._spill.drain(self._verdicts.restore, self.store.forget)
        settled = self._recovery.settled
        await self._recovery.run(anew=anew)
        if self._recovery.settled > settled:
            # Their trail ends here, and this server signs for it.
            await self.trail.checkpointer.close_dead()
            self.on_recovered()

    def _emit(self, entry: Entry) -> None:
        self._writer.submit_unawaited(Change(entries=(entry,)))


def _nobody() -> None:
    """Until somebody wants to be told."""


IN_MEMORY = "memory:"
"""The `database_url` of a server that keeps nothing beyond its own life: for trials, tests and comparisons."""


class MemoryRecord:
    """What such a server has of a record."""

    trail = reconciler = joining = stop_orders = None

    def __init__(self, bounds: Bounds, logs: MemoryEventLogs, *, credits_required: bool = False) -> None:
        self.listen: Listen = deaf
        self.store = MemoryExecutionStore(bounds, logs, credits_required=credits_required)
        self.artifacts = MemoryArtifactRows(self.store.live)
        # There is no other server.
        self.leases = MemoryLeases()
        self.on_recovered: Callable[[], None] = _nobody
        self.ledger = Ledger(self.store.ledger)
        self.usage = self.store.usage
        self.keys = MemoryKeyStore()
        self.tool_settings = MemoryToolSettingsStore()

    async def close(self) -> None:
        """Nothing is left to be written."""

    def observe(self, metrics: Metrics) -> None:
        """Nothing can fail."""
        del metrics


def _key_file(settings: Settings) -> Path:
    if settings.audit_key_file:
        return Path(settings.audit_key_file)
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "toolwright" / "audit.key"


def _rules(settings: Settings, tables: SqlRetention, trail: AuditTrail, usage: SqlUsage) -> Sequence[Rule]:
    return (
        Rule("payloads", settings.retention_payloads_days, tables.payloads),
        Rule("executions", settings.retention_executions_days, tables.executions),
        Rule("audit entries", settings.retention_audit_days, trail.pruning.erase),
        Rule("usage figures", settings.retention_usage_days, usage.erase),
    )
