"""What an execution that has ended counts for in the figures of usage: from its row alone, the same at any time."""

import zlib
from functools import lru_cache
from typing import Final

from toolwright_server.execution.model import Execution, Source, State
from toolwright_server.records.usage.latency import bucket
from toolwright_server.records.usage.model import HOUR_SECONDS, SHARDS, Use

_OUTCOMES: Final = (
    State.SUCCEEDED,
    State.FAILED,
    State.TIMED_OUT,
    State.CANCELLED,
    State.REJECTED,
    State.OUTCOME_UNKNOWN,
)
_COUNTED: Final = {state: tuple(int(each is state) for each in _OUTCOMES) for state in _OUTCOMES}
_SOURCES: Final = {
    source: tuple(int(each is source) for each in (Source.CACHE, Source.JOINED, Source.FALLBACK)) for source in Source
}


def used(execution: Execution) -> Use:
    """It counts for the hour in which it was made, which nothing changes any more.

    How long it took is known when its tool was started and its own server ended it, whether or not the tool itself had
    ended by then, or when its result came from elsewhere.
    """
    number: int | None = None
    queue = tool = 0.0
    if execution.tool_seconds is not None:
        queue, tool = execution.queue_seconds or 0.0, execution.tool_seconds
        number = bucket(queue + tool)
    elif execution.source is not Source.TOOL and execution.end_time is not None:
        queue = max(0.0, execution.end_time - execution.create_time)
        number = bucket(queue)
    attempts, caller = execution.attempts, execution.caller
    return Use(
        int(execution.create_time // HOUR_SECONDS),
        caller.tenant,
        caller.user,
        execution.agent_id,
        execution.tool,
        execution.category,
        shard(execution.server_id),
        (
            *_COUNTED[execution.state],
            int(attempts > 0),
            attempts,
            *_SOURCES[execution.source],
            execution.cost_micros,
            round(queue * 1e6),
            round(tool * 1e6),
        ),
        number,
    )


@lru_cache(maxsize=1_024)
def shard(server_id: str) -> int:
    """The sheet that a server writes on."""
    return zlib.crc32(server_id.encode()) % SHARDS
