"""Reflection over real gRPC: the Python way, and grpcurl and buf curl that know nothing but the address."""

import asyncio
import base64
import json
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

from toolwright.v1 import common_pb2
from toolwright.v1 import tool_execution_pb2 as pb
from toolwright_server.errors import Reason, ToolwrightError
from toolwright_server.rpc.call import RpcCall

from .rpc_serving import SECONDS, SERVICE, Playing, refused, serving

REFLECTION: Any = reflection_pb2
VERSIONS = ["v1", "v1alpha"]
GRPCURL = shutil.which("grpcurl")
BUF = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")


async def _ask(channel: grpc.aio.Channel, version: str, *requests: Any) -> list[Any]:
    async def asked() -> AsyncIterator[bytes]:
        for request in requests:
            yield request if isinstance(request, bytes) else request.SerializeToString()

    streaming: Any = channel.stream_stream
    call = streaming(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")(asked())
    return [REFLECTION.ServerReflectionResponse.FromString(answer) async for answer in call]


async def _run(*command: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


async def _execute(request: pb.ExecuteRequest, call: RpcCall) -> pb.ExecuteResponse:
    if request.call.tool == "unknown":
        raise ToolwrightError(Reason.TOOL_NOT_FOUND, "there is no tool named unknown")
    return pb.ExecuteResponse(execution=common_pb2.Execution(tool=request.call.tool))


@pytest.mark.asyncio
@pytest.mark.parametrize("version", VERSIONS)
async def test_both_versions_list_every_service(version: str) -> None:
    async with serving(Playing()) as there:
        (answer,) = await _ask(there.channel, version, REFLECTION.ServerReflectionRequest(list_services=""))
    names = [service.name for service in answer.list_services_response.service]
    assert names == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE.full_name,
    ]


@pytest.mark.asyncio
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "symbol",
    [
        SERVICE.full_name,
        "toolwright.v1.ToolExecution.Execute",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "grpc.health.v1.Health",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    ],
)
async def test_services_and_the_details_of_errors_are_described_whole(version: str, symbol: str) -> None:
    async with serving(Playing()) as there:
        asked = REFLECTION.ServerReflectionRequest(file_containing_symbol=symbol)
        (answer,) = await _ask(there.channel, version, asked)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in answer.file_descriptor_response.file_descriptor_proto
    ]
    assert symbol.startswith(files[0].package)
    names = {file.name for file in files}
    assert all(set(file.dependency) <= names for file in files)


@pytest.mark.asyncio
async def test_what_does_not_exist_is_said_and_the_stream_goes_on() -> None:
    async with serving(Playing()) as there:
        asked = [
            REFLECTION.ServerReflectionRequest(file_containing_symbol="no.such.Thing"),
            REFLECTION.ServerReflectionRequest(file_by_filename="no/such.proto"),
            REFLECTION.ServerReflectionRequest(),
            REFLECTION.ServerReflectionRequest(list_services=""),
        ]
        answers = await _ask(there.channel, "v1", *asked)
    codes = [answer.error_response.error_code for answer in answers]
    assert codes == [5, 5, 3, 0]


@pytest.mark.asyncio
async def test_a_malformed_question_is_refused_clearly() -> None:
    async with serving(Playing()) as there:
        error = await refused(_ask(there.channel, "v1", b"\xff\xff\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "no ServerReflectionRequest" in (error.details() or "")


@pytest.mark.asyncio
async def test_questions_that_are_never_finished_end_with_their_client() -> None:
    async with serving(Playing()) as there:
        streaming: Any = there.channel.stream_stream
        call = streaming("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")()
        await call.write(REFLECTION.ServerReflectionRequest(list_services="").SerializeToString())
        await asyncio.wait_for(call.read(), SECONDS)
        call.cancel()


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
@pytest.mark.asyncio
async def test_grpcurl_lists_describes_and_calls_by_reflection_alone() -> None:
    assert GRPCURL is not None
    async with serving(Playing(Execute=_execute)) as there:
        code, out, err = await _run(GRPCURL, "-plaintext", there.address, "list")
        assert (code, err) == (0, "")
        assert SERVICE.full_name in out.split()
        code, out, _ = await _run(GRPCURL, "-plaintext", there.address, "describe", f"{SERVICE.full_name}.Execute")
        assert "rpc Execute ( .toolwright.v1.ExecuteRequest )" in out
        body = json.dumps({"call": {"tool": "t", "arguments": {"a": 1}}})
        method = f"{SERVICE.full_name}/Execute"
        code, out, err = await _run(GRPCURL, "-plaintext", "-d", body, there.address, method)
        assert (code, err) == (0, "")
        assert json.loads(out)["execution"]["tool"] == "t"
        body = json.dumps({"call": {"tool": "unknown"}})
        code, _, err = await _run(GRPCURL, "-plaintext", "-d", body, there.address, method)
        assert code == 64 + 5
        assert "there is no tool named unknown" in err
        assert "TOOL_NOT_FOUND" in err, "grpcurl resolves the details by reflection, too"


@pytest.mark.skipif(BUF is None, reason="buf is not installed")
@pytest.mark.asyncio
async def test_buf_curl_lists_and_calls_by_reflection_alone() -> None:
    assert BUF is not None
    buf = [BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge"]
    async with serving(Playing(Execute=_execute)) as there:
        url = f"http://{there.address}"
        code, out, err = await _run(*buf, "--list-methods", url)
        assert code == 0, err
        assert f"{SERVICE.full_name}/WaitExecution" in out.split()
        method = f"{url}/{SERVICE.full_name}/Execute"
        code, out, err = await _run(*buf, "-d", '{"call": {"tool": "t"}}', method)
        assert code == 0, err
        assert json.loads(out)["execution"]["tool"] == "t"
        code, _, err = await _run(*buf, "-d", '{"call": {"tool": "unknown"}}', method)
        assert code != 0
        answer = json.loads(err)
        assert answer["code"] == "not_found"
        told = {detail["type"]: base64.b64decode(detail["value"] + "==") for detail in answer["details"]}
        assert b"TOOL_NOT_FOUND" in told["google.rpc.ErrorInfo"]
