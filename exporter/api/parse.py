"""One raw answer of the API to records, or BadResponseError."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Generic

import msgspec

from exporter.api import values
from exporter.api.envelope import NOT_JSON, raw_rows, strict_json
from exporter.api.fields import CONVERSIONS, COUNTER_FIELDS, FIELDS, STATISTICS, Counts
from exporter.api.model import INVALID, Conversion, MessageStats, Page, R
from exporter.errors import BadResponseError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from exporter.api.model import Count, Reply, Row
    from exporter.api.values import Raw

KEPT_FOR: Final = 4
"""A row that doesn't come again while all others come so many times, on average, is no longer kept."""
_LEAST_READ: Final = 1000
_DIGEST_BYTES: Final = 16
"""Of rows that are known: less to keep than the rows, and as good as never that of another one."""

_TOTAL_HEADERS: Final = ("x-pagination-total-count", "x-total-count", "x-total", "x-pagination-total")
_LONGEST_TOTAL: Final = 16
_OPENABLE: Final = ("email", "push")
"""Parts of the names of channels whose messages can be seen to be opened."""
_NONE: Final[frozenset[str]] = frozenset()
"""One for all rows: Python makes a new one each time."""


class _UnreadableRow(Exception):  # noqa: N818 - the row is passed over; nothing else is wrong
    """A row lacks one of the fields that say what it is about; the argument is that field's name."""


@dataclass(frozen=True, slots=True)
class _Parsed(Generic[R]):
    """One row, None if it can't be read; the fields with invalid values, and those that aren't documented."""

    row: R | None
    invalid: tuple[str, ...]
    unknown: frozenset[str]


class Reader(Generic[R]):
    """Reads the answers of one resource.

    A row that comes again byte by byte (by its digest) isn't parsed again, and is the same object as before;
    rows that don't come any more are forgotten. Safe to use from several threads.
    """

    def __init__(self, resource: str, read: Callable[[Raw, list[str]], R]) -> None:
        self._known = frozenset(FIELDS[resource])
        self._read = read
        self._lock = threading.Lock()
        self._recent: dict[bytes, _Parsed[R]] = {}
        self._older: dict[bytes, _Parsed[R]] = {}  # not seen since `_read_rows` began to count
        self._latest: dict[Hashable, bytes] = {}
        self._read_rows = 0

    def __len__(self) -> int:
        """Return how many rows are kept."""
        return len(self._recent) + len(self._older)

    def __call__(self, reply: Reply) -> Page[R]:
        """Read one answer. Raises BadResponseError if it is none, or has rows of which none is readable."""
        contents = raw_rows(reply.body)
        rows: list[R] = []
        invalid: Counter[str] = Counter()
        unknown: set[str] = set()
        last_fault = ""
        with self._lock:
            found = []
            for content in contents:
                key = blake2b(content, digest_size=_DIGEST_BYTES).digest()
                found.append(self._recent.get(key) or self._find(key, content))
            self._forget(len(contents))
        for index, parsed in enumerate(found):
            if parsed.row is None:
                last_fault = f"$[{index}].{parsed.invalid[-1]}"
            else:
                rows.append(parsed.row)
            if parsed.invalid:
                invalid.update(parsed.invalid)
            if parsed.unknown:
                unknown |= parsed.unknown
        if contents and not rows:
            raise BadResponseError(
                f"none of the {len(contents)} rows can be read; the last fault is at {last_fault}"
            )
        return Page(
            rows=tuple(rows),
            size=len(contents),
            total=_total(reply.headers),
            invalid=dict(invalid),
            unknown=frozenset(unknown),
        )

    def _find(self, key: bytes, content: bytes) -> _Parsed[R]:
        """Return a row that was read before, or parse it."""
        parsed = self._older.pop(key, None)
        if parsed is None:
            parsed = self._parse(content)
        if parsed.row is not None:
            message = _message(parsed.row)
            before = self._latest.get(message)
            if before is not None and before != key:  # it has taken the place of what was read before
                self._recent.pop(before, None)
                self._older.pop(before, None)
            self._latest[message] = key
            self._recent[key] = parsed
        return parsed

    def _parse(self, content: bytes) -> _Parsed[R]:
        raw = _decode(content)
        if not isinstance(raw, dict):
            return _Parsed(None, ("campaign_id",), _NONE)
        invalid: list[str] = []
        unknown = _NONE if raw.keys() <= self._known else frozenset(raw.keys() - self._known)
        try:
            row = self._read(raw, invalid)
        except _UnreadableRow as fault:
            return _Parsed(None, (*invalid, fault.args[0]), unknown)
        return _Parsed(row, tuple(invalid), unknown)

    def _forget(self, read: int) -> None:
        """Forget the rows that haven't come for long."""
        self._read_rows += read
        if self._read_rows < KEPT_FOR * len(self._recent) + _LEAST_READ:
            return
        for key, parsed in self._older.items():
            if parsed.row is not None and self._latest.get(_message(parsed.row)) == key:
                del self._latest[_message(parsed.row)]
        self._older, self._recent = self._recent, {}
        self._read_rows = 0


