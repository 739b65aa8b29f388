"""The async client. It reads like the list of what a server can do; how it is done is in the modules that it names."""
# ruff: noqa: ASYNC109 - the time goes to gRPC, which tells the server; asyncio.timeout would only stop waiting

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import grpc

from toolwright.v1 import tool_catalog_pb2, tool_execution_pb2
from toolwright_client import wire
from toolwright_client.artifacts import ArtifactReader, save
from toolwright_client.batches import Batch, Terms
from toolwright_client.calls import Caller
from toolwright_client.connection import Connection, Tls
from toolwright_client.deadline import Budget, surrounding_deadline
from toolwright_client.errors import ConnectionLost, ExecutionNotFound, NotConnected, ToolwrightError
from toolwright_client.handles import ExecutionHandle
from toolwright_client.lookup import Lookup, outcome_unknown
from toolwright_client.model import UNKNOWN, Artifact, Effect, Execution, Tool, Validation
from toolwright_client.options import Arguments, Call, CallOptions, encoded, tool_call
from toolwright_client.proof import Token, is_local, proof_of
from toolwright_client.result import Result
from toolwright_client.retries import RetryPolicy
from toolwright_client.statuses import not_sent
from toolwright_client.streams import EventStream, Opening

PAGE_SIZE = 1000
FAREWELL_SECONDS = 2.0
FAREWELL_PAUSES = (0.05, 0.2, 0.5, 0)


