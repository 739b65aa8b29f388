"""The UsageService over real gRPC, called by whom the test says."""
# ruff: noqa: N802 - gRPC names the methods

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from toolwright.v1 import usage_pb2 as pb
from toolwright.v1 import usage_pb2_grpc
from toolwright_server.identity import Caller, Role
from toolwright_server.limits.model import Check, Kind, Reading
from toolwright_server.records.ledger.ledger import Ledger
from toolwright_server.records.ledger.service import UsageService
from toolwright_server.records.usage.usage import Usage
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.stores.memory.events import LogBounds, MemoryEventLogs
from toolwright_server.stores.memory.executions import Bounds, MemoryExecutionStore

from .rpc_serving import Watching

SERVICE = pb.DESCRIPTOR.services_by_name["UsageService"]
MICROS = 1_000_000

AGENT = Caller("acme", "key-1", "ann")
OPERATOR = Caller("acme", "key-3", "olga", Role.OPERATOR)
ADMIN = Caller("main", "key-4", "ada", Role.ADMIN)


async def readings(tenant: str, user: str) -> Sequence[Reading]:
    """Two limits, as the limits' engine tells them."""
    window = Check("crm", f"{{{tenant}}}:{user}", Kind.WINDOW, 100, f"user {user}", window_seconds=60.0)
    running = Check("running", f"{{{tenant}}}", Kind.RUNNING, 3, f"tenant {tenant}", shadow=True)
    return [Reading(window, 101, 23.5), Reading(running, 1, 0.0)]


def offered(tenant: str) -> Sequence[tuple[str, str]]:
    """The tools that a tenant is offered."""
    return [("crm.get", "crm"), ("crm.new", "crm"), ("kb.find", "kb")][: 2 if tenant == "zenith" else 3]


class As(UsageService):
    """The service, called by whom the test says."""

    caller = OPERATOR

    async def GetQuota(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().GetQuota(request, call)

    async def GrantCredits(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().GrantCredits(request, call)

    async def ListLedgerEntries(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().ListLedgerEntries(request, call)

    async def CheckLedger(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().CheckLedger(request, call)

    async def QueryUsage(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().QueryUsage(request, call)


class Serving:
    def __init__(self, folder: Any) -> None:
        logs = MemoryEventLogs(LogBounds(1 << 20, 1 << 20, folder))
        self.store = MemoryExecutionStore(Bounds(100, 1 << 20, 3_600.0), logs)
        self.service = As(Ledger(self.store.ledger), Usage(self.store.usage, offered), readings)
        self.address = ""
        self.stub: Any = None

    async def granted(self, amount: int = 5, name: str = "g-1", **more: Any) -> pb.GrantCreditsResponse:
        return await self.stub.GrantCredits(
            pb.GrantCreditsRequest(amount_micros=amount * MICROS, request_id=name, **more)
        )


@asynccontextmanager
async def serving(folder: Any) -> AsyncGenerator[Serving]:
    there = Serving(folder)
    server = RpcServer(RpcOptions(listen="127.0.0.1:0"), Watching())
    server.add(SERVICE, there.service)
    there.address = await server.start()
    try:
        async with grpc.aio.insecure_channel(there.address) as channel:
            there.stub = usage_pb2_grpc.UsageServiceStub(channel)
            yield there
    finally:
        await server.stop(0)
