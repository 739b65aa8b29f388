"""What a server without a database knows of executions whose artifacts lie somewhere."""

from collections.abc import Callable, Mapping, Sequence

from toolwright_server.artifacts.sweeping import Known
from toolwright_server.execution.large_results import known_of
from toolwright_server.execution.model import Execution


class MemoryArtifactRows:
    """`live` has every execution that there is."""

    def __init__(self, live: Callable[[str], Execution | None]) -> None:
        self._live = live

    async def known(self, execution_ids: Sequence[str]) -> Mapping[str, Known]:
        return {each: known_of(found) for each in execution_ids if (found := self._live(each)) is not None}
