"""Campaigns that started long ago and still send."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exporter.api.model import R, TimeRange
from exporter.collect.asking import DAY, NEVER
from exporter.collect.filters import learn_filters
from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, page_sizes
from exporter.collect.ranges import intersect, subtract
from exporter.collect.server_limits import FURTHEST
from exporter.collect.split_plan import RowKey, cell
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.model import Page, Query
    from exporter.collect.asking import Asker

OLDEST: Final = NEVER.first
"""No campaign started before it."""
SETTLING: Final = 60
"""Seconds after its start in which a campaign needn't have been seen."""
MOST_REQUESTS: Final = 60
"""How many requests one search may cost."""


@dataclass(frozen=True, slots=True)
class Senders:
    """The campaigns found. `unseen`: some that may be missing, in words; empty: none are.

    `ignored`: the server ignores send filters, so `ids` is empty. `overlooked`: where campaigns start that a
    request by start should have returned before. `seen` are all campaigns returned, also younger ones.
    `failure` is what ended the search early.
    """

    ids: frozenset[int] = frozenset()
    unseen: str = ""
    ignored: bool = False
    overlooked: tuple[TimeRange, ...] = ()
    seen: frozenset[int] = frozenset()
    failure: PollError | None = None


def find_senders(
    asker: Asker[R], sent: TimeRange, before: int, earlier: frozenset[int] = frozenset()
) -> Senders:
    """Return the campaigns that started before `before` and sent during `sent`.

    An answer that lacks campaigns seen `earlier`, for nearly the same sends, may be cut by a lowered cap.

    The rows that come back may count only the sends in the range, so nothing but identifiers and starts is
    taken from them.
    """
    search = _Search(asker, before, earlier)
    try:
        senders = search.find(sent)
    except PollError as error:
        unseen = "the search for campaigns that still send ended early"
        senders = Senders(frozenset(search.found), unseen, failure=error)
    overlooked = tuple(TimeRange(second, second) for second in search.overlooked)
    return replace(senders, overlooked=overlooked, seen=frozenset(search.seen))


class _Search:
    def __init__(self, asker: Asker[R], before: int, earlier: frozenset[int]) -> None:
        self._asker = asker
        self._before = before
        self._earlier = earlier
        self.seen: set[int] = set()
        self._left = MOST_REQUESTS
        self.found: set[int] = set()
        self.overlooked: set[int] = set()

    def find(self, sent: TimeRange) -> Senders:
        asker = self._asker
        query = asker.sends(sent, FURTHEST)  # in whatever zone
        page = asker.probe(query)
        if page is not None:
            self._note(page)
            if page.size >= DOCUMENTED_DEFAULT and not self.seen >= self._earlier:
                asker.limits.largest[Kind.SEND] = page_sizes(page)[0]
        if page is None or not asker.is_complete(query, page):
            return self._find_in_parts(sent)
        if self.found and not self._selects():
            return Senders(ignored=True)
        return Senders(frozenset(self.found))

    def _find_in_parts(self, sent: TimeRange) -> Senders:
        """Find them where one answer can't hold all campaigns that sent, most of which will be recent ones."""
        asker = self._asker
        if not self._selects():
            return Senders(ignored=True)
        slices = [TimeRange(self._before - 30 * DAY, self._before)]
        while slices[-1].first > OLDEST:
            last = slices[-1].first
            slices.append(TimeRange(max(OLDEST, last - 4 * slices[-1].seconds), last))
        if asker.limits.filters is None:
            learn_filters(asker)
        exact = asker.limits.filters and not asker.limits.coarse
        if exact and asker.limits.longest is None and self._combines():  # else there are too many slices
            whole = self._split(slices[::-1], lambda part: asker.starts(part, sent))
        else:
            margin = 0 if exact else FURTHEST
            whole = self._split([TimeRange(sent.first - margin, sent.last + margin)], asker.sends)
        return Senders(
            frozenset(self.found), "" if whole else "more campaigns may still send than could be found"
        )

    def _split(self, parts: list[TimeRange], query: Callable[[TimeRange], Query]) -> bool:
        """Ask for parts, smaller where they may have been cut or are refused; return whether all is read."""
        asker, whole = self._asker, True
        while parts:
            part = parts.pop()
            if not self._left:
                return False
            self._left -= 1
            page = asker.probe(query(part))
            if page is not None:
                self._note(page)
            if page is None or not asker.is_complete(query(part), page):
                smaller = _smaller(part, page)
                parts += smaller
                whole = whole and bool(smaller)
        return whole

    def _note(self, page: Page[R]) -> None:
        known, now = self._asker.known, self._asker.now
        self.seen.update(row.campaign_id for row in page.rows)
        self.found.update(row.campaign_id for row in page.rows if row.start < self._before)
        self.overlooked.update(
            math.floor(row.start)
            for row in page.rows
            if self._before + 1 <= row.start < now - SETTLING and not known.count(RowKey.of(row))
        )
        known.add(page.rows)

    def _selects(self) -> bool:
        """Whether send filters select at all: nothing was sent in a moment long ago."""
        limits = self._asker.limits
        if limits.send_filter is None:
            page = self._asker.put(self._asker.sends(NEVER))
            limits.send_filter = not page.size
        return limits.send_filter

    def _combines(self) -> bool:
        """Whether start and send filters select by both: sends that never were, and starts that never were."""
        asker, limits = self._asker, self._asker.limits
        starts = asker.known.within(TimeRange(0, int(asker.now)))
        if limits.combines is None and starts:
            second = math.floor(starts[-1].start)
            sent = TimeRange(self._before, int(asker.now))
            tried = (
                asker.probe(asker.starts(TimeRange(second, second), NEVER)),
                asker.probe(asker.starts(NEVER, sent)),
            )
            limits.combines = all(page is not None and not page.size for page in tried)
        return bool(limits.combines)


def _smaller(part: TimeRange, page: Page[R] | None) -> list[TimeRange]:
    """Return what to ask for instead of `part`; nothing where that would not help."""
    seconds = {math.floor(row.start) for row in page.rows} if page is not None else set()
    if len(seconds) == 1 and part.first <= min(seconds) <= part.last:  # starts, all in one second
        dense = cell(min(seconds))
        return (
            [] if part.seconds <= dense.seconds else [*subtract([part], [dense]), *intersect([part], [dense])]
        )
    if part.seconds == 1:
        return []
    middle = part.first + part.seconds // 2
    return [TimeRange(part.first, middle - 1), TimeRange(middle, part.last)]
