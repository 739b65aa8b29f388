"""The same tool served by FastMCP, on the newest revision of its protocol: started, asked and checked."""

import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.bounds import Bounds
from benchmarks.contenders import CALL_SECONDS, SAMPLES, WrongAnswerError, arguments
from benchmarks.load import HTTP, Wire
from benchmarks.processes import ROOT, Process, free_port

REVISION = "2026-07-28"
TOOL = "echo"
START_SECONDS = 30.0
_META = "io.modelcontextprotocol/"
_HEADERS = {
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": REVISION,
    "mcp-method": "tools/call",
    "mcp-name": TOOL,
}


@dataclass
class FastMcp:
    """The server."""

    process: Process
    address: str
    name: str = f"FastMCP, MCP {REVISION}"
    echo_path: str = "/mcp"
    headers: Mapping[str, str] = field(default_factory=lambda: dict(_HEADERS))
    wire: Wire = HTTP

    def echo_request(self, size: int) -> bytes:
        envelope = {
            f"{_META}protocolVersion": REVISION,
            f"{_META}clientInfo": {"name": "benchmark", "version": "1"},
            f"{_META}clientCapabilities": {},
        }
        params = {"name": TOOL, "arguments": orjson.loads(arguments(size)), "_meta": envelope}
        return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})

    def check_echo(self, size: int) -> Bounds:
        request, wanted = self.echo_request(size), orjson.loads(arguments(size))
        lengths: set[int] = set()
        for _ in range(SAMPLES):
            answer = self._fetched(self.echo_path, request)
            lengths.add(len(answer))
            if orjson.loads(answer).get("result", {}).get("structuredContent") != wanted:
                raise WrongAnswerError(f"{self.name} answered {TOOL} with {answer[:1000]!r}")
        return Bounds(min(lengths), max(lengths))

    def calls_ok(self, path: str) -> int:
        del path
        return int(self._fetched("/calls", None))

    def _fetched(self, path: str, body: bytes | None) -> bytes:
        headers = {**self.wire.headers, **self.headers} if body is not None else {}
        request = urllib.request.Request(f"http://{self.address}{path}", body, headers)
        with urllib.request.urlopen(request, timeout=CALL_SECONDS) as answer:  # noqa: S310 (an address of http)
            found: bytes = answer.read()
        return found


@contextmanager
def fastmcp(folder: Path, python: str) -> Generator[FastMcp]:
    """It, running, with an interpreter whose environment has it.

    Raises:
        RuntimeError: it ended, or was not ready in time; says what it wrote.
    """
    port = free_port()
    script = str(ROOT / "benchmarks" / "fastmcp_server.py")
    process = Process("fastmcp", [python, script, str(port)], folder / "fastmcp.log", {})
    try:
        rival = FastMcp(process, f"127.0.0.1:{port}")
        _await_ready(rival)
        yield rival
    finally:
        process.stop()


def _await_ready(rival: FastMcp) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            rival.check_echo(200)
        except urllib.error.URLError as error:
            if not rival.process.running() or time.monotonic() > end:
                words = rival.process.last_words()
                raise RuntimeError(f"{rival.name} is not ready after {START_SECONDS:g} s: {error}; {words}") from error
            time.sleep(0.1)
        else:
            return
