"""Tools for trying backends: the same functions on the loop, in threads and in worker processes. Never shipped."""

import contextlib
import functools
import itertools
import math
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, cast

from opentelemetry import context as otel
from opentelemetry import trace
from pydantic import AfterValidator, BaseModel, Field

from toolwright_server import AsyncToolContext, Runs, SyncToolContext, ToolContext, ToolError, Toolkit

SECRET = "hunter2-c0ffee"
MIB = 1024**2

kit = Toolkit("suite")


def everywhere(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Declare a synchronous function three times: `suite.loop_…`, `suite.thread_…` and `suite.process_…`."""

    @functools.wraps(function)
    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    name = function.__name__
    kit.tool(f"loop_{name}", **options)(on_loop)
    kit.tool(f"thread_{name}", runs=Runs.THREAD, **options)(function)
    kit.tool(f"process_{name}", **options)(function)
    return function


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"odd numbers are for {SECRET}")
    return value


class Priced(BaseModel):
    """Named otherwise in JSON, and of a type that JSON does not have."""

    amount: Decimal = Field(serialization_alias="price")


@everywhere
def echo(**arguments: Any) -> Any:
    return arguments


@everywhere
def priced(amount: Decimal) -> Priced:
    return Priced(amount=amount)


@everywhere
def even(value: Annotated[int, AfterValidator(_even)]) -> int:
    return value


@everywhere
def report(context: ToolContext) -> str:
    context.progress(1, 2, "half")
    context.output("text ")
    context.output(b"\x00\xff", channel="raw")
    context.log("warning", "a lone \udc80 surrogate")
    context.progress(2.0)
    return "done"


@everywhere
def facts(context: ToolContext) -> dict[str, Any]:
    return {
        "execution_id": context.execution_id,
        "task_id": context.task_id,
        "tenant": context.caller.tenant,
        "user": context.caller.user,
        "remaining": context.remaining,
        "deadline": context.deadline.timestamp() - time.time(),
        "cancelled": context.cancelled,
    }


@everywhere
def refuse_progress(context: ToolContext) -> list[str]:
    refused: list[str] = []
    for done in (math.nan, math.inf, cast("float", "three")):
        try:
            context.progress(done)
        except (ValueError, TypeError) as error:
            refused.append(str(error))
    return refused


@functools.partial(everywhere, price_max=1)
def spend(context: ToolContext, micros: list[Any], fails: bool = False) -> list[str]:
    refused: list[str] = []
    for each in micros:
        try:
            context.charge(each)
        except (ValueError, TypeError) as error:
            refused.append(type(error).__name__)
    if fails:
        raise ToolError("spent in vain")
    return refused


@everywhere
def spend_unpriced(context: ToolContext) -> str:
    try:
        context.charge(1)
    except RuntimeError as error:
        return str(error)
    return "charged"


class Secretive(type):
    @property
    def __name__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError(SECRET)


class Nameless(Exception, metaclass=Secretive):
    """Even to ask for its name fails."""


@everywhere
def fail(kind: str) -> None:
    if kind == "own words":
        raise ToolError(
            "the address is taken",
            reason="EMAIL_TAKEN",
            user_message="Somebody has that address.",
            suggested_action="Use another address.",
            retryable=True,
            retry_delay=1.5,
            metadata={"field": "email"},
        )
    if kind == "odd words":
        raise ToolError(
            "\udc80" + "x" * 100_000, retry_delay=math.nan, metadata=cast("dict[str, str]", {1: 2, "long": "y" * 9_999})
        )
    if kind.endswith(" delay"):
        raise ToolError("later", retryable=True, retry_delay={"far": 1e300, "huge": 10**400, "past": -1e300}[kind[:-6]])
    errors: dict[str, BaseException] = {
        "nameless": Nameless(SECRET),
        "exception": ValueError(SECRET),
        "exit": SystemExit(SECRET),
        "interrupt": KeyboardInterrupt(SECRET),
        "generator exit": GeneratorExit(SECRET),
        "memory": MemoryError(SECRET),
        "group": BaseExceptionGroup(SECRET, [KeyboardInterrupt()]),
    }
    raise errors[kind]


@everywhere
def answer(kind: str) -> Any:
    circle: list[Any] = []
    circle.append(circle)
    return {
        "big integer": {"items": [1, {"total": 2**64}]},
        "nan": {"rate": math.nan, "none": None},
        "surrogate": {"names": ["fine", f"{SECRET}\udc80"]},
        "object": {"handle": object()},
        "circle": circle,
        "endless": itertools.count(),
        "endless part": {"odd": 2**70, "rows": [{"numbers": itertools.repeat(SECRET)}]},
        "none": None,
        "keys": {1: "one", "set": {"a"}},
    }[kind]


@everywhere
def promised() -> dict[str, list[int]]:
    return cast("dict[str, list[int]]", {"numbers": [1, SECRET]})


@everywhere
def endless() -> list[int]:
    return cast("list[int]", itertools.count())


@everywhere
def rate() -> float:
    return math.nan


@everywhere
def large(size: int) -> str:
    return "x" * size


@everywhere
def flood(context: ToolContext, chunk_bytes: int, chunks: int, swallow: bool = False) -> str:
    for _ in range(chunks):
        try:
            context.output("x" * chunk_bytes)
        except Exception:
            if not swallow:
                raise
    return "all sent"


@everywhere
def count(context: ToolContext, steps: int) -> int:
    for step in range(1, steps + 1):
        context.progress(step, steps)
    return steps


@kit.tool("loop_nest")
async def loop_nest(context: AsyncToolContext, tool: str, arguments: dict[str, Any]) -> Any:
    return await context.call(tool, arguments)


def nest(context: SyncToolContext, tool: str, arguments: dict[str, Any]) -> Any:
    return context.call(tool, arguments)


kit.tool("thread_nest", runs=Runs.THREAD)(nest)
kit.tool("process_nest")(nest)


@kit.tool("loop_bind_trace")
async def loop_bind_trace() -> dict[str, Any]:
    return bound_trace()


def bound_trace() -> dict[str, Any]:
    span = trace.get_current_span().get_span_context()
    deadline = cast("float", otel.get_value("toolwright-deadline"))
    return {
        "trace_id": f"{span.trace_id:032x}",
        "span_id": f"{span.span_id:016x}",
        "sampled": span.trace_flags.sampled,
        "remaining": deadline - time.monotonic(),
        "execution_id": otel.get_value("toolwright-execution-id"),
    }


kit.tool("thread_bind_trace", runs=Runs.THREAD)(bound_trace)
kit.tool("process_bind_trace")(bound_trace)


@kit.tool("thread_hold", runs=Runs.THREAD)
def thread_hold(context: SyncToolContext, path: str) -> str:
    """Says that it runs, and goes on until the file appears or the call is told to stop."""
    context.progress(1)
    while not Path(path).exists() and not context.cancelled:
        time.sleep(0.001)
    return "told to stop" if context.cancelled else "released"


@kit.tool("process_hold")
def process_hold(context: SyncToolContext, path: str = "/nonexistent") -> str:
    """Says who it is, and goes on until the file appears."""
    context.progress(os.getpid())
    while not Path(path).exists():
        time.sleep(0.001)
    return "released"


@kit.tool("process_burn")
def process_burn(context: SyncToolContext) -> None:
    context.progress(os.getpid())
    while True:
        pass


@kit.tool("process_leave_behind")
def process_leave_behind(context: SyncToolContext, seconds: float) -> list[int]:
    """Leaves a tree behind: a child, a grandchild whose parent is gone, and one in a session of its own."""
    shell = "sleep 300 >/dev/null & echo $!; setsid sleep 300 >/dev/null & echo $!"
    told = subprocess.run(["/bin/sh", "-c", shell], stdout=subprocess.PIPE, check=True)
    pids = [int(line) for line in told.stdout.split()]
    pids.append(subprocess.Popen(["sleep", "300"], start_new_session=True).pid)
    for pid in pids:
        context.progress(pid)
    context.log("info", "all there")
    time.sleep(seconds)
    return pids


@kit.tool("process_nested_leaf")
def process_nested_leaf() -> int:
    return 1


@kit.tool("process_pid")
def process_pid() -> int:
    return os.getpid()


@kit.tool("process_who")
def process_who() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "nice": os.nice(0),
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "stdin": sys.stdin.read(),
        "descriptors": sorted(str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()),
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        "threads": threading.active_count(),
        "terminate": str(signal.getsignal(signal.SIGTERM)),
        "random": __import__("random").random(),
    }


@kit.tool("process_disturb")
def process_disturb(how: str) -> int:
    """Changes something that the next call in this worker would notice."""
    if how == "folder":
        os.chdir("/")
    elif how == "umask":
        os.umask(0)
    elif how == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.05)
    elif how == "environment":
        os.environ["TOUCHED"] = "yes"
    elif how == "signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif how in ("limits", "descriptors", "every descriptor"):
        _use_up(how)
    elif how == "thread":
        threading.Thread(target=time.sleep, args=(300,), daemon=True).start()
    elif how == "fork" and os.fork() == 0:
        return -1  # a second process goes on with the server's code
    return os.getpid()


def _use_up(what: str) -> None:
    most, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    if what == "limits":
        resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, highest))
        return
    with contextlib.suppress(OSError):
        for _ in range(most // 2 if what == "descriptors" else most):
            os.dup(2)


@kit.tool("process_allocate", memory_limit_bytes=64 * MIB)
def process_allocate(size: int) -> int:
    return len(bytearray(size))


@kit.tool("process_die")
def process_die(how: str) -> None:
    if how == "exit":
        os._exit(7)
    number = signal.Signals[how]
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@kit.tool("process_scribble")
def process_scribble(context: SyncToolContext, what: str) -> str:
    """Writes where only the worker itself should: into its connection to the server."""
    texts = {
        "noise": b"\xff" * 4096,
        "no json": (4).to_bytes(4, "little") + (0).to_bytes(4, "little") + b"oops",
        "no array": (2).to_bytes(4, "little") + (0).to_bytes(4, "little") + b"{}",
        "unknown kind": (9).to_bytes(4, "little") + (0).to_bytes(4, "little") + b'["hello"]',
        "odd types": (20).to_bytes(4, "little") + (0).to_bytes(4, "little") + b'["progress","a",1,2]',
        "endless": (2).to_bytes(4, "little") + (2**32 - 1).to_bytes(4, "little") + b"[]",
    }
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and str(entry.readlink()).startswith("socket:"):
            if what == "close":
                os.close(int(entry.name))
            else:
                os.write(int(entry.name), texts[what])
    if what != "close":
        context.progress(1)
    time.sleep(300)
    return "unharmed"
