"""Durations: every form that is read, what is refused, and how they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.durations import format_duration, parse_duration
from tests._examples import examples


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("14d", 1209600.0),
        ("2w", 1209600.0),
        ("1w2d3h4m5s6ms", 788645.006),
        ("0s", 0.0),
    ],
)
def test_duration_forms(text: str, seconds: float) -> None:
    """Every documented form is read."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    "text", ["", "m", "5 m", "30m1h", "1h1h", "-5m", "1.5h", "5M", "1e3s", "٣s", "5m\n", "1y"]
)
def test_not_a_duration(text: str) -> None:
    """Anything else is refused, without showing it."""
    with pytest.raises(ValueError, match=r"^is not a duration; write it as 500ms, 30s, 5m, 1h30m, 14d or 2w$"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "5", "1.5", "-3"])
def test_bare_number(text: str) -> None:
    """A number alone is refused with the advice to add a unit."""
    with pytest.raises(ValueError, match=r"^has no unit; "):
        parse_duration(text)


@examples(200)
@given(st.integers(min_value=0, max_value=10**13))
def test_duration_round_trip(milliseconds: int) -> None:
    """What format_duration writes, parse_duration reads back, to the millisecond."""
    assert milliseconds / 1000 == parse_duration(format_duration(milliseconds / 1000))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1209600, "14d"),
        (5400, "1h30m"),
        (0, "0s"),
        (0.0001, "0s"),
        (0.25, "250ms"),
        (90061, "1d1h1m1s"),
        (-60, "-1m"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    """Durations are shown in days and below, negative ones with a minus."""
    assert text == format_duration(seconds)
