"""Tools whose attempts are refused by the world: the counter's process (see counter.py). Loaded with `--tools`.

`refused`: so many attempts of an execution are told "not now" before anything happens; `spare_refused`: the same for
what is called in its place. `doubt`: it breaks off after all has happened, and cannot say whether.
"""

import asyncio
from typing import Any, Final

from tests.acting_tools import Acted, ask, look_up
from toolwright_server import AsyncToolContext, Effect, FallbackPolicy, RetryPolicy, ToolError, tool

QUICKLY: Final = RetryPolicy(attempts=4, base_seconds=0.01, maximum_seconds=0.04)
TWICE: Final = RetryPolicy(attempts=2, base_seconds=0.01, maximum_seconds=0.02)
# What a fixed answer is known by.
FIXED: Final = '{"number":0,"key":"nobody"}'
# So many attempts an execution of each may have.
ALLOWED: Final[dict[str, int]] = {}
READ, IDEMPOTENT, SIDE = Effect.READ_ONLY, Effect.IDEMPOTENT, Effect.SIDE_EFFECT


def _declare(name: str, effect: Effect, retry: RetryPolicy, *, in_its_place: bool = False, **options: Any) -> Any:
    acts = effect is SIDE

    async def falter(  # noqa: PLR0917 (arguments of a tool have names)
        context: AsyncToolContext,
        key: str,
        refused: int = 0,
        spare_refused: int = 0,
        doubt: bool = False,
        before: float = 0,
        after: float = 0,
    ) -> Acted:
        await asyncio.sleep(before)
        times = spare_refused if in_its_place else refused
        asked = {"what": "try", "execution_id": context.execution_id, "key": key, "refused": times, "acts": acts}
        answer = await ask(asked)
        if "refused" in answer:
            raise ToolError("not now", retryable=True, nothing_sent=acts)
        await asyncio.sleep(after)
        if doubt:
            raise ToolError("it broke off", retryable=True)
        return Acted(answer["number"], key)

    falter.__name__ = name
    ALLOWED[f"faltering.{name}"] = retry.attempts
    return tool(f"faltering.{name}", effect=effect, retry=retry, **options)(falter)


read = _declare("read", READ, QUICKLY)
put = _declare("put", IDEMPOTENT, QUICKLY)
act = _declare("act", SIDE, QUICKLY)
act_known = _declare("act_known", SIDE, QUICKLY, look_up=look_up)

spare = _declare("spare", READ, TWICE, in_its_place=True)
elsewhere = _declare("elsewhere", SIDE, TWICE, in_its_place=True)
elsewhere_known = _declare("elsewhere_known", SIDE, TWICE, in_its_place=True, look_up=look_up)

fixed = _declare("fixed", READ, TWICE, fallback=FallbackPolicy(value=FIXED))
spared = _declare("spared", READ, TWICE, fallback=FallbackPolicy(tool="faltering.spare"))
order = _declare("order", SIDE, TWICE, fallback=FallbackPolicy(tool="faltering.elsewhere"))
order_known = _declare(
    "order_known", SIDE, TWICE, fallback=FallbackPolicy(tool="faltering.elsewhere_known"), look_up=look_up
)
order_fixed = _declare("order_fixed", SIDE, TWICE, fallback=FallbackPolicy(value=FIXED))
