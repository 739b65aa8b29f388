"""The AuditService: reads a request, asks the trail, writes the answer."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from toolwright.v1 import audit_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError, invalid
from toolwright_server.identity import ANY_USER, Caller, Role
from toolwright_server.records.audit import wire
from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.records.audit.store import QUERY_FIELDS, AuditQuery
from toolwright_server.records.audit.trail import AuditTrail
from toolwright_server.rpc import filters, lists
from toolwright_server.rpc.call import RpcCall

PAGE_DEFAULT = 100

_FIELDS: Final = {name: filters.TIME if name == "time" else filters.TEXT for name in QUERY_FIELDS}


class AuditService:
    """One method per rpc of toolwright.v1.AuditService; the proto says what each answers."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

    async def ListAuditRecords(self, request: pb.ListAuditRecordsRequest, call: RpcCall) -> pb.ListAuditRecordsResponse:
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        tenant = _tenant(call.caller, request.tenant_id)
        asked = (call.method, tenant, request.filter)
        query = AuditQuery(
            tenant=tenant,
            limit=size + 1,
            users=_users(call.caller),
            condition=filters.parse(request.filter, _FIELDS, labels=False),
            before=wire.read_place(lists.page_start(request.page_token, *asked)),
        )
        rows = await self._trail.store.list(query)
        more = lists.page_token(wire.place(rows[size - 1]), *asked) if len(rows) > size else ""
        return pb.ListAuditRecordsResponse(records=[wire.record(row) for row in rows[:size]], next_page_token=more)

    async def ExportAuditRecords(
        self,
        request: pb.ExportAuditRecordsRequest,
        call: RpcCall,
        write: Callable[[pb.ExportAuditRecordsResponse], Awaitable[None]],
    ) -> None:
        tenant = _scope(call.caller, request.tenant_id, everything=request.all_tenants)
        caller = call.caller
        facts = {"of": tenant}
        self._trail.emit(
            Entry(Kind.EXPORT, caller.tenant, caller.principal, caller.user, self._trail.clock(), facts=facts)
        )
        await self._trail.caught_up()
        async with aclosing(self._trail.exporter.export(tenant)) as pieces:
            async for piece in pieces:
                await write(pb.ExportAuditRecordsResponse(lines=piece))

    async def VerifyAuditRecords(
        self, request: pb.VerifyAuditRecordsRequest, call: RpcCall
    ) -> pb.VerifyAuditRecordsResponse:
        tenant = _scope(call.caller, request.tenant_id, everything=request.all_tenants)
        await self._trail.caught_up()
        return wire.verified(await self._trail.exporter.verify(tenant))


def _tenant(caller: Caller, asked: str) -> str:
    """Whose records. Raises FORBIDDEN."""
    if asked in {"", caller.tenant}:
        return caller.tenant
    if caller.role is not Role.ADMIN:
        raise ToolwrightError(Reason.FORBIDDEN, "the records of another tenant are for admins")
    return asked


def _scope(caller: Caller, asked: str, *, everything: bool) -> str | None:
    """Whose trail; None: everybody's. Raises FORBIDDEN or INVALID_ARGUMENTS."""
    caller.require(Role.ADMIN if everything else Role.OPERATOR)
    if everything and asked:
        raise invalid("tenant_id", "must be absent with all_tenants")
    return None if everything else _tenant(caller, asked)


def _users(caller: Caller) -> frozenset[str] | None:
    """Whose records the caller sees within the tenant; None: everybody's."""
    if caller.role.includes(Role.OPERATOR) or ANY_USER in caller.acts_for:
        return None
    return caller.acts_for | {caller.user}
