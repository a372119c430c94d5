"""One raw answer of the API to records, or BadResponseError.

What an answer may look like is known only from the vendor's two examples (Campaign Statistics API, "Example
Response"), so three envelopes are read: one bare row, an array of rows, an object that holds one array of rows.
Anything else, above all an error object with status 200, is a failed request and never "no campaigns".
"""

from __future__ import annotations

import calendar
import json
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.fields import CONVERSIONS, COUNTER_FIELDS, FIELDS, IDENTITY_FIELDS, STATISTICS, Counts
from exporter.api.model import INVALID, Conversion, MessageStats, Page, R
from exporter.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from exporter.api.model import Amount, Count, Reply

Raw: TypeAlias = dict[str, Any]

LARGEST: Final = 2**53
"""Samples are floats: above it two counts, or two identifiers, could not be told apart."""

_TOTAL_HEADERS: Final = ("x-pagination-total-count", "x-total-count", "x-total", "x-pagination-total")
_ROWS_KEYS: Final = ("data", "items", "rows", "results", "result", "statistics", "campaigns")
_OPENABLE: Final = ("email", "push")
"""Parts of the names of channels whose messages can be seen to be opened."""
_ERROR_KEYS: Final = frozenset({"error", "errors", "exception", "error_message", "errorMessage", "error_code"})
_NUMBER: Final = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?")
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?"
)


class _UnreadableRow(Exception):  # noqa: N818 - the row is passed over; nothing else is wrong
    """A row lacks one of the fields that say what it is about; the argument is that field's name."""


def statistics(reply: Reply) -> Page[MessageStats]:
    """Read an answer of ``/campaign/statistics``.

    Raises BadResponseError if it is none, or if it has rows of which none is readable.
    """
    return _page(reply, FIELDS[STATISTICS], _message_stats)


def conversions(reply: Reply) -> Page[Conversion]:
    """Read an answer of ``/campaign/statistic-conversions``; errors as for `statistics`."""
    return _page(reply, FIELDS[CONVERSIONS], _conversion)


def _page(reply: Reply, documented: Collection[str], read: Callable[[Raw, Counter[str]], R]) -> Page[R]:
    raw_rows = _raw_rows(reply.body)
    known = frozenset(documented)
    rows: list[R] = []
    invalid: Counter[str] = Counter()
    unknown: set[str] = set()
    last_fault = ""
    for index, raw in enumerate(raw_rows):
        try:
            if not isinstance(raw, dict):
                raise _UnreadableRow(IDENTITY_FIELDS[0])  # noqa: TRY301 - a row like the other unreadable ones
            unknown.update(raw.keys() - known)
            rows.append(read(raw, invalid))
        except _UnreadableRow as fault:
            last_fault = f"$[{index}].{fault.args[0]}"
            invalid[fault.args[0]] += 1
    if raw_rows and not rows:
        raise BadResponseError(
            f"none of the {len(raw_rows)} rows can be read; the last fault is at {last_fault}"
        )
    return Page(
        rows=tuple(rows),
        size=len(raw_rows),
        total=_total(reply.headers),
        invalid=dict(invalid),
        unknown=frozenset(unknown),
    )


def _raw_rows(body: bytes) -> list[Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        document = _NOT_JSON
    if document is _NOT_JSON:
        raise BadResponseError("the answer is no JSON; is base_url the API's address, and not a web page's?")
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        if IDENTITY_FIELDS[0] in document:
            return [document]
        if not _says_error(document):
            return _only_array(document)
    raise BadResponseError(f"the answer ({_kind(document)}) holds no rows")


_NOT_JSON: Final = object()


def _says_error(document: Raw) -> bool:
    """Whether an object reports an error, even if it holds an (empty) array besides."""
    if any(document.get(key) for key in _ERROR_KEYS):
        return True
    if document.get("success") in (False, "false") or document.get("ok") is False:
        return True
    status = document.get("status", document.get("code"))
    if isinstance(status, str):
        return status.lower() in {"error", "fail", "failed", "failure"}
    return isinstance(status, int) and status >= 400  # noqa: PLR2004 - HTTP's first error code


def _only_array(document: Raw) -> list[Any]:
    arrays = {
        key: value for key, value in document.items() if isinstance(value, list) and key not in _ERROR_KEYS
    }
    if len(arrays) > 1:
        arrays = {key: value for key, value in arrays.items() if key.lower() in _ROWS_KEYS}
    if len(arrays) != 1:
        raise BadResponseError("the answer is an object that does not hold one array of rows")
    return next(iter(arrays.values()))


def _kind(document: object) -> str:
    if document is None:
        return "null"
    names = {dict: "an object", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(document), "something else")


def _total(headers: Mapping[str, str]) -> int | None:
    for name in _TOTAL_HEADERS:
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST)):
            return int(text)
    return None


