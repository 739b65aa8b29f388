"""QueryUsage and its commands over real gRPC: who sees what, in which order, on which page, and how it is shown."""

import asyncio
import csv
import io
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from typer.testing import CliRunner

from tests.contracts.executions import row
from toolwright.v1 import usage_pb2 as pb
from toolwright_server.commands import report, stats
from toolwright_server.commands.usage_figures import Wanted
from toolwright_server.execution.model import State
from toolwright_server.identity import Caller
from toolwright_server.main import app

from .rpc_serving import refused
from .usage_serving import ADMIN, AGENT, OPERATOR, Serving, serving

pytestmark = pytest.mark.asyncio

TOOL, USER, TENANT, HOUR = pb.USAGE_DIMENSION_TOOL, pb.USAGE_DIMENSION_USER, pb.USAGE_DIMENSION_TENANT, 3_600
BOB, ZOE = Caller("acme", "key-2", "bob"), Caller("zenith", "key-5", "zoe")


async def filled(there: Serving) -> None:
    """Five calls of crm.get by Ann, one slow and costly kb.find by Bob, one failure and one cancelled call by Zoe."""
    now = time.time()
    calls: list[tuple[Caller, str, State, float, int]] = [
        *[(AGENT, "crm.get", State.SUCCEEDED, 0.1, 0)] * 5,
        (BOB, "kb.find", State.SUCCEEDED, 4.0, 2_500_000),
        (ZOE, "crm.new", State.FAILED, 0.2, 0),
        (ZOE, "crm.new", State.CANCELLED, 0.2, 0),
    ]
    for number, (caller, tool, state, seconds, cost) in enumerate(calls):
        made = row(f"e{number}", caller=caller, tool=tool, category=tool.split(".")[0], create_time=now)
        await there.store.add(made)
        made.move(State.RUNNING)
        made.move(state)
        made.attempts, made.queue_seconds, made.tool_seconds, made.end_time = 1, 0.0, seconds, now + seconds
        made.cost_micros = cost
        await there.store.settle(made)


async def asked(there: Serving, *group_by: Any, **more: Any) -> pb.QueryUsageResponse:
    return await there.stub.QueryUsage(pb.QueryUsageRequest(group_by=group_by, **more))


async def tools(there: Serving, **more: Any) -> dict[str, int]:
    return {each.tool: each.figures.call_count for each in (await asked(there, TOOL, **more)).rows}


async def test_agents_see_a_user_of_theirs_operators_their_tenant_and_admins_all(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        assert await tools(there) == {"crm.get": 5, "kb.find": 1}
        assert await tools(there, user_id="bob") == {"kb.find": 1}
        there.service.caller = AGENT
        assert await tools(there) == {"crm.get": 5}
        there.service.caller = Caller("acme", "key-1", "ann", acts_for=frozenset({"bob"}))
        assert await tools(there, user_id="bob") == {"kb.find": 1}
        there.service.caller = ADMIN
        assert await tools(there) == {"crm.get": 5, "crm.new": 2, "kb.find": 1}
        assert await tools(there, tenant_id="zenith") == {"crm.new": 2}
        users = await asked(there, USER)
        assert {(each.tenant_id, each.user_id) for each in users.rows} == {
            ("acme", "ann"),
            ("acme", "bob"),
            ("zenith", "zoe"),
        }


@pytest.mark.parametrize(
    ("caller", "request_", "reason"),
    [
        (AGENT, pb.QueryUsageRequest(user_id="bob"), "FORBIDDEN"),
        (AGENT, pb.QueryUsageRequest(tenant_id="zenith"), "FORBIDDEN"),
        (OPERATOR, pb.QueryUsageRequest(tenant_id="zenith"), "FORBIDDEN"),
        (OPERATOR, pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_UNSPECIFIED]), "INVALID_ARGUMENTS"),
        (OPERATOR, pb.QueryUsageRequest(group_by=[TOOL, TOOL]), "INVALID_ARGUMENTS"),
        (OPERATOR, pb.QueryUsageRequest(group_by=[TOOL, USER], include_unused=True), "INVALID_ARGUMENTS"),
        (OPERATOR, pb.QueryUsageRequest(tool="a\nb"), "INVALID_ARGUMENTS"),
        (OPERATOR, pb.QueryUsageRequest(page_size=1_001), "INVALID_ARGUMENTS"),
        (
            OPERATOR,
            pb.QueryUsageRequest(start_time=Timestamp(seconds=HOUR), end_time=Timestamp(seconds=HOUR)),
            "INVALID_ARGUMENTS",
        ),
        (OPERATOR, pb.QueryUsageRequest(start_time=Timestamp(nanos=-1)), "INVALID_ARGUMENTS"),
        (OPERATOR, pb.QueryUsageRequest(end_time=Timestamp(seconds=1 << 62)), "INVALID_ARGUMENTS"),
    ],
)
async def test_what_is_not_for_the_caller_or_cannot_be_meant_is_refused(
    tmp_path: Any, caller: Caller, request_: pb.QueryUsageRequest, reason: str
) -> None:
    async with serving(tmp_path) as there:
        there.service.caller = caller
        error = await refused(there.stub.QueryUsage(request_))
        assert reason in str(error.details()) or reason in str(error.trailing_metadata())