class AsyncClient:
    """Calls the tools of one server. It connects when it is first used, and belongs to the event loop that used it.

    `timeout` is the default for one call, in seconds, all its tries included. `metadata` goes with every rpc, and so
    does the `api_key` or the `token` (a text, or a function that is asked for it before each rpc); neither is sent over
    a plain connection to another machine, unless `insecure`. Every method raises ToolwrightError, the constructor
    ValueError.
    """

    def __init__(
        self,
        target: str,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        tls: Tls | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        insecure: bool = False,
        timeout: float = 60.0,
        metadata: Mapping[str, str] | None = None,
        retries: RetryPolicy | None = None,
        channel_options: Sequence[tuple[str, str | int]] = (),
    ) -> None:
        policy = retries or RetryPolicy()
        credentials = tls.credentials() if tls is not None else credentials
        self.target = target
        self._timeout = timeout
        # A proxy of the environment is for other machines, and would read what is plain.
        direct = (("grpc.enable_http_proxy", 0),) if is_local(target) else ()
        self._connection = Connection(target, credentials, (*direct, *channel_options))
        proof = proof_of(target, api_key, token, encrypted=credentials is not None, insecure=insecure)
        self._caller = Caller(self._connection, policy, metadata or {}, proof)
        self._lookup = Lookup(self._caller)
        self._stopping: set[asyncio.Task[None]] = set()

    async def execute(
        self,
        tool: str,
        arguments: Arguments | None = None,
        *,
        raise_on_failure: bool = True,
        **options: Unpack[CallOptions],
    ) -> Result:
        """Runs one tool and answers when it has ended.

        A tool that ran and failed raises ToolFailed, or with `raise_on_failure=False` comes back as a Result whose
        `value` raises it. A call that failed raises in any case. Cancelling the task that waits stops the tool.
        """
        budget = self._budget(options.get("timeout"))
        opening = await self._opening(tool, arguments, options, budget)
        try:
            result = Result(await self._executed(opening, budget))
        except asyncio.CancelledError:
            if opening.stop_when_closed:
                self._stop(opening.call.request_id if opening.call else "")
            raise
        return result.or_raise() if raise_on_failure else result

    async def _executed(self, opening: Opening, budget: Budget) -> Execution:
        """The execution of a call that has ended. One whose answer is lost is asked for again by its request id."""
        call = opening.call
        assert call is not None
        try:
            answer = await self._caller.unary(
                self._connection.open().executions.Execute,
                tool_execution_pb2.ExecuteRequest(call=call),
                budget,
                request_id=call.request_id,
                metadata=opening.metadata,
            )
        except (ConnectionLost, NotConnected) as error:
            in_doubt = error.outcome == UNKNOWN and not self._connection.closed
            if in_doubt and not self._lookup.is_repeatable(call.tool, call.tool_version):
                raise outcome_unknown(error, "asking for it again failed") from error
            raise
        return wire.execution(answer.execution)

    async def batch(
        self,
        calls: Iterable[Call],
        *,
        max_parallel: int = 0,
        stop_on_failure: bool = False,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> tuple[Result, ...]:
        """Runs 1 to 100 calls, at most `max_parallel` at a time (0: as the server says), within one `timeout`.

        One Result for each call, in their order: what became of a call is never raised. With `stop_on_failure` no
        further call is begun once one has not succeeded. Cancelling the task that waits stops the tools.
        """
        budget = self._budget(timeout)
        openings = [
            await self._opening(each.tool, each.arguments, CallOptions(**each.options), budget) for each in calls
        ]
        made = [opening.call for opening in openings if opening.call is not None]
        terms = Terms(max_parallel, stop_on_failure, metadata or {})
        try:
            executions = await Batch(self._caller, self._lookup, budget, made, terms).executions()
        except asyncio.CancelledError:
            for opening in openings:
                if opening.stop_when_closed:
                    self._stop(opening.call.request_id if opening.call else "")
            raise
        return tuple(Result(execution) for execution in executions)

    def stream(self, tool: str, arguments: Arguments | None = None, **options: Unpack[CallOptions]) -> EventStream:
        """Runs one tool and streams what happens; the stream's `result()` is what `execute` would answer."""
        budget = self._budget(options.get("timeout"))
        opening = partial(self._opening, tool, arguments, options, budget)
        return EventStream(self._caller, self._lookup, budget, opening, self._stop)

    async def start(
        self, tool: str, arguments: Arguments | None = None, **options: Unpack[CallOptions]
    ) -> ExecutionHandle:
        """Starts one tool, detached from the caller, and answers as soon as it was accepted."""
        options["detach"] = True
        async with self.stream(tool, arguments, **options) as events:
            first = await anext(events)
        return self.handle(first.execution_id)

    def handle(self, execution_id: str) -> ExecutionHandle:
        """A hold on an execution that somebody started. Asks the server nothing."""
        return ExecutionHandle(self, execution_id)

    def follow(self, execution_id: str, *, after_sequence: int = 0, timeout: float | None = None) -> EventStream:
        """The events of an execution after the one with this number; -1: those from now on.

        Without `timeout` as long as the execution takes. Closing the stream leaves the execution alone.
        """
        opening = Opening(execution_id=execution_id, after_sequence=after_sequence)

        async def known() -> Opening:
            return opening

        return EventStream(self._caller, self._lookup, Budget.of(timeout), known, self._stop)

    async def wait(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """The execution when it has ended, whatever the outcome; without `timeout` as long as it takes."""
        return await self._ended(execution_id, Budget.of(timeout))

    async def _ended(self, execution_id: str, budget: Budget) -> Execution:
        opening = Opening(execution_id=execution_id, after_sequence=-1)

        async def known() -> Opening:
            return opening

        async with EventStream(self._caller, self._lookup, budget, known, self._stop) as events:
            result = await events.result(raise_on_failure=False)
        return result.execution

    async def get(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """One execution as it is now, whatever its outcome. Raises ExecutionNotFound."""
        return await self._lookup.by_id(execution_id, self._budget(timeout))

    async def find(self, request_id: str, *, timeout: float | None = None) -> Execution:
        """The newest execution that came of a call with this request id. Raises ExecutionNotFound."""
        return await self._lookup.by_request(request_id, self._budget(timeout))

    async def list(self, where: str = "", *, limit: int = 100, timeout: float | None = None) -> tuple[Execution, ...]:
        """The newest executions, at most `limit`, without their values; `where` as in `state = "FAILED"`."""
        budget = self._budget(timeout)
        found: tuple[Execution, ...] = ()
        request = tool_execution_pb2.ListExecutionsRequest(filter=where)
        while True:
            request.page_size = min(limit - len(found), PAGE_SIZE)
            answer = await self._caller.unary(self._connection.open().executions.ListExecutions, request, budget)
            found += tuple(wire.execution(each) for each in answer.executions)
            request.page_token = answer.next_page_token
            if not request.page_token or len(found) >= limit:
                return found

    async def cancel(self, execution_id: str, *, timeout: float | None = None) -> Execution:
        """Asks an execution to stop, and answers how it stands. Raises ExecutionNotFound."""
        return await self._lookup.cancel(execution_id, self._budget(timeout))

    def read_artifact(
        self, artifact: Artifact | str, *, offset: int = 0, limit: int | None = None, timeout: float | None = None
    ) -> ArtifactReader:
        """The bytes of an artifact (or of its id), to be iterated: from `offset`, at most `limit`.

        Without `timeout` as long as it takes. Raises ExecutionNotFound when there is none, or not any more.
        """
        artifact_id = artifact if isinstance(artifact, str) else artifact.artifact_id
        return ArtifactReader(self._caller, Budget.of(timeout), artifact_id, offset, limit)

    async def save_artifact(
        self, artifact: Artifact | str, path: str | Path, *, timeout: float | None = None
    ) -> Artifact:
        """Saves an artifact as the file `path`, which appears, or is replaced, when all bytes are there and right."""
        return await save(self.read_artifact(artifact, timeout=timeout), Path(path))

    async def tools(self, where: str = "", *, timeout: float | None = None) -> tuple[Tool, ...]:
        """The newest version of every tool, by name; `where` as in `category = "crm"`."""
        budget = self._budget(timeout)
        found: tuple[Tool, ...] = ()
        request = tool_catalog_pb2.ListToolsRequest(filter=where, page_size=PAGE_SIZE)
        while True:
            answer = await self._caller.unary(self._connection.open().catalog.ListTools, request, budget)
            found += tuple(wire.tool(each) for each in answer.tools)
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found

    async def tool(self, name: str, *, version: str = "", timeout: float | None = None) -> Tool:
        """One tool. Raises ToolNotFound."""
        return await self._lookup.tool(name, version, self._budget(timeout))

    async def validate(
        self, tool: str, arguments: Arguments | None = None, *, version: str = "", timeout: float | None = None
    ) -> Validation:
        """Whether the tool would accept the arguments, without running it."""
        request = tool_catalog_pb2.ValidateArgumentsRequest(
            tool=tool, tool_version=version, arguments_json=encoded(arguments)
        )
        rpc = self._connection.open().catalog.ValidateArguments
        answer = await self._caller.unary(rpc, request, self._budget(timeout))
        return Validation(answer.valid, tuple(wire.violation(each) for each in answer.violations))

    async def aclose(self) -> None:
        """Ends what is in flight and closes the connection."""
        if self._stopping:
            await asyncio.wait(self._stopping, timeout=FAREWELL_SECONDS)
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _budget(self, timeout: float | None) -> Budget:
        return Budget.of(self._timeout if timeout is None else timeout)

    async def _opening(self, tool: str, arguments: Arguments | None, options: CallOptions, budget: Budget) -> Opening:
        """The call as it is sent. One with a side effect outlives its connection, so that its answer can be had again;
        inside tools and handlers it ends with what surrounds it.
        """
        call = tool_call(tool, arguments, options)
        stop = False
        if options.get("detach") is None and surrounding_deadline() is None:
            try:
                effect = await self._lookup.effect(tool, call.tool_version, budget)
            except ToolwrightError as error:
                raise not_sent(error, call.request_id) from error
            stop = call.detach_on_disconnect = effect is Effect.SIDE_EFFECT
        return Opening(call=call, stop_when_closed=stop, metadata=options.get("metadata", {}))

    def _stop(self, request_id: str) -> None:
        """Stops a detached execution whose caller gave up, in the background, as far as that is possible."""
        task = asyncio.create_task(self._stopped(request_id), name=f"toolwright-client-stop-{request_id}")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stopped(self, request_id: str) -> None:
        budget = Budget(time.monotonic() + FAREWELL_SECONDS, inherited=False)
        for pause in FAREWELL_PAUSES:
            try:
                found = await self._lookup.by_request(request_id, budget)
                await self._lookup.cancel(found.execution_id, budget)
            except ExecutionNotFound:
                # The call may have arrived and not be in the record yet.
                await asyncio.sleep(pause)
            except ToolwrightError:
                return
            else:
                return
