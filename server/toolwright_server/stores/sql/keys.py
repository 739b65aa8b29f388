"""API keys in the table `api_keys`. What was changed, and by whom, is in the audit trail with the same commit."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from toolwright_server.identity import Caller, Role
from toolwright_server.identity.keys import ApiKey
from toolwright_server.keys.store import TOPIC
from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.stores.sql.change import Change, Unkept
from toolwright_server.stores.sql.engine import Database
from toolwright_server.stores.sql.faults import not_started
from toolwright_server.stores.sql.notifying import notify
from toolwright_server.stores.sql.tables import api_keys
from toolwright_server.stores.sql.writer import Writer

# What happened to a key ("created", "revoked"), the key, who did it, and when: the audit entries of that.
Evidence = Callable[[str, ApiKey, Caller, float], Sequence[Entry]]

_C: Final = api_keys.c


def key_entries(action: str, key: ApiKey, by: Caller, time: float) -> Sequence[Entry]:
    """One entry in the trail of the key's tenant."""
    facts = {
        "action": action,
        "key_id": key.key_id,
        "key_principal": key.principal,
        "key_user": key.user,
        "key_role": key.role.value,
        "key_scopes": " ".join(key.scopes),
        "by_tenant": by.tenant,
    }
    return (Entry(Kind.KEY, key.tenant, by.principal, by.user, time, facts=facts),)


class SqlKeyStore:
    """A KeyStore on SQLite or PostgreSQL."""

    def __init__(self, database: Database, writer: Writer, evidence: Evidence = key_entries) -> None:
        self._database = database
        self._writer = writer
        self._evidence = evidence

    async def add(self, key: ApiKey, by: Caller) -> None:
        statement: tuple[sa.Executable, dict[str, Any]] = (sa.insert(api_keys), _values(key))
        entries = self._evidence("created", key, by, key.create_time)
        await self._keep(Change(statements=(statement,), entries=entries))

    async def get(self, key_id: str) -> ApiKey | None:
        found = await self._read(sa.select(api_keys).where(_C.key_id == key_id))
        return found[0] if found else None

    async def list(self, tenant: str | None, after: str, limit: int) -> Sequence[ApiKey]:
        query = sa.select(api_keys).where(_C.key_id > after).order_by(_C.key_id).limit(limit)
        return await self._read(query if tenant is None else query.where(_C.tenant == tenant))

    async def revoke(self, key_id: str, time: float, by: Caller) -> ApiKey | None:
        found: list[ApiKey] = []

        def work(connection: sa.Connection) -> Sequence[Entry]:
            one = sa.select(api_keys).where(_C.key_id == key_id)
            update = sa.update(api_keys).where(_C.key_id == key_id, _C.revoke_time.is_(None))
            changed = connection.execute(update.values(revoke_time=time)).rowcount
            found[:] = [_key(row) for row in connection.execute(one)]
            if not changed or not found:
                return ()
            notify(connection, TOPIC)
            return self._evidence("revoked", found[0], by, time)

        await self._keep(Change(work=work))
        return found[0] if found else None

    async def revoked_since(self, time: float) -> Sequence[str]:
        return [row.key_id for row in await self._rows(sa.select(_C.key_id).where(_C.revoke_time >= time))]

    async def _keep(self, change: Change) -> None:
        try:
            await self._writer.submit(change)
        except Unkept as error:
            raise not_started(error) from error

    async def _read(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[ApiKey]:
        return [_key(row) for row in await self._rows(query)]

    async def _rows(self, query: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        try:
            async with self._database.reading() as connection:
                return (await connection.execute(query)).all()
        except (OSError, TimeoutError, SQLAlchemyError) as error:
            raise not_started(error) from error


def _values(key: ApiKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "principal": key.principal,
        "user_id": key.user,
        "role": key.role.value,
        "acts_for": sorted(key.acts_for),
        "scopes": list(key.scopes),
        "secret_hash": key.secret_hash,
        "create_time": key.create_time,
        "expire_time": key.expire_time,
        "revoke_time": key.revoke_time,
        "label": key.label,
    }


def _key(row: sa.Row[*tuple[Any, ...]]) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        tenant=row.tenant,
        principal=row.principal,
        user=row.user_id,
        role=Role(row.role),
        acts_for=frozenset(row.acts_for),
        scopes=tuple(row.scopes),
        secret_hash=bytes(row.secret_hash),
        create_time=row.create_time,
        expire_time=row.expire_time,
        revoke_time=row.revoke_time,
        label=row.label,
    )
