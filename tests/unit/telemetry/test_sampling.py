import random
import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    _get_from_env_or_default,  # pyright: ignore[reportPrivateUsage] - what the SDK itself makes of the environment
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from toolwright_server.telemetry.sampling import sampling_from

RATIOS = ["0", "0.0001", "0.01", "0.25", "0.5", "0.999999", "1", "", "2", "-1", "nonsense"]
SAMPLERS = [
    *((name, "") for name in ("always_on", "always_off", "parentbased_always_on", "parentbased_always_off", "unknown")),
    *((name, ratio) for name in ("traceidratio", "parentbased_traceidratio", "TraceIdRatio") for ratio in RATIOS),
]


def parent_context(trace_id: int, sampled: bool | None) -> Context:
    if sampled is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
    return trace.set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 7, True, flags)), Context())


@pytest.mark.parametrize(("name", "argument"), SAMPLERS)
@pytest.mark.parametrize("parent", [None, True, False])
def test_decisions_are_those_of_the_sdk(
    name: str, argument: str, parent: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    theirs = _get_from_env_or_default()
    ours = sampling_from(name, argument)
    assert ours.decide is not None
    assert ours.for_provider.get_description() == theirs.get_description()
    numbers = random.Random(1)
    edges = [1, 2**63, 2**64 - 1, 2**64, 2**127, round(0.25 * 2**64) - 1, round(0.25 * 2**64), round(0.5 * 2**64)]
    for trace_id in [*edges, *(numbers.getrandbits(128) for _ in range(500))]:
        context = parent_context(trace_id, parent)
        expected = theirs.should_sample(context, trace_id, "name").decision.is_sampled()
        assert ours.decide(parent, f"{trace_id:032x}") is expected, hex(trace_id)


def test_a_sampler_of_an_installed_package_is_asked_through_the_sdk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_sampler.py").write_text(
        "from opentelemetry.sdk.trace.sampling import TraceIdRatioBased\n"
        "def make(argument): return TraceIdRatioBased(float(argument))\n"
        "def broken(argument): raise RuntimeError(argument)\n"
    )
    metadata = tmp_path / "odd_sampler-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-sampler\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[opentelemetry_traces_sampler]\nodd = odd_sampler:make\nbroken = odd_sampler:broken\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sampling = sampling_from("odd", "0.5")
    assert sampling.decide is None
    assert sampling.for_provider.get_description() == "TraceIdRatioBased{0.5}"
    assert sampling_from("broken", "x").decide is not None, "a sampler that cannot be made gives way to the default"
    sys.modules.pop("odd_sampler", None)
