import http.client
import socket
from collections.abc import Iterator

import pytest

from toolwright_server.telemetry.http import TelemetryHttp
from toolwright_server.telemetry.options import TelemetryConfigError

SECONDS = 10


class Page:
    """A served page whose health a test sets."""

    def __init__(self, listen: str = "127.0.0.1:0") -> None:
        self.healthy: tuple[bool, str] = (True, "ok")
        self.served = TelemetryHttp(listen, metrics=lambda: "a_metric 1\n", health=lambda: self.healthy)
        self.served.start()

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
        connection = http.client.HTTPConnection(*self.served.address, timeout=SECONDS)
        connection.request(method, path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text, dict(answer.getheaders())


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.served.close()


def test_metrics_are_served_as_prometheus_asks(page: Page) -> None:
    status, text, headers = page.ask("/metrics?x=1")
    assert (status, text) == (200, "a_metric 1\n")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_health_is_200_or_503_with_the_reason(page: Page) -> None:
    assert page.ask("/healthz")[:2] == (200, "ok\n")
    page.healthy = (False, "the event loop has been blocked for 2.0 s by tool a.b (execution 0190)")
    assert page.ask("/healthz")[:2] == (503, f"{page.healthy[1]}\n")


def test_anything_else_is_not_found(page: Page) -> None:
    assert page.ask("/")[0] == 404
    assert page.ask("/metrics", "POST")[0] == 501
    assert page.ask("/metrics", "HEAD")[:2] == (200, "")


def test_a_client_that_leaves_in_the_middle_does_no_harm(page: Page) -> None:
    for _ in range(50):
        with socket.create_connection(page.served.address, SECONDS) as client:
            client.sendall(b"GET /metr")
    assert page.ask("/healthz")[0] == 200


def test_slow_clients_make_room_for_a_health_check_the_oldest_first(page: Page) -> None:
    slow = [socket.create_connection(page.served.address, SECONDS) for _ in range(16)]
    for client in slow:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert page.ask("/healthz")[:2] == (200, "ok\n")
    assert slow[0].recv(1) == b""
    slow[-1].sendall(b"\r\n")
    assert slow[-1].recv(15) == b"HTTP/1.0 200 OK"
    for client in slow:
        client.close()


def test_a_health_check_comes_through_a_crowd_that_never_finishes_asking(page: Page) -> None:
    crowd = [socket.create_connection(page.served.address, SECONDS) for _ in range(100)]
    assert [page.ask("/healthz")[0] for _ in range(20)] == [200] * 20
    for client in crowd:
        client.close()


def test_a_taken_port_is_refused_with_a_sentence(page: Page) -> None:
    host, port = page.served.address
    second = TelemetryHttp(f"{host}:{port}", metrics=lambda: "", health=lambda: (True, "ok"))
    with pytest.raises(TelemetryConfigError, match=f"TOOLWRIGHT_HTTP_LISTEN={host}:{port} cannot be used: Address"):
        second.start()
    second.close()


@pytest.mark.parametrize("listen", ["8080", ":8080", "localhost", "localhost:http", "localhost:99999"])
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    with pytest.raises(TelemetryConfigError, match="host:port"):
        TelemetryHttp(listen, metrics=lambda: "", health=lambda: (True, "ok")).start()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_addresses_are_written_in_brackets() -> None:
    page = Page("[::1]:0")
    assert page.ask("/healthz")[0] == 200
    page.served.close()
