"""Where rows are known to be, and how to cut seconds into requests that one answer can hold. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.api.model import TimeRange
from exporter.collect.page_cap import Sizes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Row


class RowKey(NamedTuple):
    """What rows are counted by. Sorts by start."""

    start: float
    campaign_id: int
    channel: str

    @classmethod
    def of(cls, row: Row) -> RowKey:
        """Return the key of a row."""
        return cls(row.start, row.campaign_id, row.channel)


class KnownRows:
    """How many rows are known of each campaign, channel and start. It plans; it proves nothing."""

    def __init__(self, known: Iterable[tuple[int, str, float, int]] = ()) -> None:
        self._counts: dict[RowKey, int] = {}
        self._order: list[RowKey] = []
        self._campaigns: dict[int, tuple[RowKey, ...]] = {}
        for campaign_id, channel, start, rows in known:
            self._set(RowKey(start, campaign_id, channel), rows)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, key: RowKey) -> int:
        """Return how many rows are known of it."""
        return self._counts.get(key, 0)

    def within(self, part: TimeRange) -> Sequence[RowKey]:
        """Return what starts in `part`, in the order of starts."""
        low = bisect_left(self._order, (part.first,))
        return self._order[low : bisect_left(self._order, (part.last + 1,))]

    def backwards(self, part: TimeRange) -> Iterator[RowKey]:
        """Yield what starts in `part`, the latest first."""
        low = bisect_left(self._order, (part.first,))
        for index in range(bisect_left(self._order, (part.last + 1,)) - 1, low - 1, -1):
            yield self._order[index]

    def sizes(self, keys: Iterable[RowKey]) -> Sizes:
        """Measure rows as an answer that has all of them."""
        keys = list(keys)
        campaigns = {key.campaign_id for key in keys}
        pairs = {(key.campaign_id, key.channel) for key in keys}
        return Sizes(sum(self._counts[key] for key in keys), len(campaigns), len(pairs))

    def campaigns(self, part: TimeRange) -> set[int]:
        """Return the campaigns that start in `part`."""
        return {key.campaign_id for key in self.within(part)}

    def of(self, campaign_id: int) -> tuple[RowKey, ...]:
        """Return what is known of one campaign."""
        return self._campaigns.get(campaign_id, ())

    def ids(self) -> AbstractSet[int]:
        """Return all campaigns."""
        return self._campaigns.keys()

    def newest(self, count: int) -> list[int]:
        """Return up to `count` campaigns, those that started last."""
        return list(dict.fromkeys(key.campaign_id for key in reversed(self._order)))[:count]

    def missing(self, keys: Iterable[RowKey], rows: Iterable[Row]) -> set[RowKey]:
        """Return those of which more rows are known than `rows` has."""
        found = Counter(map(RowKey.of, rows))
        return {key for key in keys if self.count(key) > found[key]}

    def add(self, rows: Iterable[Row]) -> None:
        """Take the rows of an answer that may have been cut."""
        for key, count in Counter(map(RowKey.of, rows)).items():
            if count > self._counts.get(key, 0):
                self._set(key, count)

    def replace(self, keys: Iterable[RowKey], rows: Sequence[Row]) -> None:
        """Take the rows of an answer that is complete for `keys`."""
        found = Counter(map(RowKey.of, rows))
        for key in set(keys) - found.keys():
            self._set(key, 0)
        for key, count in found.items():
            if count != self._counts.get(key):
                self._set(key, count)

    def forget_before(self, second: int, keep: Iterable[int] = ()) -> None:
        """Drop what starts before `second`, except the campaigns to `keep`."""
        kept = set(keep)
        for key in list(self._order[: bisect_left(self._order, (second,))]):
            if key.campaign_id not in kept:
                self._set(key, 0)

    def _set(self, key: RowKey, count: int) -> None:
        if count and key not in self._counts:
            insort(self._order, key)
            self._campaigns[key.campaign_id] = (*self.of(key.campaign_id), key)
        elif not count and key in self._counts:
            del self._order[bisect_left(self._order, key)], self._counts[key]
            rest = tuple(other for other in self._campaigns.pop(key.campaign_id) if other != key)
            if rest:
                self._campaigns[key.campaign_id] = rest
        if count:
            self._counts[key] = count


@dataclass(slots=True)
class Gap:
    """Seconds yet to be read, from the last to the first, `longest` seconds in a request.

    `measured`: a complete answer has told how many rows so many seconds have.
    """

    part: TimeRange
    longest: float = math.inf
    measured: bool = False


def cell(second: int) -> TimeRange:
    """Return the seconds that can't be read without the rows of `second`, whichever bounds are inclusive."""
    return TimeRange(second - 1, second + 1)


def last_chunk(known: KnownRows, gap: Gap, room: Sizes) -> TimeRange:
    """Return the last seconds of a gap whose known rows, and those one second beside them, fit `room`.

    A second that doesn't fit alone comes in its `cell`.
    """
    first, last = gap.part.first, gap.part.last
    low = max(first, last - int(min(gap.longest, gap.part.seconds)) + 1)
    rows = 0
    campaigns: set[int] = set()
    pairs: set[tuple[int, str]] = set()
    most_rows, most_campaigns, most_pairs = room
    second: int | None = None
    after: int | None = None
    for key in known.backwards(TimeRange(low - 1, last + 1)):  # no further than what fits
        if second is None or key.start < second:
            after, second = second, math.floor(key.start)
        rows += known.count(key)
        campaigns.add(key.campaign_id)
        pairs.add(key[1:])
        if rows > most_rows or len(campaigns) > most_campaigns or len(pairs) > most_pairs:
            return _cut(second, after, low, last)
    return TimeRange(low, last)


def _cut(second: int, after: int | None, low: int, last: int) -> TimeRange:
    """Return the seconds to `last` that don't touch `second`, as far as there are any; or its cell."""
    if after is not None and after - second > 2:  # noqa: PLR2004 - a second between them on either side
        return TimeRange(max(low, min((second + after) // 2 + 1, last)), last)
    if second + 2 <= last:
        return TimeRange(max(low, second + 2), last)
    return TimeRange(max(low, second - 1), last)
