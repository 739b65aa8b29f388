"""Tool settings in the table `tool_settings`. What was changed, and by whom, is in the trail with the same commit."""

import os
import time as clocks
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.catalog.settings_model import ToolSettings
from toolwright_server.catalog.settings_store import TOPIC
from toolwright_server.errors import ToolwrightError
from toolwright_server.execution.evidence import payload_digest
from toolwright_server.identity import Caller
from toolwright_server.records.audit.model import Entry, Fact, Kind
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import not_started, unavailable
from toolwright_server.stores.sql.notifying import notify
from toolwright_server.stores.sql.tables import tool_settings
from toolwright_server.stores.sql.writer import Writer

# The settings as they are now, which fields are different, who did it, and the salt of the digests.
Evidence = Callable[[ToolSettings, Sequence[str], Caller, bytes], Sequence[Entry]]

# Of PostgreSQL's advisory lock; 63 bits of SHA-256("toolwright tool settings"), so that nobody else has it.
_LOCK: Final = 7_468_199_185_133_330_983
_C: Final = tool_settings.c
_KEPT: Final = ("enabled", "hidden", "timeout_seconds", "price_micros")


def settings_entries(settings: ToolSettings, fields: Sequence[str], by: Caller, salt: bytes) -> Sequence[Entry]:
    """One entry in the trail of the tenant: what is different, of arguments a digest."""
    facts: dict[str, Fact] = {
        "action": "updated",
        "tool": settings.tool,
        "fields": " ".join(fields),
        "etag": settings.etag,
        "by_tenant": by.tenant,
    }
    for field in fields:
        value = getattr(settings, field)
        if field.endswith("_arguments"):
            facts[field] = payload_digest(salt, field, value) if value else None
        elif field == "timeout_seconds":
            facts["timeout_ms"] = None if value is None else round(value * 1000)
        elif field == "limits":
            facts[field] = " ".join(f"{kind}={number}" for kind, number in sorted(value.items()))
        else:
            facts[field] = value
    return (Entry(Kind.SETTINGS, settings.tenant, by.principal, by.user, settings.update_time, facts=facts),)


class SqlToolSettingsStore:
    """A ToolSettingsStore on SQLite or PostgreSQL. `clock`: seconds since the epoch; a salt is 16 random bytes."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        evidence: Evidence = settings_entries,
        clock: Callable[[], float] = clocks.time,
        salts: Callable[[], bytes] = lambda: os.urandom(16),
    ) -> None:
        self._database = database
        self._writer = writer
        self._evidence = evidence
        self._clock = clock
        self._salts = salts

    async def get(self, tenant: str, tool: str) -> ToolSettings | None:
        found = await self._read(sa.select(tool_settings).where(_C.tenant == tenant, _C.tool == tool))
        return found[0] if found else None

    async def list(self, after_revision: int, limit: int) -> Sequence[ToolSettings]:
        query = sa.select(tool_settings).where(_C.revision > after_revision)
        return await self._read(query.order_by(_C.revision).limit(limit))

    async def put(self, settings: ToolSettings, fields: Sequence[str], by: Caller) -> ToolSettings | None:
        found: list[ToolSettings] = []
        time, salt = self._clock(), self._salts()

        def work(connection: sa.Connection) -> Sequence[Entry]:
            found.clear()
            if connection.dialect.name == "postgresql":
                # Until the commit: revisions become visible in their order, and who looks for later ones misses none.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            current = sa.select(_C.revision).where(_C.tenant == settings.tenant, _C.tool == settings.tool)
            if (connection.scalar(current) or 0) != settings.revision:
                return ()
            revision = (connection.scalar(sa.select(sa.func.max(_C.revision))) or 0) + 1
            kept = replace(settings, revision=revision, update_time=time, updater=by.principal)
            _write(connection, kept, salt, is_new=not settings.revision)
            notify(connection, TOPIC)
            found.append(kept)
            return self._evidence(kept, fields, by, salt)

        try:
            await self._writer.submit(Change(work=work))
        except Unkept as error:
            raise _doubtful(error) if error.in_doubt else not_started(error) from error
        return found[0] if found else None

    async def _read(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[ToolSettings]:
        try:
            async with self._database.reading() as connection:
                return [_settings(row) for row in await connection.execute(query)]
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise not_started(error) from error


def _doubtful(error: Unkept) -> ToolwrightError:
    failure = unavailable(error).failure
    return ToolwrightError(
        failure.reason, failure.message, retry_delay=failure.retry_delay, metadata={"outcome": "unknown"}
    )


def _write(connection: sa.Connection, settings: ToolSettings, salt: bytes, *, is_new: bool) -> None:
    values: dict[str, Any] = {
        "revision": settings.revision,
        "update_time": settings.update_time,
        "updater": settings.updater,
    }
    body = {name: getattr(settings, name) for name in _KEPT} | {
        "fixed_arguments": settings.fixed_arguments.decode(),
        "default_arguments": settings.default_arguments.decode(),
        "limits": dict(settings.limits),
        # Of the digests in the audit trail: overwritten with the arguments, after which those say nothing any more.
        "salt": salt.hex(),
    }
    values["body"] = orjson.dumps(body)
    key = {"tenant": settings.tenant, "tool": settings.tool}
    if is_new:
        connection.execute(sa.insert(tool_settings).values(**key, **values))
    else:
        connection.execute(sa.update(tool_settings).where(*(_C[name] == key[name] for name in key)).values(**values))


def _settings(row: sa.Row[*tuple[Any, ...]]) -> ToolSettings:
    body: dict[str, Any] = orjson.loads(bytes(row.body))
    return ToolSettings(
        tenant=row.tenant,
        tool=row.tool,
        **{name: body[name] for name in _KEPT},
        fixed_arguments=body["fixed_arguments"].encode(),
        default_arguments=body["default_arguments"].encode(),
        limits=body["limits"],
        revision=row.revision,
        update_time=row.update_time,
        updater=row.updater,
    )
