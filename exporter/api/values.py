"""One value of an answer to a number, a time or a text.

What stands for "none" (an empty string, a zero date, ``infinity``, the year 9999) is read as none and not as
invalid. Numbers may come as JSON numbers or as strings.
"""

from __future__ import annotations

import calendar
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.model import INVALID

if TYPE_CHECKING:
    from exporter.api.model import Amount, Count, Mark

Raw: TypeAlias = dict[str, Any]

_SHORT: Final = 256
"""Characters up to which equal texts are shared."""
LARGEST: Final = 2**53
"""Samples are floats: above it two counts could not be told apart."""

_NUMBER: Final = re.compile(r"[+-]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})", re.ASCII)
_INTEGER: Final = re.compile(r"\+?\d{1,1000}(?:\.0*)?", re.ASCII)
# Digits beyond microseconds are dropped: a float would round .9999999 up to the next second.
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6})\d{0,3})?\s*(Z|z|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NO_TIME: Final = re.compile(r"[+-]?infinity|(?:0000|0001|9999)-\d\d-\d\d.*|", re.IGNORECASE | re.ASCII)
_FRACTION: Final = 2**53  # a float above it no longer tells integers apart


def is_blank(value: object) -> bool:
    """Whether a value stands for none."""
    return value is None or (isinstance(value, str) and not value.strip())


def number(value: object) -> Decimal | None:
    """Return a finite number, from a JSON number or a numeric string; None if it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        # repr is the shortest text that gives the same float, which is what the answer said
        found = Decimal(repr(value))
        return found if found.is_finite() else None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def identifier(value: object) -> int | None:
    """Return an identifier, which has no upper bound; None if it is none."""
    if type(value) is int:
        return value if value >= 0 else None
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    if isinstance(value, float) and 0 <= value <= _FRACTION and value.is_integer():
        return int(value)
    return None


def count(value: object) -> Count:
    """Return a count: None if there is none, INVALID if it is no non-negative integer."""
    if is_blank(value):
        return None
    found = number(value)
    if found is None or not 0 <= found <= LARGEST or found != found.to_integral_value():
        return INVALID
    return int(found)


def amount(value: object) -> Amount:
    """Return a sum of money: None if there is none, INVALID if it is no number from 0 on."""
    if is_blank(value):
        return None
    found = number(value)
    return INVALID if found is None or not 0 <= found <= LARGEST else found


def moment(value: object) -> float | Mark | None:
    """Return epoch seconds of ``2025-03-17 10:04:21+00`` and its like; without an offset it is UTC.

    None if there is none, INVALID if it can't be read.
    """
    if value is None:
        return None
    return _moment(value.strip()) if isinstance(value, str) else INVALID


@lru_cache(maxsize=4096)  # the messages of a campaign share its start
def _moment(text: str) -> float | Mark | None:
    match = _TIME.fullmatch(text)
    if match is None or match[1] in ("0000", "0001", "9999"):
        return None if _NO_TIME.fullmatch(text) else INVALID
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not (year >= 1970 and 1 <= month <= 12 and hour < 24 and minute < 60 and second < 61):  # noqa: PLR2004 - clocks
        return INVALID
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return INVALID
    seconds = calendar.timegm((year, month, day, hour, minute, second)) - _offset(match[8])
    return seconds + float(f"0.{match[7]}") if match[7] else float(seconds)


def _offset(text: str | None) -> int:
    """Return seconds east of UTC."""
    if text is None or text in ("Z", "z", "UTC"):
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds


def text(value: object) -> str:
    """Return a text; an empty one if there is none. Rows repeat texts: short ones are shared."""
    found = value if isinstance(value, str) else "" if value is None else str(value)
    return shared(found) if len(found) <= _SHORT else found


@lru_cache(maxsize=4096)  # not `sys.intern`, which keeps all texts for ever in Python 3.12
def shared(value: str) -> str:
    """Return a text that was seen lately, the same object as then."""
    return value
