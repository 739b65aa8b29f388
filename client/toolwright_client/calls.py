"""Sends rpcs: metadata and trace, one deadline, and again when that may help. What they mean is not its business."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import TypeVar, cast

import grpc
from opentelemetry import propagate

from toolwright_client.connection import Connection
from toolwright_client.deadline import Budget
from toolwright_client.errors import ToolwrightError
from toolwright_client.model import UNKNOWN, Failure
from toolwright_client.proof import Proof
from toolwright_client.retries import RetryPolicy, Tries
from toolwright_client.statuses import CONNECTION_LOST, after_doubt, error_of, error_of_rpc

Request = TypeVar("Request")
Response = TypeVar("Response")

# Servers send a heartbeat at least every 15 s: a stream that is silent for longer than this is dead.
SILENCE_SECONDS = 40.0


class Caller:
    """Sends over one connection."""

    def __init__(
        self, connection: Connection, policy: RetryPolicy, metadata: Mapping[str, str], proof: Proof | None = None
    ) -> None:
        self.connection = connection
        self.policy = policy
        self._metadata = {name.lower(): value for name, value in metadata.items()}
        self._proof = proof

    async def unary(
        self,
        rpc: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        budget: Budget,
        *,
        request_id: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Response:
        """The answer to one rpc, sent again while that may help and inside the budget. Raises ToolwrightError."""
        tries = Tries(self.policy)
        while True:
            try:
                return await self.once(rpc, request, budget, request_id, metadata)
            except ToolwrightError as error:
                if not await self.pause(tries.delay(error), budget):
                    raise after_doubt(error) if tries.doubt else error from error.__cause__

    async def once(
        self,
        rpc: "grpc.aio.UnaryUnaryMultiCallable[Request, Response]",
        request: Request,
        budget: Budget,
        request_id: str,
        metadata: Mapping[str, str] | None,
    ) -> Response:
        """The answer to one rpc that is sent once. Raises ToolwrightError."""
        seconds = await self._ready(budget, request_id)
        try:
            return await rpc(request, timeout=seconds, metadata=self._headers(metadata))
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error, request_id=request_id) from error
        except asyncio.CancelledError:
            self._raise_if_closed(request_id)
            raise

    async def stream(
        self,
        rpc: "grpc.aio.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        budget: Budget,
        *,
        request_id: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[Response, None]:
        """The messages of one stream, sent once. Closing the iterator cancels the rpc. Raises ToolwrightError."""
        seconds = await self._ready(budget, request_id)
        call = rpc(request, timeout=seconds, metadata=self._headers(metadata))
        try:
            while (message := await self._read(call)) is not grpc.aio.EOF:
                yield cast("Response", message)
        except grpc.aio.AioRpcError as error:
            raise error_of_rpc(error, request_id=request_id) from error
        except TimeoutError:
            raise self.lost(f"nothing was heard for {SILENCE_SECONDS:g} s", request_id) from None
        except asyncio.CancelledError:
            self._raise_if_closed(request_id)
            raise
        finally:
            call.cancel()

    async def _ready(self, budget: Budget, request_id: str) -> float:
        """Connects, and answers the seconds for the rpc. What it raises says that nothing was sent."""
        try:
            await self.connection.ready(budget)
            return budget.seconds()
        except ToolwrightError as error:
            error.request_id = request_id
            raise

    async def _read(self, call: "grpc.aio.UnaryStreamCall[Request, Response]") -> object:
        async with asyncio.timeout(SILENCE_SECONDS):
            return await call.read()

    async def pause(self, delay: float | None, budget: Budget) -> bool:
        """Waits before the next try and answers True, or answers False when there is none or no time for it."""
        if delay is None or self.connection.closed or delay >= budget.left():
            return False
        await asyncio.sleep(delay)
        return True

    def _headers(self, more: Mapping[str, str] | None) -> grpc.aio.Metadata:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        if self._proof is not None:
            name, value = self._proof.header()
            carrier[name] = value
        return grpc.aio.Metadata(*(self._metadata | carrier | dict(more or {})).items())

    def _raise_if_closed(self, request_id: str) -> None:
        """Calls that end because the client was closed are lost calls, and no cancellation of the waiting task."""
        task = asyncio.current_task()
        if self.connection.closed and (task is None or not task.cancelling()):
            raise self.lost("the client was closed", request_id) from None

    def lost(self, why: str, request_id: str) -> ToolwrightError:
        """The error of a call that ended without an answer."""
        failure = Failure(
            code=grpc.StatusCode.UNAVAILABLE,
            reason=CONNECTION_LOST,
            message=f"the connection to {self.connection.target} ended without an answer: {why}",
            metadata={"outcome": UNKNOWN},
        )
        return error_of(failure, request_id=request_id)
