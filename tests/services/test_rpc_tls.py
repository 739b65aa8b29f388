"""TLS over real connections: certificates that change while the server runs, and callers that must show theirs."""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from tests.services.rpc_serving import SECONDS, SERVICE, Playing, Watching, refused
from toolwright.v1 import common_pb2, tool_execution_pb2_grpc
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import SettingsError
from toolwright_server.rpc.call import RpcCall
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.rpc.tls import TlsFiles
from toolwright_server.settings import load_settings

pytestmark = pytest.mark.asyncio

NEW_CA = trustme.CA


class Pki:
    """An authority for servers, one for callers, and the files that a server reads."""

    def __init__(self, folder: Path) -> None:
        self.servers, self.callers = NEW_CA(), NEW_CA()
        self.files = TlsFiles(folder / "server.pem", folder / "server.key", folder / "callers.pem")
        self.files.client_authorities.write_bytes(self.callers.cert_pem.bytes())  # type: ignore[union-attr]
        self.issue()

    def issue(self) -> None:
        """A new certificate, key first: for a moment the two do not belong together."""
        certificate, key = pems(self.servers)
        self.files.key.write_bytes(key)
        self.files.certificate.write_bytes(certificate)

    def spoil(self, file: str, content: bytes | None) -> None:
        """Put something else into a file; None: remove it."""
        path: Path = getattr(self.files, file)
        path.unlink()
        if content is not None:
            path.write_bytes(content)

    def options(self, **more: Any) -> RpcOptions:
        return RpcOptions(listen="127.0.0.1:0", tls=self.files, **more)


def pems(authority: trustme.CA) -> tuple[bytes, bytes]:
    """A certificate for this machine and its key."""
    made = authority.issue_cert("127.0.0.1", "localhost")
    return b"".join(part.bytes() for part in made.cert_chain_pems), made.private_key_pem.bytes()


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@asynccontextmanager
async def running(options: RpcOptions) -> AsyncGenerator[tuple[RpcServer, str]]:
    async def answer(request: Any, call: RpcCall) -> Any:
        del request, call
        return pb.ExecuteResponse(execution=common_pb2.Execution(execution_id="e-1"))

    server = RpcServer(options, Watching())
    server.add(SERVICE, Playing(Execute=answer))
    address = await server.start()
    try:
        yield server, address
    finally:
        await server.stop(0)


async def call(address: str, trusts: trustme.CA | None, shows: trustme.CA | None = None) -> str:
    """The id of an execution, over a new connection; `trusts` None: a plain one."""
    if trusts is None:
        channel = grpc.aio.insecure_channel(address)
    else:
        certificate, key = pems(shows) if shows is not None else (None, None)
        # Connections to one address with the same credentials are shared, as if they were one.
        credentials = grpc.ssl_channel_credentials(trusts.cert_pem.bytes(), key, certificate)
        channel = grpc.aio.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
    async with channel:
        stub = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        answer = await stub.Execute(pb.ExecuteRequest(), timeout=SECONDS)
        return answer.execution.execution_id


async def shown(address: str) -> bytes:
    """The certificate that the server shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port), ssl=context), SECONDS)
    try:
        certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(True)
        return certificate
    finally:
        writer.close()


async def test_who_trusts_the_authority_is_served(pki: Pki) -> None:
    async with running(pki.options()) as (_, address):
        assert await call(address, pki.servers) == "e-1"
        assert (await refused(call(address, NEW_CA()))).code() is grpc.StatusCode.UNAVAILABLE
        assert (await refused(call(address, None))).code() is grpc.StatusCode.UNAVAILABLE


async def test_changed_certificates_are_shown_to_the_next_connection(pki: Pki) -> None:
    async with running(pki.options()) as (_, address):
        before = await shown(address)
        assert await shown(address) == before
        async with grpc.aio.secure_channel(
            address, grpc.ssl_channel_credentials(pki.servers.cert_pem.bytes())
        ) as old_channel:
            stub = tool_execution_pb2_grpc.ToolExecutionStub(old_channel)
            await stub.Execute(pb.ExecuteRequest(), timeout=SECONDS)
            pki.servers = NEW_CA()
            pki.issue()
            assert await shown(address) != before
            assert await call(address, pki.servers) == "e-1"
            # The connection that was there stays.
            await stub.Execute(pb.ExecuteRequest(), timeout=SECONDS)


async def test_a_certificate_without_its_key_changes_nothing_until_the_key_is_there(
    pki: Pki, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(pki.options()) as (_, address):
        before = await shown(address)
        certificate, key = pems(pki.servers)
        with caplog.at_level(logging.WARNING):
            pki.files.certificate.write_bytes(certificate)
            assert await shown(address) == before
        assert "kept the certificates as they were: the key in" in caplog.text
        pki.files.certificate.unlink()
        assert await shown(address) == before
        pki.files.key.write_bytes(key)
        pki.files.certificate.write_bytes(certificate)
        assert await shown(address) != before


async def test_callers_without_a_certificate_are_turned_away_where_one_is_required(pki: Pki) -> None:
    async with running(pki.options(client_certificates_required=True)) as (_, address):
        assert await call(address, pki.servers, shows=pki.callers) == "e-1"
        for shows in (None, NEW_CA(), pki.servers):
            assert (await refused(call(address, pki.servers, shows))).code() is grpc.StatusCode.UNAVAILABLE


async def test_new_authorities_of_callers_are_taken_while_the_server_runs(pki: Pki) -> None:
    async with running(pki.options(client_certificates_required=True)) as (_, address):
        old, pki.callers = pki.callers, NEW_CA()
        assert await call(address, pki.servers, shows=old) == "e-1"
        assert pki.files.client_authorities is not None
        pki.files.client_authorities.write_bytes(pki.callers.cert_pem.bytes())
        assert await call(address, pki.servers, shows=pki.callers) == "e-1"
        assert (await refused(call(address, pki.servers, shows=old))).code() is grpc.StatusCode.UNAVAILABLE


async def test_certificates_are_accepted_on_an_address_of_their_own(pki: Pki) -> None:
    async with running(pki.options(client_listen="127.0.0.1:0")) as (server, address):
        assert await call(address, pki.servers) == "e-1"
        assert await call(server.client_address, pki.servers, shows=pki.callers) == "e-1"
        assert (await refused(call(server.client_address, pki.servers))).code() is grpc.StatusCode.UNAVAILABLE
        assert (await refused(call(server.client_address, pki.servers, NEW_CA()))).code() is grpc.StatusCode.UNAVAILABLE


async def test_the_settings_become_the_options(pki: Pki) -> None:
    given = {
        "tls_certificate_file": str(pki.files.certificate),
        "tls_key_file": str(pki.files.key),
        "tls_client_ca_file": str(pki.files.client_authorities),
        "tls_client_certificates": "require",
        "reflection": False,
    }
    options = RpcOptions.of(load_settings(None, given))
    assert (options.tls, options.client_certificates_required, options.reflection) == (pki.files, True, False)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("certificate", b"", "server.pem holds no certificate in PEM"),
        ("key", b"", "server.key is no private key in PEM"),
        ("key", pems(NEW_CA())[1], "does not belong to the certificate"),
        ("client_authorities", b"x", "callers.pem holds no certificate in PEM"),
        ("key", None, "server.key: No such file"),
    ],
)
async def test_files_that_cannot_be_used_are_refused_at_start(
    pki: Pki, file: str, content: bytes | None, sentence: str
) -> None:
    pki.spoil(file, content)
    server = RpcServer(pki.options(), Watching())
    with pytest.raises(SettingsError, match=sentence):
        await server.start()
    await server.stop(0)
