import os
import threading
from pathlib import Path
from typing import Any

import orjson

from toolwright_server.telemetry.call_log import MAX_PENDING_LINES, CallLog

CALL: dict[str, Any] = {
    "method": "toolwright.v1.ToolExecution/Execute",
    "tool": "crm.contact.get",
    "code": "OK",
    "reason": "",
    "seconds": 0.0123456789,
    "execution_id": "0190",
    "trace_id": "a" * 32,
    "caller": "default/anonymous",
}


def written(path: Path, *, as_json: bool, calls: int = 1) -> list[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    log = CallLog(as_json=as_json, descriptor=descriptor)
    log.start()
    for number in range(calls):
        numbered: dict[str, Any] = {**CALL, "execution_id": str(number)}
        log.call(**numbered)
    log.close()
    os.close(descriptor)
    return path.read_bytes().splitlines()


def test_a_call_is_one_json_line(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", as_json=True)
    fields = orjson.loads(line)
    assert fields.pop("time").endswith("Z")
    assert fields == {**CALL, "execution_id": "0", "level": "info", "message": "call", "seconds": 0.012346}


def test_a_call_is_one_readable_line(tmp_path: Path) -> None:
    (line,) = written(tmp_path / "log", as_json=False)
    assert b"[info] Execute crm.contact.get OK 12.3 ms execution_id=0 " in line


def test_no_line_is_lost_and_their_order_stays(tmp_path: Path) -> None:
    lines = written(tmp_path / "log", as_json=True, calls=5000)
    assert [orjson.loads(line)["execution_id"] for line in lines] == [str(number) for number in range(5000)]


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    for as_json in (True, False):
        log = CallLog(as_json=as_json, descriptor=descriptor)
        log.start()
        odd: dict[str, Any] = {**CALL, "tool": "a\ud800\nb"}
        log.call(**odd)
        log.close()
    os.close(descriptor)
    as_json, as_text = (tmp_path / "log").read_bytes().splitlines()
    assert orjson.loads(as_json)["tool"] == "a\\ud800\\nb"
    assert rb" a\ud800\nb OK " in as_text, "a caller cannot forge a second line"


def test_a_reader_that_is_stuck_costs_lines_and_not_time() -> None:
    read_end, write_end = os.pipe()
    log = CallLog(as_json=True, descriptor=write_end)
    log.start()
    for _ in range(2 * MAX_PENDING_LINES + 2000):
        log.call(**CALL)
    assert log.dropped > 0
    drained = threading.Thread(target=_read_all, args=(read_end,), daemon=True)
    drained.start()
    log.close(10)
    os.close(write_end)
    drained.join(10)
    os.close(read_end)


def _read_all(descriptor: int) -> None:
    while os.read(descriptor, 65536):
        pass


def test_a_log_that_nobody_can_read_any_more_is_given_up() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    log = CallLog(as_json=True, descriptor=write_end)
    log.start()
    log.call(**CALL)
    log.close()
    assert not log.enabled
    log.call(**CALL)
    os.close(write_end)


def test_a_log_that_is_off_starts_no_thread() -> None:
    log = CallLog(as_json=True, enabled=False)
    before = threading.active_count()
    log.start()
    log.call(**CALL)
    assert threading.active_count() == before
    log.close()
