"""Numbers, ratios and times as people read them. English, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from decimal import Decimal

NOTHING: Final = "\u2013"
_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_JUST_NOW: Final = 2.0


def count(value: int | None) -> str:
    """Return ``12,345``, or a dash for None."""
    return NOTHING if value is None else f"{value:,}"


def amount(value: Decimal | None, currency: str | None) -> str:
    """Return ``1,234.50 EUR``: two decimals at least, and those that the vendor gave."""
    if value is None:
        return NOTHING
    exponent = value.as_tuple().exponent
    digits = max(2, -exponent) if isinstance(exponent, int) else 2
    text = f"{value:,.{min(digits, 8)}f}"
    return f"{text} {currency}" if currency else text


def percent(ratio: float | None) -> str:
    """Return ``4.52 %`` or ``0.0123 %`` with a hard space; a dash for None.

    Three significant digits, but at most four decimals.
    """
    if ratio is None:
        return NOTHING
    value = ratio * 100
    if value == 0:
        return "0\u00a0%"
    decimals = 1
    while decimals < 4 and value < 10.0 ** (2 - decimals):  # noqa: PLR2004 - as the docstring says
        decimals += 1
    text = f"{value:,.{decimals}f}"
    return f"< 0.{'0' * (decimals - 1)}1\u00a0%" if not text.strip("0.") else f"{text}\u00a0%"


def limit(ratio: float) -> str:
    """Return ``5 %`` or ``0.05 %``: no more digits than it has."""
    return f"{ratio * 100:g}\u00a0%"


def duration(seconds: float) -> str:
    """Return ``5 minutes``, ``1 hour 30 minutes``, ``0.4 seconds``: the two largest units."""
    if seconds < 10 and seconds != round(seconds):  # noqa: PLR2004 - tenths matter below
        return f"{seconds:.1f} seconds"
    rest = round(seconds)
    words: list[str] = []
    for unit, name in _UNITS:
        number, rest = divmod(rest, unit)
        if number:
            words.append(f"{number:,} {name}{'' if number == 1 else 's'}")
        if words and (len(words) == 2 or not number):  # noqa: PLR2004 - as the docstring says
            break
    return " ".join(words) or "0 seconds"


def relative(when: float, now: float) -> str:
    """Return ``3 minutes ago``, ``just now`` or ``in 2 hours``: the largest unit."""
    away = abs(now - when)
    if away < _JUST_NOW:
        return "just now"
    unit, name = next((unit, name) for unit, name in _UNITS if away >= unit)
    number = int(away // unit)
    text = f"{number:,} {name}{'' if number == 1 else 's'}"
    return f"{text} ago" if when < now else f"in {text}"


def utc(when: float) -> str:
    """Return ``2026-11-23 12:00:00 UTC``; a dash for what no calendar has."""
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return NOTHING


def iso(when: float) -> str:
    """Return ``2026-11-23T12:00:00Z``, for machines; a dash for what no calendar has."""
    return utc(when).replace(" UTC", "Z").replace(" ", "T")
