"""What is due: which starts have to be read again, and what a poll that was cut short has left over.

A campaign is read as often as the tier of its age says. Each tier is read whole, so that the seconds which age
from one tier into the next don't become due one by one. A poll that fails keeps what it has read: the next one
goes on with the rest of the same round, and only then does a new round begin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.api.model import TimeRange
from exporter.collect.ranges import subtract, union

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.collect.ranges import Ranges

AHEAD: Final = 26 * 3600
"""Seconds of the future that are read along: filters may be in another zone or cut to midnight."""
RECENT: Final = 3600
"""Seconds before the begin of an interrupted round that the next poll reads again."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Campaigns younger than `younger_than` seconds are read every `every` seconds."""

    younger_than: float
    every: float


class Rounds:
    """The rounds in which one resource is read by start.

    Tiers are sorted by age; the last one extends to the whole `window`. `interval` is how often polls run: what
    becomes due less than half of it later is read along.
    """

    def __init__(self, tiers: Sequence[Tier], window: float, interval: float) -> None:
        self._tiers = tiers
        self._window = window
        self._slack = interval / 2
        self._read_at = [-math.inf] * len(tiers)
        self._round: set[int] = set()
        self._left: Ranges = ()
        self._began = 0.0
        self._end = 0

    @property
    def unfinished(self) -> bool:
        """Whether an earlier poll has left something over."""
        return bool(self._left)

    def whole(self, now: float) -> TimeRange:
        """Return the window at `now`."""
        return TimeRange(math.floor(now - self._window), math.floor(now) + AHEAD)

    def due(self, now: float, clock: float) -> Ranges:
        """Return what to read at `now`; with what is left of the last round, all that started since then.

        `clock` never jumps.
        """
        whole = self.whole(now)
        if self._left:
            newest = TimeRange(min(self._end - AHEAD - RECENT, whole.last), whole.last)
            self._left = subtract(union([*self._left, newest]), [TimeRange(0, whole.first - 1)])
            return self._left
        due = []
        self._round = set()
        younger = whole.last
        for index, tier in enumerate(self._tiers):
            last = index == len(self._tiers) - 1
            older = whole.first if last else max(whole.first, math.floor(now - tier.younger_than))
            recent = clock - self._read_at[index] < tier.every - self._slack
            if not recent and older <= younger:
                due.append(TimeRange(older, younger))
                self._round.add(index)
            younger = older - 1
        self._began, self._end = clock, whole.last
        self._left = union(due)
        return self._left

    def read(self, ranges: Iterable[TimeRange]) -> None:
        """Note what a poll has read of what was due, be it all or not."""
        self._left = subtract(self._left, ranges)
        if not self._left:
            for index in self._round:
                self._read_at[index] = self._began

    def save(self) -> list[list[int]]:
        """Return what an interrupted round has left over, as plain values: its end, then the ranges."""
        return [[self._end], *([part.first, part.last] for part in self._left)] if self._left else []

    def load(self, saved: object) -> None:
        """Go on with what was saved."""
        if not isinstance(saved, list) or not all(
            isinstance(part, list) and {int} == {type(second) for second in part} for part in saved
        ):
            return
        ends, parts = [part[0] for part in saved if len(part) == 1], [part for part in saved if len(part) > 1]
        if ends and parts:
            self._end = ends[0]
            self._left = union(TimeRange(part[0], part[1]) for part in parts)
            self._round = set(range(len(self._tiers)))

    def restart(self) -> None:
        """Make everything due again: what was read is lost."""
        self._read_at = [-math.inf] * len(self._tiers)
        self._left = ()
