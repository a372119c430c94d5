"""Which format and which encoding a scraper wants: RFC 9110, 12.4 and 12.5, for the formats there are.

What Prometheus sends (2.42, seen; 3.x, as its own tests have it):

- 2.42: OpenMetrics 1.0.0, then 0.0.1 at 0.75, text 0.0.4 at 0.5, anything at 0.1;
- 3.x: OpenMetrics 1.0.0 with ``escaping=allow-utf-8`` at 0.6, 0.0.1 at 0.5, text 1.0.0 at 0.4, text 0.0.4 at
  0.3, anything at 0.2. ``escaping`` is about metric and label names; ours are plain ASCII under any scheme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final


class Format(Enum):
    """An exposition format; the value is its media type and version."""

    TEXT = ("text/plain", "0.0.4")
    OPENMETRICS = ("application/openmetrics-text", "1.0.0")
    OPENMETRICS_0_0_1 = ("application/openmetrics-text", "0.0.1")
    """The draft that older Prometheus servers ask for; what we write is the same in both."""

    @property
    def content_type(self) -> str:
        """The value of ``Content-Type``."""
        media_type, version = self.value
        return f"{media_type}; version={version}; charset=utf-8"

    @property
    def openmetrics(self) -> bool:
        """Whether the body is OpenMetrics."""
        return self is not Format.TEXT


def choose_format(accept: str | None) -> Format:
    """Return the format that `accept`, a value of the header ``Accept``, prefers.

    For each format its most specific media range counts. The highest q wins; on a tie a format that is named
    before one that only a wildcard covers, then the one named first, then text. Ranges with an unknown version,
    another charset or a malformed q are passed over; q=0 refuses. Without the header, or if it accepts nothing
    that there is: text, which every client can read.
    """
    ranges = [_MediaRange.parse(name, params, q) for name, params, q in _elements(accept or "")]
    best, best_rank = Format.TEXT, (0.0, -1, 0)
    for format_ in Format:
        # Of ranges that are equally specific, the highest q; of these, the first.
        specificity, q, position = max(
            ((range_.match(format_), range_.q, -index) for index, range_ in enumerate(ranges)),
            default=(-1, 0.0, 0),
        )
        rank = (q, min(specificity, _MediaRange.NAMED), position)
        if specificity >= 0 and q > 0 and rank > best_rank:
            best, best_rank = format_, rank
    return best


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether `accept_encoding` allows gzip and doesn't rather have no encoding at all."""
    weights: dict[str, float] = {}
    for name, _, q in _elements(accept_encoding or ""):
        weights["gzip" if name == "x-gzip" else name] = q
    gzip = weights.get("gzip", weights.get("*", 0.0))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)


@dataclass(frozen=True, slots=True)
class _MediaRange:
    """One element of ``Accept``; `q` is its weight."""

    type: str
    version: str | None
    charset: str
    q: float

    NAMED: ClassVar[int] = 2

    @classmethod
    def parse(cls, name: str, params: dict[str, str], q: float) -> _MediaRange:
        return cls(name, params.get("version"), params.get("charset", "utf-8").lower(), q)

    def match(self, format_: Format) -> int:
        """Return how specifically it names `format_`: 3 with a version, 0 as ``*/*``, -1 if it doesn't."""
        media_type, version = format_.value
        if self.charset != "utf-8" or self.version not in (None, version):
            return -1
        if self.type == media_type:
            return self.NAMED if self.version is None else self.NAMED + 1
        if self.type == media_type.partition("/")[0] + "/*":
            return 1
        return 0 if self.type == "*/*" else -1


_ELEMENT: Final = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+')
_PARAMETER: Final = re.compile(r'(?:[^";]|"(?:[^"\\]|\\.)*"?)+')
_QVALUE: Final = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


def _elements(header: str) -> list[tuple[str, dict[str, str], float]]:
    """Split a list of names with parameters: name, parameters in lower case, weight.

    Elements with a malformed weight are left out.
    """
    found = []
    for element in _ELEMENT.findall(header):
        name, *rest = (part.strip() for part in _PARAMETER.findall(element) or [""])
        params: dict[str, str] = {}
        for part in rest:
            key, _, value = part.partition("=")
            params.setdefault(key.strip().lower(), value.strip().strip('"'))
        weight = params.pop("q", "1")
        if name and _QVALUE.fullmatch(weight):
            found.append((name.lower(), params, float(weight)))
    return found
