"""The limits that come with a server, over gRPC: they bite, say when to come back, and hold for one user alone."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.live import LiveServer, execute_request, live_server
from tests.refused import unpacked
from toolwright.v1 import tool_execution_pb2_grpc, usage_pb2, usage_pb2_grpc

pytestmark = pytest.mark.asyncio

# In a category that no rule names.
TOOLS = Path(__file__).parents[1] / "acting_tools.py"
SECONDS = 30.0
CRM_CALLS = 100
WINDOW_SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("limits")
    env = {"TOOLWRIGHT_LIMITS_FILE": "", "TOOLWRIGHT_TOOLKITS": "crm,diagnostics"}
    with live_server(folder, "--tools", str(TOOLS), env=env) as server:
        yield server


@pytest_asyncio.fixture
async def stub(server: LiveServer) -> AsyncGenerator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield tool_execution_pb2_grpc.ToolExecutionStub(channel)


def search(user: str) -> Any:
    return execute_request("crm.contact.search", {"query": "ada"}, user_id=user)


async def test_the_101st_crm_call_of_a_user_in_a_minute_is_refused_with_the_right_delay(stub: Any) -> None:
    began = time.monotonic()
    call = stub.Execute(search("ada"), timeout=SECONDS)
    await call
    first = time.monotonic()
    assert dict(tuple(await call.trailing_metadata()))["ratelimit"] == '"user-minute-crm";r=99;t=0'
    await asyncio.gather(*(stub.Execute(search("ada"), timeout=SECONDS) for _ in range(CRM_CALLS - 1)))
    sent = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Execute(search("ada"), timeout=SECONDS)
    ended = time.monotonic()
    refused = unpacked(caught.value)
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert refused.metadata["outcome"] == "not_started"
    # One more fits a minute after the first was let in, which was between `began` and `first`.
    assert refused.retry_seconds is not None
    assert WINDOW_SECONDS - (ended - began) - 0.001 <= refused.retry_seconds <= WINDOW_SECONDS - (sent - first) + 0.001
    assert refused.user_message.startswith("100 crm calls a minute are used up; try again in ")
    # Nobody else is refused, and nothing else of hers.
    await stub.Execute(search("grace"), timeout=SECONDS)
    await stub.Execute(execute_request("diagnostics.echo", {}, user_id="ada"), timeout=SECONDS)


async def test_a_quota_shows_also_what_holds_in_a_category_that_no_rule_names(server: LiveServer, stub: Any) -> None:
    await stub.Execute(execute_request("acting.read", {"key": "a"}, user_id="alan"), timeout=SECONDS)
    async with grpc.aio.insecure_channel(server.address) as channel:
        usage: Any = usage_pb2_grpc.UsageServiceStub(channel)
        found = await usage.GetQuota(usage_pb2.GetQuotaRequest(user_id="alan"), timeout=SECONDS)
    minutes = {quota.rule: (quota.used, quota.limit) for quota in found.quotas if quota.used}
    assert minutes == {"user-minute": (1, 30)}