async def test_all_of_time_is_a_period(tmp_path: Any) -> None:
    first, last = Timestamp(seconds=-62_135_596_800), Timestamp(seconds=253_402_300_799, nanos=999_999_999)
    async with serving(tmp_path) as there:
        await filled(there)
        found = await asked(there, start_time=first, end_time=last)
    assert found.total.call_count == 6
    assert (found.start_time, found.end_time) == (first, Timestamp(seconds=last.seconds + 1 - HOUR))


async def test_who_asks_for_another_tenant_is_told_so_and_not_about_itself(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        there.service.caller = AGENT
        error = await refused(there.stub.QueryUsage(pb.QueryUsageRequest(tenant_id="zenith")))
        assert error.details() == "the usage of tenant 'zenith' is not for this credential"


async def test_a_row_has_every_figure(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        there.service.caller = ADMIN
        found = await asked(there, TOOL, pb.USAGE_DIMENSION_HOUR, pb.USAGE_DIMENSION_DAY, tool="kb.find")
        (only,) = found.rows
        figures = only.figures
        assert (only.tool, only.category, only.start_time.seconds % HOUR) == ("kb.find", "kb", 0)
        assert found.start_time.seconds <= only.start_time.seconds < found.end_time.seconds
        assert (figures.call_count, figures.succeeded_count, figures.cost_micros) == (1, 1, 2_500_000)
        assert (figures.success_rate, figures.average_attempts) == (1.0, 1.0)
        assert figures.latency_p50.ToMicroseconds() / 1e6 == pytest.approx(4.0, rel=0.025)
        assert figures.latency_p50 == figures.latency_p99
        assert figures.average_tool_time.seconds == 4
        total = (await asked(there)).rows[0].figures
        assert total == (await asked(there, USER)).total
        assert (total.call_count, total.cancelled_count, total.failed_count) == (8, 1, 1)
        assert total.success_rate == pytest.approx(6 / 7)
        nothing = (await asked(there, tool="nothing")).rows[0].figures
        assert nothing == pb.UsageFigures()
        assert not nothing.HasField("success_rate")


async def test_rows_come_in_the_order_that_was_asked_for_page_by_page(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        there.service.caller = ADMIN
        first = {
            pb.USAGE_ORDER_UNSPECIFIED: "crm.get",
            pb.USAGE_ORDER_MOST_CALLS: "crm.get",
            pb.USAGE_ORDER_FEWEST_CALLS: "kb.find",
            pb.USAGE_ORDER_MOST_FAILURES: "crm.new",
            pb.USAGE_ORDER_SLOWEST: "kb.find",
            pb.USAGE_ORDER_MOST_COST: "kb.find",
        }
        for order, tool in first.items():
            whole = [each.tool for each in (await asked(there, TOOL, order=order)).rows]
            assert (whole[0], sorted(whole)) == (tool, ["crm.get", "crm.new", "kb.find"])
            pages, token = list[str](), ""
            while not pages or token:
                page = await asked(there, TOOL, order=order, page_size=1, page_token=token)
                pages += [each.tool for each in page.rows]
                token = page.next_page_token
                assert page.total.call_count == 8
            assert pages == whole
        token = (await asked(there, TOOL, page_size=1)).next_page_token
        error = await refused(there.stub.QueryUsage(pb.QueryUsageRequest(group_by=[USER], page_token=token)))
        assert "page_token" in str(error.details())


async def test_tools_that_nobody_called_are_told_to_whom_may_call_them(tmp_path: Any) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        assert await tools(there, include_unused=True) == {"crm.get": 5, "crm.new": 0, "kb.find": 1}
        assert await tools(there, include_unused=True, category="kb") == {"kb.find": 1}
        there.service.caller = Caller("zenith", "key-9", "zed", scopes=("crm.new",))
        assert await tools(there, include_unused=True) == {"crm.new": 0}


async def test_stats_are_json_or_csv_for_programs(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        there.service.caller = ADMIN

        async def shown(wanted: Wanted, **form: bool) -> str:
            asked = {"as_csv": False, "as_json": False, **form}
            assert await asyncio.to_thread(stats.show, there.address, wanted, 2, **asked) == 0
            return capsys.readouterr().out

        found = json.loads(await shown(Wanted(by=("tool",), order="calls", since="1h")))
        assert [(each["tool"], each["call_count"]) for each in found["rows"]] == [("crm.get", 5), ("crm.new", 2)]
        assert (found["rows"][0]["success_rate"], found["total"]["call_count"]) == (1.0, 8)
        assert found["rows"][0]["latency_p50_seconds"] == pytest.approx(0.1, rel=0.025)
        lines = list(csv.DictReader(io.StringIO(await shown(Wanted(by=("tenant", "user")), as_csv=True))))
        assert [(each["tenant"], each["user"], each["call_count"]) for each in lines] == [
            ("acme", "ann", "5"),
            ("acme", "bob", "1"),
        ]
        wrong = Wanted(by=("tools",))
        assert await asyncio.to_thread(stats.show, there.address, wrong, 2, as_csv=False, as_json=True) == 2
        assert "--by tools: write one of tool, category" in capsys.readouterr().err


async def test_a_report_is_a_document_or_one_table(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as there:
        await filled(there)
        assert await asyncio.to_thread(report.show, there.address, Wanted(), 1, as_csv=False) == 0
        text = capsys.readouterr().out
        heads = [line for line in text.splitlines() if line.startswith("#")]
        assert heads[1:] == [
            "## By tool",
            "## By day",
            "## Slowest tools",
            "## Most costly tools",
            "## Rarely used tools (at most 1 calls)",
        ]
        assert "| crm.get | 5 | 100.0% | 0 | 99.6 ms |" in text
        rarely = text.split("## Rarely")[1].splitlines()[4:]
        assert [line.split(" | ")[0] for line in rarely] == ["| crm.new", "| kb.find"]
        assert await asyncio.to_thread(report.show, there.address, Wanted(), 1, as_csv=True) == 0
        lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert (lines[0]["section"], lines[0]["call_count"]) == ("Total", "6")
        assert ("Most costly tools", "kb.find", "2500000") in [
            (each["section"], each["name"], each["cost_micros"]) for each in lines
        ]


async def test_the_commands_of_the_document_do_what_they_are_for(tmp_path: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "usage.md").read_text()
    commands = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)[0].splitlines()
    async with serving(tmp_path) as there:
        await filled(there)
        for command in commands:
            typed = shlex.split(command)[1:]
            address = {"TOOLWRIGHT_ADDRESS": there.address}
            ended = await asyncio.to_thread(CliRunner().invoke, app, typed, env=address)
            assert (ended.exit_code, ended.stderr) == (0, ""), command
            if "csv" in command:
                heads, *lines = ended.stdout.splitlines()
                assert "call_count" in heads.split(",")
                assert lines
            elif "report" in command:
                assert ended.stdout.startswith("# Usage from ")
            else:
                found = json.loads(ended.stdout)
                assert found["total"]["call_count"] == 6
                assert ("crm.new" in {each["tool"] for each in found["rows"]}) == ("--unused" in command)
        ended = await asyncio.to_thread(CliRunner().invoke, app, ["report", "--week", "--since", "1d"])
        assert ended.exit_code == 2
