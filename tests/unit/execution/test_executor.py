"""One call from what was asked to what became of it, over a real event loop."""

import asyncio
import logging
import uuid
from typing import Any

import pytest
from opentelemetry import context as otel

from toolwright_server.catalog.context import AsyncToolContext, ToolError
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason, ToolwrightError
from toolwright_server.execution import canonical
from toolwright_server.execution.backend import Lost, NotSent, Work
from toolwright_server.execution.elsewhere.distant import Distant
from toolwright_server.execution.events import Logged, Progressed, StateChanged, Wrote
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.execution.propagation import DEADLINE_KEY, EXECUTION_KEY
from toolwright_server.execution.query import ExecutionQuery
from toolwright_server.identity import ANONYMOUS

from .house import House

pytestmark = pytest.mark.asyncio

READ, SAFE, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT
GONE = Failure(Reason.UPSTREAM_UNAVAILABLE, "the worker is gone")


async def add(a: int, b: int = 1) -> int:
    return a + b


def failed(execution: Execution) -> Failure:
    """The failure of an execution that must have one."""
    assert execution.failure is not None
    assert execution.result is None
    return execution.failure


async def recorded(house: House) -> int:
    return len(await house.store.list(ANONYMOUS, ExecutionQuery(1_000)))


async def test_of_arguments_that_no_request_id_protects_no_digest_is_kept(house: House) -> None:
    """Short ones could be guessed from it."""
    house.tool(add)
    assert (await house.run("add", {"a": 2})).digest == b""


async def test_a_call_that_succeeds_is_recorded_with_all_that_is_known_of_it(house: House) -> None:
    house.tool(add)
    facts = {"request_id": "r", "session_id": "s", "agent_id": "g", "labels": {"team": "x"}}
    execution = await house.run("add", {"a": 2}, **facts)
    assert (execution.state, execution.result, execution.failure) == (State.SUCCEEDED, b"3", None)
    assert (execution.stopped, execution.attempts) == (Stopped.YES, 1)
    assert (execution.tool, execution.tool_version, execution.caller) == ("tests.add", "1", ANONYMOUS)
    assert (execution.server_id, execution.epoch) == ("server-1", 7)
    assert {name: getattr(execution, name) for name in facts} == facts
    assert execution.digest == canonical.digest("tests.add", "1", "anonymous", b'{"a":2}')
    assert uuid.UUID(execution.execution_id).version == 7
    assert execution.task_id == execution.execution_id
    assert execution.parent_execution_id == ""
    assert execution.start_time is not None
    assert execution.end_time is not None
    assert execution.queue_seconds is not None
    assert execution.tool_seconds is not None
    assert await house.store.get(ANONYMOUS, execution.execution_id) is execution
    assert house.executor.running == 0


async def test_the_events_tell_the_states_and_what_the_tool_reported(house: House) -> None:
    async def report(context: AsyncToolContext) -> None:
        context.progress(1, 2, "half")
        context.output("text")
        context.output(b"\xff", channel="raw")
        context.log("warning", "careful")
        context.log("shout", "loud")

    house.tool(report)
    execution = await house.run("report")
    assert house.happenings(execution) == [
        StateChanged(State.QUEUED, State.RUNNING),
        Progressed(1, 2, "half"),
        Wrote("output", "text"),
        Wrote("raw", b"\xff"),
        Logged("warning", "careful"),
        Logged("info", "loud"),
        StateChanged(State.RUNNING, State.SUCCEEDED),
    ]
    # `finished`, which every stream ends with, is the one after the last in the log.
    assert execution.last_sequence == 8
    log = house.logs.find(execution.execution_id)
    assert log is not None
    assert log.closed


@pytest.mark.parametrize(
    ("arguments", "field"), [({}, "a"), ({"a": "x"}, "a"), ({"a": 1, "b": None}, "b"), ({"a": 1, "c": 1}, "c")]
)
async def test_arguments_that_break_the_schema_are_refused_and_nothing_is_recorded(
    house: House, arguments: dict[str, Any], field: str
) -> None:
    house.tool(add)
    with pytest.raises(ToolwrightError) as caught:
        await house.begin("add", arguments)
    failure = caught.value.failure
    assert (failure.reason, failure.metadata) == (Reason.INVALID_ARGUMENTS, {"outcome": "not_started"})
    assert [violation.field for violation in failure.violations] == [field]
    assert "tests.add" in failure.message
    assert await recorded(house) == 0


async def test_an_unknown_tool_is_refused_and_nothing_is_recorded(house: House) -> None:
    house.tool(add)
    with pytest.raises(ToolwrightError, match=r"did you mean tests\.add") as caught:
        await house.begin("ad")
    assert caught.value.failure.reason is Reason.TOOL_NOT_FOUND
    assert await recorded(house) == 0


