"""Who calls, over real gRPC and TLS: keys, tokens of an issuer on real HTTP, the client and the command line."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.issuer import AUDIENCE, ISSUER, Issuer, Served, served
from tests.refused import unpacked
from tests.services.rpc_serving import SECONDS, Watching, read_all, refused
from toolwright.v1 import keys_pb2, keys_pb2_grpc, tool_catalog_pb2, tool_catalog_pb2_grpc
from toolwright_client import AsyncClient, Tls, Unauthenticated
from toolwright_server.catalog.functions import declared_tool, tool
from toolwright_server.catalog.registry import Catalog
from toolwright_server.catalog.service import ToolCatalogService
from toolwright_server.catalog.settings_registry import ToolSettingsRegistry
from toolwright_server.execution import canonical
from toolwright_server.identity.caller import UNIDENTIFIED
from toolwright_server.keys.credentials import Credentials
from toolwright_server.keys.service import KeyService
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.settings import load_settings
from toolwright_server.stores.memory.keys import MemoryKeyStore
from toolwright_server.stores.memory.tool_settings import MemoryToolSettingsStore

pytestmark = pytest.mark.asyncio

TOOLS = ("crm.contact.get", "crmx.get", "knowledge.search")


@dataclass
class Guarded:
    """A server that takes keys and tokens, with an admin's key."""

    rpc: RpcServer
    address: str
    channel: grpc.aio.Channel
    admin: str
    issuer: Issuer
    web: Served
    seen: Watching
    counted: list[str]

    async def tools(self, credential: str, name: str = "authorization") -> list[str]:
        """The tools that a credential sees."""
        value = f"Bearer {credential}" if name == "authorization" else credential
        return await self.listed(((name, value),))

    async def listed(self, metadata: Any) -> list[str]:
        stub = tool_catalog_pb2_grpc.ToolCatalogServiceStub(self.channel)
        answer = await stub.ListTools(tool_catalog_pb2.ListToolsRequest(), metadata=metadata, timeout=SECONDS)
        return [each.name for each in answer.tools]

    async def key(self, by: str = "", **fields: Any) -> keys_pb2.CreateApiKeyResponse:
        stub = keys_pb2_grpc.KeyServiceStub(self.channel)
        given: dict[str, Any] = {"user_id": "bob"} | fields
        wanted = keys_pb2.CreateApiKeyRequest(**given)
        return await stub.CreateApiKey(wanted, metadata=bearer(by or self.admin), timeout=SECONDS)

    async def revoke(self, key_id: str, by: str = "") -> keys_pb2.RevokeApiKeyResponse:
        stub = keys_pb2_grpc.KeyServiceStub(self.channel)
        request = keys_pb2.RevokeApiKeyRequest(key_id=key_id)
        return await stub.RevokeApiKey(request, metadata=bearer(by or self.admin), timeout=SECONDS)


def bearer(credential: str) -> Any:
    return (("authorization", f"Bearer {credential}"),)


def catalog_service() -> ToolCatalogService:
    def anything() -> int:
        return 1

    found = [declared_tool(tool(name)(anything)) for name in TOOLS]
    catalog = Catalog([each for each in found if each is not None])
    settings = ToolSettingsRegistry(catalog, MemoryToolSettingsStore(), 60.0, canonical.parse)
    return ToolCatalogService(catalog, timeout_of=lambda _: 1.0, read_arguments=lambda _: {}, settings=settings)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def issuer() -> Generator[tuple[Issuer, Served]]:
    made = Issuer(now=int(time.time()))
    made.make_key("first")
    with served(made.jwks()) as web:
        yield made, web


@asynccontextmanager
async def guarding(
    folder: Path, authority: trustme.CA, issuer: tuple[Issuer, Served], **more: Any
) -> AsyncGenerator[Guarded]:
    made, web = issuer
    settings = load_settings(None, {**_settings(folder, authority), "jwt_jwks": web.url, **more})
    counted: list[str] = []
    credentials = Credentials(settings, MemoryKeyStore(), counted.append)
    await credentials.start()
    assert credentials.registry is not None
    seen = Watching()
    rpc = RpcServer(RpcOptions.of(settings), seen, credentials.authenticator)
    rpc.add(tool_catalog_pb2.DESCRIPTOR.services_by_name["ToolCatalogService"], catalog_service())
    rpc.add(keys_pb2.DESCRIPTOR.services_by_name["KeyService"], KeyService(credentials.registry))
    address = await rpc.start()
    admin = (folder / "admin.key").read_text().strip()
    trusting = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes())
    try:
        async with grpc.aio.secure_channel(address, trusting) as channel:
            yield Guarded(rpc, address, channel, admin, made, web, seen, counted)
    finally:
        await rpc.stop(0)
        await credentials.close()


