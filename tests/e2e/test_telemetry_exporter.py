"""The exporter process when things go wrong: no collector, a silent one, signals, and its own death."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from toolwright_server.telemetry.span_file import read_traces_of

from .telemetry_collectors import (
    SECONDS,
    Make,
    exporter_pid,
    make,
    traced_call,
    undisturbed,
)

__all__ = ["make", "undisturbed"]  # fixtures


@pytest.mark.asyncio
async def test_close_sends_what_is_left(make: Make, tmp_path: Path) -> None:
    telemetry = make(span_flush_interval_seconds=3600)
    traced_call(telemetry)
    pid = exporter_pid(telemetry)
    assert pid is not None
    await telemetry.close()
    assert len(read_traces_of("0190-abc", tmp_path)) == 2
    assert not psutil.pid_exists(pid)


@pytest.mark.asyncio
async def test_a_collector_that_does_not_answer_delays_the_end_by_no_more_than_is_set(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        telemetry = make(exporter_close_seconds=0.5)
        traced_call(telemetry)
        pid = exporter_pid(telemetry)
        assert pid is not None
        await asyncio.wait_for(telemetry.close(), SECONDS)
        assert "not exported completely" in caplog.text
        assert not psutil.pid_exists(pid)


@pytest.mark.asyncio
async def test_a_collector_that_is_not_there_is_counted_and_does_not_stop_the_server(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    text = telemetry.metrics.render()
    assert 'otel_sdk_exporter_span_exported_total{error_type="export_failed"} 2' in text
    await telemetry.close()


@pytest.mark.asyncio
async def test_when_the_exporter_is_killed_the_server_goes_on_and_says_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    pid = exporter_pid(telemetry)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    pipe = telemetry._pipe  # pyright: ignore[reportPrivateUsage]
    assert pipe is not None
    async with asyncio.timeout(SECONDS):
        while pipe.alive:
            await pipe.next_report()
    traced_call(telemetry)
    telemetry.flush()
    assert "the telemetry exporter process has ended" in caplog.text
    assert 'otel_sdk_processor_span_processed_total{error_type="exporter_gone"} 2' in telemetry.metrics.render()
    await asyncio.wait_for(telemetry.close(), SECONDS)


@pytest.mark.asyncio
async def test_an_exporter_that_stands_still_costs_spans_and_not_memory(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = make(exporter_backlog_max_bytes=200_000, exporter_close_seconds=10)
    pid = exporter_pid(telemetry)
    assert pid is not None
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(5000):
        traced_call(telemetry)
        telemetry.flush()
    assert 'error_type="queue_full"' in telemetry.metrics.render()
    assert len([record for record in caplog.records if "spans were dropped" in record.getMessage()]) == 1
    os.kill(pid, signal.SIGCONT)
    assert await telemetry.flush_and_wait(SECONDS)
    await telemetry.close()


@pytest.mark.asyncio
async def test_the_terminals_signals_do_not_reach_the_exporter(make: Make, tmp_path: Path) -> None:
    telemetry = make()
    traced_call(telemetry)
    assert await telemetry.flush_and_wait(SECONDS)
    pid = exporter_pid(telemetry)
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    traced_call(telemetry, "0190-def")
    assert await telemetry.flush_and_wait(SECONDS)
    assert len(read_traces_of("0190-def", tmp_path)) == 4, "both calls are in one trace"
    await telemetry.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("setting", ["OTEL_TRACES_EXPORTER=none", "OTEL_SDK_DISABLED=true"])
async def test_where_nothing_is_exported_there_is_no_exporter_process(
    setting: str, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(*setting.split("="))
    telemetry = make()
    traced_call(telemetry)
    assert exporter_pid(telemetry) is None
    assert await telemetry.flush_and_wait(SECONDS)
    await telemetry.close()
    assert not any(await asyncio.to_thread(lambda: list(tmp_path.iterdir())))
