"""The limiter over a real shared store that is gone: what callers of closed and of local rules are told."""

import pytest

from tests.shared_limits import BRISK_MILLISECONDS, opened
from tests.valkeys import Server
from toolwright_server.errors import Code, Reason, ToolwrightError
from toolwright_server.limits.limiter import Asked, Limiter
from toolwright_server.limits.line import Line
from toolwright_server.limits.rulebook import Rulebook
from toolwright_server.limits.rulefile import parse
from toolwright_server.telemetry import Metrics

pytestmark = pytest.mark.asyncio

RULES = """
ready_made = false
[[rule]]
name = "closed-running"
per = "user+category"
count = "running"
category = "crm"
limit = 2
fail = "closed"
[[rule]]
name = "local-minute"
per = "user"
window_seconds = 60
limit = 2
"""


async def test_closed_rules_say_that_nobody_can_count_and_local_ones_count_here(own_valkey: Server) -> None:
    async with opened(own_valkey, milliseconds=BRISK_MILLISECONDS) as store:
        limiter = Limiter(store, Rulebook(parse(RULES, "limits.toml", None)), Line(10), Metrics())
        own_valkey.kill()
        with pytest.raises(ToolwrightError) as closed:
            # It would wait for a place: there is none to be had.
            await limiter.admit(Asked("acme", "ada", "crm.find", "crm"), "a", wait_seconds=30.0)
        failure = closed.value.failure
        assert (failure.reason, failure.reason.code) == (Reason.STORE_UNAVAILABLE, Code.UNAVAILABLE)
        assert failure.retry_delay
        assert failure.metadata == {"rule": "closed-running", "outcome": "not_started"}
        for token in ("b", "c"):
            await limiter.admit(Asked("acme", "ada", "mail.send", "email"), token, wait_seconds=0.0)
        with pytest.raises(ToolwrightError) as local:
            await limiter.admit(Asked("acme", "ada", "mail.send", "email"), "d", wait_seconds=0.0)
        assert local.value.failure.reason is Reason.RATE_LIMITED
        await limiter.close()