def _message_stats(raw: Raw, invalid: Counter[str]) -> MessageStats:
    campaign_id, channel, start = _identity(raw)
    if not any(word in channel for word in _OPENABLE):
        # "only for Email/Push" (Response Field Definitions); elsewhere a 0 would claim that nobody opened it
        raw = {**raw, "opened": None}
    return MessageStats(
        campaign_id=campaign_id,
        channel=channel,
        start=start,
        title=_text(raw, "message_title"),
        counts=Counts._make([_count(raw, name, invalid) for name in COUNTER_FIELDS]),
    )


def _conversion(raw: Raw, invalid: Counter[str]) -> Conversion:
    campaign_id, channel, start = _identity(raw)
    stop_text = raw.get("campaign_stop_at")
    stop = None if stop_text in (None, "") else _time(stop_text)
    if stop is None and stop_text not in (None, ""):
        invalid["campaign_stop_at"] += 1
    return Conversion(
        campaign_id=campaign_id,
        channel=channel,
        start=start,
        stop=stop,
        title=_text(raw, "message_title"),
        campaign_name=_text(raw, "campaign_name"),
        event=_text(raw, "conversion_event"),
        period=_text(raw, "conversion_period"),
        deposits=_count(raw, "deposits_count", invalid),
        amount=_amount(raw, "deposits_amount", invalid),
        converted_users=_count(raw, "converted_users", invalid),
    )


def _identity(raw: Raw) -> tuple[int, str, float]:
    number = _number(raw.get("campaign_id"))
    if number is None or not _is_count(number):
        raise _UnreadableRow("campaign_id")
    channel = raw.get("type")
    if not isinstance(channel, str) or not channel.strip():
        raise _UnreadableRow("type")
    start = _time(raw.get("campaign_start_at"))
    if start is None:
        raise _UnreadableRow("campaign_start_at")
    return int(number), _clean(channel.strip().lower()), start


def _text(raw: Raw, name: str) -> str:
    value = raw.get(name)
    return _clean(value) if isinstance(value, str) else "" if value is None else str(value)


def _clean(text: str) -> str:
    """Replace lone surrogates, which JSON can say and UTF-8 can not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _number(value: object) -> Decimal | None:
    """Return a finite number, from a JSON number or a numeric string; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        # repr is the shortest text that gives the same float, which is what the answer said
        number = Decimal(repr(value))
        return number if number.is_finite() else None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def _is_count(number: Decimal) -> bool:
    return 0 <= number <= LARGEST and number == number.to_integral_value()


def _count(raw: Raw, name: str, invalid: Counter[str]) -> Count:
    value = raw.get(name)
    if type(value) is int and 0 <= value <= LARGEST:  # nearly all of them
        return value
    if value is None:
        return None
    number = _number(value)
    if number is None or not _is_count(number):
        invalid[name] += 1
        return INVALID
    return int(number)


def _amount(raw: Raw, name: str, invalid: Counter[str]) -> Amount:
    value = raw.get(name)
    if value is None:
        return None
    number = _number(value)
    if number is None or not 0 <= number <= LARGEST:
        invalid[name] += 1
        return INVALID
    return number


def _time(value: object) -> float | None:
    """Return the epoch seconds of ``2025-03-17 10:04:21+00`` and its like; without an offset it is UTC."""
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (1970 <= year <= 9998 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 61):  # noqa: PLR2004
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - _offset(match[8])
    return seconds + float(f"0.{match[7]}") if match[7] else float(seconds)


def _offset(text: str | None) -> int:
    """Return seconds east of UTC."""
    if text is None or text in ("Z", "z", "UTC"):
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds
