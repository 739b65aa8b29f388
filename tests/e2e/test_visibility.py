"""Who may see what, through every rpc of a real server with API keys: what is not yours does not exist for you."""

import contextlib
import itertools
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live import LiveServer, eventually, live_server
from toolwright.v1 import audit_pb2, keys_pb2, tool_catalog_pb2
from toolwright.v1 import tool_execution_pb2 as execution_pb2

from .people import People, Somebody, by_id, execute

ARTIFACTS = Path(__file__).with_name("artifact_tools.py")
FILES = (execution_pb2, tool_catalog_pb2, keys_pb2, audit_pb2)
# What each rpc does with the id of somebody else's execution, key or tenant; without a line here the first test fails.
EVERY = {
    "ToolExecution/Execute": "acts for another user, or calls a tool outside its scope",
    "ToolExecution/ExecuteStream": "acts for another user, or calls a tool outside its scope",
    "ToolExecution/BatchExecute": "acts for another user, or calls a tool outside its scope",
    "ToolExecution/GetExecution": "takes an id",
    "ToolExecution/ListExecutions": "leaves out",
    "ToolExecution/WaitExecution": "takes an id",
    "ToolExecution/CancelExecution": "takes an id",
    "ToolExecution/ReconcileExecution": "takes an id",
    "ToolExecution/ReadArtifact": "takes the id of an artifact",
    "ToolCatalogService/ListTools": "leaves out",
    "ToolCatalogService/GetTool": "hides",
    "ToolCatalogService/ValidateArguments": "hides",
    "ToolCatalogService/GetToolSettings": "refuses another tenant",
    "ToolCatalogService/UpdateToolSettings": "refuses another tenant",
    "KeyService/CreateApiKey": "gives no more than one has",
    "KeyService/ListApiKeys": "refuses another tenant",
    "KeyService/RevokeApiKey": "takes the id of a key",
    "AuditService/ListAuditRecords": "refuses another tenant",
    "AuditService/ExportAuditRecords": "refuses another tenant",
    "AuditService/VerifyAuditRecords": "refuses another tenant",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[LiveServer]:
    folder = tmp_path_factory.mktemp("visibility")
    settings = {
        "TOOLWRIGHT_AUTH": "api-key",
        "TOOLWRIGHT_TOOLKITS": "diagnostics,crm",
        "TOOLWRIGHT_AUDIT_KEY_FILE": str(folder / "audit.key"),
    }
    with live_server(folder, "--tools", str(ARTIFACTS), env=settings) as running:
        yield running


@pytest.fixture(scope="module")
def people(server: LiveServer) -> Generator[People]:
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(grpc.insecure_channel(server.address, options=[("grpc.enable_retries", 0)]))
        admin = Somebody(channel, Path(server.data_dir, "admin.key").read_text(encoding="ascii").strip())
        made = {
            "alice": admin.make("agent", "alice", "acme"),
            "bob": admin.make("agent", "bob", "acme"),
            "olga": admin.make("operator", "olga", "acme"),
            "eve": admin.make("agent", "eve", "globex"),
            "greta": admin.make("operator", "greta", "globex"),
            "narrow": admin.make("agent", "narrow", "acme", scopes=["crm.contact.*"]),
        }
        everybody = {name: Somebody(channel, answer.secret) for name, answer in made.items()}
        forged = made["alice"].secret[:-1] + ("a" if made["alice"].secret[-1] != "a" else "b")
        yield People(
            admin=admin,
            nobody=Somebody(channel),
            forger=Somebody(channel, forged),
            key_ids={name: answer.api_key.key_id for name, answer in made.items()},
            **everybody,
        )


@pytest.fixture(scope="module")
def alices(people: People) -> Any:
    """An execution of alice's that has ended."""
    return people.alice.execute(request_id="mine", session_id="s", arguments={"word": "hush"})


@pytest.fixture
def running(people: People) -> Generator[str]:
    """The id of an execution of alice's that runs until the end of the test."""
    stream = people.alice.execution.ExecuteStream(
        execution_pb2.ExecuteStreamRequest(call=execute("diagnostics.sleep", arguments={"seconds": 30}).call),
        timeout=60,
        metadata=people.alice._metadata,  # pyright: ignore[reportPrivateUsage]
    )
    yield next(stream).event.snapshot.execution_id
    stream.cancel()


def test_every_rpc_is_tried_here() -> None:
    services = itertools.chain.from_iterable(file.DESCRIPTOR.services_by_name.values() for file in FILES)
    assert {f"{service.name}/{method.name}" for service in services for method in service.methods} == set(EVERY)


@pytest.mark.parametrize("rpc", EVERY)
@pytest.mark.parametrize("who", ["nobody", "forger"])
def test_without_good_credentials_no_rpc_answers(people: People, rpc: str, who: str) -> None:
    service, _, method = rpc.partition("/")
    somebody: Somebody = getattr(people, who)
    stub = {"ToolExecution": somebody.execution, "ToolCatalogService": somebody.catalog}
    stub |= {"KeyService": somebody.keys, "AuditService": somebody.audit}
    [file] = [file for file in FILES if service in file.DESCRIPTOR.services_by_name]
    asked = file.DESCRIPTOR.services_by_name[service].methods_by_name[method].input_type.name
    status = somebody.refused(getattr(stub[service], method), getattr(file, asked)())
    assert (status.code, status.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@pytest.mark.parametrize("who", ["bob", "eve", "greta"])
@pytest.mark.parametrize("rpc", ["GetExecution", "WaitExecution", "CancelExecution", "ReconcileExecution"])
def test_somebody_elses_execution_does_not_exist(people: People, alices: Any, rpc: str, who: str) -> None:
    somebody = people.strangers()[who]
    status = somebody.refused(*by_id(alices.execution_id)[rpc](somebody))
    assert (status.code, status.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    # Not even a word tells one that is somebody else's from one that never was.
    never = alices.execution_id[:-4] + "0000"
    unknown = somebody.refused(*by_id(never)[rpc](somebody))
    assert status.message.replace(alices.execution_id, "") == unknown.message.replace(never, "")
    assert "hush" not in status.everything


@pytest.mark.parametrize("who", ["bob", "eve", "greta"])
@pytest.mark.parametrize("rpc", ["GetExecution", "WaitExecution", "CancelExecution"])
def test_somebody_elses_execution_does_not_exist_while_it_runs_either(
    people: People, running: str, rpc: str, who: str
) -> None:
    somebody = people.strangers()[who]
    assert somebody.refused(*by_id(running)[rpc](somebody)).code == "NOT_FOUND"
    own = people.alice.call(*by_id(running)["GetExecution"](people.alice)).execution
    assert not own.HasField("end_time")


def test_somebody_elses_artifact_does_not_exist(people: People) -> None:
    known = people.alice.execute("files.report", arguments={"rows": 1}).result.artifacts[0]
    asked, never = (execution_pb2.ReadArtifactRequest(artifact_id=known.artifact_id + rest) for rest in ("", "9"))
    for somebody in people.strangers().values():
        told, unknown = (somebody.refused(somebody.execution.ReadArtifact, each) for each in (asked, never))
        assert told.message.replace(asked.artifact_id, "") == unknown.message.replace(never.artifact_id, "")
    assert people.olga.call(people.olga.execution.ReadArtifact, asked)[0].data.decode() == known.preview


@pytest.mark.parametrize("who", ["bob", "eve", "greta"])
def test_lists_and_request_ids_leave_out_what_is_somebody_elses(people: People, alices: Any, who: str) -> None:
    somebody = people.strangers()[who]
    somebody.execute(request_id=f"of-{who}")
    for text in ("", f'task_id = "{alices.task_id}"', 'user_id = "alice"', 'session_id = "s"', 'request_id = "mine"'):
        asked = execution_pb2.ListExecutionsRequest(page_size=1000, filter=text)
        rows = somebody.call(somebody.execution.ListExecutions, asked).executions
        assert alices.execution_id not in {row.execution_id for row in rows}
        assert not rows or text == ""
    by_request = execution_pb2.GetExecutionRequest(request_id="mine")
    assert somebody.refused(somebody.execution.GetExecution, by_request).code == "NOT_FOUND"


def test_the_same_request_id_of_two_principals_is_two_requests(people: People, alices: Any) -> None:
    bobs = people.bob.execute(request_id="mine", arguments={"word": "mine"})
    assert bobs.execution_id != alices.execution_id
    again = people.alice.execute(request_id="mine", session_id="s", arguments={"word": "hush"})
    assert again.execution_id == alices.execution_id


def test_owners_operators_and_admins_see_what_is_theirs_to_see(people: People, alices: Any) -> None:
    for somebody in (people.alice, people.olga, people.admin):
        seen = somebody.call(*by_id(alices.execution_id)["GetExecution"](somebody)).execution
        assert (seen.execution_id, seen.tenant_id, seen.user_id) == (alices.execution_id, "acme", "alice")


def test_what_an_exception_said_is_for_operators_of_the_tenant_alone(people: People) -> None:
    failed = people.alice.execute("diagnostics.fail", arguments={"kind": "exception", "message": "the hushed cause"})
    asked = execution_pb2.GetExecutionRequest(execution_id=failed.execution_id)
    own = people.alice.call(people.alice.execution.GetExecution, asked).execution
    assert "the hushed cause" not in f"{failed}{own.error}"
    for somebody in (people.olga, people.admin):
        seen = somebody.call(somebody.execution.GetExecution, asked).execution
        assert seen.error.admin_message.endswith(": the hushed cause")
        assert seen.error.message == failed.error.message
    listed = people.olga.call(people.olga.execution.ListExecutions, execution_pb2.ListExecutionsRequest(page_size=1000))
    assert "the hushed cause" not in str(listed)


@pytest.mark.parametrize("rpc", ["Execute", "ExecuteStream"])
def test_nobody_acts_for_a_user_that_its_key_does_not_name(people: People, rpc: str) -> None:
    call = execute("diagnostics.echo", user_id="alice").call
    asked = {
        "Execute": execution_pb2.ExecuteRequest(call=call),
        "ExecuteStream": execution_pb2.ExecuteStreamRequest(call=call),
    }[rpc]
    for somebody in (people.bob, people.eve):
        status = somebody.refused(getattr(somebody.execution, rpc), asked)
        assert (status.code, status.reason) == ("PERMISSION_DENIED", "FORBIDDEN")
        assert status.metadata["outcome"] == "not_started"


@pytest.mark.parametrize("rpc", ["Execute", "ExecuteStream"])
def test_a_tool_outside_the_scope_is_not_called(people: People, rpc: str) -> None:
    for tool in ("diagnostics.echo", "crm.deal.list", "crm.contacts.get"):
        asked = {
            "Execute": execute(tool),
            "ExecuteStream": execution_pb2.ExecuteStreamRequest(call=execute(tool).call),
        }[rpc]
        status = people.narrow.refused(getattr(people.narrow.execution, rpc), asked)
        assert (status.code, status.reason) == ("PERMISSION_DENIED", "FORBIDDEN")


def test_each_call_of_a_batch_is_refused_and_audited_by_itself(people: People) -> None:
    somebody = people.narrow
    calls = [execute("diagnostics.echo").call, execute("crm.contact.search", user_id="alice").call]
    calls.append(execute("crm.contact.search", arguments={"query": "x"}).call)
    answer = somebody.call(somebody.execution.BatchExecute, execution_pb2.BatchExecuteRequest(calls=calls))
    assert [row.error.reason for row in answer.executions] == ["FORBIDDEN", "FORBIDDEN", ""]
    olga = people.olga

    def audited() -> set[str]:
        asked = audit_pb2.ListAuditRecordsRequest(page_size=1000, filter='principal = "narrow" AND kind = refusal')
        records = olga.call(olga.audit.ListAuditRecords, asked).records
        facts = [json.loads(record.facts_json) for record in records]
        return {str(fact.get("tool")) for fact in facts if fact["method"].endswith("/BatchExecute")}

    eventually(lambda: audited() == {"diagnostics.echo", "crm.contact.search"}, seconds=20, interval=0.2)


def test_a_tool_outside_the_scope_is_hidden(people: People) -> None:
    somebody = people.narrow
    tools = somebody.call(somebody.catalog.ListTools, tool_catalog_pb2.ListToolsRequest(page_size=1000)).tools
    assert tools
    assert {tool.name.rpartition(".")[0] for tool in tools} == {"crm.contact"}
    for rpc, asked in (
        (somebody.catalog.GetTool, tool_catalog_pb2.GetToolRequest(tool="diagnostics.echo")),
        (
            somebody.catalog.ValidateArguments,
            tool_catalog_pb2.ValidateArgumentsRequest(tool="diagnostics.echo", arguments_json="{}"),
        ),
    ):
        assert somebody.refused(rpc, asked).reason == "TOOL_NOT_FOUND"


def test_keys_of_another_tenant_are_neither_listed_nor_revoked_nor_made(people: People) -> None:
    greta = people.greta
    listed = greta.refused(greta.keys.ListApiKeys, keys_pb2.ListApiKeysRequest(tenant_id="acme"))
    assert listed.reason == "FORBIDDEN"
    own = greta.call(greta.keys.ListApiKeys, keys_pb2.ListApiKeysRequest(page_size=1000)).api_keys
    assert {key.tenant_id for key in own} == {"globex"}
    revoked = greta.refused(greta.keys.RevokeApiKey, keys_pb2.RevokeApiKeyRequest(key_id=people.key_ids["alice"]))
    assert (revoked.code, revoked.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    for wanted in (
        keys_pb2.CreateApiKeyRequest(tenant_id="acme", user_id="mole"),
        keys_pb2.CreateApiKeyRequest(user_id="climber", role=keys_pb2.ROLE_ADMIN),
    ):
        assert greta.refused(greta.keys.CreateApiKey, wanted).reason == "FORBIDDEN"
    assert people.alice.execute().user_id == "alice"


def test_agents_administer_nothing(people: People) -> None:
    alice = people.alice
    for rpc, asked in (
        (alice.keys.CreateApiKey, keys_pb2.CreateApiKeyRequest(user_id="alice")),
        (alice.keys.ListApiKeys, keys_pb2.ListApiKeysRequest()),
        (alice.keys.RevokeApiKey, keys_pb2.RevokeApiKeyRequest(key_id=people.key_ids["bob"])),
        (alice.audit.ExportAuditRecords, audit_pb2.ExportAuditRecordsRequest()),
        (alice.audit.VerifyAuditRecords, audit_pb2.VerifyAuditRecordsRequest()),
    ):
        assert alice.refused(rpc, asked).reason == "FORBIDDEN"


def test_the_trail_of_another_tenant_is_not_given_out(people: People, alices: Any) -> None:
    greta = people.greta
    for rpc, asked in (
        (greta.audit.ListAuditRecords, audit_pb2.ListAuditRecordsRequest(tenant_id="acme")),
        (greta.audit.ExportAuditRecords, audit_pb2.ExportAuditRecordsRequest(tenant_id="acme")),
        (greta.audit.ExportAuditRecords, audit_pb2.ExportAuditRecordsRequest(all_tenants=True)),
        (greta.audit.VerifyAuditRecords, audit_pb2.VerifyAuditRecordsRequest(tenant_id="acme")),
        (greta.audit.VerifyAuditRecords, audit_pb2.VerifyAuditRecordsRequest(all_tenants=True)),
    ):
        assert greta.refused(rpc, asked).reason == "FORBIDDEN"
    exported = greta.call(greta.audit.ExportAuditRecords, audit_pb2.ExportAuditRecordsRequest())
    text = b"".join(part.lines for part in exported)
    assert alices.execution_id.encode() not in text
    assert b'"tenant":"acme"' not in text


def test_tool_settings_of_another_tenant_are_neither_shown_nor_changed(people: People) -> None:
    wanted = tool_catalog_pb2.ToolSettings(tenant_id="acme", tool="diagnostics.echo", enabled=False)
    asked = tool_catalog_pb2.GetToolSettingsRequest(tenant_id="acme", tool="diagnostics.echo")
    change = tool_catalog_pb2.UpdateToolSettingsRequest(settings=wanted)
    for who in (people.greta, people.eve, people.alice):
        assert who.refused(who.catalog.GetToolSettings, asked).reason == "FORBIDDEN"
        assert who.refused(who.catalog.UpdateToolSettings, change).reason == "FORBIDDEN"
    found = people.olga.call(people.olga.catalog.GetToolSettings, asked).settings
    assert not found.HasField("enabled")
    assert people.alice.execute().user_id == "alice"


def test_a_revoked_key_opens_nothing_any_more(people: People, server: LiveServer) -> None:
    made = people.admin.make("agent", "leaver", "acme")
    with grpc.insecure_channel(server.address) as channel:
        leaver = Somebody(channel, made.secret)
        leaver.execute()
        asked = keys_pb2.RevokeApiKeyRequest(key_id=made.api_key.key_id)
        people.olga.call(people.olga.keys.RevokeApiKey, asked)
        status = leaver.refused(leaver.execution.Execute, execute("diagnostics.echo"))
    assert (status.code, status.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("who", "reason"), [("bob", "RESOURCE_NOT_FOUND"), ("bob", "FORBIDDEN"), ("narrow", "FORBIDDEN")]
)
def test_who_was_refused_is_in_the_trail(people: People, alices: Any, who: str, reason: str) -> None:
    somebody: Somebody = getattr(people, who)
    somebody.refused(*by_id(alices.execution_id)["GetExecution"](somebody))
    somebody.refused(somebody.execution.Execute, execute("diagnostics.echo", user_id="alice"))
    olga = people.olga

    def reasons() -> set[str]:
        asked = audit_pb2.ListAuditRecordsRequest(page_size=1000, filter=f'principal = "{who}"')
        records = olga.call(olga.audit.ListAuditRecords, asked).records
        return {
            str(json.loads(record.facts_json).get("reason")) for record in records if record.kind.startswith("refusal")
        }

    eventually(lambda: reason in reasons(), seconds=20, interval=0.2)
