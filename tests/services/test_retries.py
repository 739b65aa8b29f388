"""Attempts over gRPC: how streams, answers and the client tell of them, on the loop and in worker processes."""

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.live import LiveServer, live_server
from toolwright_client import Client, Retried, ToolFailed
from toolwright_client.model import State

TOOLS = str(Path(__file__).with_name("retrying_tools.py"))
SECONDS = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    folder = tmp_path_factory.mktemp("retries")
    with live_server(folder, "--tools", TOOLS, env={"TOOLWRIGHT_TOOLKITS": "diagnostics"}) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Generator[Client]:
    with Client(server.address, timeout=SECONDS) as connected:
        yield connected


def test_a_stream_tells_of_each_attempt_and_the_answer_counts_them(client: Client) -> None:
    told = list(client.stream("retrying.flaky", {"key": uuid4().hex, "failures": 2}))
    retried = [each for each in told if isinstance(each, Retried)]
    assert [(each.attempt, each.failure.message) for each in retried] == [
        (1, "attempt 1 failed"),
        (2, "attempt 2 failed"),
    ]
    assert all(0.01 <= each.delay <= 0.02 for each in retried)
    ended = told[-1].raw.finished
    assert (ended.result.value_json, ended.usage.attempts) == ("3", 3)


def test_a_call_may_ask_for_no_second_attempt(client: Client) -> None:
    with pytest.raises(ToolFailed) as caught:
        client.execute("retrying.flaky", {"key": uuid4().hex, "failures": 1}, max_attempts=1)
    assert caught.value.metadata.get("attempts") is None
    assert caught.value.message == "attempt 1 failed"


@pytest.mark.parametrize("vouched", [True, False])
def test_a_side_effect_is_tried_again_only_when_nothing_was_sent(client: Client, vouched: bool) -> None:
    arguments = {"key": uuid4().hex, "failures": 1, "vouched": vouched}
    if vouched:
        assert client.execute("retrying.acting", arguments).value == 2
        return
    with pytest.raises(ToolFailed):
        client.execute("retrying.acting", arguments)


@pytest.mark.parametrize("vouched", [True, False])
def test_a_worker_process_tries_as_often_and_says_so(client: Client, vouched: bool) -> None:
    with pytest.raises(ToolFailed) as caught:
        client.execute("retrying.in_a_worker", {"vouched": vouched})
    assert caught.value.metadata["attempts"] == "4"
    assert caught.value.metadata["no_retry"] == "4 attempts were made, which is all that are allowed"
    execution = caught.value.execution
    assert execution is not None
    assert (execution.state, execution.usage.attempts) == (State.FAILED, 4)
    assert (caught.value.metadata.get("outcome") == "not_started") == vouched