async def test_a_tool_fails_with_words_of_its_own(house: House) -> None:
    async def taken() -> None:
        raise ToolError(
            "the email is taken", reason="EMAIL_TAKEN", user_message="Choose another.", metadata={"email": "a@b"}
        )

    house.tool(taken, SIDE)
    execution = await house.run("taken")
    assert (execution.state, execution.stopped) == (State.FAILED, Stopped.YES)
    failure = failed(execution)
    assert (failure.reason, failure.message) == (Reason.TOOL_FAILED, "the email is taken")
    assert failure.words()[0] == "Choose another."
    assert failure.metadata == {
        "email": "a@b",
        "tool_reason": "EMAIL_TAKEN",
        "execution_id": execution.execution_id,
    }


async def test_the_text_of_another_exception_stays_inside(house: House, caplog: pytest.LogCaptureFixture) -> None:
    async def broken() -> None:
        raise ValueError("password=hunter2")

    house.tool(broken, SIDE)
    execution = await house.run("broken")
    failure = failed(execution)
    assert (execution.state, failure.reason) == (State.FAILED, Reason.TOOL_FAILED)
    assert "ValueError" in failure.message
    assert "hunter2" not in str(failure)
    assert "hunter2" in caplog.text


async def test_an_answer_that_the_output_schema_forbids_is_a_failure(house: House) -> None:
    async def wrong() -> int:
        return "secret"  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    house.tool(wrong)
    failure = failed(await house.run("wrong"))
    assert failure.reason is Reason.OUTPUT_INVALID
    assert "secret" not in str(failure)


async def test_an_answer_and_an_output_beyond_the_limits_are_failures(house: House) -> None:
    async def large() -> str:
        return "x" * 1_000

    async def chatty(context: AsyncToolContext) -> None:
        while True:
            context.output("é" * 100)

    house.tool(large)
    house.tool(chatty)
    assert failed(await house.run("large")).reason is Reason.OUTPUT_LIMIT
    execution = await house.run("chatty")
    assert failed(execution).reason is Reason.OUTPUT_LIMIT
    # 1,000 bytes: five times 100 characters of two bytes each.
    assert len([what for what in house.happenings(execution) if isinstance(what, Wrote)]) == 5


@pytest.mark.parametrize(
    ("effect", "state", "outcome"),
    [(SIDE, State.OUTCOME_UNKNOWN, "unknown"), (SAFE, State.FAILED, "unknown"), (READ, State.FAILED, "none")],
)
async def test_what_a_lost_call_means_depends_on_its_effect(
    house: House, effect: Effect, state: State, outcome: str
) -> None:
    async def lose(work: Work) -> bytes:
        work.reporter.started()
        raise Lost(GONE)

    house.remote(lose, effect)
    execution = await house.run("remote")
    assert execution.state is state
    assert failed(execution).metadata["outcome"] == outcome
    assert failed(execution).reason is Reason.UPSTREAM_UNAVAILABLE


@pytest.mark.parametrize("effect", list(Effect))
async def test_what_was_not_sent_is_rejected_whatever_its_effect(house: House, effect: Effect) -> None:
    async def refuse(work: Work) -> bytes:
        raise NotSent(GONE)

    house.remote(refuse, effect)
    execution = await house.run("remote")
    assert (execution.state, execution.attempts) == (State.REJECTED, 0)
    assert (execution.start_time, execution.tool_seconds) == (None, None)
    assert execution.queue_seconds is not None
    assert failed(execution).metadata["outcome"] == "not_started"


async def test_a_defect_of_a_backend_is_internal_and_its_text_stays_inside(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def defect(work: Work) -> bytes:
        work.reporter.started()
        raise KeyError("secret of the backend")

    house.remote(defect, READ)
    execution = await house.run("remote")
    failure = failed(execution)
    assert (execution.state, failure.reason) == (State.FAILED, Reason.INTERNAL)
    assert "secret" not in str(failure)
    assert "secret of the backend" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


async def test_a_backend_that_forgets_to_say_that_it_started_does_not_hang_its_caller(house: House) -> None:
    async def hasty(work: Work) -> bytes:
        return b"1"

    house.remote(hasty, SIDE)
    execution = await house.run("remote")
    assert (execution.state, failed(execution).reason) == (State.FAILED, Reason.INTERNAL)
    assert failed(execution).metadata["outcome"] == "unknown"


async def test_what_a_tool_calls_finds_its_deadline_and_execution_in_the_context(house: House) -> None:
    seen: list[object] = []

    async def look() -> None:
        seen.extend((otel.get_value(DEADLINE_KEY), otel.get_value(EXECUTION_KEY)))

    house.tool(look)
    flight = await house.begin("look")
    await flight.ended(5.0)
    assert seen == [flight.deadline.at, flight.execution.execution_id]
    assert otel.get_value(EXECUTION_KEY) is None


async def test_who_attends_an_execution_finds_it_while_it_runs_here_and_its_row_afterwards(house: House) -> None:
    go = asyncio.Event()

    async def wait() -> None:
        await go.wait()

    house.tool(wait)
    flight = await house.begin("wait")
    assert house.executor.attend(flight.execution) is flight
    assert house.executor.running == 1
    go.set()
    await flight.ended(5.0)
    attended = house.executor.attend(flight.execution)
    assert isinstance(attended, Distant)
    assert await attended.ended(5.0)
    assert attended.answer == b"null"
