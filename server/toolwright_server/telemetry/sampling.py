"""Whether a call is traced, decided before any span object exists.

The six standard samplers are decided here as the SDK decides them, at a fraction of the cost; a sampler from an
entry point is asked through the SDK. Never raises for an unknown sampler: OpenTelemetry wants a warning and a default.
"""

import logging
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, cast

from opentelemetry.sdk.trace import sampling as sdk

_logger = logging.getLogger(__name__)

Decide = Callable[[bool | None, str], bool]
"""(the remote parent's sampled flag, or None without a parent; the trace id as 32 hex digits) → sampled?"""

_DEFAULT = "parentbased_always_on"
_RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
_STANDARD = ("always_on", "always_off", _DEFAULT, "parentbased_always_off", *_RATIO_SAMPLERS)


class Sampling:
    """One sampler: `decide` for our own spans (None when only the SDK can ask it), `for_provider` for the SDK."""

    __slots__ = ("decide", "for_provider")

    def __init__(self, decide: Decide | None, for_provider: sdk.Sampler) -> None:
        self.decide = decide
        self.for_provider = for_provider


def sampling_from(name: str, argument: str) -> Sampling:
    """The sampler that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG name; the default when there is no such one."""
    name = name.lower() if name.lower() in _STANDARD else name
    if name not in _STANDARD:
        custom = _custom(name, argument)
        if custom is not None:
            return Sampling(None, custom)
        _logger.warning("OTEL_TRACES_SAMPLER=%s is no sampler that is known here: using %s", name, _DEFAULT)
        name = _DEFAULT
    ratio = _ratio(argument) if name in _RATIO_SAMPLERS else 0.0
    return Sampling(_standard(name, ratio), _standard_sdk(name, ratio))


def _ratio(argument: str) -> float:
    try:
        ratio = float(argument)
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return ratio
    _logger.warning("OTEL_TRACES_SAMPLER_ARG=%s is no number between 0 and 1: using 1.0", argument)
    return 1.0


def _standard(name: str, ratio: float) -> Decide:
    parent_based = name.startswith("parentbased_")
    root = name.removeprefix("parentbased_")
    if root == "traceidratio":
        return _by_ratio(ratio, parent_based=parent_based)
    always = root == "always_on"
    if parent_based:
        return lambda parent_sampled, _: always if parent_sampled is None else parent_sampled
    return lambda _, __: always


def _by_ratio(ratio: float, *, parent_based: bool) -> Decide:
    bound = sdk.TraceIdRatioBased.get_bound_for_rate(ratio)

    def decide(parent_sampled: bool | None, trace_id: str) -> bool:
        if parent_based and parent_sampled is not None:
            return parent_sampled
        return int(trace_id[16:], 16) < bound

    return decide


def _standard_sdk(name: str, ratio: float) -> sdk.Sampler:
    root = name.removeprefix("parentbased_")
    sampler: sdk.Sampler
    if root == "traceidratio":
        sampler = sdk.TraceIdRatioBased(ratio)
    else:
        sampler = sdk.ALWAYS_ON if root == "always_on" else sdk.ALWAYS_OFF
    return sdk.ParentBased(sampler) if name.startswith("parentbased_") else sampler


def _custom(name: str, argument: str) -> sdk.Sampler | None:
    for entry in entry_points(group="opentelemetry_traces_sampler", name=name):
        try:
            factory = cast("Callable[[str], Any]", entry.load())
            sampler = factory(argument)
        except Exception:
            # A user's package failed: whatever it raised, the server starts with the default sampler.
            _logger.exception("the sampler %s from %s could not be made", name, entry.value)
            return None
        if isinstance(sampler, sdk.Sampler):
            return sampler
        _logger.warning("the entry point %s made no OpenTelemetry Sampler but %s", entry.value, type(sampler).__name__)
    return None
