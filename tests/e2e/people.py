"""Callers with keys of their own, of two tenants, and what they ask of a real server."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from tests.refused import Refused, refused
from toolwright.v1 import audit_pb2_grpc, keys_pb2, keys_pb2_grpc, tool_catalog_pb2_grpc
from toolwright.v1 import tool_execution_pb2 as execution_pb2
from toolwright.v1 import tool_execution_pb2_grpc as execution_pb2_grpc

SECONDS = 20
ROLES = {"agent": keys_pb2.ROLE_AGENT, "operator": keys_pb2.ROLE_OPERATOR, "admin": keys_pb2.ROLE_ADMIN}


class Somebody:
    """A caller with a key of its own. `call` runs an rpc to its end, also one that streams."""

    def __init__(self, channel: grpc.Channel, secret: str = "") -> None:
        self._metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
        self.execution: Any = execution_pb2_grpc.ToolExecutionStub(channel)
        self.catalog: Any = tool_catalog_pb2_grpc.ToolCatalogServiceStub(channel)
        self.keys: Any = keys_pb2_grpc.KeyServiceStub(channel)
        self.audit: Any = audit_pb2_grpc.AuditServiceStub(channel)

    def call(self, rpc: Any, request: Message) -> Any:
        """The answer, or the list of all messages of a stream."""
        answer = rpc(request, timeout=SECONDS, metadata=self._metadata)
        return list(answer) if hasattr(answer, "__next__") else answer

    def refused(self, rpc: Any, request: Message) -> Refused:
        return refused(lambda: self.call(rpc, request))

    def execute(self, tool: str = "diagnostics.echo", **fields: Any) -> Any:
        return self.call(self.execution.Execute, execute(tool, **fields)).execution

    def make(self, role: str, user: str, tenant: str = "", **fields: Any) -> Any:
        """A key for somebody else: its id and its text."""
        wanted = keys_pb2.CreateApiKeyRequest(tenant_id=tenant, user_id=user, role=ROLES[role], **fields)
        return self.call(self.keys.CreateApiKey, wanted)


@dataclass(frozen=True)
class People:
    """Two tenants. Of acme are alice, bob and olga, who operates it; of globex eve and greta, who operates that."""

    admin: Somebody
    alice: Somebody
    bob: Somebody
    olga: Somebody
    eve: Somebody
    greta: Somebody
    narrow: Somebody
    nobody: Somebody
    forger: Somebody
    key_ids: Mapping[str, str]

    def strangers(self) -> dict[str, Somebody]:
        """To whom what alice has does not exist."""
        return {"bob": self.bob, "eve": self.eve, "greta": self.greta}


def execute(tool: str, **fields: Any) -> execution_pb2.ExecuteRequest:
    request = execution_pb2.ExecuteRequest()
    request.call.tool = tool
    request.call.arguments_json = json.dumps(fields.pop("arguments", {}))
    for name, value in fields.items():
        setattr(request.call, name, value)
    return request


def by_id(execution_id: str) -> dict[str, Callable[[Somebody], tuple[Any, Message]]]:
    """Every rpc that takes the id of an execution."""
    return {
        "GetExecution": lambda who: (
            who.execution.GetExecution,
            execution_pb2.GetExecutionRequest(execution_id=execution_id),
        ),
        "WaitExecution": lambda who: (
            who.execution.WaitExecution,
            execution_pb2.WaitExecutionRequest(execution_id=execution_id),
        ),
        "CancelExecution": lambda who: (
            who.execution.CancelExecution,
            execution_pb2.CancelExecutionRequest(execution_id=execution_id),
        ),
        "ReconcileExecution": lambda who: (
            who.execution.ReconcileExecution,
            execution_pb2.ReconcileExecutionRequest(execution_id=execution_id),
        ),
    }
