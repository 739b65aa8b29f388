"""Holds the history to the attempts that came out of the servers, as they were counted elsewhere.

Each thing that is wrong is one line of text.
"""

from bisect import bisect
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.counter import Attempt
from toolwright.v1 import common_pb2

from .auditing import Trail
from .killing import ACTS, Load
from .surviving import Row, Survived

UNKNOWN, SUCCEEDED = common_pb2.STATE_OUTCOME_UNKNOWN, common_pb2.STATE_SUCCEEDED
FALLBACK = common_pb2.RESULT_SOURCE_FALLBACK


@dataclass(frozen=True)
class Attempted:
    """What came out, in its order, beside what is known of it. `allowed`: attempts of each tool."""

    found: Survived
    trail: Trail
    attempts: Sequence[Attempt]
    allowed: Mapping[str, int]

    def wrong(self) -> list[str]:
        """What must not be, a line each."""
        return [*self._wrong_counts(), *self._wrong_order(), *self._wrong_replacements()]

    def recovered(self, execution_id: str) -> bool:
        """Whether its server died while it ran."""
        return "recovery" in self.trail.kinds.get(execution_id, ())

    def _wrong_counts(self) -> Iterator[str]:
        """No more than are allowed, each with its intent, and as many as callers were told of."""
        counts = Tally(attempt.execution_id for attempt in self.attempts)
        most = {told.execution_id: asked.most for asked in self.found.asked for told in asked.told}
        for execution_id, count in counts.items():
            row = self.found.rows.get(execution_id)
            if row is None:
                # What may be done again has no intent that is waited for.
                continue
            allowed = min(self.allowed[row.tool], most.get(execution_id) or self.allowed[row.tool])
            if count > allowed:
                yield f"{execution_id} of {row.tool}: {count} attempts came out, {allowed} are allowed"
        for attempt in self.attempts:
            row = self.found.rows.get(attempt.execution_id)
            if attempt.acted and row is None:
                yield f"{attempt} has no execution"
            if row is not None and row.tool in ACTS and not attempt.intended:
                yield f"{attempt}: its intent was not in the record"
        for execution_id, answer in self.found.answers.items():
            counted = self.found.rows[execution_id].tool in self.allowed and not self.recovered(execution_id)
            if counted and answer.attempts != counts[execution_id]:
                yield f"{execution_id}: {counts[execution_id]} attempts came out, its caller was told {answer}"

    def _wrong_order(self) -> Iterator[str]:
        """Nothing after what has happened, nor another call after one of which nobody knows."""
        by_key: dict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            row = self.found.rows.get(attempt.execution_id)
            if row is not None and row.tool in ACTS:
                by_key[attempt.key].append(attempt)
        for key, attempts in by_key.items():
            for number, attempt in enumerate(attempts[:-1]):
                root = self.found.root(attempt.execution_id)
                later = {self.found.root(each.execution_id) for each in attempts[number + 1 :]}
                if attempt.acted:
                    yield f"{key}: {attempt} acted, and {attempts[number + 1 :]} came after it"
                elif later != {root} and self._is_doubtful(self.found.rows[root]):
                    yield f"{key}: nobody knows of {root}, and it was called again: {attempts[number + 1 :]}"

    @staticmethod
    def _is_doubtful(row: Row) -> bool:
        return row.state == UNKNOWN or row.error.metadata["outcome"] == "unknown"

    def _wrong_replacements(self) -> Iterator[str]:
        """Who was answered by another tool has a step of it that succeeded; who was not has none that did."""
        for execution_id, answer in self.found.answers.items():
            ended_well = [step.tool for step in self.found.steps.get(execution_id, ()) if step.state == SUCCEEDED]
            if (answer.source == FALLBACK) != bool(answer.replaced):
                yield f"{execution_id}: {answer} says half of why another one answered"
            if ended_well != [answer.instead] * bool(answer.instead):
                yield f"{execution_id}: told {answer}, and its steps that succeeded are {ended_well}"

    def hits(self, load: Load, executions: Collection[str]) -> int:
        """In how many kills one of these executions was cut off."""
        rows = self.found.rows
        return len(
            {
                bisect(load.kills, rows[each].create_time.ToNanoseconds() / 1e9)
                for each in executions
                if each in rows and self.recovered(each)
            }
        )

    def between_attempts(self) -> set[str]:
        """Executions of which an attempt had been refused."""
        return {attempt.execution_id for attempt in self.attempts if not attempt.done}
