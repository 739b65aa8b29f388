"""`/metrics` and `/healthz` from a thread of their own, so that they answer while the event loop is blocked.

Never serves anything else, never to more than a few at a time: a newcomer takes the place of who was there longest, so
that nobody can keep a health check out by being slow.
"""

import logging
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from toolwright_server.telemetry.options import TelemetryConfigError
from toolwright_server.telemetry.prometheus import CONTENT_TYPE

_logger = logging.getLogger(__name__)

_MAX_CONNECTIONS = 16
_IDLE_SECONDS = 10.0

Health = Callable[[], tuple[bool, str]]
"""Asked from another thread: (healthy?, one line that says why not)."""


class TelemetryHttp:
    """Serves on `listen` ("host:port"; "[::1]:0" for any free port) from `start` to `close`."""

    def __init__(self, listen: str, *, metrics: Callable[[], str], health: Health) -> None:
        self._listen = listen
        self._metrics = metrics
        self._health = health
        self._server: _Server | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are served."""
        assert self._server is not None
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Bind and serve.

        Raises:
            TelemetryConfigError: the address is malformed, or something else listens there.
        """
        host, port = _split(self._listen)
        try:
            self._server = _Server(host, port, self._metrics, self._health)
        except OSError as error:
            raise TelemetryConfigError(
                f"TOOLWRIGHT_HTTP_LISTEN={self._listen} cannot be used: {error.strerror}. "
                "Stop what listens there, or choose another port"
            ) from error
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="toolwright-http", daemon=True
        ).start()

    def close(self) -> None:
        """Stop serving; waits for the accepting thread, at most about 0.1 s."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # a full queue makes clients wait a second or more

    def __init__(self, host: str, port: int, metrics: Callable[[], str], health: Health) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.metrics = metrics
        self.health = health
        # Oldest first. Nobody else closes what is in here, so that what is cut off is never another's descriptor.
        self._connections: OrderedDict[socket.socket, None] = OrderedDict()
        self._changing = threading.Lock()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changing:
            if len(self._connections) >= _MAX_CONNECTIONS:
                oldest, _ = self._connections.popitem(last=False)
                with suppress(OSError):  # its client is gone already
                    oldest.shutdown(socket.SHUT_RDWR)
            self._connections[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._changing:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as inherited
        _logger.debug("an HTTP client went away in the middle of its request")


class _Handler(BaseHTTPRequestHandler):
    timeout = _IDLE_SECONDS
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version = "toolwright"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, self.server.metrics(), CONTENT_TYPE)
        elif path == "/healthz":
            healthy, reason = self.server.health()
            self._answer(HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, "there is /metrics and /healthz\n")

    do_HEAD = do_GET  # noqa: N815 - as above

    def _answer(self, status: HTTPStatus, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        _logger.debug(format, *args)


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest port
        raise TelemetryConfigError(
            f"TOOLWRIGHT_HTTP_LISTEN={listen} is no address: write host:port, e.g. 127.0.0.1:8080"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)
