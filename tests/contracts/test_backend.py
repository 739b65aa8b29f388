"""What every backend for Python functions promises, tried on all of them: the loop, threads, worker processes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

import orjson
import pytest
import pytest_asyncio
from opentelemetry import context as otel

from tests.unit.backends.rig import SPAN_ID, TRACE_ID, Call, Heard, Tools, process_backend, run
from tests.unit.backends.tools import SECRET
from toolwright_server.backends.python import PythonBackend
from toolwright_server.backends.thread import ThreadBackend
from toolwright_server.errors import Reason
from toolwright_server.execution.backend import Backend, Lost, NotSent, ToolFailed

pytestmark = pytest.mark.asyncio(loop_scope="module")

TAKES_OUTPUT_BACK = {"loop", "thread"}


class Subject:
    """One backend, and how its tools are named."""

    def __init__(self, kind: str, backend: Backend, tools: Tools) -> None:
        self.kind = kind
        self.backend = backend
        self._tools = tools

    def work(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Heard:
        return self._tools.work(f"{self.kind}_{name}", arguments, **options)

    async def run(self, heard: Heard) -> Any:
        # The executor makes the task, in this context.
        token = otel.attach(heard.work.context)
        try:
            task = run(self.backend, heard)
        finally:
            otel.detach(token)
        async with asyncio.timeout(30):
            return orjson.loads(await task)

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> Any:
        return await self.run(self.work(name, arguments, **options))

    async def failure(self, name: str, arguments: dict[str, Any], **options: Any) -> Exception:
        with pytest.raises((NotSent, ToolFailed, Lost)) as raised:
            await self.call(name, arguments, **options)
        return raised.value


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["loop", "thread", "process"])
async def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Subject]:
    kind: str = request.param
    tools = Tools(tmp_path_factory.mktemp("backend"))
    if kind == "loop":
        yield Subject(kind, PythonBackend(), tools)
    elif kind == "thread":
        threads = ThreadBackend(threads=2, queue_limit=4)
        yield Subject(kind, threads, tools)
        await threads.close()
    else:
        processes = await process_backend(tools)
        yield Subject(kind, processes, tools)
        await processes.close()


async def test_a_tool_gets_its_arguments_and_its_answer_comes_back_as_json(subject: Subject) -> None:
    arguments: dict[str, Any] = {"text": "ünï ✓", "whole": 2**63, "list": [1.5, None, {"deep": True}]}
    heard = subject.work("echo", arguments)
    assert await subject.run(heard) == arguments
    assert heard.starts == 1


async def test_types_that_json_does_not_have_are_converted_both_ways(subject: Subject) -> None:
    assert await subject.call("priced", {"amount": "1.20"}) == {"price": "1.20"}


async def test_a_megabyte_goes_in_and_comes_out_unchanged(subject: Subject) -> None:
    text = "0123456789abcdef" * 65_536
    assert await subject.call("echo", {"text": text}) == {"text": text}


async def test_arguments_that_the_functions_own_check_refuses_were_never_sent(subject: Subject) -> None:
    error = await subject.failure("even", {"value": 3})
    assert isinstance(error, NotSent)
    assert error.failure.reason is Reason.INVALID_ARGUMENTS
    assert [each.field for each in error.failure.violations] == ["value"]
    assert SECRET not in repr(error.failure)


async def test_reports_arrive_in_order_and_before_the_answer(subject: Subject) -> None:
    heard = subject.work("report")
    assert await subject.run(heard) == "done"
    assert heard.heard == [
        ("progress", 1.0, 2.0, "half"),
        ("output", "text ", "output"),
        ("output", b"\x00\xff", "raw"),
        ("log", "warning", "a lone ? surrogate"),
        ("progress", 2.0, None, ""),
    ]


async def test_every_one_of_thousands_of_reports_arrives(subject: Subject) -> None:
    heard = subject.work("count", {"steps": 5_000})
    assert await subject.run(heard) == 5_000
    assert [done for done, _, _ in heard.of("progress")] == [float(step) for step in range(1, 5_001)]


async def test_the_context_says_whose_call_it_is_and_how_long_it_may_take(subject: Subject) -> None:
    facts = await subject.call("facts", {}, seconds=20)
    assert 0 < facts.pop("remaining") <= 20
    assert 0 < facts.pop("deadline") <= 20.1
    assert facts == {
        "execution_id": "execution-1",
        "task_id": "task-1",
        "tenant": "acme",
        "user": "alice",
        "cancelled": False,
    }


async def test_progress_that_is_no_finite_number_is_the_tools_error(subject: Subject) -> None:
    refused = await subject.call("refuse_progress")
    assert len(refused) == 3
    assert all("done must be a" in text for text in refused)


async def test_what_a_tool_has_spent_is_told_at_once_and_also_when_it_fails(subject: Subject) -> None:
    heard = subject.work("spend", {"micros": [5, 0, 10**18]})
    assert await subject.run(heard) == []
    assert heard.charged == [5, 0, 10**15]
    broken = subject.work("spend", {"micros": [7, 8], "fails": True})
    with pytest.raises(ToolFailed):
        await subject.run(broken)
    assert broken.charged == [7, 8]


async def test_what_cannot_have_been_spent_is_the_tools_error(subject: Subject) -> None:
    heard = subject.work("spend", {"micros": [-1, 0.5, True]})
    refused = await subject.run(heard)
    assert refused == ["ValueError", "TypeError", "TypeError"]
    assert await subject.call("spend_unpriced") == "nothing can be charged: the tool declares no price_max"
    assert heard.charged == []


async def test_trace_deadline_and_execution_are_handed_on(subject: Subject) -> None:
    heard = subject.work("bind_trace", seconds=20)
    found = await subject.run(heard)
    assert 0 < found.pop("remaining") <= 20
    assert found.pop("execution_id") == "execution-1"
    if subject.kind == "process":  # the others share the executor's own span, which the rig does not make
        assert found == {"trace_id": TRACE_ID, "span_id": SPAN_ID, "sampled": True}


async def test_a_tools_own_words_reach_the_caller(subject: Subject) -> None:
    error = await subject.failure("fail", {"kind": "own words"})
    assert isinstance(error, ToolFailed)
    failure = error.failure
    assert (failure.reason, failure.message) == (Reason.TOOL_FAILED, "the address is taken")
    assert failure.words() == ("Somebody has that address.", "Use another address.")
    assert (failure.retryable, failure.retry_delay) == (True, 1.5)
    assert failure.metadata == {"field": "email", "tool_reason": "EMAIL_TAKEN"}


async def test_odd_words_are_made_fit_to_travel(subject: Subject) -> None:
    error = await subject.failure("fail", {"kind": "odd words"})
    assert isinstance(error, ToolFailed)
    assert len(error.failure.message) == 4_096
    assert error.failure.retry_delay is None
    assert error.failure.metadata == {"1": "2", "long": "y" * 1_024}
    orjson.dumps(error.failure.message)


@pytest.mark.parametrize(("kind", "seconds"), [("far delay", 86_400), ("huge delay", 86_400), ("past delay", 0)])
async def test_a_delay_that_no_message_can_hold_is_shortened(subject: Subject, kind: str, seconds: float) -> None:
    error = await subject.failure("fail", {"kind": kind})
    assert isinstance(error, ToolFailed)
    assert error.failure.retry_delay == seconds


async def test_an_exception_that_cannot_be_described_is_a_failure_like_any_other(subject: Subject) -> None:
    error = await subject.failure("fail", {"kind": "nameless"})
    assert isinstance(error, ToolFailed)
    assert error.failure.reason is Reason.TOOL_FAILED
    assert error.failure.message == f"suite.{subject.kind}_fail raised an exception that cannot be described"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("exception", "ValueError"),
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("generator exit", "GeneratorExit"),
        ("group", "BaseExceptionGroup"),
    ],
)
async def test_callers_hear_the_type_of_an_exception_and_operators_all_of_it(
    subject: Subject, caplog: pytest.LogCaptureFixture, kind: str, name: str
) -> None:
    with caplog.at_level(logging.ERROR, "toolwright.tools"):
        error = await subject.failure("fail", {"kind": kind})
    assert isinstance(error, ToolFailed)
    assert error.failure.message == f"suite.{subject.kind}_fail raised {name}"
    assert SECRET not in repr(error.failure)
    (record,) = caplog.records
    assert record.__dict__["execution_id"] == "execution-1"
    assert SECRET in caplog.text + str(record.__dict__.get("exception", ""))
    assert SECRET in error.failure.admin_message
    assert error.failure.admin_message in caplog.text + str(record.__dict__.get("exception", ""))


async def test_a_lack_of_memory_leaves_the_outcome_open(subject: Subject) -> None:
    error = await subject.failure("fail", {"kind": "memory"})
    assert isinstance(error, Lost)
    assert error.failure.reason is Reason.MEMORY_LIMIT


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("big integer", "at items[1].total is an integer beyond 64 bits"),
        ("nan", "at rate is a number that JSON does not have"),
        ("surrogate", "at names[1] is text that is not valid Unicode"),
        ("object", "at handle is of type object"),
        ("circle", "is nested deeper"),
        ("endless", "is of type count"),
        ("endless part", "at odd is an integer beyond 64 bits"),
    ],
)
async def test_an_answer_that_json_cannot_hold_is_refused_by_place_and_not_by_value(
    subject: Subject, kind: str, where: str
) -> None:
    error = await subject.failure("answer", {"kind": kind})
    assert isinstance(error, ToolFailed)
    assert error.failure.reason is Reason.OUTPUT_INVALID
    assert where in error.failure.message
    assert SECRET not in error.failure.message


async def test_nothing_is_an_answer_and_odd_keys_become_text(subject: Subject) -> None:
    assert await subject.call("answer", {"kind": "none"}) is None
    assert await subject.call("answer", {"kind": "keys"}) == {"1": "one", "set": ["a"]}


async def test_an_answer_that_its_schema_forbids_is_refused_by_place_and_not_by_value(
    subject: Subject, caplog: pytest.LogCaptureFixture
) -> None:
    error = await subject.failure("promised", {})
    assert isinstance(error, ToolFailed)
    assert error.failure.reason is Reason.OUTPUT_INVALID
    assert error.failure.message.endswith("breaks its output schema at numbers[1]")
    assert (await subject.failure("rate", {})).failure.reason is Reason.OUTPUT_INVALID  # type: ignore[attr-defined]
    assert len(caplog.records) == 2


async def test_an_iterator_is_no_answer_even_where_a_list_was_promised(subject: Subject) -> None:
    error = await subject.failure("endless", {})
    assert isinstance(error, ToolFailed)
    assert error.failure.reason is Reason.OUTPUT_INVALID
    assert error.failure.message.endswith("is of type count, which has no JSON form")


async def test_an_answer_beyond_its_limit_is_refused(subject: Subject) -> None:
    assert len(await subject.call("large", {"size": 998}, result_limit=1_000)) == 998
    error = await subject.failure("large", {"size": 999}, result_limit=1_000)
    assert isinstance(error, ToolFailed)
    assert error.failure.reason is Reason.OUTPUT_LIMIT


@pytest.mark.parametrize("swallow", [False, True])
async def test_output_beyond_its_limit_ends_the_call_whether_or_not_the_tool_minds(
    subject: Subject, swallow: bool
) -> None:
    arguments = {"chunk_bytes": 1_000, "chunks": 5_000, "swallow": swallow}
    error = await subject.failure("flood", arguments, output_limit=100_000)
    assert isinstance(error, ToolFailed if subject.kind in TAKES_OUTPUT_BACK else Lost)
    assert error.failure.reason is Reason.OUTPUT_LIMIT


async def test_a_large_chunk_arrives_in_pieces(subject: Subject) -> None:
    heard = subject.work("flood", {"chunk_bytes": 1_000_000, "chunks": 1})
    assert await subject.run(heard) == "all sent"
    assert sum(len(chunk) for chunk, _ in heard.of("output")) == 1_000_000
    assert max(len(chunk) for chunk, _ in heard.of("output")) <= 65_536


async def test_a_nested_call_gets_its_value(subject: Subject) -> None:
    assert await subject.call("nest", {"tool": "crm.find", "arguments": {"q": 1}}, call=_answering()) == {
        "tool": "crm.find",
        "arguments": {"q": 1},
    }


async def test_a_nested_call_that_fails_raises_and_unhandled_fails_its_caller(subject: Subject) -> None:
    error = await subject.failure("nest", {"tool": "nowhere", "arguments": {}})
    assert isinstance(error, ToolFailed)
    assert error.failure.message.endswith("failed: there is no tool 'nowhere'")
    assert error.failure.metadata == {"nested_reason": "TOOL_NOT_FOUND"}


async def test_calls_side_by_side_do_not_mix_their_answers(subject: Subject) -> None:
    answers = await asyncio.gather(*(subject.call("echo", {"number": number}) for number in range(6)))
    assert [answer["number"] for answer in answers] == list(range(6))


async def test_an_order_to_stop_a_nested_call_reaches_it(subject: Subject) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def wait(tool: str, arguments: Mapping[str, Any]) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    heard = subject.work("nest", {"tool": "x", "arguments": {}}, call=wait)
    task = run(subject.backend, heard)
    await asyncio.wait_for(begun.wait(), 20)
    heard.work.cancelled = True
    task.cancel()
    await asyncio.wait((task,), timeout=20)
    assert task.done()
    assert stopped.is_set()


def _answering() -> Call:
    async def call(tool: str, arguments: Mapping[str, Any]) -> Any:
        return {"tool": tool, "arguments": dict(arguments)}

    return call
