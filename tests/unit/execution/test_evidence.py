import hashlib
import hmac
from typing import Any

from tests.contracts.executions import row
from toolwright_server.catalog.model import Effect
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.evidence import ExecutionEvidence, payload_digest
from toolwright_server.execution.model import Execution, State, Stopped
from toolwright_server.records.audit.chain import Chains
from toolwright_server.records.audit.model import Entry, Kind

SECRET = b'{"pin":"1234"}'


def execution(effect: Effect = Effect.SIDE_EFFECT, **facts: Any) -> Execution:
    return row("id-1", effect=effect, arguments=SECRET, **facts)


def ended(found: Execution) -> Execution:
    found.move(State.RUNNING)
    found.move(State.SUCCEEDED)
    found.result, found.end_time, found.stopped = b"42", 1_001.0, Stopped.YES
    return found


def said(found: Execution) -> list[Entry]:
    evidence = ExecutionEvidence()
    entries = list(evidence.intent(found))
    ended(found)
    return [*entries, *evidence.outcome(found)]


def test_a_side_effect_has_an_intent_and_an_outcome() -> None:
    intent, outcome = said(execution(request_id="r-1", session_id="s-1"))
    assert (intent.kind, intent.time, outcome.kind, outcome.time) == (Kind.INTENT, 1_000.0, Kind.OUTCOME, 1_001.0)
    assert (intent.tenant, intent.principal, intent.user, intent.execution_id) == ("acme", "key-1", "ann", "id-1")
    assert intent.facts["request_id"] == "r-1"
    assert intent.facts["session"] == "s-1"
    assert outcome.facts["state"] == "SUCCEEDED"


def test_a_call_that_is_not_awaited_before_it_runs_is_one_entry() -> None:
    (call,) = said(execution(Effect.READ_ONLY))
    assert call.kind == Kind.CALL
    assert {"tool", "effect", "arguments", "state", "result"} <= set(call.facts)


def test_a_repeatable_call_with_a_request_id_has_an_intent() -> None:
    assert [entry.kind for entry in said(execution(Effect.IDEMPOTENT, request_id="r-1"))] == [Kind.INTENT, Kind.OUTCOME]


def test_the_digest_can_be_checked_with_the_salt_and_the_payload() -> None:
    found = execution()
    intent, outcome = said(found)
    assert found.salt is not None
    assert intent.facts["arguments"] == hmac.new(found.salt, b"arguments\0" + SECRET, hashlib.sha256).hexdigest()
    assert outcome.facts["result"] == payload_digest(found.salt, "result", b"42")


def test_equal_payloads_cannot_be_told_from_their_digests() -> None:
    first, second = said(execution())[0], said(execution())[0]
    assert first.facts["arguments"] != second.facts["arguments"]


def test_a_payload_that_is_not_kept_has_neither_digest_nor_salt() -> None:
    found = row("id-1")
    (intent,) = ExecutionEvidence().intent(found)
    assert "arguments" not in intent.facts
    assert found.salt is None


def test_a_failure_is_told_by_its_reason_and_not_by_its_words() -> None:
    found = execution()
    found.move(State.RUNNING)
    found.move(State.OUTCOME_UNKNOWN)
    found.failure = Failure(Reason.OUTCOME_UNKNOWN, "secret words", metadata={"outcome": "unknown", "pin": "1234"})
    (outcome,) = ExecutionEvidence().outcome(found)
    assert (outcome.facts["reason"], outcome.facts["outcome"]) == ("OUTCOME_UNKNOWN", "unknown")
    assert "secret" not in str(outcome)
    assert "1234" not in str(outcome)


def test_no_payload_is_in_the_chain() -> None:
    rows = Chains("server-1", 1).link(said(execution()))
    assert not any(b"1234" in column for each in rows for column in each if isinstance(column, bytes))