def _message(row: Row) -> Hashable:
    """Return what a row is about: one message."""
    return row.group, row.title


def statistics_reader() -> Reader[MessageStats]:
    """Return a reader of ``/campaign/statistics``."""
    return Reader(STATISTICS, _message_stats)


def conversions_reader() -> Reader[Conversion]:
    """Return a reader of ``/campaign/statistic-conversions``."""
    return Reader(CONVERSIONS, _conversion)


def _decode(content: bytes) -> object:
    """Return one row; None if it can't be decoded."""
    try:
        return msgspec.json.decode(content)
    except NOT_JSON:
        strict = strict_json(content)
    return None if strict is None else msgspec.json.decode(strict)


def _total(headers: Mapping[str, str]) -> int | None:
    for name in _TOTAL_HEADERS:
        text = headers.get(name, "").strip()
        if text.isascii() and text.isdigit() and len(text) <= _LONGEST_TOTAL:
            return int(text)
    return None


def _message_stats(raw: Raw, invalid: list[str]) -> MessageStats:
    campaign_id, channel, start = _identity(raw)
    if not _has_opens(channel):
        raw["opened"] = None
    counts: Counts[Count] = Counts._make(
        [
            value if type(value) is int and 0 <= value <= values.LARGEST else values.count(value)
            for value in map(raw.get, COUNTER_FIELDS)
        ]
    )
    if INVALID in counts:
        invalid += [name for name, value in zip(COUNTER_FIELDS, counts, strict=True) if value is INVALID]
    return MessageStats(
        campaign_id=campaign_id,
        channel=channel,
        start=start,
        title=values.text(raw.get("message_title")),
        counts=counts,
    )


@lru_cache(maxsize=256)
def _has_opens(channel: str) -> bool:
    """Whether opens are seen ("only for Email/Push"); elsewhere a 0 would claim that nobody opened it."""
    return any(word in channel for word in _OPENABLE)


def _conversion(raw: Raw, invalid: list[str]) -> Conversion:
    campaign_id, channel, start = _identity(raw)
    stop = values.moment(raw.get("campaign_stop_at"))
    deposits = values.count(raw.get("deposits_count"))
    amount = values.amount(raw.get("deposits_amount"))
    converted_users = values.count(raw.get("converted_users"))
    read = {
        "campaign_stop_at": stop,
        "deposits_count": deposits,
        "deposits_amount": amount,
        "converted_users": converted_users,
    }
    invalid += [name for name, value in read.items() if value is INVALID]
    return Conversion(
        campaign_id=campaign_id,
        channel=channel,
        start=start,
        stop=None if stop is INVALID else stop,
        title=values.text(raw.get("message_title")),
        campaign_name=values.text(raw.get("campaign_name")),
        event=values.text(raw.get("conversion_event")),
        period=values.text(raw.get("conversion_period")),
        deposits=deposits,
        amount=amount,
        converted_users=converted_users,
    )


def _identity(raw: Raw) -> tuple[int, str, float]:
    campaign_id = values.identifier(raw.get("campaign_id"))
    if campaign_id is None:
        raise _UnreadableRow("campaign_id")
    kind = raw.get("type")
    channel = values.text(kind.strip().lower()) if isinstance(kind, str) else ""
    if not channel:
        raise _UnreadableRow("type")
    start = values.moment(raw.get("campaign_start_at"))
    if start is None or start is INVALID:
        raise _UnreadableRow("campaign_start_at")
    return campaign_id, channel, start
