"""Tool settings over real gRPC, to a real server with API keys: who may, what holds then, and what callers hear."""

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tests.live import LiveServer, execute_request, live_server
from tests.refused import Refused, refused
from toolwright.v1 import audit_pb2, audit_pb2_grpc, keys_pb2, keys_pb2_grpc, tool_execution_pb2_grpc
from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright.v1 import tool_catalog_pb2_grpc as pb_grpc

SECONDS = 20.0
TOOLS = '''
from typing import Annotated

import pydantic

from toolwright_server import AsyncToolContext, Effect, tool

Secret = Annotated[str, pydantic.Field(json_schema_extra={"x-sensitive": True})]


@tool("shop.order", effect=Effect.SIDE_EFFECT)
async def order(item: str, account: str = "nobody", key: Secret = "") -> list[str]:
    """Orders something."""
    return [item, account, str(len(key))]


@tool("shop.ask", effect=Effect.READ_ONLY)
async def ask(item: str, context: AsyncToolContext) -> list[str]:
    """Has something ordered."""
    return await context.call("shop.order", {"item": item})
'''


class Somebody:
    """A caller with a key of its own."""

    def __init__(self, channel: grpc.Channel, secret: str = "") -> None:
        self._metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
        self.execution: Any = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self.catalog: Any = pb_grpc.ToolCatalogServiceStub(channel)
        self.keys: Any = keys_pb2_grpc.KeyServiceStub(channel)
        self.audit: Any = audit_pb2_grpc.AuditServiceStub(channel)

    def call(self, rpc: Any, request: Message) -> Any:
        return rpc(request, timeout=SECONDS, metadata=self._metadata)

    def set(self, tool: str = "shop.order", mask: tuple[str, ...] = (), **fields: Any) -> pb.ToolSettings:
        request = pb.UpdateToolSettingsRequest(settings=pb.ToolSettings(tool=tool, **fields))
        request.update_mask.paths.extend(mask)
        return self.call(self.catalog.UpdateToolSettings, request).settings

    def settings(self, tool: str = "shop.order", tenant: str = "") -> pb.ToolSettings:
        request = pb.GetToolSettingsRequest(tool=tool, tenant_id=tenant)
        return self.call(self.catalog.GetToolSettings, request).settings

    def run(self, tool: str = "shop.order", **arguments: Any) -> Any:
        answer = self.call(self.execution.Execute, execute_request(tool, arguments)).execution
        return json.loads(answer.result.value_json) if answer.result.value_json else answer.error.message

    def tools(self) -> dict[str, pb.Tool]:
        return {
            tool.name: tool
            for tool in self.call(self.catalog.ListTools, pb.ListToolsRequest(filter="category=shop")).tools
        }


@dataclass(frozen=True)
class People:
    """Of acme are alice and olga, who operates it; eve is of globex."""

    admin: Somebody
    alice: Somebody
    olga: Somebody
    eve: Somebody


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    folder = tmp_path_factory.mktemp("settings")
    (folder / "shop.py").write_text(TOOLS)
    with live_server(folder, "--tools", str(folder / "shop.py"), env={"TOOLWRIGHT_AUTH": "api-key"}) as running:
        yield running


@pytest.fixture(scope="module")
def everybody(server: LiveServer) -> Generator[People]:
    with grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]) as channel:
        admin = Somebody(channel, Path(server.data_dir, "admin.key").read_text(encoding="ascii").strip())

        def made(user: str, tenant: str, role: keys_pb2.Role.ValueType) -> Somebody:
            wanted = keys_pb2.CreateApiKeyRequest(user_id=user, tenant_id=tenant, role=role)
            return Somebody(channel, admin.call(admin.keys.CreateApiKey, wanted).secret)

        yield People(
            admin,
            alice=made("alice", "acme", keys_pb2.ROLE_AGENT),
            olga=made("olga", "acme", keys_pb2.ROLE_OPERATOR),
            eve=made("eve", "globex", keys_pb2.ROLE_AGENT),
        )


@pytest.fixture
def people(everybody: People) -> Generator[People]:
    """Without any settings afterwards."""
    yield everybody
    with contextlib.suppress(grpc.RpcError):
        everybody.olga.set(mask=("*",))


def validated(who: Somebody, **arguments: Any) -> list[str]:
    """The fields that ValidateArguments finds wrong."""
    request = pb.ValidateArgumentsRequest(tool="shop.order", arguments_json=json.dumps(arguments))
    return [each.field for each in who.call(who.catalog.ValidateArguments, request).violations]


def test_a_tool_that_is_turned_off_is_listed_so_and_refused_to_its_tenant_alone(people: People) -> None:
    people.olga.set(enabled=False)
    assert not people.alice.tools()["shop.order"].enabled
    assert people.eve.tools()["shop.order"].enabled
    error = refused(lambda: people.alice.run(item="tea"))
    assert (error.code, error.reason, error.metadata["outcome"]) == (
        "FAILED_PRECONDITION",
        "TOOL_DISABLED",
        "not_started",
    )
    assert "is turned off for this tenant" in people.alice.run("shop.ask", item="tea")
    assert people.eve.run(item="tea") == ["tea", "nobody", "0"]


def test_a_hidden_tool_looks_unknown_everywhere(people: People) -> None:
    people.olga.set(hidden=True)
    assert sorted(people.alice.tools()) == ["shop.ask"]
    found: list[Refused] = []
    for name in ("shop.order", "shop.zzzzz"):
        found += [
            refused(lambda name=name: people.alice.run(name, item="tea")),
            refused(lambda name=name: people.alice.call(people.alice.catalog.GetTool, pb.GetToolRequest(tool=name))),
            refused(
                lambda name=name: people.alice.call(
                    people.alice.catalog.ValidateArguments, pb.ValidateArgumentsRequest(tool=name, tool_version="9")
                )
            ),
        ]
    assert {each.reason for each in found} == {"TOOL_NOT_FOUND"}
    said = [each.message.replace("shop.order", "it").replace("shop.zzzzz", "it") for each in found]
    assert said[:3] == said[3:]
    assert "there is no tool 'shop.order'" in people.alice.run("shop.ask", item="tea")
    assert people.olga.settings().hidden
    assert "shop.order" in people.eve.tools()


