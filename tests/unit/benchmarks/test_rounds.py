"""The harness against a real bare server: it measures what is right and refuses what is wrong."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import tape
from benchmarks.bounds import Bounds
from benchmarks.contenders import BareServer, WrongAnswerError
from benchmarks.load import Ask, with_python
from benchmarks.processes import Process
from benchmarks.rounds import Run, echo_run, interleaved, stream_run
from benchmarks.servers import bare_server


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BareServer]:
    with bare_server(tmp_path_factory.mktemp("bare")) as server:
        yield server


def test_every_call_of_an_echo_run_is_made_and_counted(bare: BareServer) -> None:
    run = echo_run(bare, 200, 64, 100, with_python)
    assert run.units == 100
    assert run.rate > 0
    assert run.p50 is not None


@dataclass
class Longer(BareServer):
    """Says that its answers are longer than they are."""

    def check_echo(self, size: int) -> Bounds:
        low = super().check_echo(size).low
        return Bounds(low + 1, low + 1)


@dataclass
class Forgetful(BareServer):
    """Counts more calls than it got, as a server would that was called by somebody else too."""

    asked: int = 0

    def calls_ok(self, path: str) -> int:
        self.asked += 1
        return super().calls_ok(path) + self.asked


@pytest.mark.parametrize(("kind", "said"), [(Longer, "answered 10 calls with"), (Forgetful, "counts")])
def test_other_bytes_or_another_count_make_the_figures_worthless(
    bare: BareServer, kind: type[BareServer], said: str
) -> None:
    with pytest.raises(WrongAnswerError, match=said):
        echo_run(kind(bare.process, bare.address), 200, 1, 10, with_python)


def test_every_event_of_every_stream_is_read(bare: BareServer) -> None:
    assert stream_run(bare, 50, 5000, 2).units == 8 * 2 * 50


def test_a_stream_that_ends_with_an_error_is_refused(bare: BareServer) -> None:
    with pytest.raises(RuntimeError, match="ended a stream not with OK"):
        tape.record(Ask(bare.address, "/toolwright.benchmarks.Bare/Nothing", b"", 1), 1)


def test_a_stream_with_an_event_less_is_wrong(bare: BareServer) -> None:
    request = bare.stream_request(10, 8)
    found = tape.messages(tape.record(Ask(bare.address, bare.stream_path, request, 1), 1).streams[0])
    bare.check_stream(found, 10)
    with pytest.raises(WrongAnswerError, match="10 numbered messages"):
        bare.check_stream(found[:4] + found[5:], 10)


def test_a_message_cut_short_is_refused() -> None:
    with pytest.raises(RuntimeError, match="middle of a message"):
        tape.messages(b"\0\0\0\0\5abc")


def test_who_goes_first_alternates_from_round_to_round() -> None:
    order: list[str] = []

    def runner(name: str) -> Run:
        order.append(name)
        return Run(units=100 if name == "a" else 90, seconds=1, cpu=0.01, helpers_cpu=0)

    comparison = interleaved("t", "calls", 4, ("a", lambda: runner("a")), ("b", lambda: runner("b")))
    assert "".join(order) == "abbaabba"
    assert comparison.ratio().median == pytest.approx(0.9)


def test_a_server_that_does_not_start_is_named_with_what_it_wrote(tmp_path: Path) -> None:
    process = Process.module("nobody", "benchmarks.nobody", tmp_path / "nobody.log")
    try:
        with pytest.raises(RuntimeError, match=r"nobody printed nothing .*No module named benchmarks\.nobody"):
            process.first_line(20)
    finally:
        process.stop()
