"""Holds the credits of a tenant to what happened: its ledger, its history, and side effects counted elsewhere.

Everything is read through the rpcs, as an operator would. Each thing that is wrong is one line of text.
"""

import json
import socket
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc

from tests.counter import Counter, Effect
from toolwright.v1 import common_pb2, keys_pb2, keys_pb2_grpc, tool_execution_pb2_grpc, usage_pb2, usage_pb2_grpc
from toolwright.v1 import tool_execution_pb2 as execution_pb2

from .spending import ACTS, SIDE_EFFECTS, Purchase

CREDIT = 1_000_000
SECONDS = 60.0
PAGE = 1_000
USER = "ann"
ENDED = range(common_pb2.STATE_SUCCEEDED, common_pb2.STATE_UNDONE + 1)
SUCCEEDED, UNKNOWN = common_pb2.STATE_SUCCEEDED, common_pb2.STATE_OUTCOME_UNKNOWN
HOLD, CHARGE, REFUND = (
    usage_pb2.LEDGER_ENTRY_KIND_HOLD,
    usage_pb2.LEDGER_ENTRY_KIND_CHARGE,
    usage_pb2.LEDGER_ENTRY_KIND_REFUND,
)

Row = common_pb2.Execution
LedgerEntry = usage_pb2.LedgerEntry


class Tenant:
    """One tenant with a user, `ann`, and an operator; made by an admin of the server that is asked."""

    def __init__(self, channel: grpc.Channel, admin: str, name: str) -> None:
        self.name = name
        self._execution: Any = tool_execution_pb2_grpc.ToolExecutionStub(channel)
        self._usage: Any = usage_pb2_grpc.UsageServiceStub(channel)
        self._keys: Any = keys_pb2_grpc.KeyServiceStub(channel)
        self._secret = admin
        self.user = self._key(USER, keys_pb2.ROLE_AGENT)
        self._secret = self._key("olga", keys_pb2.ROLE_OPERATOR)

    def grant(self, amount: int) -> None:
        """Give it so many credits, and turn them on."""
        asked = usage_pb2.GrantCreditsRequest(amount_micros=amount * CREDIT, request_id="the grant")
        self._call(self._usage.GrantCredits, asked)

    def quota(self) -> Any:
        """GetQuota, asked by its user."""
        return self._call(self._usage.GetQuota, usage_pb2.GetQuotaRequest(), self.user)

    def check(self) -> Any:
        """CheckLedger."""
        return self._call(self._usage.CheckLedger, usage_pb2.CheckLedgerRequest())

    def entries(self) -> list[LedgerEntry]:
        """The whole ledger, oldest first."""
        request = usage_pb2.ListLedgerEntriesRequest(page_size=PAGE)
        found: list[LedgerEntry] = []
        while True:
            page = self._call(self._usage.ListLedgerEntries, request)
            found += page.entries
            if not page.next_page_token:
                return found[::-1]
            request.page_token = page.next_page_token

    def rows(self) -> dict[str, Row]:
        """The whole history."""
        request = execution_pb2.ListExecutionsRequest(page_size=PAGE)
        found: dict[str, Row] = {}
        while True:
            page = self._call(self._execution.ListExecutions, request)
            found.update({row.execution_id: row for row in page.executions})
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def unfinished(self) -> int:
        """How many executions have not ended, or wait for their look-up."""
        return sum(
            row.state not in ENDED or (row.state == UNKNOWN and row.tool == "acting.paid_known")
            for row in self.rows().values()
        )

    def declare(self, execution_id: str, *, happened: bool) -> Row:
        """ReconcileExecution with what the operator has found out."""
        verdict = execution_pb2.VERDICT_SUCCEEDED if happened else execution_pb2.VERDICT_NOT_DONE
        asked = execution_pb2.ReconcileExecutionRequest(execution_id=execution_id, verdict=verdict, note="counted")
        return self._call(self._execution.ReconcileExecution, asked).execution

    def _key(self, user: str, role: Any) -> str:
        wanted = keys_pb2.CreateApiKeyRequest(tenant_id=self.name, user_id=user, role=role)
        return self._call(self._keys.CreateApiKey, wanted).secret

    def _call(self, rpc: Any, request: Any, secret: str = "") -> Any:
        metadata = (("authorization", f"Bearer {secret or self._secret}"),)
        # Also of a server that has just been killed and comes back.
        return rpc(request, timeout=SECONDS, metadata=metadata, wait_for_ready=True)


