"""Tries again what failed and may be tried again, inside the call's one deadline.

Never repeats a side effect: a tool that has any is tried again only when its backend proves that nothing was sent.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from toolwright_server.catalog.model import Effect, RetryPolicy, Tool
from toolwright_server.errors import Failure, Reason
from toolwright_server.execution.backend import Backend, NotSent, ToolFailed, Work
from toolwright_server.execution.circuits.refusal import CircuitRefused
from toolwright_server.execution.events import Retried
from toolwright_server.execution.flight import Flight
from toolwright_server.execution.intake import given
from toolwright_server.execution.model import Invocation

# By which a failure names the step that it comes from.
NESTED_REASON: Final = "nested_reason"
_DOUBLING: Final = 2.0


@dataclass(frozen=True, slots=True)
class Chances:
    """How the pauses are made; replaced in tests. `pause` waits so many seconds, `uniform` is random between two."""

    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform


async def attempts(flight: Flight, backend: Backend, chances: Chances, work: Work) -> bytes:
    """What the tool returns, after as many attempts as its policy and the call allow.

    Raises what the last attempt raised: NotSent, ToolFailed or Lost. A call that its circuit does not let through is
    refused at once; one that was let through and failed may wait for it.
    """
    allowed = allowed_attempts(flight.tool, flight.invocation)
    if allowed == 1:
        return await backend.run(work)
    # Encoded before the tool may change them.
    arguments = given(flight.invocation, flight.tool)
    try:
        return await backend.run(work)
    except CircuitRefused:
        raise
    except (NotSent, ToolFailed) as error:
        if not _may_repeat(flight, error):
            raise
        return await _Again(flight, backend, work, chances, allowed).after(error, arguments)


def allowed_attempts(tool: Tool, invocation: Invocation) -> int:
    """How many attempts there may be in all: the call can narrow the tool's policy, not widen it."""
    own, asked = tool.retry.attempts, invocation.max_attempts
    return own if asked is None else min(own, asked)


def _may_repeat(flight: Flight, error: BaseException) -> bool:
    if flight.stop_reason is not None or not isinstance(error, (NotSent, ToolFailed)):
        return False
    if isinstance(error, ToolFailed) and flight.tool.effect is Effect.SIDE_EFFECT:
        return False
    if NESTED_REASON in error.failure.metadata:
        # A step of the tool was tried again by itself: trying the whole again would multiply the attempts.
        return False
    # Places here were waited for in a line already: who got none is told so at once.
    return error.failure.may_retry() and error.failure.reason is not Reason.CONCURRENCY_LIMITED


class _Again:
    """The attempts after the first one of one call."""

    def __init__(self, flight: Flight, backend: Backend, work: Work, chances: Chances, allowed: int) -> None:
        self._flight = flight
        self._backend = backend
        self._work = work
        self._chances = chances
        self._allowed = allowed
        self._why = ""
        self._made = 1
        # An attempt may have reached whatever the tool calls, which no later one takes back.
        self._sent = False

    async def after(self, first: NotSent | ToolFailed, arguments: bytes) -> bytes:
        """Go on where the first attempt ended; `arguments` are those that the tool is given, as JSON text."""
        failed: list[BaseException] = [first]
        last = first
        self._sent = isinstance(first, ToolFailed)

        async def attempt() -> bytes:
            nonlocal last
            if failed:
                raise failed.pop()
            # The attempt before was given lists and objects that it may have changed.
            self._work.arguments = orjson.loads(arguments)
            try:
                return await self._backend.run(self._work)
            except CircuitRefused:
                raise
            except (NotSent, ToolFailed) as error:
                self._made += 1
                self._sent = self._sent or isinstance(error, ToolFailed)
                last = error
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _may_repeat(self._flight, error)),
            wait=self._pause_seconds,
            stop=self._enough,
            before_sleep=self._announce,
            sleep=self._chances.pause,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except (NotSent, ToolFailed):
            # Not the refusal of another attempt, if that came last: why there was to be one says more.
            last.failure = self._told(last.failure)
            raise (ToolFailed(last.failure) if self._sent else last) from None

    def _pause_seconds(self, state: RetryCallState) -> float:
        failure = _failure(state)
        if failure.retry_delay is not None:
            # Whoever refuses knows best when it will not.
            return failure.retry_delay
        policy = self._flight.tool.retry
        grown = policy.base_seconds * _DOUBLING ** (state.attempt_number - 1)
        return _bounded(grown + self._chances.uniform(0.0, policy.base_seconds), policy)

    def _enough(self, state: RetryCallState) -> bool:
        left, pause, error = self._flight.deadline.remaining(), state.upcoming_sleep, _error(state)
        refused = f"{error.failure.message}; " if isinstance(error, CircuitRefused) else ""
        if state.attempt_number >= self._allowed:
            what = f"{self._allowed} attempts were made{', refused ones included' if refused else ''}"
            self._why = f"{refused}{what}, which is all that are allowed"
        elif pause >= left:
            self._why = f"{refused}another attempt would begin in {pause:.3f} s, and {left:.3f} s are left"
        return bool(self._why)

    def _announce(self, state: RetryCallState) -> None:
        # What operators are told is kept of the last attempt alone.
        retried = Retried(state.attempt_number, replace(_failure(state), admin_message=""), state.upcoming_sleep)
        error = _error(state)
        # A refusal by the circuit says nothing of what was sent before.
        nothing_sent = isinstance(error, NotSent) and not isinstance(error, CircuitRefused)
        self._flight.retrying(retried, nothing_sent=nothing_sent and not self._sent)

    def _told(self, failure: Failure) -> Failure:
        """The last failure, with how often it was tried and why no more."""
        facts = {"attempts": str(self._made), **({"no_retry": self._why} if self._why else {})}
        return replace(failure, metadata={**failure.metadata, **facts})


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None


def _failure(state: RetryCallState) -> Failure:
    error = _error(state)
    assert isinstance(error, (NotSent, ToolFailed)), "nothing else is tried again"
    return error.failure


def _bounded(seconds: float, policy: RetryPolicy) -> float:
    return min(seconds, policy.maximum_seconds)
