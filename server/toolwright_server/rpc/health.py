"""grpc.health.v1: whether the server serves, for `""` and for every service. Measures nothing: it is told."""

# ruff: noqa: N802 - methods are named as their rpcs

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2 as pb

from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.gate import ENDED_BY_DRAIN

_logger = logging.getLogger(__name__)

SERVICE = cast("ServiceDescriptor", pb.DESCRIPTOR.services_by_name["Health"])


class Health:
    """One answer for all services; once `begin_drain` was called it stays NOT_SERVING."""

    def __init__(self) -> None:
        self._services: set[str] = {""}
        self._serving = True
        self._draining = False
        self._ended = False
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def declare(self, services: Iterable[str]) -> None:
        """Name the services that there are."""
        self._services.update(services)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop on which Watch is answered."""
        self._loop = loop

    def set_health(self, ok: bool, why: str) -> None:
        """Say whether the server can serve, and why (for the log). From any thread; without effect during a drain."""
        if self._loop is None:
            self._set(ok, why)
        else:
            self._loop.call_soon_threadsafe(self._set, ok, why)

    def begin_drain(self) -> None:
        """NOT_SERVING from here on."""
        self._draining = True
        self._serving = False
        self._announce()

    def end_watches(self) -> None:
        """End every Watch, and every new one before its first answer, so that clients wait before they come again."""
        self._ended = True
        self._announce()

    @property
    def serving(self) -> bool:
        """What Check answers."""
        return self._serving

    async def Check(self, request: pb.HealthCheckRequest, call: RpcCall) -> pb.HealthCheckResponse:
        """The status of a service. NOT_FOUND for one that does not exist."""
        del call
        if request.service not in self._services:
            raise ToolwrightError(Reason.RESOURCE_NOT_FOUND, f"there is no service {request.service[:128]!r} here")
        return self._answer(request.service)

    async def List(self, request: Any, call: RpcCall) -> Any:
        """The status of every service."""
        del request, call
        # The installed stubs are older than this rpc.
        return cast("Any", pb).HealthListResponse(
            statuses={service: self._answer(service) for service in self._services}
        )

    async def Watch(
        self,
        request: pb.HealthCheckRequest,
        call: RpcCall,
        write: Callable[[pb.HealthCheckResponse], Awaitable[None]],
    ) -> None:
        """The status of a service, now and whenever it changes."""
        del call
        told: int | None = None
        while True:
            if self._ended:
                raise ToolwrightError.of(ENDED_BY_DRAIN)
            changed, answer = self._changed, self._answer(request.service)
            if answer.status != told:
                told = answer.status
                await write(answer)
            await changed.wait()

    def _answer(self, service: str) -> pb.HealthCheckResponse:
        if service not in self._services:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN)
        if self._serving:
            return pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING)
        return pb.HealthCheckResponse(status=pb.HealthCheckResponse.NOT_SERVING)

    def _set(self, ok: bool, why: str) -> None:
        if self._draining or ok == self._serving:
            return
        self._serving = ok
        _logger.log(
            logging.INFO if ok else logging.WARNING, "health is %s: %s", "SERVING" if ok else "NOT_SERVING", why
        )
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
