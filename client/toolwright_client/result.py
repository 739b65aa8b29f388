"""The answer to a call: a value, or the error that is raised when the value is asked for."""

from dataclasses import dataclass
from typing import Any

from toolwright_client.errors import ToolwrightError
from toolwright_client.model import Artifact, Execution, State
from toolwright_client.statuses import error_of_execution


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a call that has ended."""

    execution: Execution

    @property
    def ok(self) -> bool:
        """Whether the tool answered, and the answer is here."""
        return self.execution.state is State.SUCCEEDED and self.execution.error is None

    @property
    def value(self) -> Any:
        """What the tool answered, decoded from JSON; None if it is an artifact (`execution.value_artifact`).

        Raises `error` if it did not answer.
        """
        if error := self.error:
            raise error
        return self.execution.value

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The files that belong to the answer."""
        return self.execution.artifacts

    @property
    def error(self) -> ToolwrightError | None:
        """`ToolFailed` when the tool failed, another one when the execution ended otherwise; absent on success."""
        return None if self.ok else error_of_execution(self.execution)

    @property
    def execution_id(self) -> str:
        return self.execution.execution_id

    def or_raise(self) -> "Result":
        """Itself on success; raises `error` otherwise."""
        if error := self.error:
            raise error
        return self
