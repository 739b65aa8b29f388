"""What is typed for tool settings becomes the request, against a real gRPC server that keeps what it was sent."""
# ruff: noqa: N802 - gRPC names the methods

import json
from collections.abc import Generator
from concurrent import futures
from typing import Any

import grpc
import pytest

from toolwright.v1 import tool_catalog_pb2 as pb
from toolwright.v1 import tool_catalog_pb2_grpc
from toolwright_server.commands.asking import UsageError
from toolwright_server.commands.exits import Exit
from toolwright_server.commands.tool_settings import Wanted, change, show

from .scripted_server import abort


class Keeping(tool_catalog_pb2_grpc.ToolCatalogServiceServicer):
    """Has limits of its own, and answers what it was sent."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[Any] = []
        self.refuses = False

    def GetToolSettings(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        kept = pb.ToolSettings(tool=request.tool, etag="4", limits={"day": 5, "running": 1})
        return pb.GetToolSettingsResponse(settings=kept)

    def UpdateToolSettings(self, request: Any, context: Any) -> Any:
        self.asked.append(request)
        if self.refuses:
            abort(context, grpc.StatusCode.ABORTED, "ETAG_MISMATCH", outcome="not_started")
        return pb.UpdateToolSettingsResponse(settings=request.settings)


@pytest.fixture
def server() -> Generator[Keeping]:
    keeping = Keeping()  # pyright: ignore[reportAbstractUsage]
    server = grpc.server(futures.ThreadPoolExecutor(2))
    tool_catalog_pb2_grpc.add_ToolCatalogServiceServicer_to_server(keeping, server)  # pyright: ignore[reportAbstractUsage]
    keeping.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield keeping
    server.stop(None).wait(10)


def test_what_is_typed_becomes_the_request() -> None:
    wanted = Wanted(
        tool="crm.get",
        tenant="acme",
        enabled=False,
        hidden=True,
        timeout_seconds=2.5,
        price="0.25",
        fixed='{"a": 1}',
        limits=["day=10", "window=2"],
        clear=["default"],
        etag="3",
    )
    request = wanted.request()
    said = request.settings
    assert (said.tool, said.tenant_id, said.etag, said.enabled, said.hidden) == ("crm.get", "acme", "3", False, True)
    assert (said.timeout.ToMilliseconds(), said.price_micros, said.fixed_arguments_json) == (2_500, 250_000, '{"a": 1}')
    assert dict(said.limits) == {"day": 10, "window": 2}
    assert set(request.update_mask.paths) == {
        "enabled",
        "hidden",
        "timeout",
        "price_micros",
        "fixed_arguments_json",
        "limits",
        "default_arguments_json",
    }


@pytest.mark.parametrize("typed", [{"enabled": False}, {"hidden": False}, {"price": "0"}, {"clear": ["timeout"]}])
def test_what_is_off_or_nothing_is_a_change_too(typed: dict[str, Any]) -> None:
    request = Wanted(tool="crm.get", **typed).request()
    assert len(request.update_mask.paths) == 1


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({}, "name what to change"),
        ({"timeout_seconds": 0.0}, "--timeout 0"),
        ({"price": "free"}, "--price 'free'"),
        ({"price": "0.0000001"}, "at most six decimals"),
        ({"price": "-1"}, "--price '-1'"),
        ({"price": "nan"}, "--price 'nan'"),
        ({"fixed": "[1]"}, "--fixed: the arguments: must be a JSON object"),
        ({"default": "a"}, "--default: arguments: 'a' is no key=value"),
        ({"limits": ["day"]}, "write KIND=N"),
        ({"limits": ["day=-1"]}, "write KIND=N"),
        ({"clear": ["owner"]}, "--clear 'owner': is one of enabled"),
        ({"clear": ["price"], "price": "1"}, "contradiction"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(typed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Wanted(tool="crm.get", **typed).request()
    assert sentence in str(caught.value)


def test_a_limit_joins_those_that_there_are_if_nobody_changes_them_meanwhile(
    server: Keeping, capsys: pytest.CaptureFixture[str]
) -> None:
    assert change(server.address, Wanted(tool="crm.get", limits=["day=7"]), as_json=True) == Exit.OK
    sent = server.asked[-1].settings
    assert (dict(sent.limits), sent.etag) == ({"day": 7, "running": 1}, "4")
    assert json.loads(capsys.readouterr().out)["limits"] == {"day": 7, "running": 1}


def test_a_change_without_limits_is_one_question(server: Keeping) -> None:
    assert change(server.address, Wanted(tool="crm.get", enabled=True), as_json=True) == Exit.OK
    assert len(server.asked) == 1
    assert server.asked[0].settings.etag == ""


def test_a_change_that_came_too_late_is_refused_not_unknown(
    server: Keeping, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refuses = True
    assert change(server.address, Wanted(tool="crm.get", enabled=True), as_json=True) == Exit.REFUSED
    assert "ETAG_MISMATCH" in capsys.readouterr().err


def test_what_is_set_is_shown(server: Keeping, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(server.address, "acme", "crm.get", as_json=False) == Exit.OK
    assert server.asked[0].tenant_id == "acme"
    assert json.loads(capsys.readouterr().out) == {
        "tool": "crm.get",
        "limits": {"day": 5, "running": 1},
        "etag": "4",
    }
