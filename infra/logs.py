"""Logs: one event a line on stderr, for people or as JSON, without secrets and personal data."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

Format: TypeAlias = Literal["console", "json"]

ACCESS_EVENT = "http.request"
"""The event of a finished request. It is not searched for secrets: log it by `access_logger`, which knows it clean."""

REDACTED = "[redacted]"

_SECRET_KEY = re.compile(
    r"api_?key|token|authorization|passw|secret|licen[sc]e_?key|e_?mail|cookie|private_?key|credential|database_url"
)
_PERSONAL_KEYS = frozenset(
    {
        "customer_id",
        "customer_name",
        "device_hash",
        "device_name",
        "hardware_id",
        "ip",
        "ip_address",
        "metadata",
        "os_info",
        "remote",
        "session_data",
        "x_forwarded_for",
    }
)
_SECRET_TEXT = re.compile(
    r"""
      -----BEGIN\ [A-Z ]{0,40}PRIVATE\ KEY-----.*?(?:-----END|\Z)   # PEM
    | (?<=://)[^/\s@]{1,200}@                                       # user:password@ in a URL
    | (?<![A-Za-z0-9])(?:sk|adm|ads|clt|adt)_[A-Za-z0-9_-]{8,}      # API keys and the service's own credentials
    | (?<![A-Za-z0-9])LIC-[A-Za-z0-9-]{4,}                          # licence keys of the first dialect
    | (?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_.=-]+      # JWS
    | (?<![\w-])(?:[A-Z0-9]{4,6}|(?=[a-z0-9-]*[0-9])[a-z0-9]{4,6})(?:-[A-Za-z0-9]{4,6}){2,}(?![\w-])  # XXXX-XXXX-XXXX
    | [^\s@<>"'=,;:()\[\]{}]{1,64}@[\w-][\w.-]{0,250}\.[A-Za-z]{2,24}  # e-mail
    """,
    re.VERBOSE | re.DOTALL,
)
_LONGEST_TEXT = 8192
_DEEPEST = 6
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def configure(format: Format, level: str, descriptor: int = 2) -> None:
    """Send structlog's events and the standard library's log records to a file descriptor (default: stderr).

    `level`: debug, info, warning or error; what is below costs next to nothing. Call it once, before the first event:
    loggers remember their configuration.
    """
    render = _json if format == "json" else _console(colors=os.isatty(descriptor))
    processors: list[Processor] = [structlog.processors.add_log_level, _add_timestamp, _redact, render]
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _Lines(descriptor),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog(structlog.get_logger())]
    root.setLevel(threshold)


def access_logger() -> Callable[[str, str, int, float, str], None]:
    """Return the function that logs a finished request: method, route's pattern, status, milliseconds, request id.

    Ask for it after `configure`. Only the request id may come from outside and hold a secret; plain letters and digits
    match no pattern of one.
    """
    info = structlog.get_logger().bind().info
    if not logging.getLogger().isEnabledFor(logging.INFO):
        return lambda *_: None

    def access(method: str, route: str, status: int, ms: float, request_id: str) -> None:
        known = request_id if request_id.isalnum() else _clean_text(request_id)
        info(ACCESS_EVENT, method=method, route=route, status=status, ms=round(ms, 3), request_id=known)

    return access


class _Lines:
    """Writes each line by one system call, so that lines of threads do not mix; a full disk fails no request."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def msg(self, line: bytes) -> None:
        try:
            os.write(self._descriptor, line)
        except OSError:
            return

    debug = info = warning = error = critical = msg


class _ToStructlog(logging.Handler):
    """Hands records of the standard library's loggers (aiohttp, asyncio, psycopg, …) to structlog."""

    _METHODS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong format string is no reason to fail
            message = str(record.msg)
        method = next((name for least, name in self._METHODS if record.levelno >= least), "debug")
        getattr(self._logger, method)(_clean_text(message), logger=record.name, exc_info=record.exc_info)


class _Clock:
    """The time as RFC 3339 in UTC with milliseconds; the text of a second is made once."""

    def __init__(self) -> None:
        self._now: tuple[int, str] = (0, "")

    def text(self) -> str:
        now = time.time()
        second = int(now)
        known, text = self._now
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._now = (second, text)
        return f"{text}.{int((now - second) * 1000):03d}Z"


_clock = _Clock()


def _add_timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["timestamp"] = _clock.text()
    return event


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace secrets and personal data by key and by look, and turn an exception into clean text."""
    if event["event"] == ACCESS_EVENT:
        return event
    error = event.pop("exc_info", None)
    clean = {_clean_text(str(key)): _clean_field(str(key), value) for key, value in event.items()}
    if error:
        clean["exception"] = _clean_text(_traceback(error)[-_LONGEST_TEXT:])
    return clean


def _clean_field(key: str, value: object, depth: int = 0) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    plain = key.lower().replace("-", "_")
    return REDACTED if plain in _PERSONAL_KEYS or _SECRET_KEY.search(plain) else _clean(value, depth)


def _clean(value: object, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < _DEEPEST:
        if isinstance(value, Mapping):
            return {_clean_text(str(key)): _clean_field(str(key), part, depth + 1) for key, part in value.items()}
        if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (str, bytes, bytearray)):
            return [_clean(part, depth + 1) for part in value]
    return _clean_text(_text_of(value))


def _clean_text(text: str) -> str:
    text = text[:_LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
    return _SECRET_TEXT.sub(REDACTED, text)


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - logging must not fail a request
        return f"<{type(value).__name__}>"


def _traceback(error: Any) -> str:
    if error is True:
        error = sys.exc_info()
    if isinstance(error, BaseException):
        error = (type(error), error, error.__traceback__)
    lines: ExcInfo = error
    return "".join(traceback.format_exception(*lines)).rstrip() if error[1] is not None else "(no exception)"


_encode = msgspec.json.Encoder(enc_hook=_text_of).encode


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return _encode(event) + b"\n"


def _console(*, colors: bool) -> Processor:
    """Readable lines. Control characters are escaped and tracebacks indented, so that no value looks like a line."""
    renderer = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False)

    def render(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
        error = event.pop("exception", None)
        line = renderer(logger, method, {_escaped(key): _one_line(value) for key, value in event.items()})
        indented = "".join(f"\n    {_escaped(part)}" for part in error.split("\n")) if isinstance(error, str) else ""
        return f"{line}{indented}\n".encode("utf-8", "replace")

    return render


def _one_line(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _escaped(_text_of(value))


def _escaped(text: str) -> str:
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
