"""A load generator for machines without h2load, as a process of its own that load.py starts.

`python -m benchmarks.generator ADDRESS PATH FILE CONNECTIONS STREAMS CALLS HEADERS` prints one JSON object; HEADERS is
one as well. It costs more CPU per call than the servers it loads.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import grpc

from benchmarks.load import frame

DEADLINE_SECONDS = 30.0


async def _caller(
    channel: grpc.aio.Channel, path: str, message: bytes, headers: Mapping[str, str], turns: Iterator[int]
) -> list[tuple[float, int]]:
    """Calls one after the other while there are turns; milliseconds and framed bytes of each answer."""
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    seen: list[tuple[float, int]] = []
    metadata = tuple(headers.items())
    for _ in turns:
        start = time.perf_counter()
        answer = await method(message, timeout=DEADLINE_SECONDS, metadata=metadata)
        seen.append(((time.perf_counter() - start) * 1000, len(frame(answer))))
    return seen


async def generate(
    address: str, path: str, message: bytes, headers: Mapping[str, str], *, connections: int, streams: int, calls: int
) -> str:
    """Makes the calls over connections of their own; the JSON text of what was seen."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(connections)]
    for channel in channels:
        await asyncio.wait_for(channel.channel_ready(), DEADLINE_SECONDS)
    turns = iter(range(calls))
    start = time.perf_counter()
    seen = await asyncio.gather(
        *(_caller(channel, path, message, headers, turns) for channel in channels for _ in range(streams))
    )
    seconds = time.perf_counter() - start
    for channel in channels:
        await channel.close()
    answers = [answer for caller in seen for answer in caller]
    total = sum(length for _, length in answers)
    latencies = [milliseconds for milliseconds, _ in answers]
    return json.dumps({"seconds": seconds, "response_bytes": total, "latencies": latencies})


if __name__ == "__main__":
    _address, _path, _file, *_numbers, _headers = sys.argv[1:]
    _connections, _streams, _calls = (int(number) for number in _numbers)
    _message, _sent = Path(_file).read_bytes(), json.loads(_headers)
    _run = generate(_address, _path, _message, _sent, connections=_connections, streams=_streams, calls=_calls)
    print(asyncio.run(_run))
