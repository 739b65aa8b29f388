"""The tasks in which executions walk through their corridors, and in which calls begin that nobody may wait for.

Never decides anything: what becomes of a corridor that breaks off is told to whoever made this.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from toolwright_server.execution.attempt import scope_of
from toolwright_server.execution.flight import Flight

T = TypeVar("T")


class Walks:
    """`broke_off` settles a flight whose corridor did not reach its end by a defect of ours: nobody waits in vain."""

    def __init__(self, broke_off: Callable[[Flight, BaseException], Awaitable[None]]) -> None:
        self._broke_off = broke_off
        self._loop: asyncio.AbstractEventLoop | None = None
        # The loop keeps only weak references to its tasks.
        self._walking: set[asyncio.Task[None]] = set()
        self._beginning: set[asyncio.Task[Any]] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop; kept, because asking for it is a system call each time (Python 3.11)."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def begin(self, entering: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Let a call begin that goes on without its caller."""
        task = self.loop.create_task(entering)
        self._beginning.add(task)
        task.add_done_callback(self._begun)
        return task

    def _begun(self, task: "asyncio.Task[Any]") -> None:
        self._beginning.discard(task)
        if not task.cancelled():
            task.exception()  # a refusal that nobody may be waiting for any more

    def walk(self, flight: Flight, steps: Coroutine[Any, Any, None]) -> None:
        """Let a task of its own take the execution through the rest of its corridor."""
        execution = flight.execution
        task = flight.task = flight.loop.create_task(
            self._to_the_end(flight, steps),
            # By which the watchdog names the tool that holds the loop.
            name=f"tool:{execution.tool}:{execution.execution_id}",
            context=scope_of(flight.context, execution.trace_id, execution.execution_id),
        )
        self._walking.add(task)

    def give_up(self, task: "asyncio.Task[None]") -> None:
        """Somebody else holds the task from now on."""
        self._walking.discard(task)

    async def _to_the_end(self, flight: Flight, steps: Coroutine[Any, Any, None]) -> None:
        task = flight.task
        try:
            await steps
        except BaseException as error:
            if flight.task is task and not flight.finished:
                await self._broke_off(flight, error)
            if not isinstance(error, Exception):
                raise
        finally:
            if task is not None:
                self._walking.discard(task)
