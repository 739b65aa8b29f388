"""Real worker processes, forked as the server's are, that begin their work at the same moment."""

import os
import traceback
from collections.abc import Callable


def at_once(count: int, work: Callable[[int], str]) -> list[str]:
    """Run `work(number)` in `count` processes at once and return what each of them answered."""
    gate_read, gate_write = os.pipe()
    answers = [_forked(gate_read, gate_write, number, work) for number in range(count)]
    os.close(gate_read)
    # Closing the gate is the start: every child waits for its end of file.
    os.close(gate_write)
    texts: list[str] = []
    for pid, answer in answers:
        with os.fdopen(answer) as file:
            texts.append(file.read())
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, texts[-1]
    return texts


def _forked(gate_read: int, gate_write: int, number: int, work: Callable[[int], str]) -> tuple[int, int]:
    answer_read, answer_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(answer_write)
        return pid, answer_read
    code = 1
    try:
        os.close(gate_write)
        os.read(gate_read, 1)
        with os.fdopen(answer_write, "w") as file:
            try:
                file.write(work(number))
                code = 0
            except BaseException:
                file.write(traceback.format_exc())
                raise
    finally:
        os._exit(code)
