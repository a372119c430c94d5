"""Durations as the configuration writes them: ``500ms``, ``30s``, ``5m``, ``1h30m``, ``14d``, ``2w``."""

import re
from typing import Final

_UNITS: Final = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION: Final = re.compile("".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS))
_FORMS: Final = "write it as 500ms, 30s, 5m, 1h30m, 14d or 2w"

DURATION_PATTERN: Final = "^(?=.)" + "".join(f"([0-9]{{1,15}}{unit})?" for unit in _UNITS) + "$"
"""What `parse_duration` reads, for JSON Schema."""


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as ``1h30m``; raises ValueError, with what to do."""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
        raise ValueError(f"has no unit; {_FORMS}")
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"is not a duration; {_FORMS}")
    milliseconds = sum(
        int(number or 0) * round(unit * 1000)
        for number, unit in zip(match.groups(), _UNITS.values(), strict=True)
    )
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Return `seconds` as `parse_duration` reads it, rounded to milliseconds: ``14d``, ``1h30m``, ``0s``.

    A negative one has a minus in front, for people; no setting takes that.
    """
    rest = round(abs(seconds) * 1000)
    if rest == 0:
        return "0s"
    parts = ["-"] if seconds < 0 else []
    for unit, length in _UNITS.items():
        if unit == "w":
            continue  # 14d reads easier than 2w beside 13d
        count, rest = divmod(rest, round(length * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
