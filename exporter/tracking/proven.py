"""The starts of which everything was read before: an unknown campaign there is new."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from exporter.api.model import TimeRange
from exporter.collect.ranges import intersect, subtract, union
from exporter.tracking.model import FOREVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.collect.ranges import Ranges
    from exporter.tracking.model import Moment

LARGEST_JUMP: Final = 3600.0
"""A wall clock that was set forward by more skips starts that nobody has watched."""


class ProvenStarts:
    """Starts that were read, proven complete.

    Once they reach the present, later ones belong to them too: there was nothing yet.
    """

    def __init__(self, ranges: Ranges = ()) -> None:
        self._ranges = union(ranges)
        self._last: Moment | None = None

    @property
    def ranges(self) -> Ranges:
        """All of them."""
        return self._ranges

    def __contains__(self, start: float) -> bool:
        return any(start in part for part in self._ranges)

    def add(self, ranges: Iterable[TimeRange], *, now: Moment, since: float) -> None:
        """Add what a poll has proven, as far as it lies after `since`: what lies before isn't tracked."""
        kept = intersect(ranges, [TimeRange(math.ceil(since), FOREVER)])
        if any(now.wall in part for part in kept):
            kept = (*kept, TimeRange(math.floor(now.wall), FOREVER))
            self._last = now
        if kept:
            self._ranges = union([*self._ranges, *kept])

    def skip_jump(self, now: Moment) -> None:
        """Take out the starts that the wall clock has jumped over since the last poll."""
        if self._last is None:
            return
        elapsed = now.steady - self._last.steady
        if now.wall - self._last.wall - elapsed > LARGEST_JUMP:
            skipped = TimeRange(math.floor(self._last.wall) + 1, math.ceil(now.wall - elapsed))
            self._ranges = subtract(self._ranges, [skipped])
            self._last = now

    def forget_before(self, wall: float) -> None:
        """Forget starts of which campaigns may have been forgotten, too."""
        if self._ranges and self._ranges[0].first < wall:
            self._ranges = subtract(self._ranges, [TimeRange(0, math.floor(wall))])
