"""What the audit trail says of executions: who asked for what, and what became of it. Never a payload itself.

Of arguments, results and descriptions of artifacts as they are kept it holds a digest: HMAC-SHA-256 whose key is the
execution's salt, over `arguments`, `result` or `artifacts`, a zero byte and the payload. The salt lies beside the
payload and is erased with it; what is left then says nothing. Of what is not kept it holds no digest.
"""

import os
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from toolwright_server.artifacts.model import encoded
from toolwright_server.catalog.model import Effect
from toolwright_server.execution.model import Execution, Source, State
from toolwright_server.records.audit.encoding import chain_id
from toolwright_server.records.audit.model import Entry, Fact, Kind

_SALT_BYTES: Final = 16
_SALTS: Final = 256
# Of SHA-256, and what HMAC (RFC 2104) makes of the key for its inner and its outer hash.
_BLOCK_BYTES: Final = 64
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


class ExecutionEvidence:
    """The entries that go with each change of an execution. Call before the execution's values are taken.

    `intent` also tells the execution in which chain they are.
    """

    def intent(self, execution: Execution) -> Sequence[Entry]:
        """None for calls that are not awaited before they are run: their outcome says it all."""
        execution.audit_id = chain_id(execution.caller.tenant, execution.server_id, execution.epoch)
        return () if _at_once(execution) else (intent_entry(execution),)

    def outcome(self, execution: Execution) -> Sequence[Entry]:
        return (call_entry(execution) if _at_once(execution) else outcome_entry(execution),)


def intent_entry(execution: Execution) -> Entry:
    """That a tool is about to be called."""
    return _entry(Kind.INTENT, execution, execution.create_time, _asked(execution))


def outcome_entry(execution: Execution) -> Entry:
    """What became of it."""
    facts: dict[str, Fact] = {"tool": execution.tool, **_became(execution)}
    return _entry(Kind.OUTCOME, execution, execution.end_time or execution.create_time, facts)


def call_entry(execution: Execution) -> Entry:
    """Both in one, for a call whose intent had no entry of its own."""
    facts = {**_asked(execution), **_became(execution)}
    return _entry(Kind.CALL, execution, execution.end_time or execution.create_time, facts)


def payload_digest(salt: bytes, what: str, payload: bytes) -> str:
    """The digest of a payload, 64 hexadecimal digits. `what` is `arguments`, `result` or `artifacts`.

    `salt` is no longer than a block of SHA-256, 64 bytes.
    """
    # As hmac.digest, which lets go of the interpreter's lock each time and has to win it back from the writer.
    key = salt.ljust(_BLOCK_BYTES, b"\0")
    inner = sha256(b"%b%b\0%b" % (key.translate(_INNER), what.encode(), payload)).digest()
    return sha256(key.translate(_OUTER) + inner).hexdigest()


def _at_once(execution: Execution) -> bool:
    return execution.effect is not Effect.SIDE_EFFECT and not execution.request_id


def _entry(kind: Kind, execution: Execution, time: float, facts: dict[str, Fact]) -> Entry:
    caller = execution.caller
    return Entry(kind, caller.tenant, caller.principal, caller.user, time, execution.execution_id, facts)


def _asked(execution: Execution) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "tool": execution.tool,
        "version": execution.tool_version,
        "effect": execution.effect.value,
    }
    if execution.request_id:
        facts["request_id"] = execution.request_id
    if execution.task_id != execution.execution_id:
        facts["task"] = execution.task_id
    if execution.parent_execution_id:
        facts["parent"] = execution.parent_execution_id
    if execution.session_id:
        facts["session"] = execution.session_id
    if execution.agent_id:
        facts["agent"] = execution.agent_id
    if execution.arguments is not None:
        facts["arguments"] = payload_digest(_salt(execution), "arguments", execution.arguments)
    return facts


def _became(execution: Execution) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "state": execution.state.name,
        "stopped": execution.stopped.name,
        "attempts": execution.attempts,
    }
    if execution.source is not Source.TOOL:
        facts["source"] = execution.source.name
        if execution.source_execution_id:
            facts["source_execution"] = execution.source_execution_id
    failure = execution.failure
    if failure is not None:
        facts["reason"] = failure.reason.name
        if "outcome" in failure.metadata:
            facts["outcome"] = failure.metadata["outcome"]
    if execution.hold_micros:
        held = execution.state is State.OUTCOME_UNKNOWN
        facts["held_micros" if held else "cost_micros"] = execution.hold_micros if held else execution.cost_micros
    if execution.result is not None:
        facts["result"] = payload_digest(_salt(execution), "result", execution.result)
    described = encoded(execution.artifacts)
    if described is not None:
        facts["artifacts"] = payload_digest(_salt(execution), "artifacts", described)
    return facts


def _salt(execution: Execution) -> bytes:
    if execution.salt is None:
        execution.salt = _salts()
    return execution.salt


class _Salts:
    """Random salts, fetched from the system many at a time: each asking lets go of the interpreter's lock.

    Used on the event loop only.
    """

    def __init__(self) -> None:
        self._left: list[bytes] = []

    def __call__(self) -> bytes:
        if not self._left:
            fetched = os.urandom(_SALT_BYTES * _SALTS)
            self._left = [fetched[at : at + _SALT_BYTES] for at in range(0, len(fetched), _SALT_BYTES)]
        return self._left.pop()


_salts: Final = _Salts()
