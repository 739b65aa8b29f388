"""Logging for the whole process: JSON lines, or readable text on a terminal, everything through structlog.

Lines carry the trace and execution that they belong to. Values under names of secrets, bearer tokens and passwords in
addresses are masked; that is a net under the rule that secrets are not logged, not a replacement for it.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar, Token
from typing import Any, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from toolwright_server.telemetry.options import LogFormat, TelemetryConfigError

MASK = "[masked]"

_CALL: ContextVar[tuple[str, str] | None] = ContextVar("toolwright_call", default=None)
_SECRET_NAME = re.compile(
    r"(^|[_.\-])(password|passwd|secret|token|authorization|api_?key|apikey|private_?key|credentials?|cookie|pepper)$",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=\-]+|(://[^/\s:@]*:)[^/\s@]+(?=@)")
# Control characters but for line ends and tabs: text from outside could steer the operator's terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


class _StandardError(logging.Handler):
    """Writes to whatever standard error is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - the standard library's rule: logging never breaks what it reports on
            self.handleError(record)


def bind_call(trace_id: str, execution_id: str) -> Token[tuple[str, str] | None]:
    """From here on, log lines of this task carry these ids; `unbind_call` with the token ends it."""
    return _CALL.set((trace_id, execution_id))


def unbind_call(token: Token[tuple[str, str] | None]) -> None:
    """Undo `bind_call`."""
    _CALL.reset(token)


def wants_json(log_format: LogFormat) -> bool:
    """Whether lines are JSON: as told, or when standard error is no terminal."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send everything that is logged, by structlog or the standard library, to standard error.

    Raises:
        TelemetryConfigError: the level has no such name.
    """
    if level.upper() not in _LEVELS:
        raise TelemetryConfigError(f"the log level {level!r} does not exist: use one of {', '.join(_LEVELS)}")
    before: list[Processor] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _add_call,
    ]
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendering(wants_json(log_format)),
            ],
        )
    )
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _StandardError)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # It tells of every step of a migration.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _rendering(as_json: bool) -> list[Processor]:
    if as_json:
        return [structlog.processors.format_exc_info, mask_secrets, _message_first, _json_line]
    # Plain stacks: structlog's own show the values of local variables, secrets among them.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
    )
    return [structlog.processors.format_exc_info, mask_secrets, _without_control, renderer]


def mask_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Mask what looks like a secret, by name and in text, also inside nested values."""
    return cast("EventDict", _masked("", event))


def _masked(name: str, value: Any) -> Any:
    if value is not None and _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, str):
        return _SECRET_TEXT.sub(lambda found: f"{found[1] or found[2]}{MASK}", value)
    if isinstance(value, MutableMapping):
        entries = cast("MutableMapping[Any, Any]", value)
        return {key: _masked(str(key), entry) for key, entry in entries.items()}
    if isinstance(value, list | tuple):
        return [_masked("", entry) for entry in cast("list[Any]", value)]
    return value


def _without_control(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {_plain(key): _plain(value) for key, value in event.items()}


def _plain(value: Any) -> Any:
    # What is no text is written by its repr, which escapes.
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value) if isinstance(value, str) else value


def _add_call(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    call = _CALL.get()
    if call is not None:
        event.setdefault("trace_id", call[0])
        event.setdefault("execution_id", call[1])
    return event


def _message_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    first = {"time": event.pop("time", None), "level": event.pop("level", None), "message": event.pop("event", "")}
    return {**first, **event}


def _json_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        # Lone surrogates and integers beyond 64 bits: a log line must come out whatever is in it.
        return orjson.dumps({str(key): ascii(value) for key, value in event.items()}).decode()
