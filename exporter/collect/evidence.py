"""What the answers have taught about the server and its rows; kept between polls, doubted daily.

`Evidence` is what completeness is proven with. `RowMap` only helps to plan: a wrong map costs requests, never
rows.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable

    from exporter.api.model import Row, TimeRange
    from exporter.collect.ranges import Ranges

DOCUMENTED_DEFAULT: Final = 10
"""Rows of an answer where perPage isn't given: an answer with fewer was not cut."""

LIFETIME: Final = 86400.0
"""Seconds for which something learned about the server is believed."""

RISING_AT_LEAST: Final = 12
"""Identifiers are taken to rise with the start if so many in a row do, without exception."""


@dataclass(frozen=True, slots=True)
class DenseSecond:
    """One second with more rows than one answer can be trusted with: the campaigns found in it.

    Every identifier from `asked_first` to `asked_last` was asked for at `at`, or is known to start elsewhere.
    """

    ids: frozenset[int]
    asked_first: int
    asked_last: int
    at: float


@dataclass(slots=True)
class Evidence:
    """What the server has proven about itself.

    `most` is the largest number of rows that it has returned to one question, and `cut` is true once an answer
    of that size was seen to lack rows. `from_inclusive`: a row that starts exactly at startFrom came back.
    `totals`: whether a total-count header can be believed, `send_filter`: whether a send filter selects at all,
    and `combines`: whether it does so together with a start filter (None: not tried). `widened`: the size that
    no wider question could exceed. `per_page`: what replaces a configured perPage that proved too small.
    `searched`: the identifiers that were asked for in search of more campaigns of a dense second.
    `unfinished`: campaigns that polls which were cut short have read by their identifiers.
    """

    since: float = 0.0
    most: int = 0
    cut: bool = False
    from_inclusive: bool = False
    totals: bool | None = None
    send_filter: bool | None = None
    combines: bool | None = None
    widened: int = 0
    per_page: int = 0
    dense: dict[int, DenseSecond] = field(default_factory=dict)
    searched: set[int] = field(default_factory=set)
    unfinished: set[int] = field(default_factory=set)

    def expire(self, now: float) -> None:
        """Forget everything that is older than a day: the server may have been changed."""
        if not self.since <= now < self.since + LIFETIME:
            self.forget(now)

    def forget(self, now: float) -> None:
        """Start anew: what was believed turned out to be wrong, or too old."""
        fresh = Evidence(since=now)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def observe(self, size: int) -> None:
        """Note an answer of `size` rows."""
        if size > self.most:
            self.most, self.cut = size, False

    def proves(self, size: int, per_page: int) -> bool:
        """Whether an answer of `size` rows to a question with `per_page` can't have been cut."""
        return size < min(per_page, max(DOCUMENTED_DEFAULT, self.most))

    def limit(self, per_page: int) -> int:
        """Return the largest size that an answer can have and be known complete; at least 1, to plan with."""
        return max(1, min(per_page, max(DOCUMENTED_DEFAULT, self.most)) - 1)

    def cap(self, per_page: int) -> str:
        """Say in words what is known of the cap."""
        if self.cut and self.most >= per_page:
            return f"none below perPage ({per_page})"
        if self.cut:
            return str(self.most)
        return f"at least {self.most}" if self.most else "unknown"


class RowMap:
    """Where the rows are, as far as known, and which seconds were ever read whole (`explored`)."""

    def __init__(self) -> None:
        self._count: dict[Hashable, int] = {}
        self._start: dict[Hashable, float] = {}
        self._at: defaultdict[float, set[Hashable]] = defaultdict(set)
        self._rows: list[float] = []  # starts, one for each row, in rising order
        self._campaign: dict[Hashable, int] = {}
        self._groups: defaultdict[int, set[Hashable]] = defaultdict(set)  # of each campaign
        self.explored: Ranges = ()
        self.ids: Counter[int] = Counter()  # rows of each campaign

    def rows(self, part: TimeRange) -> int:
        """Return how many rows are known to start in `part`."""
        return bisect_left(self._rows, part.last + 1) - bisect_left(self._rows, part.first)

    def starts(self, part: TimeRange) -> list[float]:
        """Return the starts of the rows in `part`, one for each row, in rising order."""
        return self._rows[bisect_left(self._rows, part.first) : bisect_left(self._rows, part.last + 1)]

    def campaigns(self, part: TimeRange) -> frozenset[int]:
        """Return the campaigns known to have rows that start in `part`."""
        return frozenset(self._campaign[group] for start in set(self.starts(part)) for group in self._at[start])

    def ids_rise(self) -> bool:
        """Whether campaigns that start later have higher identifiers, as far as known; False if too few are."""
        order = [sorted(self._campaign[group] for group in self._at[start]) for start in sorted(self._at)]
        return len(order) > RISING_AT_LEAST and all(
            earlier[-1] < later[0] for earlier, later in pairwise(order)
        )

    def before(self, second: int) -> float | None:
        """Return the last start below `second`, if any."""
        index = bisect_left(self._rows, second)
        return self._rows[index - 1] if index else None

    def after(self, second: int) -> float | None:
        """Return the first start at or above `second`, if any."""
        index = bisect_left(self._rows, second)
        return self._rows[index] if index < len(self._rows) else None

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows of an answer that may have been cut: what was known besides stays known."""
        for group, members in _groups(rows).items():
            self._put(group, members[0], len(members) - self._count.get(group, 0))

    def replace(self, part: TimeRange, rows: Iterable[Row]) -> None:
        """Take the rows of an answer that is complete for `part`."""
        groups = _groups(rows)
        for start in set(self.starts(part)):
            for group in list(self._at[start]):
                if group not in groups:
                    self._drop(group)
        for group, members in groups.items():
            if len(members) < self._count.get(group, 0) and members[0].start in part:
                self._drop(group)
        self.add(rows)

    def replace_campaigns(self, ids: Iterable[int], rows: Iterable[Row]) -> None:
        """Take the rows of an answer that is complete for the campaigns `ids`."""
        groups = _groups(rows)
        for number in ids:
            for group in list(self._groups.get(number, ())):
                if len(groups.get(group, ())) < self._count[group]:
                    self._drop(group)
        self.add(rows)

    def forget_before(self, second: int, keep: Collection[int] = ()) -> None:
        """Drop what starts below `second`, because it has left the window; not the campaigns to `keep`."""
        for start in set(self._rows[: bisect_left(self._rows, second)]):
            for group in list(self._at[start]):
                if self._campaign[group] not in keep:
                    self._drop(group)

    def _put(self, group: Hashable, row: Row, more: int) -> None:
        if more <= 0:
            return
        self._count[group] = self._count.get(group, 0) + more
        self._start[group] = row.start
        self._campaign[group] = row.campaign_id
        self._groups[row.campaign_id].add(group)
        self._at[row.start].add(group)
        self.ids[row.campaign_id] += more
        for _ in range(more):
            insort(self._rows, row.start)

    def _drop(self, group: Hashable) -> None:
        start, count, number = self._start.pop(group), self._count.pop(group), self._campaign.pop(group)
        self._groups[number].discard(group)
        self.ids[number] -= count
        if not self.ids[number]:
            del self.ids[number], self._groups[number]
        self._at[start].discard(group)
        if not self._at[start]:
            del self._at[start]
        index = bisect_right(self._rows, start)
        del self._rows[index - count : index]


def _groups(rows: Iterable[Row]) -> dict[Hashable, list[Row]]:
    """Return the rows of each group."""
    groups: defaultdict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return groups
