"""How Prometheus and an onlooker with perfect memory see a counter: the oracles of the counter tests.

Nothing here shares code with `exporter.counters` or `exporter.window`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def increase(samples: Sequence[int]) -> int:
    """Return what Prometheus counts over all samples of a series: every step down is a reset to 0."""
    return sum(after - before if after >= before else after for before, after in pairwise(samples))


@dataclass
class Line:
    """All that a poller ever read of one value, and what a perfect counter would make of it.

    `readings` are the values with whether they may speak for a reset. `from_zero` says that the first value is
    an increase; `blind` that there was a value before that nobody could read.
    """

    readings: list[tuple[int, bool]] = field(default_factory=list)
    from_zero: bool = True
    blind: bool = False

    def segments(self) -> list[list[int]]:
        """Split the values at the resets: where three that count, with only low ones between, were low."""
        segments = []
        rest = self.readings
        while rest:
            end = next((i for i in range(1, len(rest)) if _resets(rest[: i + 1])), len(rest))
            segments.append([value for value, _ in rest[:end]])
            rest = rest[end:]
        return segments

    @property
    def level(self) -> int | None:
        """The value that should be exported."""
        segments = self.segments()
        return max(segments[-1]) if segments else None

    @property
    def total(self) -> int:
        """Everything that should have been counted."""
        segments = self.segments()
        if not segments:
            return 0
        return sum(max(segment) for segment in segments) - (0 if self.from_zero else segments[0][0])


def _resets(readings: Sequence[tuple[int, bool]]) -> bool:
    """Whether the last of the readings completes a reset."""
    peak = max(value for value, _ in readings)

    def low(reading: tuple[int, bool]) -> bool:
        return reading[0] < peak / 2 and peak - reading[0] >= 100

    if not readings[-1][1]:
        return False
    return sum(counts for _, counts in takewhile(low, reversed(readings))) >= 3