def _settings(folder: Path, authority: trustme.CA) -> dict[str, Any]:
    made = authority.issue_cert("127.0.0.1")
    made.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "server.pem").write_bytes(b"".join(part.bytes() for part in made.cert_chain_pems))
    (folder / "ca.pem").write_bytes(authority.cert_pem.bytes())
    return {
        "listen": "127.0.0.1:0",
        "data_dir": folder,
        "auth": "api-key,jwt",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
        "jwt_scopes_claim": "scope",
        "jwt_leeway_seconds": 30,
        "tls_certificate_file": str(folder / "server.pem"),
        "tls_key_file": str(folder / "server.key"),
    }


@pytest_asyncio.fixture
async def guarded(tmp_path: Path, authority: trustme.CA, issuer: tuple[Issuer, Served]) -> AsyncGenerator[Guarded]:
    async with guarding(tmp_path, authority, issuer) as each:
        yield each


async def test_keys_and_tokens_are_taken_side_by_side(guarded: Guarded) -> None:
    made = await guarded.key(scopes=["crm.*"])
    assert await guarded.tools(made.secret) == ["crm.contact.get"]
    assert await guarded.tools(made.secret, "x-api-key") == ["crm.contact.get"]
    token = guarded.issuer.token("first", scope="openid crm.* knowledge.search")
    assert await guarded.tools(token) == ["crm.contact.get", "knowledge.search"]
    assert await guarded.tools(guarded.admin) == list(TOOLS)
    assert guarded.counted == []


async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(guarded: Guarded) -> None:
    issuer, now = guarded.issuer, guarded.issuer.now
    stranger = Issuer(now)
    stranger.make_key("first")
    stranger.make_key("unknown")
    header, claims, signature = issuer.token("first").split(".")
    wrong = {
        "none": issuer.unsigned("none", "first"),
        "hmac with the public key": issuer.with_public_key_as_secret("first"),
        "another's signature": stranger.token("first"),
        "unknown signer": stranger.token("unknown"),
        "no signature": f"{header}.{claims}.",
        "cut signature": f"{header}.{claims}.{signature[:-4]}",
        "expired": issuer.token("first", exp=now - 60),
        "not yet valid": issuer.token("first", nbf=now + 600),
        "another audience": issuer.token("first", aud="another"),
        "another issuer": issuer.token("first", iss="https://issuer.example.evil"),
        "nobody": issuer.token("first", sub=None),
        "a key's text": guarded.admin[:-1],
        "nonsense": "nonsense",
    }
    everything: set[str] = set()
    for what, token in wrong.items():
        error = unpacked(await refused(guarded.tools(token)))
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED"), what
        assert error.metadata["outcome"] == "not_started"
        assert error.retry_seconds is None
        everything.add(error.message)
    assert everything == {"the credentials are not valid"}
    assert len(guarded.counted) == len(wrong)
    assert all(call.caller is UNIDENTIFIED for call in guarded.seen.calls)


async def test_without_credentials_the_answer_says_how_to_send_them(guarded: Guarded) -> None:
    error = unpacked(await refused(guarded.listed(())))
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert "authorization: Bearer" in error.message
    assert guarded.counted == ["missing"]