def test_fixed_arguments_are_the_tools_and_not_the_callers(people: People) -> None:
    people.olga.set(fixed_arguments_json='{"account": "acme-7", "key": "k9k9"}')
    schema = json.loads(people.alice.tools()["shop.order"].input_schema_json)
    assert set(schema["properties"]) == {"item"}
    assert people.alice.run(item="tea") == ["tea", "acme-7", "4"]
    assert people.alice.run("shop.ask", item="tea") == ["tea", "acme-7", "4"]
    error = refused(lambda: people.alice.run(item="tea", account="globex-1"))
    assert (error.reason, error.fields) == ("INVALID_ARGUMENTS", ["account"])
    assert "acme-7" not in error.everything
    assert validated(people.alice, item="tea", account="globex-1") == ["account"]
    assert validated(people.alice, item="tea") == []
    assert set(json.loads(people.eve.tools()["shop.order"].input_schema_json)["properties"]) == {
        "item",
        "account",
        "key",
    }


def test_default_arguments_fill_what_is_absent(people: People) -> None:
    people.olga.set(default_arguments_json='{"item": "tea"}')
    schema = json.loads(people.alice.tools()["shop.order"].input_schema_json)
    assert (schema["properties"]["item"]["default"], schema.get("required")) == ("tea", None)
    assert people.alice.run() == ["tea", "nobody", "0"]
    assert people.alice.run(item="soap") == ["soap", "nobody", "0"]
    assert validated(people.alice) == []
    assert validated(people.eve) == ["item"]


def test_secrets_among_arguments_are_not_shown_nor_put_into_the_trail(people: People) -> None:
    kept = people.olga.set(fixed_arguments_json='{"key": "k9k9"}')
    assert json.loads(kept.fixed_arguments_json) == {"key": "[redacted]"}
    assert people.olga.settings() == kept
    listed = people.olga.call(
        people.olga.audit.ListAuditRecords, audit_pb2.ListAuditRecordsRequest(filter="kind = settings")
    )
    newest = listed.records[0]
    assert (newest.principal, newest.user_id) == ("olga", "olga")
    assert json.loads(newest.facts_json)["fields"] == "fixed_arguments"
    assert "k9k9" not in str(listed)


def test_the_mask_says_what_is_changed_and_what_is_cleared(people: People) -> None:
    people.olga.set(enabled=False, price_micros=5, limits={"day": 3, "window": 9})
    people.olga.set(price_micros=0)
    kept = people.olga.set(enabled=True, mask=("limits",))
    assert (kept.enabled, kept.HasField("price_micros"), kept.price_micros, dict(kept.limits)) == (False, True, 0, {})
    kept = people.olga.set(mask=("*",))
    assert not kept.HasField("enabled")
    assert not kept.HasField("price_micros")
    assert kept.updater == "olga"
    error = refused(lambda: people.olga.set(enabled=True, mask=("enabled", "owner")))
    assert error.fields == ["update_mask.paths[1]"]


def test_the_timeout_is_shown_and_holds(people: People) -> None:
    wanted = pb.ToolSettings(tool="shop.order")
    wanted.timeout.FromMilliseconds(2_500)
    kept = people.olga.call(people.olga.catalog.UpdateToolSettings, pb.UpdateToolSettingsRequest(settings=wanted))
    assert kept.settings.timeout.ToMilliseconds() == 2_500
    assert people.alice.tools()["shop.order"].timeout.ToMilliseconds() == 2_500
    wanted.timeout.FromSeconds(-1)
    error = refused(
        lambda: people.olga.call(people.olga.catalog.UpdateToolSettings, pb.UpdateToolSettingsRequest(settings=wanted))
    )
    assert error.fields == ["settings.timeout"]


def test_an_old_etag_is_aborted_and_told_the_current_one(people: People) -> None:
    old = people.olga.settings().etag
    new = people.olga.set(enabled=False, etag=old).etag
    error = refused(lambda: people.olga.set(enabled=True, etag=old))
    assert (error.code, error.reason, error.metadata["etag"]) == ("ABORTED", "ETAG_MISMATCH", new)
    assert people.olga.settings().enabled is False


def test_operators_keep_to_their_tenant_and_agents_set_nothing(people: People) -> None:
    for who in (people.alice, people.eve):
        assert refused(lambda who=who: who.set(enabled=False)).reason == "FORBIDDEN"
        assert refused(lambda who=who: who.settings()).reason == "FORBIDDEN"
    assert refused(lambda: people.olga.set(enabled=False, tenant_id="globex")).reason == "FORBIDDEN"
    assert people.admin.set(enabled=False, tenant_id="acme").tenant_id == "acme"
    assert not people.alice.tools()["shop.order"].enabled
    assert people.admin.settings(tenant="acme").updater == "admin"
    assert not people.admin.settings().HasField("enabled")


@pytest.mark.slow
def test_settings_outlive_the_server(tmp_path: Path) -> None:
    for life in range(2):
        with live_server(tmp_path) as server, grpc.insecure_channel(server.address) as channel:
            somebody = Somebody(channel)
            if not life:
                somebody.set("diagnostics.echo", enabled=False)
            assert refused(lambda somebody=somebody: somebody.run("diagnostics.echo")).reason == "TOOL_DISABLED"
