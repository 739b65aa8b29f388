"""Strangers' tools, by reflection alone: no proto file, no stub of ours, only the address."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import LiveServer, live_server

BUF = str(Path(sys.executable).parent / "buf")
SERVICES = {"toolwright.v1.ToolExecution", "toolwright.v1.ToolCatalogService", "grpc.health.v1.Health"}
CALL = {"call": {"tool": "diagnostics.echo", "arguments": {"greeting": "hello", "n": 1}}}


def find_grpcurl() -> str | None:
    folders = (os.environ.get("GOBIN", ""), str(Path(os.environ.get("GOPATH", Path.home() / "go")) / "bin"))
    found = (shutil.which("grpcurl"), *(shutil.which("grpcurl", path=folder) for folder in folders if folder))
    return next((path for path in found if path), None)


GRPCURL = find_grpcurl()
needs_grpcurl = pytest.mark.skipif(
    GRPCURL is None,
    reason="grpcurl is not on the PATH; go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    env = {"TOOLWRIGHT_TOOLKITS": "diagnostics", "TOOLWRIGHT_PROCESS_WORKERS": "1"}
    with live_server(tmp_path_factory.mktemp("grpcurl"), env=env) as running:
        yield running


def run(*command: str, code: int = 0) -> str:
    done = subprocess.run(command, text=True, capture_output=True, timeout=40, check=False)
    assert (done.returncode == 0) == (code == 0), f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def buf(server: LiveServer, method: str, request: dict[str, Any] | None = None, code: int = 0) -> str:
    url = f"http://{server.address}/{method}"
    sent = ["--data", json.dumps(request or {})] if method else []
    return run(BUF, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *sent, url, code=code)


def grpcurl(server: LiveServer, *arguments: str, request: dict[str, Any] | None = None, code: int = 0) -> str:
    assert GRPCURL is not None
    sent = ["-d", json.dumps(request)] if request is not None else []
    return run(GRPCURL, "-plaintext", "-max-time", "20", *sent, server.address, *arguments, code=code)


def test_buf_curl_lists_services_and_methods(server: LiveServer) -> None:
    url = f"http://{server.address}"
    common = ("curl", "--protocol", "grpc", "--http2-prior-knowledge")
    assert set(run(BUF, *common, "--list-services", url).split()) >= SERVICES
    methods = run(BUF, *common, "--list-methods", url).split()
    assert "toolwright.v1.ToolExecution/ExecuteStream" in methods


def test_buf_curl_executes_streams_and_asks_for_health(server: LiveServer) -> None:
    answer = json.loads(buf(server, "toolwright.v1.ToolExecution/Execute", CALL))
    assert answer["execution"]["result"]["value"] == {"greeting": "hello", "n": 1}
    counted = {"call": {"tool": "diagnostics.count", "arguments": {"steps": 3, "interval_seconds": 0}}}
    assert '"finished"' in buf(server, "toolwright.v1.ToolExecution/ExecuteStream", counted)
    assert json.loads(buf(server, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}
    assert "diagnostics.echo" in buf(server, "toolwright.v1.ToolCatalogService/ListTools")


def test_buf_curl_shows_the_details_of_a_refusal(server: LiveServer) -> None:
    shown = buf(server, "toolwright.v1.ToolExecution/Execute", {"call": {"tool": "diagnostics.none"}}, code=1)
    answer = json.loads(shown)
    assert answer["code"] == "not_found"
    # buf decodes no details; it shows which ones came.
    assert {detail["type"] for detail in answer["details"]} >= {"google.rpc.ErrorInfo", "google.rpc.LocalizedMessage"}


@needs_grpcurl
def test_grpcurl_lists_and_describes(server: LiveServer) -> None:
    listed = set(grpcurl(server, "list").split())
    assert listed >= SERVICES | {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
    assert "toolwright.v1.ToolExecution.WaitExecution" in grpcurl(server, "list", "toolwright.v1.ToolExecution").split()
    for service in listed:
        assert "rpc " in grpcurl(server, "describe", service)
    assert "detach_on_disconnect" in grpcurl(server, "describe", "toolwright.v1.ToolCall")


@needs_grpcurl
def test_grpcurl_executes_streams_and_asks_for_health(server: LiveServer) -> None:
    answer = json.loads(grpcurl(server, "toolwright.v1.ToolExecution/Execute", request=CALL))
    assert answer["execution"]["result"]["value"] == {"greeting": "hello", "n": 1}
    counted = {"call": {"tool": "diagnostics.count", "arguments": {"steps": 3, "interval_seconds": 0}}}
    assert '"finished"' in grpcurl(server, "toolwright.v1.ToolExecution/ExecuteStream", request=counted)
    for service in ["", *sorted(SERVICES)]:
        health = grpcurl(server, "grpc.health.v1.Health/Check", request={"service": service})
        assert json.loads(health) == {"status": "SERVING"}


@needs_grpcurl
def test_grpcurl_shows_the_details_of_a_refusal(server: LiveServer) -> None:
    wrong = {"call": {"tool": "diagnostics.sleep", "arguments": {"seconds": "x"}}}
    shown = grpcurl(server, "toolwright.v1.ToolExecution/Execute", request=wrong, code=1)
    assert "INVALID_ARGUMENTS" in shown
    assert "google.rpc.BadRequest" in shown
