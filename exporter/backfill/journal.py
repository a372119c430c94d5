"""What a backfill was answered so far: a file to go on from, and how rows stand in it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.fields import Counts
from exporter.api.model import INVALID, Conversion, MessageStats
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FORMAT: Final = 1
"""Of the records; another one is refused."""

Record: TypeAlias = dict[str, Any]


class Journal:
    """What was answered so far, in a file of one JSON document a line; the first is about the arguments.

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
                self.records.clear()
        except BaseException:
            self._file.close()
            raise

    def add(self, record: Record) -> None:
        """Append a record, and wait until it is on the disk. Raises OSError."""
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        os.fsync(self._file.fileno())
        self.records.append(record)

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
        if found.get("backfill") != FORMAT:
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


def usage_error(text: str) -> ConfigError:
    """Return the error of arguments that can't be used, one line for the user."""
    return ConfigError([f"intarget-exporter: {text}"])


def _pack(value: object) -> object:
    """Return a count or amount as JSON has it."""
    return False if value is INVALID else str(value) if isinstance(value, Decimal) else value


def _unpack(value: Any) -> Any:  # noqa: ANN401 - JSON
    return INVALID if value is False else value


def pack_stats(row: MessageStats) -> list[object]:
    """Return a row of the statistics as JSON has it: four keys and the twelve counts, false for INVALID."""
    return [row.campaign_id, row.channel, row.start, row.title, *map(_pack, row.counts)]


def unpack_stats(packed: Sequence[Any]) -> MessageStats:
    """Undo `pack_stats`."""
    number, channel, start, title, *values = packed
    return MessageStats(number, channel, start, title, Counts._make(map(_unpack, values)))


def pack_conversion(row: Conversion) -> list[object]:
    """Return a row of the conversions as JSON has it: its fields in their order, the amount as text."""
    return [
        *(row.campaign_id, row.channel, row.start, row.stop, row.title, row.campaign_name),
        *(row.event, row.period, *map(_pack, (row.deposits, row.amount, row.converted_users))),
    ]


def unpack_conversion(packed: Sequence[Any]) -> Conversion:
    """Undo `pack_conversion`."""
    number, channel, start, stop, title, name, event, period, deposits, amount, users = map(_unpack, packed)
    amount = Decimal(amount) if isinstance(amount, str) else amount
    return Conversion(number, channel, start, stop, title, name, event, period, deposits, amount, users)
