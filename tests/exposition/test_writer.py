"""Label values and numbers, as they are written."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.writer import MAX_LABEL_LENGTH, clean, escape, number
from tests._snapshots import HOSTILE_TITLES


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("", ""),
        ("Spring Promo", "Spring Promo"),
        ("a\nb\nc\nd\ne\nf\ng", "a\nb\r\nc\rd\x85e\u2028f\u2029g"),
        ("tab\there", "tab\there"),
        ("\ufffd\ufffd\ufffd\ufffd", "\x00\x1b\x7f\x9f"),
        ("\ufffd and \ufffd", "\ud800 and \udfff"),
        ("🎉 مرحبا \u202e 👨‍👩‍👧", "🎉 مرحبا \u202e 👨‍👩‍👧"),
        ("é" * 256, "é" * 256),
        ("é" * 255 + "…", "é" * 257),
        ("🎉" * 255 + "…", "🎉" * 10_000),
    ],
)
def test_clean(expected: str, value: str) -> None:
    """Line ends become newlines, what can't be shown U+FFFD, and long values end in an ellipsis."""
    assert expected == clean(value)


@given(st.one_of(st.sampled_from(HOSTILE_TITLES), st.text(), st.text(st.characters())))
def test_clean_values_are_harmless(value: str) -> None:
    """A clean value encodes, breaks no line of a reader but at a newline, and stays as it is."""
    cleaned = clean(value)
    assert len(cleaned) <= MAX_LABEL_LENGTH
    assert cleaned.encode().decode() == cleaned
    assert cleaned.splitlines() == cleaned.removesuffix("\n").split("\n") if cleaned else True
    assert cleaned == clean(cleaned)


@given(st.one_of(st.sampled_from(HOSTILE_TITLES), st.text()))
def test_escaped_values_can_be_undone(value: str) -> None:
    """An escaped value is one line without bare quotes, and says exactly the clean value."""
    undone, rest = "", iter(escape(value))
    for char in rest:
        assert char not in '"\n'
        undone += {"n": "\n"}.get(escaped := next(rest), escaped) if char == "\\" else char
    assert clean(value) == undone


@pytest.mark.parametrize(
    ("expected", "value"),
    [
        ("0", 0.0),
        ("18752.4", 18752.40),
        ("1741944000", 1741944000.0),
        ("1741944000", 1741944000),
        ("1741944000.123", 1741944000.123),
        ("-1", -1.0),
        ("9007199254740991", 2.0**53 - 1),
        ("1e+20", 1e20),
    ],
)
def test_number(expected: str, value: float) -> None:
    """Numbers are plain decimals as far as floats are whole."""
    assert expected == number(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_parse_back(value: float) -> None:
    """Every finite number parses back to itself."""
    assert math.isclose(value, float(number(value)), rel_tol=0, abs_tol=0)