async def test_a_rotated_key_of_the_issuer_is_taken_and_its_old_one_refused(
    tmp_path: Path, authority: trustme.CA, issuer: tuple[Issuer, Served]
) -> None:
    async with guarding(tmp_path, authority, issuer, jwt_jwks_refresh_seconds=0.05) as guarded:
        old = guarded.issuer.token("first", scope="*")
        assert await guarded.tools(old) == list(TOOLS)
        guarded.issuer.make_key("second")
        guarded.issuer.published = [guarded.issuer.keys["second"]]
        guarded.web.answer = (200, guarded.issuer.jwks())
        new = guarded.issuer.token("second", scope="*")

        async def taken() -> bool:
            try:
                return await guarded.tools(new) == list(TOOLS)
            except grpc.aio.AioRpcError as error:
                return error.code() is not grpc.StatusCode.UNAUTHENTICATED

        async with asyncio.timeout(SECONDS):
            while not await taken():
                pass
        assert await guarded.tools(new) == list(TOOLS)
        assert (await refused(guarded.tools(old))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_while_the_issuer_is_away_at_start_keys_work_and_tokens_must_wait(
    tmp_path: Path, authority: trustme.CA, issuer: tuple[Issuer, Served]
) -> None:
    issuer[1].answer = (503, b"")
    async with guarding(tmp_path, authority, issuer) as guarded:
        assert await guarded.tools(guarded.admin) == list(TOOLS)
        error = unpacked(await refused(guarded.tools(guarded.issuer.token("first"))))
        assert (error.code, error.reason) == ("UNAVAILABLE", "UPSTREAM_UNAVAILABLE")
        assert error.retry_seconds
        assert error.metadata["outcome"] == "not_started"


async def test_a_revoked_key_opens_nothing_from_the_next_call_on(guarded: Guarded) -> None:
    made = await guarded.key()
    assert await guarded.tools(made.secret)
    answer = await guarded.revoke(made.api_key.key_id)
    assert answer.api_key.HasField("revoke_time")
    assert (await refused(guarded.tools(made.secret))).code() is grpc.StatusCode.UNAUTHENTICATED
    assert guarded.counted == ["revoked_key"]


async def test_a_tool_outside_the_scope_is_as_if_it_were_not_there(guarded: Guarded) -> None:
    made = await guarded.key(scopes=["crm.*"])
    stub = tool_catalog_pb2_grpc.ToolCatalogServiceStub(guarded.channel)
    for hidden in ("crmx.get", "knowledge.search", "crm.contact.gett", "nowhere.at_all"):
        for rpc, request in (
            (stub.GetTool, tool_catalog_pb2.GetToolRequest(tool=hidden)),
            (stub.ValidateArguments, tool_catalog_pb2.ValidateArgumentsRequest(tool=hidden)),
            (stub.GetTool, tool_catalog_pb2.GetToolRequest(tool=hidden, tool_version="7")),
        ):
            call: Any = rpc
            error = unpacked(await refused(call(request, metadata=bearer(made.secret), timeout=SECONDS)))
            assert error.reason == "TOOL_NOT_FOUND"
            assert not any(name in error.everything for name in TOOLS[1:] if name != hidden)
            assert error.message.startswith(f"there is no tool '{hidden}'")


async def test_agents_manage_no_keys_and_operators_only_their_tenants(guarded: Guarded) -> None:
    agent = await guarded.key(tenant_id="acme")
    operator = await guarded.key(tenant_id="acme", role=keys_pb2.ROLE_OPERATOR)
    other = await guarded.key(tenant_id="other")
    assert unpacked(await refused(guarded.key(agent.secret))).reason == "FORBIDDEN"
    assert unpacked(await refused(guarded.revoke(agent.api_key.key_id, agent.secret))).reason == "FORBIDDEN"
    for beyond in ({"tenant_id": "other"}, {"role": keys_pb2.ROLE_ADMIN}):
        assert unpacked(await refused(guarded.key(operator.secret, **beyond))).reason == "FORBIDDEN"
    error = unpacked(await refused(guarded.revoke(other.api_key.key_id, operator.secret)))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (await guarded.key(operator.secret)).api_key.tenant_id == "acme"


async def test_keys_are_listed_in_pages_without_their_texts(guarded: Guarded) -> None:
    made = [await guarded.key(label=f"number {number}") for number in range(5)]
    stub = keys_pb2_grpc.KeyServiceStub(guarded.channel)
    request = keys_pb2.ListApiKeysRequest(page_size=4)
    pages: list[keys_pb2.ListApiKeysResponse] = []
    while not pages or request.page_token:
        pages.append(await stub.ListApiKeys(request, metadata=bearer(guarded.admin), timeout=SECONDS))
        request.page_token = pages[-1].next_page_token
    assert [len(page.api_keys) for page in pages] == [4, 2]
    everything = b"".join(page.SerializeToString() for page in pages)
    assert not any(each.secret.rpartition("_")[2].encode() in everything for each in made)
    request = keys_pb2.ListApiKeysRequest(page_token=pages[0].next_page_token, tenant_id="acme")
    error = await refused(stub.ListApiKeys(request, metadata=bearer(guarded.admin), timeout=SECONDS))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_and_reflection_ask_for_nothing(guarded: Guarded) -> None:
    stub: Any = health_pb2_grpc.HealthStub(guarded.channel)
    answer: Any = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert await _reflected(guarded.channel) is grpc.StatusCode.OK
    assert guarded.counted == []


async def test_reflection_can_be_turned_off(
    tmp_path: Path, authority: trustme.CA, issuer: tuple[Issuer, Served]
) -> None:
    async with guarding(tmp_path, authority, issuer, reflection=False) as guarded:
        assert await _reflected(guarded.channel) is grpc.StatusCode.UNIMPLEMENTED


async def _reflected(channel: grpc.aio.Channel) -> grpc.StatusCode:
    stream: Any = channel.stream_stream
    call = stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")(iter([b"\x3a\x00"]), timeout=SECONDS)
    try:
        assert len(await read_all(call)) == 1
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_the_client_proves_who_calls(guarded: Guarded, tmp_path: Path) -> None:
    made = await guarded.key(scopes=["crm.*"])
    tls = Tls(ca_file=tmp_path / "ca.pem")
    async with AsyncClient(guarded.address, api_key=made.secret, tls=tls) as client:
        assert [each.name for each in await client.tools()] == ["crm.contact.get"]
    renewed = iter([guarded.issuer.token("first", scope=f"{name}") for name in TOOLS[:2]])
    async with AsyncClient(guarded.address, token=lambda: next(renewed), tls=tls) as client:
        assert [[each.name for each in await client.tools()] for _ in range(2)] == [["crm.contact.get"], ["crmx.get"]]
    async with AsyncClient(guarded.address, api_key="tw_wrong", tls=tls) as client:
        with pytest.raises(Unauthenticated):
            await client.tools()


async def command(guarded: Guarded, *arguments: str, **variables: str) -> tuple[int, str, str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TOOLWRIGHT_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toolwright_server.main", *arguments,
        env={**clean, "TOOLWRIGHT_ADDRESS": guarded.address, **variables},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_command_line_makes_lists_and_revokes_keys(guarded: Guarded, tmp_path: Path) -> None:
    access = {"TOOLWRIGHT_TLS_CA_FILE": str(tmp_path / "ca.pem"), "TOOLWRIGHT_API_KEY": guarded.admin}
    code, secret, said = await command(
        guarded, "keys", "create", "--user", "ann", "--scope", "crm.*", "--days", "1", **access
    )
    assert (code, secret.count("\n")) == (0, 1)
    assert "shown only now" in said
    secret = secret.strip()
    assert await guarded.tools(secret) == ["crm.contact.get"]
    key_id = secret.split("_")[1]
    code, listed, _ = await command(guarded, "keys", "list", **access)
    assert code == 0
    assert key_id in listed
    assert secret not in listed
    code, _, said = await command(guarded, "keys", "list", **(access | {"TOOLWRIGHT_API_KEY": secret}))
    assert code == 5
    assert "needs the role operator" in said
    file = tmp_path / "key"
    file.write_text(guarded.admin + "\n")
    code, _, _ = await command(
        guarded, "--api-key-file", str(file), "--tls-ca-file", str(tmp_path / "ca.pem"), "keys", "revoke", key_id
    )
    assert code == 0
    assert (await refused(guarded.tools(secret))).code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("variables", "code", "sentence"),
    [
        ({}, 8, "one that encrypts is reached with TOOLWRIGHT_TLS_CA_FILE"),
        ({"TOOLWRIGHT_TLS": "true"}, 8, "does not trust the other's certificate"),
        ({"TOOLWRIGHT_TLS": "maybe"}, 2, "TOOLWRIGHT_TLS = 'maybe': write true or false"),
        ({"TOOLWRIGHT_TLS_CA_FILE": "nowhere.pem"}, 2, "nowhere.pem cannot be read"),
        ({"TOOLWRIGHT_CLIENT_KEY_FILE": __file__}, 2, "belong together"),
        ({"TOOLWRIGHT_API_KEY": "a", "TOOLWRIGHT_TOKEN": "b"}, 2, "one of them is enough"),
        ({"TOOLWRIGHT_API_KEY": "two words"}, 2, "one word of printable ASCII"),
        ({"TOOLWRIGHT_API_KEY": "k", "TOOLWRIGHT_ADDRESS": "example.org:1"}, 2, "is not encrypted"),
    ],
)
async def test_the_command_line_says_what_is_missing(
    guarded: Guarded, variables: dict[str, str], code: int, sentence: str
) -> None:
    found, out, said = await command(guarded, "tools", **variables)
    assert (found, out) == (code, "")
    assert sentence in said
