"""The UsageService: reads a request, asks the ledger, the limits or usage, writes the answer."""

from toolwright.v1 import usage_pb2 as pb
from toolwright_server.errors import invalid
from toolwright_server.identity.names import NAME_LIMIT, is_name
from toolwright_server.records.ledger import wire
from toolwright_server.records.ledger.ledger import Ledger
from toolwright_server.records.ledger.quota import Readings, holder, no_limits
from toolwright_server.records.ledger.store import LedgerQuery
from toolwright_server.records.usage import wire as usage_wire
from toolwright_server.records.usage.usage import Usage
from toolwright_server.rpc import lists
from toolwright_server.rpc.call import RpcCall

PAGE_DEFAULT = 100


class UsageService:
    """One method per rpc of toolwright.v1.UsageService; the proto says what each answers."""

    def __init__(self, ledger: Ledger, usage: Usage, readings: Readings = no_limits) -> None:
        self._ledger = ledger
        self._usage = usage
        self._readings = readings

    async def GetQuota(self, request: pb.GetQuotaRequest, call: RpcCall) -> pb.GetQuotaResponse:
        _named("user_id", request.user_id)
        _named("tenant_id", request.tenant_id)
        tenant, user = holder(request.user_id, request.tenant_id, call.caller)
        readings = await self._readings(tenant, user)
        balance = await self._ledger.balance(tenant)
        return pb.GetQuotaResponse(quotas=[wire.quota(each) for each in readings], balance=wire.balance(balance))

    async def GrantCredits(self, request: pb.GrantCreditsRequest, call: RpcCall) -> pb.GrantCreditsResponse:
        moved = await self._ledger.grant(wire.wanted(request), call.caller)
        assert moved.entry is not None
        balance = await self._ledger.balance(moved.entry.tenant)
        return pb.GrantCreditsResponse(
            entry=wire.entry(moved.entry), balance=wire.balance(balance), repeated_request=moved.repeated
        )

    async def ListLedgerEntries(
        self, request: pb.ListLedgerEntriesRequest, call: RpcCall
    ) -> pb.ListLedgerEntriesResponse:
        _named("tenant_id", request.tenant_id)
        _named("execution_id", request.execution_id)
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        tenant = self._ledger.tenant_of(request.tenant_id, call.caller)
        asked = (call.method, tenant, request.execution_id)
        before = wire.read_place(lists.page_start(request.page_token, *asked))
        rows = await self._ledger.list(LedgerQuery(tenant, size + 1, request.execution_id, before))
        more = lists.page_token(wire.place(rows[size - 1]), *asked) if len(rows) > size else ""
        return pb.ListLedgerEntriesResponse(entries=[wire.entry(row) for row in rows[:size]], next_page_token=more)

    async def CheckLedger(self, request: pb.CheckLedgerRequest, call: RpcCall) -> pb.CheckLedgerResponse:
        _named("tenant_id", request.tenant_id)
        report = await self._ledger.check(request.tenant_id, call.caller, everything=request.all_tenants)
        return wire.checked(report)

    async def QueryUsage(self, request: pb.QueryUsageRequest, call: RpcCall) -> pb.QueryUsageResponse:
        for field in ("tenant_id", "user_id", "agent_id", "tool", "category"):
            _named(field, getattr(request, field))
        size = lists.page_size(request.page_size, PAGE_DEFAULT)
        same = (call.method, usage_wire.sealed(request))
        start = lists.page_start(request.page_token, *same)
        answer = await self._usage.query(usage_wire.asked(request, size + 1, start), call.caller)
        rows = answer.rows[:size]
        more = lists.page_token(usage_wire.place(answer, rows[-1]), *same) if len(answer.rows) > size else ""
        return usage_wire.answer(answer, rows, more)


def _named(field: str, text: str) -> None:
    """Raise INVALID_ARGUMENTS for what can name nobody: it would be kept beside the limits, however long."""
    if text and not is_name(text):
        raise invalid(field, f"must be printable text of at most {NAME_LIMIT} characters")
