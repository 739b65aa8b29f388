"""A hold on an execution that goes on by itself, for work that outlives a call. It never stops one unless asked."""
# ruff: noqa: ASYNC109 - the time goes to gRPC, which tells the server; asyncio.timeout would only stop waiting

from typing import Protocol

from toolwright_client.model import Execution
from toolwright_client.result import Result
from toolwright_client.streams import EventStream


class Executions(Protocol):
    """What a handle asks of its client."""

    async def wait(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """The execution when it has ended."""
        ...

    async def get(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """The execution as it is now."""
        ...

    async def cancel(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """Asks it to stop."""
        ...

    def follow(self, execution_id: str, *, after_sequence: int = 0, timeout: float | None = None) -> EventStream:
        """Its events."""
        ...


class ExecutionHandle:
    """One execution, known by its id."""

    def __init__(self, client: Executions, execution_id: str) -> None:
        self.execution_id = execution_id
        self._client = client

    async def result(self, *, timeout: float | None = None, raise_on_failure: bool = True) -> Result:
        """Waits until it has ended, at most `timeout` seconds; without one as long as it takes."""
        result = Result(await self._client.wait(self.execution_id, timeout=timeout))
        return result.or_raise() if raise_on_failure else result

    async def describe(self) -> Execution:
        """How it stands now."""
        return await self._client.get(self.execution_id)

    def events(self, *, after_sequence: int = 0, timeout: float | None = None) -> EventStream:
        """Its events after the one with this number."""
        return self._client.follow(self.execution_id, after_sequence=after_sequence, timeout=timeout)

    async def cancel(self) -> Execution:
        """Asks it to stop, and answers how it stands."""
        return await self._client.cancel(self.execution_id)

    def __repr__(self) -> str:
        return f"ExecutionHandle({self.execution_id!r})"
