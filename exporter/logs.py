"""Logging: one line per record, as logfmt or JSON, with every secret taken out of the finished line.

Redaction sits in the formatter, behind everything that writes a log: messages, arguments, fields, tracebacks,
third-party loggers and uncaught exceptions all pass through it.
"""

import json
import logging
import math
import re
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO, TypeAlias
from urllib.parse import quote, quote_plus

LEVELS: Final = ("debug", "info", "warn", "warning", "error")
"""What `setup` takes as level; warn and warning are the same."""
FORMATS: Final = ("logfmt", "json")
"""What `setup` takes as format."""

REDACTED: Final = "***"
SHORTEST_SECRET: Final = 4
"""Shorter secrets would black out half the log; they are taken out only where they stand as a parameter."""
KEPT_SECRETS: Final = 8
"""How many secrets of one owner are kept: those in use, and the last that were."""

# Two lines at INFO for every job run; a traceback with the URL at WARNING for every header that isn't one.
_CHATTY: Final = {"apscheduler": logging.WARNING, "urllib3.connection": logging.ERROR}
_RESERVED: Final = frozenset({"ts", "level", "logger", "msg", "exception", "stack"})
_SENSITIVE_KEY: Final = re.compile(r"access[-_]?token|authorization|password|secret", re.IGNORECASE)
_BARE: Final = re.compile(r"[A-Za-z0-9_.:/+*@-]+")
_KEY_JUNK: Final = re.compile(r"[^A-Za-z0-9_.-]")

# `access-token=…` as it stands in URLs (also quoted ones), dicts, headers and JSON. The config key
# `access_token` with a bare colon isn't taken: it begins the faults about that key.
_PARAMETER: Final = re.compile(
    r"""((?:access(?:-|%(?:25)?2D)token[\\"']*+\s*(?:=|:|%(?:25)?3D)"""
    r"""|access_?token(?:[\\"']*+\s*(?:=|%(?:25)?3D)|[\\"']++\s*:))\s*[\\"']*+)(?!\*\*\*)[^\s&"'<>]+""",
    re.IGNORECASE,
)
# Schemes differ in what follows (Digest has quoted parts), so all to the end of the line, or of the quotes.
_HEADER: Final = re.compile(
    r"""(authorization[\\"']*+\s*[:=]\s*+(?:b(?=["']))?)(?![\\"']*\*\*\*)(?:(\\*["']).*?(\2|$)|[^\r\n]+)""",
    re.IGNORECASE | re.MULTILINE,
)
_USERINFO: Final = re.compile(r"""(\w://)[^/\s?#"'<>]+@""")

_Value: TypeAlias = str | int | float | bool | None


class _Secrets:
    """The registered secrets, as one pattern of all the forms in which they may appear.

    Of each owner only the last few are kept: a token that was rotated long ago opens nothing any more, and
    every log line pays for each that is kept.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_owner: dict[str, dict[str, set[str]]] = {}
        self._pattern: re.Pattern[str] | None = None

    def add(self, value: str, owner: str = "") -> None:
        if len(value) < SHORTEST_SECRET:
            return
        with self._lock:
            kept = self._by_owner.setdefault(owner, {})
            known = value in kept or any(value in others for others in self._by_owner.values())
            kept[value] = kept.pop(value) if value in kept else _forms(value)  # the newest is last
            while len(kept) > KEPT_SECRETS:
                del kept[next(iter(kept))]
            if not known:
                forms = {
                    form for values in self._by_owner.values() for some in values.values() for form in some
                }
                # Longest first, or a secret that begins like another one would leave its tail.
                self._pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))

    def remove(self, text: str) -> str:
        pattern = self._pattern
        return text if pattern is None else pattern.sub(REDACTED, text)


def _forms(value: str) -> set[str]:
    """Return `value` as it stands in text, URLs, reprs, JSON and logfmt."""
    encodable = value.encode("utf-8", "surrogatepass")
    once = quote(encodable, safe="")
    quoted = {quote(encodable), once, quote_plus(encodable), quote(once, safe=""), quote_plus(once)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), form) for form in quoted}
    escaped = (repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False), _escape(value))
    return {value, *quoted, *lower, *(form[1:-1] for form in escaped)}


_secrets = _Secrets()


def register_secret(value: str, owner: str = "") -> None:
    """Take `value` out of everything logged from now on. Thread-safe.

    Of one `owner`, such as an account, the last `KEPT_SECRETS` are kept. A value of fewer than
    `SHORTEST_SECRET` characters is left to the pattern ``access-token=…``.
    """
    _secrets.add(value, owner)


def redact(text: str) -> str:
    """Return `text` without registered secrets, ``access-token=…``, ``Authorization: …`` and URL passwords."""
    text = _secrets.remove(text)
    text = _PARAMETER.sub(rf"\1{REDACTED}", text)
    text = _HEADER.sub(lambda match: f"{match[1]}{match[2] or ''}{REDACTED}{match[3] or ''}", text)
    return _USERINFO.sub(rf"\1{REDACTED}@", text)


def fields(**values: object) -> dict[str, Any]:
    """Return what a logging call takes as `extra`: ``log.info("poll done", extra=fields(account="main"))``."""
    return {"fields": values}


def _escape(text: str) -> str:
    r"""Return `text` in double quotes and on one line; what can't be seen is written ``\uXXXX``."""
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isprintable():
        return quoted
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in quoted)


