"""The supervisor as a whole, with small programs as its processes: how it starts, ends, and gives up waiting."""

import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live import eventually
from tests.unit.supervision import processes
from tests.unit.supervision.processes import SECONDS, command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
# The first program is for the process number 1, the other one for all others.
PROGRAM = """
import sys
from toolwright_server.settings import Settings
from toolwright_server.supervision.supervisor import SupervisorOptions, supervise
settings = Settings(
    listen="127.0.0.1:0", http_listen="", workers=2, server_id="test", database_url="postgresql://h/d",
    redis_url="redis://h", drain_notice_seconds=0, drain_grace_seconds=0.1, log_format="json",
)
sys.exit(supervise(settings, SupervisorOptions(("-c", sys.argv[1]), closing_seconds=float(sys.argv[2]))))
"""


@contextmanager
def supervisor(first: str, other: str, *, closing_seconds: float = 600) -> "Generator[subprocess.Popen[str]]":
    chosen = f"if order['number'] == 1:\n    exec({first!r})\nelse:\n    exec({other!r})\n"
    arguments = [sys.executable, "-c", PROGRAM, command(chosen)[1], str(closing_seconds)]
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code, and all that it logged since somebody last looked."""
    said = process.communicate(timeout=SECONDS)[1]
    return process.returncode, said


def until(process: "subprocess.Popen[str]", words: str) -> None:
    """Read its log up to a line with these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended with {process.wait(SECONDS)} and never said {words!r}")


@pytest.mark.parametrize(
    ("program", "code"),
    [("sys.exit(78)", 78), ("sys.exit(75)", 75), ("os.kill(os.getpid(), 9)", 1), ("sys.exit(0)", 1)],
)
def test_a_first_process_that_cannot_start_gives_its_exit_code_and_no_other_one_is_started(
    program: str, code: int
) -> None:
    with supervisor(program, "print('another one', file=sys.stderr)") as process:
        found, said = ended(process)
    assert found == code
    assert "another one" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_processes_are_drained_by_one_signal(number: signal.Signals) -> None:
    with supervisor(processes.SERVES, processes.SERVES) as process:
        until(process, "2 server processes share 127.0.0.1:1")
        process.send_signal(number)
        assert ended(process)[0] == 0


def test_a_process_that_ends_badly_in_a_drain_is_told_by_the_exit_code() -> None:
    badly = processes.SERVES + "sys.exit(4)"
    with supervisor(processes.SERVES, badly) as process:
        until(process, "2 server processes share")
        process.terminate()
        code, said = ended(process)
    # It may have been told before it served; then it ended in the same way.
    assert code == 1
    assert "a server process was to drain, and ended with exit code 4" in said


def test_a_process_that_does_not_end_is_killed_when_its_time_is_over() -> None:
    with supervisor(processes.SERVES, processes.STUBBORN, closing_seconds=0.2) as process:
        until(process, "2 server processes share")
        process.terminate()
        code, said = ended(process)
    assert code == 1
    assert "have not ended 0.3 s after they were told to: they are killed" in said
    assert "was killed by SIGKILL" in said


def test_a_signal_while_the_first_process_starts_ends_with_0() -> None:
    with supervisor(processes.SLOW, processes.SERVES) as process:
        eventually(lambda: bool(children(process.pid)), SECONDS)
        eventually(lambda: handles(process.pid, signal.SIGTERM), SECONDS)
        process.terminate()
        assert ended(process)[0] == 0


def test_the_first_process_is_not_waited_for_for_ever() -> None:
    with supervisor("time.sleep(600)", processes.SERVES, closing_seconds=0.2) as process:
        eventually(lambda: bool(children(process.pid)), SECONDS)
        process.terminate()
        code, said = ended(process)
    assert code == 0
    assert "they are killed" in said


def children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def handles(pid: int, number: int) -> bool:
    """Whether the process catches the signal."""
    caught = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt")
    ).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)
