"""Addresses that cannot be had, and connections that ask often whether the server lives, on real sockets."""

import asyncio
import socket
import struct
from pathlib import Path

import grpc
import pytest

from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import SettingsError
from toolwright_server.rpc.observe import Unobserved
from toolwright_server.rpc.server import RpcOptions, RpcServer
from toolwright_server.settings import Settings

from .rpc_serving import SECONDS, SERVICE, Hold, Playing, serving

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING, GOAWAY, ACK = 6, 7, 1
FLOOD = 4_000


async def _refusal(listen: str) -> str:
    server = RpcServer(RpcOptions(listen=listen), Unobserved())
    server.add(SERVICE, Playing())
    with pytest.raises(SettingsError) as refused:
        await server.start()
    await server.stop(0)
    return str(refused.value)


@pytest.mark.asyncio
async def test_a_port_of_another_server_is_refused_with_a_sentence() -> None:
    async with serving(Playing()) as there:
        sentence = await _refusal(there.address)
        assert sentence == (
            f"cannot listen on {there.address}: another program listens there; "
            "set listen (TOOLWRIGHT_LISTEN) to another address"
        )


@pytest.mark.asyncio
async def test_a_name_of_which_one_address_is_taken_is_refused() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        assert "another program listens there" in await _refusal(f"localhost:{other.getsockname()[1]}")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("listen", "says"),
    [
        ("no-such-host.invalid:50051", "no-such-host.invalid is not a name or address of this machine"),
        ("192.0.2.1:50051", "Cannot assign requested address"),
        ("unix:/no/such/folder/socket", "the folder /no/such/folder does not exist"),
    ],
)
async def test_an_address_that_is_not_ours_is_refused_with_its_reason(listen: str, says: str) -> None:
    assert says in await _refusal(listen)


@pytest.mark.asyncio
async def test_a_server_on_a_socket_of_the_file_system_answers_and_is_not_taken_over(tmp_path: Path) -> None:
    listen = f"unix:{tmp_path}/s"
    hold = Hold(pb.ExecuteResponse())
    hold.go.set()
    async with serving(Playing(Execute=hold), listen=listen) as there:
        assert there.address == listen
        await there.stub.Execute(pb.ExecuteRequest())
        assert "another server answers there" in await _refusal(listen)
        await there.stub.Execute(pb.ExecuteRequest())


@pytest.mark.asyncio
async def test_a_socket_that_was_left_behind_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    hold = Hold(pb.ExecuteResponse())
    hold.go.set()
    async with serving(Playing(Execute=hold), listen=f"unix:{path}") as there:
        await there.stub.Execute(pb.ExecuteRequest())
    kept = tmp_path / "notes"
    kept.write_text("mine")
    assert "is a file that is no socket" in await _refusal(f"unix:{kept}")
    assert kept.read_text() == "mine"


@pytest.mark.asyncio
async def test_port_zero_takes_a_free_port_and_says_which() -> None:
    async with serving(Playing(), listen="127.0.0.1:0") as one, serving(Playing(), listen="127.0.0.1:0") as other:
        assert one.address != other.address
        assert int(one.address.rpartition(":")[2]) > 0


@pytest.mark.asyncio
async def test_calls_that_come_all_at_once_are_each_answered_by_us() -> None:
    async def answers(*_: object) -> pb.ExecuteResponse:
        return pb.ExecuteResponse()

    # More than gRPC by itself lets wait while the loop does other things, here the sending.
    async with serving(Playing(Execute=answers), concurrent_calls_limit=FLOOD) as there:
        calls = [there.stub.Execute(pb.ExecuteRequest(), timeout=SECONDS * 3) for _ in range(FLOOD)]
        assert await asyncio.gather(*calls) == [pb.ExecuteResponse()] * FLOOD


def test_options_come_from_the_settings() -> None:
    given = {"listen": "127.0.0.1:4", "concurrent_calls_limit": 7, "metadata_limit_bytes": 5000}
    settings = Settings.model_validate(given)
    options = RpcOptions.of(settings)
    assert (options.listen, options.concurrent_calls_limit) == ("127.0.0.1:4", 7)
    assert (options.metadata_limit_bytes, options.message_limit_bytes) == (5000, 16 * 1024**2)


async def _frame(reader: asyncio.StreamReader) -> tuple[int, int, bytes]:
    """`(type, flags, payload)` of the next HTTP/2 frame."""
    header = await asyncio.wait_for(reader.readexactly(9), SECONDS)
    payload = await asyncio.wait_for(reader.readexactly(int.from_bytes(header[:3])), SECONDS)
    return header[3], header[4], payload


async def _pinged(address: str, count: int, pause_seconds: float) -> int:
    """How many of `count` pings on a connection without calls are answered before the server ends it."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(PREFACE)
    answered = 0
    try:
        for number in range(count):
            writer.write(bytes([0, 0, 8, PING, 0, 0, 0, 0, 0]) + struct.pack(">Q", number))
            while True:
                kind, flags, _ = await _frame(reader)
                if kind == GOAWAY:
                    return answered
                if kind == PING and flags & ACK:
                    break
            answered += 1
            # The pause is what is tested: pings that are apart in time.
            await asyncio.sleep(pause_seconds)
    finally:
        writer.close()
    return answered


@pytest.mark.asyncio
async def test_pings_without_calls_are_tolerated_when_they_keep_their_distance() -> None:
    async with serving(Playing(), ping_interval_minimum_seconds=0.02) as there:
        assert await _pinged(there.address, 20, 0.03) == 20


@pytest.mark.asyncio
async def test_pings_that_come_in_a_flood_end_the_connection_and_no_other() -> None:
    hold = Hold(pb.ExecuteResponse())
    hold.go.set()
    async with serving(Playing(Execute=hold)) as there:
        await there.stub.Execute(pb.ExecuteRequest())
        assert await _pinged(there.address, 20, 0) < 20
        await there.stub.Execute(pb.ExecuteRequest())


@pytest.mark.asyncio
async def test_a_connection_ends_after_its_age_and_its_client_notices_nothing() -> None:
    hold = Hold(pb.ExecuteResponse())
    hold.go.set()
    ages = {"connection_age_seconds": 0.05, "connection_age_grace_seconds": 5.0}
    async with serving(Playing(Execute=hold), **ages) as there:
        await there.channel.channel_ready()
        await asyncio.wait_for(there.channel.wait_for_state_change(grpc.ChannelConnectivity.READY), SECONDS)
        for _ in range(20):
            await there.stub.Execute(pb.ExecuteRequest())
