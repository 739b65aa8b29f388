"""The AuditService over real gRPC: who may see which records, and that an export can be verified."""
# ruff: noqa: N802 - gRPC names the methods

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolwright.v1 import audit_pb2 as pb
from toolwright.v1 import audit_pb2_grpc
from toolwright_server.commands import auditing
from toolwright_server.identity import Caller, Role
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.keys import SigningKey
from toolwright_server.records.audit.model import Entry, Kind
from toolwright_server.records.audit.offline.verifier import Verifier
from toolwright_server.records.audit.service import AuditService
from toolwright_server.records.audit.trail import AuditTrail
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.stores.memory.audit import MemoryAuditStore

from .rpc_serving import Watching, refused

pytestmark = pytest.mark.asyncio

SERVICE = pb.DESCRIPTOR.services_by_name["AuditService"]
KEY = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes(32)))
NOW = 1_800_000_000.0

AGENT = Caller("acme", "key-1", "ann")
DEPUTY = Caller("acme", "key-2", "dora", acts_for=frozenset({"ann"}))
OPERATOR = Caller("acme", "key-3", "olga", Role.OPERATOR)
ADMIN = Caller("main", "key-4", "ada", Role.ADMIN)


class As(AuditService):
    """The service, called by whom the test says."""

    caller = ADMIN

    async def ListAuditRecords(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().ListAuditRecords(request, call)

    async def ExportAuditRecords(self, request: Any, call: RpcCall, write: Any) -> None:
        call.caller = self.caller
        await super().ExportAuditRecords(request, call, write)

    async def VerifyAuditRecords(self, request: Any, call: RpcCall) -> Any:
        call.caller = self.caller
        return await super().VerifyAuditRecords(request, call)


class Serving:
    def __init__(self) -> None:
        self.chains = Chains("server-1", 1)
        self.store = MemoryAuditStore(self.chains)
        self.trail = AuditTrail(self.chains, KEY, self.store, emit=self.store.write, flush=self._flush)
        self.service = As(self.trail)
        self.address = ""
        self.stub: Any = None

    async def _flush(self) -> None:
        """Everything that is emitted is written at once."""

    def write(self, count: int, tenant: str = "acme", user: str = "ann") -> None:
        for number in range(count):
            facts = {"tool": "crm.contact.get"}
            self.store.write(Entry(Kind.CALL, tenant, "key-1", user, NOW + number, f"id-{number}", facts))

    async def listed(self, caller: Caller, **request: Any) -> list[str]:
        self.service.caller = caller
        answer = await self.stub.ListAuditRecords(pb.ListAuditRecordsRequest(**request))
        return [f"{record.tenant_id}/{record.user_id}" for record in answer.records]

    async def exported(self, caller: Caller, **request: Any) -> bytes:
        self.service.caller = caller
        return b"".join(
            [piece.lines async for piece in self.stub.ExportAuditRecords(pb.ExportAuditRecordsRequest(**request))]
        )


@asynccontextmanager
async def serving() -> AsyncGenerator[Serving]:
    there = Serving()
    server = RpcServer(RpcOptions(listen="127.0.0.1:0"), Watching())
    server.add(SERVICE, there.service)
    there.address = await server.start()
    try:
        async with grpc.aio.insecure_channel(there.address) as channel:
            there.stub = audit_pb2_grpc.AuditServiceStub(channel)
            yield there
    finally:
        await server.stop(0)


async def test_records_are_listed_page_by_page_with_all_that_they_say() -> None:
    async with serving() as there:
        there.write(5)
        there.service.caller = OPERATOR
        request = pb.ListAuditRecordsRequest(page_size=2, filter="kind = call")
        found: list[pb.AuditRecord] = []
        while True:
            page = await there.stub.ListAuditRecords(request)
            found += page.records
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert [record.execution_id for record in found] == ["id-4", "id-3", "id-2", "id-1", "id-0"]
        newest = found[0]
        assert newest.facts_json == '{"tool":"crm.contact.get"}'
        assert newest.record_time.ToMicroseconds() == round((NOW + 4) * 1e6)
        assert newest.previous == found[1].hash
        assert (newest.sequence, newest.kind, newest.principal) == (6, "call", "key-1")


async def test_agents_see_their_users_operators_their_tenant_and_admins_all() -> None:
    async with serving() as there:
        there.write(1)
        there.write(1, user="bob")
        there.write(1, tenant="zenith", user="zoe")
        assert await there.listed(AGENT) == ["acme/ann"]
        assert await there.listed(DEPUTY) == ["acme/ann"]
        assert set(await there.listed(OPERATOR, filter="kind = call")) == {"acme/ann", "acme/bob"}
        assert await there.listed(ADMIN, tenant_id="zenith", filter="kind = call") == ["zenith/zoe"]


@pytest.mark.parametrize("caller", [AGENT, OPERATOR], ids=["agent", "operator"])
async def test_another_tenants_records_are_forbidden(caller: Caller) -> None:
    async with serving() as there:
        there.service.caller = caller
        for call in (
            there.stub.ListAuditRecords(pb.ListAuditRecordsRequest(tenant_id="zenith")),
            there.stub.VerifyAuditRecords(pb.VerifyAuditRecordsRequest(tenant_id="zenith")),
            there.stub.VerifyAuditRecords(pb.VerifyAuditRecordsRequest(all_tenants=True)),
        ):
            assert (await refused(call)).code() is grpc.StatusCode.PERMISSION_DENIED
        for request in ({"tenant_id": "zenith"}, {"all_tenants": True}):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await there.exported(caller, **request)
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_agents_neither_export_nor_verify() -> None:
    async with serving() as there:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await there.exported(AGENT)
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
        there.service.caller = AGENT
        error = await refused(there.stub.VerifyAuditRecords(pb.VerifyAuditRecordsRequest()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("asked", [{"tenant_id": "acme"}, {"all_tenants": True}], ids=["tenant", "all"])
async def test_an_export_is_whole_and_verifies_and_is_a_record_itself(asked: dict[str, Any]) -> None:
    async with serving() as there:
        there.write(1_200)
        there.write(3, tenant="zenith")
        file = await there.exported(ADMIN, **asked)
        verifier = Verifier(KEY.trusted)
        for line in file.splitlines():
            verifier.feed(line)
        report = verifier.finish()
        assert report.valid, report.problems
        assert report.unsigned == 0
        assert (b'"tenant":"zenith"' in file) is ("all_tenants" in asked)
        (record,) = [
            record for record in there.store.rows[there.chains.heads()[-1].chain_id] if record.kind == "export"
        ]
        assert (record.tenant, record.principal) == ("main", "key-4")


async def test_tampering_is_told_as_data() -> None:
    async with serving() as there:
        there.write(5)
        there.service.caller = OPERATOR
        good = await there.stub.VerifyAuditRecords(pb.VerifyAuditRecordsRequest())
        assert (good.valid, good.entry_count, good.problem_count) == (True, 6, 0)
        (rows,) = there.store.rows.values()
        rows[3] = rows[3]._replace(user="bob")
        bad = await there.stub.VerifyAuditRecords(pb.VerifyAuditRecordsRequest())
        assert not bad.valid
        assert (bad.problems[0].fault, bad.problems[0].chain_id, bad.problems[0].sequence) == (
            "changed",
            rows[3].chain_id,
            4,
        )


@pytest.mark.parametrize(
    "asked",
    [{"filter": "nonsense ="}, {"filter": "labels.a = b"}, {"page_token": "abc"}, {"page_size": 1_001}],
    ids=str,
)
async def test_a_list_that_cannot_be_meant_is_refused(asked: dict[str, Any]) -> None:
    async with serving() as there:
        there.service.caller = OPERATOR
        error = await refused(there.stub.ListAuditRecords(pb.ListAuditRecordsRequest(**asked)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_trail_signs_while_it_runs_and_when_it_is_closed() -> None:
    there = Serving()
    there.trail.start()
    there.write(1)
    there.trail.refusals.refused(AGENT, "FORBIDDEN", "toolwright.v1.ToolExecution/Execute")
    await there.trail.close()
    *_, last = [there.store.kept[place] for place in sorted(there.store.kept)]
    assert b'"closing":true' in last.body
    assert last.time <= time.time()
    assert (await there.trail.exporter.verify(None)).valid


async def run(function: Any, *arguments: Any, **options: Any) -> int:
    """A command, in a thread: it blocks, and the server it asks runs here."""
    return await asyncio.to_thread(function, *arguments, **options)


async def test_the_commands_list_export_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as there:
        there.write(3)
        there.service.caller = OPERATOR
        assert await run(auditing.show, there.address, "", "kind = call", 2, as_json=True) == 0
        assert '"execution_id":"id-2"' in capsys.readouterr().out
        file = tmp_path / "trail.jsonl"
        assert await run(auditing.export, there.address, auditing.Scope(), file) == 0
        assert file.stat().st_mode & 0o777 == 0o600
        (tmp_path / "key.pub").write_bytes(KEY.public_pem)
        assert await run(auditing.verify_export, file, [tmp_path / "key.pub"], [], as_json=True) == 0
        assert await run(auditing.verify_server, there.address, auditing.Scope(), as_json=True) == 0
        assert capsys.readouterr().out.count('"valid":true') == 2
        file.write_bytes(file.read_bytes().replace(b"id-1", b"id-7"))
        assert await run(auditing.verify_export, file, [tmp_path / "key.pub"], [], as_json=True) == 1
        assert '"fault":"changed"' in capsys.readouterr().out
        (rows,) = there.store.rows.values()
        del rows[2]
        assert await run(auditing.verify_server, there.address, auditing.Scope(), as_json=True) == 1


async def test_an_export_that_is_refused_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving() as there:
        there.service.caller = AGENT
        assert await run(auditing.export, there.address, auditing.Scope(), tmp_path / "trail.jsonl") == 5
        assert os.listdir(tmp_path) == []  # noqa: PTH208 (in an async function, where ASYNC240 wants no Path)
        assert "FORBIDDEN" in capsys.readouterr().err


async def test_what_was_typed_wrongly_is_a_usage_error(tmp_path: Path) -> None:
    async with serving() as there:
        both = auditing.Scope(tenant="acme", everything=True)
        assert await run(auditing.verify_server, there.address, both, as_json=True) == 2
        assert await run(auditing.verify_export, tmp_path / "absent", [], [], as_json=True) == 2
        assert await run(auditing.verify_export, tmp_path / "absent", [tmp_path / "absent"], [], as_json=True) == 2
