"""The files that promtool takes: one for each account and month."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final

from exporter.backfill.arguments import format_time
from exporter.backfill.series import openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from exporter.api.model import TimeRange
    from exporter.backfill.series import AccountSeries
    from exporter.backfill.span import Span

SUFFIX: Final = ".om"
"""What their names end with."""
_LONGEST_STEM: Final = 100


def file_stem(account: str) -> str:
    """Return what the names of an account's files begin with: its name, if that can be one of a file."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", account).lstrip(".-")[:_LONGEST_STEM]
    if stem == account:
        return stem
    return f"{stem or 'account'}-{hashlib.sha256(account.encode()).hexdigest()[:8]}"


def month_file(output: Path, account: str, month: TimeRange) -> Path:
    """Return the path of an account's file of one month."""
    return output / f"{file_stem(account)}-{format_time(month.first)[:7]}{SUFFIX}"


def write(output: Path, account: str, span: Span, series: AccountSeries) -> dict[str, int]:
    """Write the file of each month, each at once; return how many samples each has. Raises OSError."""
    if not series.campaigns:
        return {}
    files = {}
    for month in span.months:
        path = month_file(output, account, month)
        families = series.month(month)
        files[path.name] = sum(len(lines) for family in families.values() for lines in family.values())
        _write_atomically(path, openmetrics(families))
    return files


def _write_atomically(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file under another name and rename it: whoever sees it sees all of it. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.writelines(blocks)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
