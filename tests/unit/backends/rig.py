"""What backend tests need: the suite's tools, works to run, and a reporter that writes down what it hears."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from opentelemetry.context import Context

from toolwright_server.backends.process import ProcessBackend, ProcessOptions
from toolwright_server.catalog.context import ToolCallError
from toolwright_server.catalog.discovery import Loaded, LoadPlan, load_again
from toolwright_server.execution.backend import OutputLimit, Work
from toolwright_server.execution.deadline import Deadline, DeadlineSource
from toolwright_server.identity import Caller

WAIT_SECONDS = 20.0
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
CALLER = Caller("acme", "key-1", "alice")

Call = Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, Any]]


def plan(data_dir: Path) -> LoadPlan:
    tools = Path(__file__).with_name("tools.py")
    return LoadPlan(toolkits={}, tools=[str(tools)], settings={}, data_dir=str(data_dir), folder=str(data_dir))


class Tools:
    """The suite's tools by name, and the plan from which another process loads the same."""

    def __init__(self, data_dir: Path) -> None:
        self.plan = plan(data_dir)
        loaded: Loaded = load_again(self.plan)
        self._tools = {tool.name: tool for tool in loaded.tools}

    def work(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        seconds: float = 30.0,
        nested: bool = False,
        call: Call | None = None,
        result_limit: int = 4 * 1024**2,
        output_limit: int = 64 * 1024**2,
    ) -> "Heard":
        deadline = Deadline(time.monotonic() + seconds, DeadlineSource.REQUEST, seconds)
        context = Context({"toolwright-deadline": deadline.at, "toolwright-execution-id": "execution-1"})
        heard = Heard(output_limit)
        heard.work = Work(
            execution_id="execution-1",
            task_id="task-1",
            tool=self._tools[f"suite.{name}"],
            arguments=arguments or {},
            caller=CALLER,
            deadline=deadline,
            reporter=heard,
            call=call or no_calls,
            context=context,
            headers=lambda: HEADERS,
            nested=nested,
            result_limit_bytes=result_limit,
            charge=heard.charged.append,
        )
        return heard


async def no_calls(tool: str, arguments: Mapping[str, Any]) -> Any:
    raise ToolCallError("TOOL_NOT_FOUND", f"there is no tool {tool!r}")


class Heard:
    """A Reporter, and the work whose reports it gets."""

    work: Work

    def __init__(self, output_limit: int) -> None:
        self.starts = 0
        self.charged: list[int] = []
        self.heard: list[tuple[Any, ...]] = []
        self._left = output_limit
        self._changed = asyncio.Event()

    def started(self) -> None:
        self.starts += 1
        self._changed.set()

    def progress(self, done: float, total: float | None, message: str) -> None:
        self._hear("progress", done, total, message)

    def output(self, chunk: str | bytes, channel: str) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise OutputLimit("the output grew beyond its limit")
        self._hear("output", chunk, channel)

    def log(self, level: str, text: str) -> None:
        self._hear("log", level, text)

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [each[1:] for each in self.heard if each[0] == kind]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was heard fulfils the condition."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def first_progress(self) -> int:
        await self.until(lambda: bool(self.of("progress")))
        return int(self.of("progress")[0][0])

    def _hear(self, *what: Any) -> None:
        self.heard.append(what)
        self._changed.set()


def run(backend: Any, heard: Heard) -> "asyncio.Task[bytes]":
    return asyncio.get_running_loop().create_task(backend.run(heard.work))


async def cancel(task: "asyncio.Task[bytes]", heard: Heard) -> None:
    """As the executor does it; returns when the work has ended."""
    heard.work.cancelled = True
    task.cancel()
    await asyncio.wait((task,), timeout=WAIT_SECONDS)
    assert task.done(), "the work has not ended"


async def process_backend(tools: Tools, kills: list[str] | None = None, **changed: Any) -> ProcessBackend:
    """A started one; `kills` collects the reasons of kills."""
    options = replace(ProcessOptions(workers=2, extra_workers=2, memory_limit_bytes=256 * 1024**2), **changed)
    backend = ProcessBackend(options, tools.plan, on_kill=([] if kills is None else kills).append)
    backend.spawn()
    await backend.start()
    return backend


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descriptors() -> int:
    return psutil.Process().num_fds()
