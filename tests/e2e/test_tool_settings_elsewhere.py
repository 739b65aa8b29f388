"""Two servers on one PostgreSQL: what is set, or revoked, on the one holds on the other."""

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.databases import Postgres
from tests.live import LiveServer, eventually, execute_request, live_server
from tests.refused import refused
from toolwright.v1 import keys_pb2, keys_pb2_grpc, tool_catalog_pb2_grpc, tool_execution_pb2_grpc
from toolwright.v1 import tool_catalog_pb2 as pb

pytestmark = pytest.mark.slow

SECONDS = 20.0
TOOL = "diagnostics.echo"


class Side:
    """One of the servers, and a caller with an admin's key."""

    def __init__(self, server: LiveServer, channel: grpc.Channel, secret: str) -> None:
        self.server = server
        self.secret = secret
        self._catalog: Any = tool_catalog_pb2_grpc.ToolCatalogServiceStub(channel)
        self._execution: Any = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self.keys: Any = keys_pb2_grpc.KeyServiceStub(channel)

    def call(self, rpc: Any, request: Any, secret: str = "") -> Any:
        return rpc(request, timeout=SECONDS, metadata=(("authorization", f"Bearer {secret or self.secret}"),))

    def set(self, **fields: Any) -> pb.ToolSettings:
        request = pb.UpdateToolSettingsRequest(settings=pb.ToolSettings(tool=TOOL, **fields))
        return self.call(self._catalog.UpdateToolSettings, request).settings

    def run(self, secret: str = "") -> str:
        """OK, or why the tool was not called."""
        try:
            self.call(self._execution.Execute, execute_request(TOOL, {"greeting": "hello"}), secret)
        except grpc.RpcError as error:
            return refused(lambda error=error: _raise(error)).reason
        return "OK"

    def etag(self) -> str:
        found = self.call(self._catalog.GetToolSettings, pb.GetToolSettingsRequest(tool=TOOL)).settings
        return found.etag


def _raise(error: BaseException) -> None:
    raise error


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> dict[str, str]:
    """What the servers have in common."""
    return {
        "TOOLWRIGHT_AUTH": "api-key",
        "TOOLWRIGHT_DATABASE_URL": postgres.make_database(),
        "TOOLWRIGHT_PEPPER_FILE": str(tmp_path_factory.mktemp("secrets") / "pepper"),
        "TOOLWRIGHT_TOOLKITS": "diagnostics",
        "TOOLWRIGHT_PROCESS_WORKERS": "1",
    }


@pytest.fixture(scope="module")
def sides(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Side, Side]]:
    folder = tmp_path_factory.mktemp("two")
    with ExitStack() as stack:
        found: list[Side] = []
        for name in ("one", "two"):
            server = stack.enter_context(live_server(folder / name, env={**environment, "TOOLWRIGHT_SERVER_ID": name}))
            channel = stack.enter_context(grpc.insecure_channel(server.address))
            secret = found[0].secret if found else Path(server.data_dir, "admin.key").read_text().strip()
            found.append(Side(server, channel, secret))
        yield found[0], found[1]


def test_what_is_set_on_one_server_holds_at_once_there_and_soon_on_the_other(sides: tuple[Side, Side]) -> None:
    one, two = sides
    assert (one.run(), two.run()) == ("OK", "OK")
    one.set(enabled=False)
    assert one.run() == "TOOL_DISABLED"
    eventually(lambda: two.run() == "TOOL_DISABLED")
    two.set(enabled=True, hidden=True)
    assert two.run() == "TOOL_NOT_FOUND"
    eventually(lambda: one.run() == "TOOL_NOT_FOUND")
    one.set(hidden=False)
    eventually(lambda: two.run() == "OK")


def test_both_see_the_same_etag_and_the_slower_one_is_told(sides: tuple[Side, Side]) -> None:
    one, two = sides
    etag = one.etag()
    assert two.etag() == etag
    one.set(price_micros=7, etag=etag)
    assert refused(lambda: two.set(price_micros=8, etag=etag)).reason == "ETAG_MISMATCH"
    assert two.etag() == one.etag() != etag


def test_a_server_that_starts_later_knows_what_was_set(
    sides: tuple[Side, Side], environment: dict[str, str], tmp_path: Path
) -> None:
    one, _ = sides
    one.set(enabled=False)
    third = {**environment, "TOOLWRIGHT_SERVER_ID": "three"}
    with live_server(tmp_path, env=third) as server, grpc.insecure_channel(server.address) as channel:
        assert Side(server, channel, one.secret).run() == "TOOL_DISABLED"
    one.set(enabled=True)


def test_a_key_that_is_revoked_on_one_server_soon_opens_nothing_on_the_other(sides: tuple[Side, Side]) -> None:
    one, two = sides
    made = one.call(one.keys.CreateApiKey, keys_pb2.CreateApiKeyRequest(user_id="bob"))
    eventually(lambda: two.run(made.secret) == "OK")
    one.call(one.keys.RevokeApiKey, keys_pb2.RevokeApiKeyRequest(key_id=made.api_key.key_id))
    assert one.run(made.secret) == "UNAUTHENTICATED"
    eventually(lambda: two.run(made.secret) == "UNAUTHENTICATED")
