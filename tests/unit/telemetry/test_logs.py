import subprocess
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolwright_server.telemetry.logs import MASK, configure_logging, mask_secrets
from toolwright_server.telemetry.options import TelemetryConfigError

SECONDS = 30
HIDDEN = "\N{REPLACEMENT CHARACTER}"


def logged(code: str, log_format: str = "json", level: str = "INFO") -> list[str]:
    """What a process that runs `code` after configuring its logs writes to standard error."""
    program = (
        "import logging, warnings, structlog\n"
        "from toolwright_server.telemetry.logs import bind_call, configure_logging, unbind_call\n"
        f"configure_logging({log_format!r}, {level!r})\n"
        f"log = logging.getLogger('some.library')\nslog = structlog.get_logger('ours')\n{code}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def only_json(code: str) -> dict[str, Any]:
    (line,) = logged(code)
    return orjson.loads(line)


def test_the_standard_librarys_logs_are_json_lines() -> None:
    line = only_json("log.warning('disk %d%% full', 93, extra={'device': 'sda'})")
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "message": "disk 93% full", "logger": "some.library", "device": "sda"}


def test_structlogs_logs_look_the_same() -> None:
    line = only_json("slog.info('started %s', 'well', port=50051)")
    assert line.pop("time").endswith("Z")
    assert line == {"level": "info", "message": "started well", "logger": "ours", "port": 50051}


def test_lines_of_a_call_carry_its_ids_and_lines_after_it_do_not() -> None:
    inside, after = logged("token = bind_call('t1', 'e1')\nlog.error('in')\nunbind_call(token)\nslog.error('after')")
    assert orjson.loads(inside)["trace_id"] == "t1"
    assert orjson.loads(inside)["execution_id"] == "e1"
    assert "trace_id" not in orjson.loads(after)


def test_an_exception_is_one_line_with_its_stack_and_without_its_secret() -> None:
    line = only_json(
        "try:\n    raise ValueError('postgresql://user:hunter2@db/x')\nexcept ValueError:\n    log.exception('failed')"
    )
    assert "ValueError: postgresql://user:[masked]@db/x" in line["exception"]


def test_levels_below_the_configured_one_are_silent() -> None:
    assert logged("log.debug('x')\nslog.debug('y')\nlog.info('z')", level="warning") == []


def test_on_a_terminal_lines_are_for_people() -> None:
    (line,) = logged("bind_call('t1', 'e1')\nlog.warning('look here')", log_format="text")
    assert "look here" in line
    assert "e1" in line
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(line)


def test_an_exception_on_a_terminal_shows_its_stack_and_no_local_variables() -> None:
    lines = logged(
        "def work():\n    card = '4111' * 4\n    raise ValueError('Bearer abc')\n"
        "try:\n    work()\nexcept ValueError:\n    log.exception('failed')",
        log_format="text",
    )
    assert "failed" in lines[0]
    assert "ValueError: Bearer [masked]" in lines[-1]
    assert "4111411141114111" not in "".join(lines)


def test_what_comes_from_outside_cannot_steer_the_operators_terminal() -> None:
    lines = logged(
        "evil = 'a\\x1b[2J\\x9b31m\\rb\\tc'\n"
        "try:\n    raise ValueError(evil)\nexcept ValueError:\n    log.exception(evil, extra={'who': evil})",
        log_format="text",
    )
    text = "\n".join(lines)
    assert not set(text) & {"\x1b", "\x9b", "\r"}
    assert f"ValueError: a{HIDDEN}[2J{HIDDEN}31m{HIDDEN}b\tc" in text


def test_warnings_of_python_are_logged_too() -> None:
    line = only_json("warnings.simplefilter('always')\nwarnings.warn('old')")
    assert line["logger"] == "py.warnings"


def test_values_that_json_does_not_know_do_not_stop_a_line() -> None:
    first, second = logged("log.error('x', extra={'n': 2**70, 'o': object()})\nlog.error('a\\ud800b')")
    assert "object" in orjson.loads(first)["o"]
    assert "ud800" in orjson.loads(second)["message"]


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TelemetryConfigError, match="LOUD"):
        configure_logging("json", "LOUD")


@pytest.mark.parametrize(
    "name", ["password", "db_password", "api_key", "apiKey".lower(), "Authorization", "approval_token", "set-cookie"]
)
def test_values_under_names_of_secrets_are_masked(name: str) -> None:
    assert mask_secrets(None, "info", {"event": "x", "nested": [{name: "hunter2"}]})["nested"] == [{name: MASK}]


@pytest.mark.parametrize("name", ["input_tokens", "tokens", "secretary", "tool", "trace_id"])
def test_names_that_only_look_alike_are_left_alone(name: str) -> None:
    assert mask_secrets(None, "info", {"event": "x", name: 7})[name] == 7


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=8, max_size=60))
def test_bearer_tokens_and_passwords_in_addresses_never_come_through(secret: str) -> None:
    text = f"Authorization: Bearer {secret} for https://someone:{secret}@host/path"
    assert secret not in mask_secrets(None, "info", {"event": text})["event"]
