"""A real receiver of OTLP over gRPC that counts what reaches it and keeps nothing.

Run as `python -m benchmarks.sink`; prints its port and serves until SIGTERM.
"""

import asyncio
import signal

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACES = "opentelemetry.proto.collector.trace.v1.TraceService"
METRICS = "opentelemetry.proto.collector.metrics.v1.MetricsService"
SERVICE = "toolwright.benchmarks.Sink"


class Sink:
    """Counts spans; an empty answer is OTLP's full success."""

    def __init__(self) -> None:
        self._spans = 0

    async def export_traces(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Counts the spans of one batch."""
        del context
        batch = ExportTraceServiceRequest.FromString(request)
        self._spans += sum(len(scope.spans) for resource in batch.resource_spans for scope in resource.scope_spans)
        return b""

    async def export_metrics(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Accepts metrics, so that an exporter of both does not retry."""
        del request, context
        return b""

    async def counts(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        """Answers how many spans came so far, as decimal text."""
        del request, context
        return str(self._spans).encode()


async def serve() -> None:
    """Serves on a free port of the loopback until SIGTERM."""
    sink = Sink()
    server = grpc.aio.server()
    for service, method, handler in (
        (TRACES, "Export", sink.export_traces),
        (METRICS, "Export", sink.export_metrics),
        (SERVICE, "Counts", sink.counts),
    ):
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            method: grpc.unary_unary_rpc_method_handler(handler)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    print(port, flush=True)
    await stopped.wait()
    await server.stop(0.5)


if __name__ == "__main__":
    asyncio.run(serve())
