"""The UsageService and its commands over real gRPC: who may see and give what, and how it is shown."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.contracts.executions import OWNER, row
from toolwright.v1 import usage_pb2 as pb
from toolwright_server.commands import crediting, ledger, quota
from toolwright_server.execution.model import State
from toolwright_server.identity import Caller, Role

from .rpc_serving import details, refused
from .usage_serving import ADMIN, AGENT, MICROS, OPERATOR, serving

pytestmark = pytest.mark.asyncio


async def test_a_quota_shows_every_limit_and_the_credits(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        before = await there.stub.GetQuota(pb.GetQuotaRequest())
        assert before.balance == pb.CreditBalance()
        await there.granted()
        await there.store.add(row("a", hold_micros=2 * MICROS))
        there.service.caller = AGENT
        asked = time.time()
        found = await there.stub.GetQuota(pb.GetQuotaRequest())
        assert found.balance == pb.CreditBalance(enabled=True, balance_micros=3 * MICROS, held_micros=2 * MICROS)
        window, running = found.quotas
        assert (window.rule, window.subject, window.kind) == ("crm", "user ann", pb.QUOTA_KIND_WINDOW)
        assert (window.used, window.limit, window.remaining, window.shadow) == (101, 100, 0, False)
        assert window.window.ToSeconds() == 60
        assert window.reset_time.ToMicroseconds() / 1e6 >= asked + 23.5
        assert (running.kind, running.remaining, running.shadow) == (pb.QUOTA_KIND_RUNNING, 2, True)
        assert not running.HasField("window")
        assert not running.HasField("reset_time")


@pytest.mark.parametrize("role", Role)
async def test_operators_see_the_quotas_of_their_tenant_and_admins_all(tmp_path: Any, role: Role) -> None:
    async with serving(tmp_path) as there:
        there.service.caller = Caller("acme", "key-1", "ann", role)
        answers = {}
        for user, tenant in (("bob", ""), ("bob", "acme"), ("bob", "globex"), ("", "globex"), ("", "acme")):
            asked = there.stub.GetQuota(pb.GetQuotaRequest(user_id=user, tenant_id=tenant))
            try:
                answers[user, tenant] = [quota.subject for quota in (await asked).quotas]
            except grpc.aio.AioRpcError as error:
                answers[user, tenant] = error.code().name
        operator, admin = role.includes(Role.OPERATOR), role is Role.ADMIN
        bob = ["user bob", "tenant acme"] if operator else "PERMISSION_DENIED"
        assert answers == {
            ("bob", ""): bob,
            ("bob", "acme"): bob,
            ("bob", "globex"): ["user bob", "tenant globex"] if admin else "PERMISSION_DENIED",
            ("", "globex"): "INVALID_ARGUMENT",
            ("", "acme"): ["user ann", "tenant acme"],
        }


async def test_a_quota_of_a_user_is_for_those_that_may_act_for_it(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        there.service.caller = AGENT
        error = await refused(there.stub.GetQuota(pb.GetQuotaRequest(user_id="bob")))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        there.service.caller = Caller("acme", "key-2", "dora", acts_for=frozenset({"bob"}))
        found = await there.stub.GetQuota(pb.GetQuotaRequest(user_id="bob"))
        assert found.quotas[0].subject == "user bob"


async def test_a_grant_is_made_once_and_its_answer_repeated(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        first = await there.granted(note="for March")
        assert not first.repeated_request
        assert (first.entry.account, first.entry.amount_micros, first.entry.note) == (
            "available",
            5 * MICROS,
            "for March",
        )
        assert (first.entry.user_id, first.entry.request_id, first.entry.transaction) == ("olga", "g-1", 1)
        again = await there.granted(note="for March")
        assert again.repeated_request
        assert again.entry == first.entry
        assert again.balance.balance_micros == 5 * MICROS
        error = await refused(there.granted(6))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert details(error)["ErrorInfo"].reason == "REQUEST_ID_REUSED"


async def test_agents_neither_grant_nor_list_nor_check_and_operators_keep_to_their_tenant(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        calls: dict[str, Callable[[str], Any]] = {
            "grant": lambda tenant: there.granted(tenant_id=tenant),
            "list": lambda tenant: there.stub.ListLedgerEntries(pb.ListLedgerEntriesRequest(tenant_id=tenant)),
            "check": lambda tenant: there.stub.CheckLedger(pb.CheckLedgerRequest(tenant_id=tenant)),
        }
        everything = pb.CheckLedgerRequest(all_tenants=True)
        for caller, tenant in ((AGENT, ""), (OPERATOR, "zenith")):
            there.service.caller = caller
            for call in calls.values():
                assert (await refused(call(tenant))).code() is grpc.StatusCode.PERMISSION_DENIED
            assert (await refused(there.stub.CheckLedger(everything))).code() is grpc.StatusCode.PERMISSION_DENIED
        there.service.caller = ADMIN
        await there.granted(tenant_id="zenith")
        assert (await calls["list"]("zenith")).entries[0].tenant_id == "zenith"
        found = await there.stub.CheckLedger(everything)
        assert (found.valid, found.tenant_count, found.transaction_count, found.entry_count) == (True, 1, 1, 2)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"amount_micros": 0}, "amount_micros"),
        ({"amount_micros": -1}, "amount_micros"),
        ({"amount_micros": 10**15 + 1}, "amount_micros"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"tenant_id": "*"}, "tenant_id"),
        ({"note": "x" * 257}, "note"),
        ({"note": "a\nb"}, "note"),
        ({"expire_time": {"seconds": 1}}, "expire_time"),
    ],
    ids=str,
)
async def test_a_grant_that_cannot_be_meant_is_refused(tmp_path: Any, wrong: dict[str, Any], field: str) -> None:
    async with serving(tmp_path) as there:
        there.service.caller = ADMIN
        asked: dict[str, Any] = {"amount_micros": 1, "request_id": "g", "tenant_id": "acme"} | wrong
        error = await refused(there.stub.GrantCredits(pb.GrantCreditsRequest(**asked)))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.field for each in details(error)["BadRequest"].field_violations] == [field]


async def test_entries_are_listed_page_by_page(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        for number in range(3):
            await there.granted(1 + number, f"g-{number}")
        request = pb.ListLedgerEntriesRequest(page_size=4)
        first = await there.stub.ListLedgerEntries(request)
        request.page_token = first.next_page_token
        rest = await there.stub.ListLedgerEntries(request)
        assert [entry.transaction for entry in (*first.entries, *rest.entries)] == [3, 3, 2, 2, 1, 1]
        assert not rest.next_page_token
        assert sum(entry.amount_micros for entry in (*first.entries, *rest.entries)) == 0
        assert first.entries[0].kind == pb.LEDGER_ENTRY_KIND_GRANT
        request.execution_id = "other"
        assert (await refused(there.stub.ListLedgerEntries(request))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def run(function: Any, *arguments: Any, **options: Any) -> int:
    """A command, in a thread: it blocks, and the server it asks runs here."""
    return await asyncio.to_thread(function, *arguments, **options)


async def test_the_commands_grant_list_check_and_show(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as there:
        wanted = crediting.Wanted(tenant="acme", amount="2.5", request_id="g", expires="2099-01-01")
        assert await run(crediting.grant, there.address, wanted, as_json=True) == 0
        made = json.loads(capsys.readouterr().out)
        assert (made["entry"]["amount_micros"], made["balance"]["balance_micros"]) == (2_500_000, 2_500_000)
        unnamed = crediting.Wanted(tenant="acme", amount="1")
        assert await run(crediting.grant, there.address, unnamed, as_json=True) == 0
        assert "repeat it with --request-id" in capsys.readouterr().err
        lasting = crediting.Wanted(tenant="acme", amount="1", days=2.0)
        assert await run(crediting.grant, there.address, lasting, as_json=True) == 0
        out, err = capsys.readouterr()
        hint = re.search(r"--request-id (\S+) --expires (\S+) instead of --days", err)
        assert hint is not None
        again = crediting.Wanted(tenant="acme", amount="1", request_id=hint[1], expires=hint[2])
        assert await run(crediting.grant, there.address, again, as_json=True) == 0
        repeated = json.loads(capsys.readouterr().out)
        assert repeated["repeated_request"]
        assert repeated["balance"]["balance_micros"] == json.loads(out)["balance"]["balance_micros"]
        execution = row("a", hold_micros=MICROS, caller=OWNER)
        await there.store.add(execution)
        assert await run(crediting.show, there.address, "", "a", 50, as_json=True) == 0
        assert [entry["kind"] for entry in json.loads(capsys.readouterr().out)] == ["HOLD", "HOLD"]
        assert await run(crediting.show, there.address, "", "", 1, as_json=True) == 0
        assert len(json.loads(capsys.readouterr().out)) == 1
        assert await run(quota.show, there.address, "", "", as_json=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["balance"]["held_micros"], found["quotas"][0]["window_seconds"]) == (MICROS, 60.0)
        assert await run(ledger.check, there.address, "", everything=False, as_json=True) == 0
        assert json.loads(capsys.readouterr().out)["hold_count"] == 1
        # An end that was never settled: what is held belongs to nobody.
        execution.state = State.SUCCEEDED
        assert await run(ledger.check, there.address, "", everything=False, as_json=True) == 1
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert (problem["fault"], problem["place"]) == ("orphan", "a")


async def test_what_was_typed_wrongly_is_a_usage_error(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as there:
        for wrong in (
            {"amount": "1e3"},
            {"amount": "-1"},
            {"amount": "0"},
            {"amount": "0.0000001"},
            {"days": 0.0},
            {"days": 40_000.0},
            {"days": 1.0, "request_id": "g"},
            {"days": 1.0, "expires": "2099-01-01"},
            {"expires": "2020-01-01"},
            {"expires": "tomorrow"},
            {"tenant": ""},
            {"note": "\udc80"},
        ):
            typed: dict[str, Any] = {"tenant": "acme", "amount": "1"} | wrong
            assert await run(crediting.grant, there.address, crediting.Wanted(**typed), as_json=True) == 2
        assert "write 5, or '0.25' as text" in capsys.readouterr().err
        there.service.caller = AGENT
        assert await run(crediting.show, there.address, "", "", 5, as_json=True) == 5
        assert "FORBIDDEN" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x" * 129, "a\0b", "two\nlines", "*"])
@pytest.mark.parametrize(
    ("rpc", "field"),
    [
        ("GetQuota", "user_id"),
        ("ListLedgerEntries", "tenant_id"),
        ("ListLedgerEntries", "execution_id"),
        ("CheckLedger", "tenant_id"),
    ],
)
async def test_what_can_name_nobody_is_refused_before_it_is_looked_for(
    tmp_path: Any, rpc: str, field: str, text: str
) -> None:
    async with serving(tmp_path) as there:
        request = getattr(pb, f"{rpc}Request")(**{field: text})
        error = await refused(getattr(there.stub, rpc)(request))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.field for each in details(error)["BadRequest"].field_violations] == [field]
