"""Circuits over gRPC: what callers, metrics, the log and the console's users are told. The upstream is real."""

import asyncio
from collections.abc import Generator

import pytest

from tests.live import LiveServer, eventually
from tests.torture.probing import Probing, four
from tests.upstream import Upstream
from tests.valkeys import Server
from toolwright_client import CircuitOpen, Client, Retried, RetryPolicy, ToolFailed

SECONDS = 30.0
NEVER_AGAIN = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module")
def probing(tmp_path_factory: pytest.TempPathFactory, valkey: Server) -> Generator[Probing]:
    """Two servers on one Valkey, and what their tools call."""
    valkey.run("FLUSHALL")
    with four(tmp_path_factory.mktemp("circuits"), valkey, count=2) as running:
        yield running


@pytest.fixture
def server(probing: Probing) -> LiveServer:
    return probing.servers["server-0"]


@pytest.fixture
def upstream(probing: Probing) -> Upstream:
    return probing.upstream


@pytest.fixture
def client(server: LiveServer) -> Generator[Client]:
    with Client(server.address, timeout=SECONDS, retries=NEVER_AGAIN) as connected:
        yield connected


def test_a_caller_is_told_when_to_come_back_and_what_to_do_instead(
    server: LiveServer, client: Client, upstream: Upstream
) -> None:
    path = upstream.path("told")
    path.ratio = 1.0
    for _ in range(4):
        with pytest.raises(ToolFailed):
            client.execute("upstream.told")
    with pytest.raises(CircuitOpen) as caught:
        client.execute("upstream.told")
    refused = caught.value
    assert (refused.code.name, refused.outcome, len(path.seen)) == ("UNAVAILABLE", "not_started", 4)
    assert refused.retry_delay is not None
    assert 0 < refused.retry_delay <= 1.2
    # There is no `upstream.twin`.
    assert refused.suggested_action.startswith("Call upstream.other instead, or this tool again in ")
    assert refused.metadata["alternatives"] == "upstream.other"
    shown = server.http("/metrics")[1]
    assert 'toolwright_circuit_state{toolwright_circuit_name="told"} 2' in shown
    assert 'toolwright_circuit_state{toolwright_circuit_name="other"} 0' in shown
    assert server.metric("toolwright_circuit_refused_total") >= 1
    path.ratio = 0.0
    eventually(lambda: _answers(client), SECONDS, 0.05)
    eventually(lambda: _said(server)[-1] == "the circuit of told is closed again")
    assert _said(server)[0] == "the circuit of told is open for 1.0 s: of 4 calls 4 failed and 0 were slow"
    assert _said(server)[-2] == "the circuit of told is half-open: one call tries whether all is well"


def _said(server: LiveServer) -> list[str]:
    return [line["message"] for line in server.lines() if line.get("circuit") == "told"]


def _answers(client: Client) -> bool:
    try:
        return client.execute("upstream.told").value == "ok"
    except CircuitOpen:
        return False


def test_a_call_that_failed_waits_for_the_circuit_within_its_deadline(client: Client, upstream: Upstream) -> None:
    path = upstream.path("waiting")
    path.ratio = 1.0
    for _ in range(3):
        with pytest.raises(ToolFailed):
            client.execute("upstream.waiting", max_attempts=1)
    told = list[str]()
    last = None
    for each in client.stream("upstream.waiting"):
        told += [each.failure.reason] if isinstance(each, Retried) else []
        if "CIRCUIT_OPEN" in told:
            path.ratio = 0.0
        last = each
    assert told == ["TOOL_FAILED", "CIRCUIT_OPEN"], told
    assert last is not None
    assert (last.raw.finished.result.value_json, last.raw.finished.usage.attempts) == ('"ok"', 2)


def test_failures_in_worker_processes_count_too(client: Client) -> None:
    for _ in range(4):
        with pytest.raises(ToolFailed):
            client.execute("upstream.in_a_worker", {"healthy": False})
    with pytest.raises(CircuitOpen):
        client.execute("upstream.in_a_worker", {"healthy": True})


def test_half_open_lets_one_of_many_callers_of_two_servers_through(probing: Probing) -> None:
    """A sample of tests/torture/test_half_open.py."""

    async def sampled() -> list[int]:
        await probing.open()
        return [await probing.burst(100, heals=heals) for heals in (False, True)]

    assert asyncio.run(sampled()) == [1, 1]
