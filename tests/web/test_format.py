"""How the pages write numbers, ratios and times."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web import format as fmt
from tests._websites import NOW


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (None, "\u2013"),
        (0.0, "0 %"),
        (0.0452, "4.52 %"),
        (0.000123, "0.0123 %"),
        (0.0005, "0.0500 %"),
        (0.5, "50.0 %"),
        (1.0, "100.0 %"),
        (12.5, "1,250.0 %"),
        (1e-9, "< 0.0001 %"),
    ],
)
def test_percent(ratio: float | None, text: str) -> None:
    """Small ratios keep enough digits, and none but 0 reads as 0."""
    assert text.replace(" %", "\u00a0%") == fmt.percent(ratio)


def test_limit() -> None:
    """Limits have no digits that they don't need."""
    assert ["5\u00a0%", "0.05\u00a0%"] == [fmt.limit(0.05), fmt.limit(0.0005)]


def test_count() -> None:
    """Counts have thousands separators; an absent one is a dash, not 0."""
    assert ["1,234,567", "0", "\u2013"] == [fmt.count(1234567), fmt.count(0), fmt.count(None)]


@pytest.mark.parametrize(
    ("value", "currency", "text"),
    [
        (Decimal("18752.4"), "EUR", "18,752.40 EUR"),
        (Decimal(5), None, "5.00"),
        (Decimal("0.00012"), "BTC", "0.00012 BTC"),
        (Decimal("1E+3"), None, "1,000.00"),
        (None, "EUR", "\u2013"),
    ],
)
def test_amount(value: Decimal | None, currency: str | None, text: str) -> None:
    """Amounts have two decimals at least, and their currency where it is known."""
    assert text == fmt.amount(value, currency)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (0.41, "0.4 seconds"),
        (1, "1 second"),
        (90, "1 minute 30 seconds"),
        (300, "5 minutes"),
        (5400, "1 hour 30 minutes"),
        (86400, "1 day"),
        (90061, "1 day 1 hour"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Durations are in words, with two units at most."""
    assert text == fmt.duration(seconds)


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (0, "just now"),
        (1.9, "just now"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (86400 * 3, "3 days ago"),
        (-120, "in 2 minutes"),
    ],
)
def test_relative(ago: float, text: str) -> None:
    """Times are relative, in the largest unit, also when clocks disagree."""
    assert text == fmt.relative(NOW - ago, NOW)


def test_iso() -> None:
    """Machines get the same time without spaces."""
    assert "2026-11-23T11:57:00Z" == fmt.iso(NOW - 180)


@given(st.floats(allow_nan=False))
def test_utc_never_fails(when: float) -> None:
    """A start that no calendar has is a dash, not an error page."""
    text = fmt.utc(when)
    assert text == "\u2013" or text.endswith(" UTC")
    assert fmt.iso(when) == "\u2013" or fmt.iso(when).endswith("Z")


@given(st.floats(min_value=0, max_value=2, exclude_min=True))
def test_percent_of_something_is_not_nothing(ratio: float) -> None:
    """No positive ratio reads as zero."""
    assert fmt.percent(ratio).strip("0.\u00a0%") != ""
