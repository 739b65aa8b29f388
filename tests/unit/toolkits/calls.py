"""A call as a tool sees it, for calling tools' functions directly: records what they report."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from toolwright_server import ToolError, Toolkit
from toolwright_server.catalog.context import AsyncArtifact, SyncArtifact
from toolwright_server.catalog.functions import FunctionTarget
from toolwright_server.identity import Caller


@dataclass
class Call:
    """The facts and reports of one call; `caller` and `seconds` may be chosen."""

    caller: Caller = field(default_factory=lambda: Caller("default", "anonymous", "anonymous"))
    seconds: float = 30.0
    execution_id: str = "0190"
    task_id: str = "0190"
    cancelled: bool = False
    progressed: list[tuple[float, float | None]] = field(default_factory=list[tuple[float, float | None]])
    started: float = field(default_factory=time.monotonic)

    @property
    def remaining(self) -> float:
        return max(0.0, self.started + self.seconds - time.monotonic())

    @property
    def deadline(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.remaining)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        self.progressed.append((done, total))

    def output(self, chunk: str | bytes, channel: str = "output") -> None:
        raise NotImplementedError

    def log(self, level: str, text: str) -> None:
        raise NotImplementedError

    def charge(self, micros: int) -> None:
        raise NotImplementedError


class AsyncCall(Call):
    """As on the event loop."""

    nested: Any = None

    async def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        await asyncio.sleep(0)
        return self.nested(tool, arguments)

    def artifact(self, name: str, media_type: str = "") -> AbstractAsyncContextManager[AsyncArtifact]:
        raise NotImplementedError


class SyncCall(Call):
    """As in a worker process."""

    nested: Any = None

    def call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> Any:
        return self.nested(tool, arguments)

    def artifact(self, name: str, media_type: str = "") -> AbstractContextManager[SyncArtifact]:
        raise NotImplementedError


def of_tenant(tenant: str) -> SyncCall:
    return SyncCall(caller=Caller(tenant, "anonymous", "anonymous"))


def accepted(toolkit: Toolkit[Any], tool: str, arguments: dict[str, Any]) -> bool:
    """Whether the tool's input schema accepts these arguments."""
    found = next(declared for declared in toolkit.tools if declared.name == f"{toolkit.name}.{tool}")
    return bool(found.input_schema.accepts(arguments))


def fits(toolkit: Toolkit[Any], tool: str, value: Any) -> bool:
    """Whether the tool's output schema accepts the JSON of this result."""
    found = next(declared for declared in toolkit.tools if declared.name == f"{toolkit.name}.{tool}")
    target = found.target
    assert isinstance(target, FunctionTarget)
    assert target.signature.result is not None
    assert found.output_schema is not None
    return bool(found.output_schema.accepts(target.signature.result.dump_python(value, mode="json")))


def reason(error: ToolError) -> str:
    """The failure's reason, having seen that it has words for everybody."""
    assert error.message
    assert error.user_message
    assert error.suggested_action
    return error.reason


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