@dataclass(frozen=True, slots=True)
class Books:
    """A tenant's credits at one moment, when nothing runs."""

    granted: int
    entries: Sequence[LedgerEntry]
    rows: Mapping[str, Row]
    effects: Sequence[Effect]
    quota: Any
    check: Any

    @classmethod
    def of(cls, tenant: Tenant, counter: Counter, granted: int) -> Self:
        """Read all of it; `granted` in credits."""
        rows = tenant.rows()
        # Every tenant's are counted by the same process.
        effects = [effect for effect in counter.effects() if effect.key.startswith(f"{tenant.name}-")]
        return cls(granted, tenant.entries(), rows, effects, tenant.quota(), tenant.check())

    def about(self, kind: Any, account: str) -> list[str]:
        """The executions of all entries of a kind on an account."""
        return [entry.execution_id for entry in self.entries if (entry.kind, entry.account) == (kind, account)]

    @property
    def charged(self) -> list[str]:
        """The executions that were charged."""
        return self.about(CHARGE, "revenue")

    @property
    def given_back(self) -> list[str]:
        """Those of which everything that was held came back."""
        return self.about(REFUND, "available")

    @property
    def open(self) -> set[str]:
        """Those for which something is still held."""
        return {*self.about(HOLD, "held")} - {*self.charged} - {*self.given_back}

    def of_state(self, state: Any) -> set[str]:
        """The executions in a state."""
        return {row.execution_id for row in self.rows.values() if row.state == state}

    def wrong(self, purchases: Sequence[Purchase]) -> list[str]:
        """What must not be, a line each."""
        return [*self._wrong_sums(), *self._wrong_holds(), *self._wrong_effects(), *self._wrong_answers(purchases)]

    def _wrong_sums(self) -> Iterator[str]:
        """The server's own verdict, and the same worked out from the entries alone."""
        if not self.check.valid:
            yield f"the ledger is not valid: {self.check.problems}"
        sums: Tally[str] = Tally()
        for entry in self.entries:
            sums[entry.account] += entry.amount_micros
            if entry.account != "issued" and entry.balance_micros < 0:
                yield f"{entry.account} was overdrawn in transaction {entry.transaction}: {entry.balance_micros}"
        if sum(sums.values()):
            yield f"the ledger sums to {sum(sums.values())}"
        if -sums["issued"] != self.granted * CREDIT or sums["expired"]:
            yield f"granted were {self.granted} credits, the ledger says {dict(sums)}"
        balance = self.quota.balance
        if (balance.balance_micros, balance.held_micros) != (sums["available"], sums["held"]):
            yield f"the quota says {balance}, the ledger {dict(sums)}"
        if balance.balance_micros + balance.held_micros + len(self.charged) * CREDIT != self.granted * CREDIT:
            yield f"{balance} and {len(self.charged)} charges are not the {self.granted} credits that were granted"

    def _wrong_holds(self) -> Iterator[str]:
        """Held is what nobody knows, charged what succeeded, given back what failed; each once."""
        held = self.about(HOLD, "held")
        yield from _differ("held for", held, self.rows, "the executions")
        yield from _differ("charged", self.charged, self.of_state(SUCCEEDED), "those that succeeded")
        yield from _differ("still held", sorted(self.open), self.of_state(UNKNOWN), "those that nobody knows")
        failed = self.of_state(common_pb2.STATE_FAILED) | self.of_state(common_pb2.STATE_CANCELLED)
        yield from _differ("given back", self.given_back, failed, "those that failed")
        if (self.check.hold_count, self.check.unknown_hold_count) != (len(self.open), len(self.open)):
            yield f"{len(self.open)} are held, and the check says {self.check}"
        for row in self.rows.values():
            paid = (CREDIT if row.state == SUCCEEDED else 0, CREDIT if row.state == UNKNOWN else 0)
            if (row.usage.cost_micros, row.usage.held_micros) != paid:
                yield f"{row.execution_id} is {common_pb2.State.Name(row.state)} and says {row.usage}"

    def _wrong_effects(self) -> Iterator[str]:
        """What was charged happened, and what happened is charged, or held because nobody knows."""
        done = Tally(effect.execution_id for effect in self.effects)
        for row in self.rows.values():
            if row.state == SUCCEEDED and row.tool in ACTS and done[row.execution_id] != 1:
                yield f"{row.execution_id} is charged and was done {done[row.execution_id]} times"
        for effect in self.effects:
            row = self.rows.get(effect.execution_id)
            if row is None or effect.intended is False:
                yield f"{effect} has no execution, or had none when it happened"
            elif row.tool in SIDE_EFFECTS and row.state not in {SUCCEEDED, UNKNOWN}:
                yield f"{effect} was done for nothing: {row.state}"
        keys = Tally(effect.key for effect in self.effects if self._is_side_effect(effect))
        yield from (f"{key} was done {times} times" for key, times in keys.items() if times > 1)

    def _is_side_effect(self, effect: Effect) -> bool:
        row = self.rows.get(effect.execution_id)
        return row is not None and row.tool in SIDE_EFFECTS

    def _wrong_answers(self, purchases: Sequence[Purchase]) -> Iterator[str]:
        """Whoever has a result paid for it; whoever was refused was told so that a program stops."""
        charged = {*self.charged}
        for one in purchases:
            if one.answer is None:
                continue
            told = one.answer.told
            if one.succeeded and (told.execution_id not in charged or one.answer.cost_micros != CREDIT):
                yield f"{one.key} has its result and did not pay: {one.answer}"
            elif told.reason == "INSUFFICIENT_CREDITS" and (one.answer.pushback, one.answer.has_retry_info) != (
                "-1",
                False,
            ):
                yield f"{one.key} was told to come back for credits: {one.answer}"


def _differ(what: str, found: Sequence[str], expected: Any, of: str) -> Iterator[str]:
    """What is in one and not in the other, or twice."""
    for execution_id, times in Tally(found).items():
        if times > 1:
            yield f"{execution_id} is {what} {times} times"
        if execution_id not in expected:
            yield f"{execution_id} is {what} and not among {of}"
    yield from (f"{execution_id} is among {of} and not {what}" for execution_id in set(expected) - set(found))


def happened(counter: Counter, execution_id: str) -> bool:
    """Whether a side effect was done, as the other process knows; if not, it will not be any more."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(counter.socket))
        connection.sendall(json.dumps({"what": "look", "execution_id": execution_id}).encode() + b"\n")
        with connection.makefile() as answers:
            return json.loads(answers.readline())["number"] is not None


def admin_key(data_dir: Path) -> str:
    """The first key of a database, which the first server that opened it wrote down."""
    return (data_dir / "admin.key").read_text(encoding="ascii").strip()
