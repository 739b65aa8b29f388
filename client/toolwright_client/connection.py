"""One channel to one target, made at its first use and bound to the event loop that used it. It retries nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from toolwright.v1 import tool_catalog_pb2_grpc, tool_execution_pb2_grpc
from toolwright_client.deadline import Budget
from toolwright_client.errors import NotConnected
from toolwright_client.model import NOT_STARTED, Failure
from toolwright_client.statuses import NOT_CONNECTED

TRANSPORT_BYTES = 16 * 1024 * 1024
# Trailers above gRPC's soft limit of 8 KiB would turn any status into a bare RESOURCE_EXHAUSTED.
METADATA_BYTES = 64 * 1024

ChannelOptions = Sequence[tuple[str, str | int]]


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. No `ca_file`: the system's authorities. Key and certificate are for servers that ask for them."""

    ca_file: str | Path | None = None
    key_file: str | Path | None = None
    certificate_file: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Reads the files."""
        contents = [
            None if name is None else Path(name).read_bytes()
            for name in (self.ca_file, self.key_file, self.certificate_file)
        ]
        return grpc.ssl_channel_credentials(*contents)


class Connection:
    """A channel and its stubs."""

    def __init__(
        self,
        target: str,
        credentials: grpc.ChannelCredentials | None,
        options: ChannelOptions,
    ) -> None:
        self.target = target
        self.closed = False
        self._credentials = credentials
        self._options = [*_OPTIONS, *options]
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting: asyncio.Task[None] | None = None

    def open(self) -> Self:
        """Makes the channel and its stubs at the first use; it connects when something is sent."""
        if self._channel is None and not self.closed:
            self._loop = asyncio.get_running_loop()
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self.target, self._options)
            else:
                self._channel = grpc.aio.secure_channel(self.target, self._credentials, self._options)
            self.executions = tool_execution_pb2_grpc.ToolExecutionStub(self._channel)
            self.catalog = tool_catalog_pb2_grpc.ToolCatalogServiceStub(self._channel)
        if self.closed:
            message = f"the client of {self.target} is closed; make a new one"
            raise RuntimeError(message)
        if self._loop is not asyncio.get_running_loop():
            message = f"the client of {self.target} belongs to another event loop; make one in each loop"
            raise RuntimeError(message)
        return self

    async def ready(self, budget: Budget) -> None:
        """Returns when there is a connection. Raises NotConnected or DeadlineExceeded: nothing was sent."""
        budget.seconds()
        channel = self._channel
        assert channel is not None
        if channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY:
            return
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._settled(channel), name="toolwright-client-connect")
        await asyncio.wait({self._connecting}, timeout=budget.seconds())
        budget.seconds()
        if channel.get_state() is not grpc.ChannelConnectivity.READY:
            raise self._not_connected()

    async def _settled(self, channel: grpc.aio.Channel) -> None:
        """Waits until the channel is connected, or has failed to connect."""
        while (state := channel.get_state(try_to_connect=True)) not in _SETTLED:
            await channel.wait_for_state_change(state)

    def _not_connected(self) -> NotConnected:
        failure = Failure(
            code=grpc.StatusCode.UNAVAILABLE,
            reason=NOT_CONNECTED,
            message=f"no connection to {self.target}; nothing was sent",
            suggested_action="Check that the server runs and that the address is right.",
            retryable=True,
            metadata={"outcome": NOT_STARTED},
        )
        return NotConnected(failure)

    async def close(self) -> None:
        """Ends calls in flight and the channel."""
        self.closed = True
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._connecting is not None:
            await asyncio.wait({self._connecting}, timeout=1)


_SETTLED = frozenset(
    {
        grpc.ChannelConnectivity.READY,
        grpc.ChannelConnectivity.TRANSIENT_FAILURE,
        grpc.ChannelConnectivity.SHUTDOWN,
    }
)


_OPTIONS: ChannelOptions = (
    # What may be sent again is decided in `retries`; gRPC itself only resends what no server has seen.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_send_message_length", TRANSPORT_BYTES),
    ("grpc.max_receive_message_length", TRANSPORT_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    # A dead peer is noticed within 40 s also when nothing is sent; servers answer 10 s and more apart.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.primary_user_agent", "toolwright-client/0.1.0"),
)
