"""What a service knows of the call that it answers: who, since when, for how long, in which trace. Knows no gRPC."""

from collections.abc import Sequence
from typing import NamedTuple

from toolwright_server.identity import Caller
from toolwright_server.telemetry.tracing import CallTrace

Metadata = Sequence[tuple[str, str | bytes]]


class Part(NamedTuple):
    """How an rpc went, or one of the calls that it consists of; see RpcCall. `seconds` is how long it took."""

    tool: str
    execution_id: str
    code: str
    reason: str
    seconds: float


class RpcCall:
    """One call.

    The service may append to `trailers` (lower-case ASCII names, ASCII values) and set `tool` and `execution_id`, which
    go into the log line. `code` and `reason` are the outcome, set by the handler. An rpc that consists of many calls
    has `parts`, which are logged, and audited where they were refused, as if each had been an rpc.
    """

    __slots__ = (
        "caller",
        "code",
        "execution_id",
        "gone",
        "metadata",
        "method",
        "parts",
        "reason",
        "received",
        "remaining",
        "told_to_end",
        "tool",
        "trace",
        "trailers",
    )

    def __init__(
        self,
        method: str,
        caller: Caller,
        trace: CallTrace,
        *,
        received: float,
        remaining: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        self.method = method
        """`toolwright.v1.ToolExecution/Execute`."""
        self.caller = caller
        self.trace = trace
        self.received = received
        """When it came in, as time.monotonic() says."""
        self.remaining = remaining
        """Seconds that the client gave it at that moment; None: no deadline."""
        self.metadata = metadata
        self.parts: Sequence[Part] = ()
        self.trailers: list[tuple[str, str]] = []
        self.tool = ""
        self.execution_id = ""
        self.code = "OK"
        self.reason = ""
        self.gone = False
        """Whether writing to the client failed: it left."""
        self.told_to_end = False
        """Whether the server ends it because it is shutting down."""
