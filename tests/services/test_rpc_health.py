"""grpc.health.v1 over real gRPC: Check, List, Watch, and what a drain makes of them."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from toolwright.v1 import tool_execution_pb2 as pb

from .rpc_serving import SECONDS, SERVICE, Hold, Playing, details, refused, serving

HEALTH: Any = health_pb2
SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3
SERVICES = [
    "",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    SERVICE.full_name,
]


def _stub(channel: grpc.aio.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub
    return stub(channel)


async def _next(watch: Any) -> int:
    answer = await asyncio.wait_for(watch.read(), SECONDS)
    return answer.status


@pytest.mark.asyncio
@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_and_the_whole_are_checked(service: str) -> None:
    async with serving(Playing()) as there:
        answer = await _stub(there.channel).Check(HEALTH.HealthCheckRequest(service=service))
        assert answer.status == SERVING
        assert there.seen.calls == [], "health checks are not seen"


@pytest.mark.asyncio
async def test_a_service_that_does_not_exist_is_not_found_and_watched_as_unknown() -> None:
    async with serving(Playing()) as there:
        error = await refused(_stub(there.channel).Check(HEALTH.HealthCheckRequest(service="nobody")))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        watch = _stub(there.channel).Watch(HEALTH.HealthCheckRequest(service="nobody"))
        assert await _next(watch) == UNKNOWN
        watch.cancel()


@pytest.mark.asyncio
async def test_all_services_are_listed() -> None:
    if not hasattr(HEALTH, "HealthListRequest"):
        pytest.skip("the installed grpcio-health-checking has no List")
    async with serving(Playing()) as there:
        answer = await _stub(there.channel).List(HEALTH.HealthListRequest())
        assert {name: status.status for name, status in answer.statuses.items()} == dict.fromkeys(SERVICES, SERVING)


@pytest.mark.asyncio
async def test_a_watch_sees_each_change_once_and_ends_at_the_drain() -> None:
    async with serving(Playing()) as there:
        watch = _stub(there.channel).Watch(HEALTH.HealthCheckRequest(service=SERVICE.full_name))
        assert await _next(watch) == SERVING
        there.server.health.set_health(False, "the event loop was blocked")
        assert await _next(watch) == NOT_SERVING
        there.server.health.set_health(False, "it still is")
        await asyncio.to_thread(there.server.health.set_health, True, "it runs again")
        assert await _next(watch) == SERVING
        there.server.health.begin_drain()
        assert await _next(watch) == NOT_SERVING
        there.server.health.set_health(True, "too late")
        there.server.health.end_watches()
        error = await refused(watch.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert details(error)["ErrorInfo"].reason == "SERVER_DRAINING"
        assert not there.server.health.serving


@pytest.mark.asyncio
async def test_a_watch_that_comes_after_the_drain_gets_no_answer_before_its_end() -> None:
    async with serving(Playing()) as there:
        there.server.health.begin_drain()
        there.server.health.end_watches()
        error = await refused(_stub(there.channel).Watch(HEALTH.HealthCheckRequest()).read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        answer = await _stub(there.channel).Check(HEALTH.HealthCheckRequest())
        assert answer.status == NOT_SERVING


@pytest.mark.asyncio
async def test_health_is_answered_when_no_more_calls_are() -> None:
    hold = Hold(pb.ExecuteResponse())
    async with serving(Playing(Execute=hold), concurrent_calls_limit=1) as there:
        call = there.stub.Execute(pb.ExecuteRequest())
        await hold.arrived(1)
        error = await refused(there.stub.Execute(pb.ExecuteRequest()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await _stub(there.channel).Check(HEALTH.HealthCheckRequest())).status == SERVING
        hold.go.set()
        await call


@pytest.mark.asyncio
async def test_a_malformed_health_request_is_refused_clearly() -> None:
    async with serving(Playing()) as there:
        unary: Any = there.channel.unary_unary
        error = await refused(unary("/grpc.health.v1.Health/Check")(b"\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.asyncio
async def test_stalled_and_vanished_watchers_hold_up_nobody() -> None:
    async with serving(Playing()) as there:
        watches = [_stub(there.channel).Watch(HEALTH.HealthCheckRequest()) for _ in range(50)]
        for watch in watches:
            assert await _next(watch) == SERVING
        for watch in watches[:25]:
            watch.cancel()
        there.server.health.set_health(False, "for the test")
        for watch in watches[25:]:
            assert await _next(watch) == NOT_SERVING
            watch.cancel()
