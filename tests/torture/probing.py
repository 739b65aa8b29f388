"""Servers that share a Valkey, an upstream that fails, and bursts of callers that come when its circuit is half-open.

The upstream holds every call that reaches it until all others were answered: how many there were is exact.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc

from tests.live import LiveServer, execute_request, starting_server
from tests.refused import unpacked
from tests.upstream import Upstream, running_upstream
from tests.upstream_tools import BRISK
from tests.valkeys import Server
from toolwright.v1 import tool_execution_pb2_grpc

TOOLS = str(Path(__file__).parents[1] / "upstream_tools.py")
TOOL = "upstream.brisk"
DEADLINE_SECONDS = 50.0
LEASE_SECONDS = 2.0


@dataclass
class Probing:
    """The servers by their names, the upstream, and what callers were told."""

    servers: dict[str, LiveServer]
    upstream: Upstream
    told: Counter[str] = field(default_factory=Counter[str])

    async def open(self) -> None:
        """Let the upstream fail until the circuit opens, by calls to all servers in turn."""
        self.upstream.path("brisk").ratio = 1.0
        async with self._stubs() as stubs:
            for stub in stubs * 10:
                if await self._call(stub) == "CIRCUIT_OPEN":
                    return
        raise AssertionError("the circuit did not open")

    async def burst(self, callers: int, *, heals: bool, kill: bool = False) -> int:
        """All callers at once, when the circuit can be probed; how many reached the upstream.

        Everybody else is answered while the probe still runs. Then that ends well, or badly, or its server is killed.
        """
        await asyncio.sleep(BRISK.max_open_seconds + 0.1)
        path = self.upstream.path("brisk")
        path.ratio = 0.0 if heals else 1.0
        self.upstream.hold("brisk")
        before = len(path.seen)
        async with self._stubs() as stubs:
            calls = [asyncio.create_task(self._call(stubs[number % len(stubs)])) for number in range(callers)]
            first = islice(asyncio.as_completed(calls, timeout=DEADLINE_SECONDS), callers - 1)
            refused = Counter([await answered for answered in first])
            assert refused == {"CIRCUIT_OPEN": callers - 1}, refused
            if kill:
                self.servers.pop(path.seen[-1].sender).process.kill()
            self.upstream.release("brisk")
            self.told.update(await asyncio.gather(*calls))
        return len(path.seen) - before

    @contextlib.asynccontextmanager
    async def _stubs(self) -> AsyncGenerator[list[Any]]:
        async with contextlib.AsyncExitStack() as stack:
            stubs: list[Any] = []
            for server in self.servers.values():
                channel = grpc.aio.insecure_channel(server.address, options=[("grpc.enable_retries", 0)])
                await stack.enter_async_context(channel)
                stubs.append(tool_execution_pb2_grpc.ToolExecutionStub(channel))
            yield stubs

    async def _call(self, stub: Any) -> str:
        """The reason of the refusal or failure; empty when it was answered."""
        try:
            answer = await stub.Execute(execute_request(TOOL), timeout=DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            return unpacked(error).reason or error.code().name
        return str(answer.execution.error.reason)


@contextlib.contextmanager
def four(folder: Path, valkey: Server, count: int = 4) -> Generator[Probing]:
    """So many servers on a store, and the upstream of all."""
    names: Sequence[str] = [f"server-{number}" for number in range(count)]
    with running_upstream() as upstream, contextlib.ExitStack() as stack:
        env = {
            "TOOLWRIGHT_TOOLKITS": "diagnostics",
            "TOOLWRIGHT_REDIS_URL": valkey.url,
            "TOOLWRIGHT_REDIS_LEASE_SECONDS": str(LEASE_SECONDS),
            # A thousand callers, their servers and the store share the processors of one machine.
            "TOOLWRIGHT_REDIS_TIMEOUT_MILLISECONDS": "200",
            "TOOLWRIGHT_DATABASE_URL": "memory:",
            "TOOLWRIGHT_PROCESS_WORKERS": "1",
            "UPSTREAM_URL": upstream.url,
        }
        servers = {
            name: stack.enter_context(
                starting_server(folder / name, "--tools", TOOLS, env={**env, "TOOLWRIGHT_SERVER_ID": name})
            )
            for name in names
        }
        for server in servers.values():
            server.wait_ready()
        yield Probing(servers, upstream)