def _plain(value: object) -> _Value:
    """Return `value` as something that JSON has, redacted."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        text = json.dumps(value)
        return value if text == redact(text) else REDACTED  # a token may look like a number
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, default=str, ensure_ascii=False)
    return redact(str(value))


class _Formatter(logging.Formatter, ABC):
    """What both formats share: a record to redacted pairs, and the redaction of the finished line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line. Never raises: logging would print the raw arguments."""
        try:
            line = self._line(_pairs(record))
        except Exception as error:  # noqa: BLE001 - a value whose str() fails, and the like
            line = self._line(_header(record, f"a log record could not be formatted: {type(error).__name__}"))
        return _secrets.remove(line)

    @abstractmethod
    def _line(self, pairs: dict[str, _Value]) -> str:
        """Return the pairs as one line, not yet redacted."""


class LogfmtFormatter(_Formatter):
    """``key=value`` pairs, quoted where needed."""

    def _line(self, pairs: dict[str, _Value]) -> str:
        return " ".join(f"{key}={_logfmt_value(value)}" for key, value in pairs.items())


class JsonFormatter(_Formatter):
    """One JSON object per line, in ASCII."""

    def _line(self, pairs: dict[str, _Value]) -> str:
        return json.dumps(pairs)


def _logfmt_value(value: _Value) -> str:
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else _escape(value)
    return json.dumps(value)


def _header(record: logging.LogRecord, message: str) -> dict[str, _Value]:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {
        "ts": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": redact(record.name),
        "msg": redact(message),
    }


def _pairs(record: logging.LogRecord) -> dict[str, _Value]:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that don't fit the message
        message = f"{record.msg} {record.args}"
    pairs = _header(record, message)
    for name, value in getattr(record, "fields", {}).items():
        key = _KEY_JUNK.sub("_", name) or "_"
        shown = REDACTED if _SENSITIVE_KEY.search(name) else _plain(value)
        pairs[f"{key}_" if key in _RESERVED else key] = shown
    if record.exc_info and record.exc_info[1] is not None:
        # Not left in record.exc_text: that would hand the raw traceback to other handlers.
        pairs["exception"] = redact("".join(traceback.format_exception(*record.exc_info)).rstrip())
    if record.stack_info:
        pairs["stack"] = redact(record.stack_info)
    return pairs


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the record: the stream is gone, and logging would print the raw record to stderr."""


def setup(level: str = "info", format: str = "logfmt", stream: TextIO | None = None) -> None:  # noqa: A002 - logging's name
    """Send all logging to `stream` (default: stderr), redacted.

    Replaces the handlers of every logger, and the hooks for uncaught exceptions and for warnings. May be called
    again, for another level. Raises ValueError for a level or format that isn't in `LEVELS` or `FORMATS`.
    """
    if level not in LEVELS:
        raise ValueError(f"log level must be one of {', '.join(LEVELS)}")
    if format not in FORMATS:
        raise ValueError(f"log format must be one of {', '.join(FORMATS)}")
    handler = _Handler(sys.stderr if stream is None else stream)
    handler.setFormatter(LogfmtFormatter() if format == "logfmt" else JsonFormatter())
    for logger in list(logging.Logger.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):  # a handler of a library's own would not redact
            logger.handlers.clear()
            logger.propagate = True
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, quiet in _CHATTY.items():
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else max(quiet, root.level))
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable


def _uncaught(
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    logging.getLogger(__name__).critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return
    name = args.thread.name if args.thread else "unknown"
    info = (args.exc_type, args.exc_value, args.exc_traceback)
    logger = logging.getLogger(__name__)
    logger.critical("uncaught exception in thread", exc_info=info, extra=fields(thread=name))


def _unraisable(args: "sys.UnraisableHookArgs") -> None:
    if args.exc_value is None:
        return
    # args.object isn't named: its repr may hold anything.
    info = (args.exc_type, args.exc_value, args.exc_traceback)
    logging.getLogger(__name__).error("exception ignored", exc_info=info)
