"""What a backfill was answered so far: a file to go on from, and how rows stand in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.fields import COUNTER_FIELDS, Counts
from exporter.api.model import INVALID, Conversion, MessageStats
from exporter.backfill.arguments import usage_error

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = 2
"""Of the records: rows stand by field names."""

_READABLE: Final = {1, FORMAT}
"""Formats that can be read and gone on with: in 1, of 0.1.0, rows were lists, in this order."""
_STATS_0_1_0: Final = (
    *("campaign_id", "type", "campaign_start_at", "message_title"),
    *("skipped", "sent", "delivered", "opened", "clicked", "bounced", "softBounced", "rejected", "failed"),
    *("temporaryFailed", "complaint", "unsubscribed"),
)
_CONVERSION_0_1_0: Final = (
    *("campaign_id", "type", "campaign_start_at", "campaign_stop_at", "message_title", "campaign_name"),
    *("conversion_event", "conversion_period", "deposits_count", "deposits_amount", "converted_users"),
)

Record: TypeAlias = dict[str, Any]


class Journal:
    """What was answered so far, in a file of one JSON document a line; the first is about the arguments.

    `records` are the others, as of when it was opened.
    A line is on the disk before `add` returns; one that a crash cut off is dropped. The file is locked against
    other processes until `close`.
    """

    def __init__(self, path: Path, header: Record) -> None:
        """Open or begin it. Raises ConfigError if it belongs to other arguments, another process, or nobody."""
        self.path = path
        self.records: list[Record] = []
        # Without a buffer, which would keep a line that a full disk refused
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        try:
            self._lock()
            found = self._read()
            if found:
                self._compare(found[0], header)
                self.header, self.records = found[0], found[1:]
            else:
                self.header = header
                self.add(header)
        except BaseException:
            self._file.close()
            raise

    def add(self, record: Record) -> None:
        """Append a record, and wait until it is on the disk. Raises OSError."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy = True
        else:
            busy = False
        if busy:
            raise usage_error(f"--output: another backfill is at work in {self.path.parent}; wait for its end")

    def _read(self) -> list[Record]:
        found: list[Record] = []
        end = 0
        for line in self._file.read().split(b"\n")[:-1]:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise usage_error(
                    f"--output: line {len(found) + 1} of {self.path} can't be read; remove that file to begin"
                    " anew, or choose another directory"
                )
            found.append(record)
            end += len(line) + 1
        self._file.seek(end)
        self._file.truncate()
        return found

    def _compare(self, found: Record, header: Record) -> None:
        if found.get("backfill") not in _READABLE:
            raise usage_error(
                f"--output: {self.path} is of another version of the exporter; choose another directory"
            )
        different = [name for name in _COMPARED if found.get(name) != header.get(name)]
        if different:
            was = ", ".join(f"{_COMPARED[name]} was {found.get(name)}" for name in different)
            raise usage_error(
                f"--output: {self.path.parent} has a backfill of account {header['account']} with other"
                f" arguments ({was}); give the same ones to go on with it, or choose another directory"
            )


_COMPARED: Final = {
    "account": "the account",
    "base_url": "base_url",
    "from": "--from",
    "to": "--to",
    "step": "--step",
    "conversions": "whether conversions are read (poll.conversions_every)",
}


def _pack(value: object) -> object:
    """Return a count or amount as JSON has it."""
    return False if value is INVALID else str(value) if isinstance(value, Decimal) else value


def _unpack(value: Any) -> Any:  # noqa: ANN401 - JSON
    return INVALID if value is False else value


def pack_stats(row: MessageStats) -> Record:
    """Return a row of the statistics as JSON has it: by the API's field names, false for INVALID."""
    packed: Record = {
        "campaign_id": row.campaign_id,
        "type": row.channel,
        "campaign_start_at": row.start,
        "message_title": row.title,
    }
    for name, count in zip(COUNTER_FIELDS, row.counts, strict=True):
        if count is not None:
            packed[name] = _pack(count)
    return packed


def unpack_stats(packed: Record | list[Any]) -> MessageStats:
    """Undo `pack_stats`, or what 0.1.0 wrote."""
    if isinstance(packed, list):
        packed = dict(zip(_STATS_0_1_0, packed, strict=True))
    return MessageStats(
        packed["campaign_id"],
        packed["type"],
        packed["campaign_start_at"],
        packed["message_title"],
        Counts._make(_unpack(packed.get(name)) for name in COUNTER_FIELDS),
    )


def pack_conversion(row: Conversion) -> Record:
    """Return a row of the conversions as JSON has it: by the API's field names, the amount as text."""
    return {
        "campaign_id": row.campaign_id,
        "type": row.channel,
        "campaign_start_at": row.start,
        "campaign_stop_at": row.stop,
        "message_title": row.title,
        "campaign_name": row.campaign_name,
        "conversion_event": row.event,
        "conversion_period": row.period,
        "deposits_count": _pack(row.deposits),
        "deposits_amount": _pack(row.amount),
        "converted_users": _pack(row.converted_users),
    }


def unpack_conversion(packed: Record | list[Any]) -> Conversion:
    """Undo `pack_conversion`, or what 0.1.0 wrote."""
    if isinstance(packed, list):
        packed = dict(zip(_CONVERSION_0_1_0, packed, strict=True))
    amount = _unpack(packed.get("deposits_amount"))
    return Conversion(
        campaign_id=packed["campaign_id"],
        channel=packed["type"],
        start=packed["campaign_start_at"],
        stop=packed.get("campaign_stop_at"),
        title=packed["message_title"],
        campaign_name=packed.get("campaign_name", ""),
        event=packed["conversion_event"],
        period=packed["conversion_period"],
        deposits=_unpack(packed.get("deposits_count")),
        amount=Decimal(amount) if isinstance(amount, str) else amount,
        converted_users=_unpack(packed.get("converted_users")),
    )
