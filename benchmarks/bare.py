"""The yardstick: a plain grpc.aio server on the default asyncio loop, raw bytes in and out, no interceptors.

Run as `python -m benchmarks.bare`; prints its port and serves until SIGTERM. It never parses a message.
"""

import asyncio
import signal
import struct
from collections.abc import AsyncIterator

import grpc

SERVICE = "toolwright.benchmarks.Bare"
# What a stream is asked for: how many messages, and how many bytes each has.
STREAM_REQUEST = struct.Struct(">II")
# What each message of a stream starts with: its number, from 1.
STREAM_NUMBER = struct.Struct(">Q")


class Bare:
    """The three methods, and how many calls of the first two ended well."""

    def __init__(self) -> None:
        self._echoes = 0
        self._streams = 0

    async def echo(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answers the bytes it was sent."""
        del context
        self._echoes += 1
        return request

    async def stream(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        """Sends as many numbered messages of the size as it is asked for."""
        del context
        count, size = STREAM_REQUEST.unpack(request)
        padding = bytes(size - STREAM_NUMBER.size)
        for number in range(1, count + 1):
            yield STREAM_NUMBER.pack(number) + padding
        self._streams += 1

    async def counts(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answers `ECHOES STREAMS` as decimal text."""
        del request, context
        return f"{self._echoes} {self._streams}".encode()


async def serve() -> None:
    """Serves on a free port of the loopback until SIGTERM."""
    bare = Bare()
    server = grpc.aio.server()
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Echo": grpc.unary_unary_rpc_method_handler(bare.echo),
        "Stream": grpc.unary_stream_rpc_method_handler(bare.stream),
        "Counts": grpc.unary_unary_rpc_method_handler(bare.counts),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(port, flush=True)
    await stopped.wait()
    await server.stop(0.5)


if __name__ == "__main__":
    asyncio.run(serve())
