"""What a backfill is to make: the arguments as they were typed, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from exporter.backfill.span import Span
from exporter.config.durations import format_duration, parse_duration
from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SHORTEST_STEP: Final = 60
"""Seconds."""
MOST_STEPS: Final = 100_000
"""More are a slip of the pen: each costs at least one request."""
EARLIEST: Final = "2000-01-01"
"""A day before which nobody sent a campaign."""


def parse_time(text: str, *, end: bool) -> int:
    """Return the second of ``2026-01-31`` or ``2026-01-31T12:00:00Z``, in UTC; raises ValueError.

    Of a day alone it is the first second, or with `end` the last one.
    """
    try:
        if len(text) == len("2026-01-31"):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            moment = day + timedelta(days=1, seconds=-1) if end else day
        else:
            moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z") from None
    return int(moment.timestamp())


def format_time(second: float) -> str:
    """Return the second as `parse_time` reads it."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Order:
    """What to make: the history of the seconds `first` to `last`, which may be to come, in `output`.

    `labels` stand on every series, beside its own. With `dry_run` nothing is asked or written.
    """

    first: int
    last: int
    step: int
    output: Path
    labels: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


def order(
    start: str,
    end: str,
    step: str,
    output: Path,
    *,
    labels: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Order:
    """Read the arguments as they were typed. Raises ConfigError with a line for each fault."""
    faults: list[str] = []

    def read(flag: str, how: Callable[[], int]) -> int:
        try:
            return how()
        except ValueError as error:
            faults.append(f"{flag}: {error}")
        return 0

    first = read("--from", lambda: parse_time(start, end=False))
    last = read("--to", lambda: parse_time(end, end=True))
    seconds = read("--step", lambda: _parse_step(step))
    if not faults:
        if first >= last:
            faults.append("--from: must be earlier than --to")
        elif first < parse_time(EARLIEST, end=False):
            faults.append(f"--from: must not be before {EARLIEST}")
        elif Span(first, last, seconds).steps > MOST_STEPS:
            faults.append(f"--step: makes more than {MOST_STEPS} steps; choose a longer one")
    if faults:
        raise ConfigError([f"intarget-exporter: {fault}" for fault in faults])
    return Order(first, last, seconds, output, labels or {}, dry_run)


def _parse_step(text: str) -> int:
    seconds = parse_duration(text)
    if seconds < SHORTEST_STEP or seconds != int(seconds):
        raise ValueError(f"must be whole seconds, and at least {format_duration(SHORTEST_STEP)}")
    return int(seconds)


def usage_error(text: str) -> ConfigError:
    """Return the error of arguments that can't be used, one line for the user."""
    return ConfigError([f"intarget-exporter: {text}"])
