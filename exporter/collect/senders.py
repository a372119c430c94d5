"""Campaigns that started long ago and still send."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.api.model import R, TimeRange
from exporter.collect.asking import DAY, NEVER
from exporter.collect.filters import learn_filters
from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, page_sizes
from exporter.collect.ranges import intersect, subtract
from exporter.collect.server_limits import FURTHEST
from exporter.collect.split_plan import RowKey, cell
from exporter.errors import PollError, RequestsSpentError

if TYPE_CHECKING:
    from exporter.api.model import Page
    from exporter.collect.asking import Asker

OLDEST: Final = NEVER.first
"""No campaign started before it."""
SETTLING: Final = 60
"""Seconds after its start in which a campaign needn't have been seen."""
MOST_REQUESTS: Final = 60
"""How many parts one search may ask for."""


@dataclass(frozen=True, slots=True)
class Senders:
    """The campaigns found. `unseen`: some that may be missing, in words; empty: none are.

    `ignored`: the server ignores send filters, so `ids` is empty. `overlooked`: where campaigns start that a
    request by start should have returned before. `seen` are all campaigns returned, also younger ones.
    `failure` is what ended the search early; `goes_on`: the next poll has to go on with it.
    """

    ids: frozenset[int] = frozenset()
    unseen: str = ""
    ignored: bool = False
    overlooked: tuple[TimeRange, ...] = ()
    seen: frozenset[int] = frozenset()
    failure: PollError | None = None
    goes_on: bool = False


class Search:
    """A search for campaigns that started before a second and still send; it may take several polls.

    An answer that lacks campaigns seen `earlier`, for nearly the same sends, may be cut by a lowered cap.

    The rows that come back may count only the sends in the range, so nothing but identifiers and starts is
    taken from them.
    """

    def __init__(self, earlier: frozenset[int] = frozenset()) -> None:
        self._before = 0
        self._earlier = earlier
        self._starts: dict[int, float] = {}  # the first of each campaign
        self._overlooked: set[int] = set()
        self._left = MOST_REQUESTS
        self._parts: list[TimeRange] = []  # still to be asked for
        self._is_by_start = False
        self._is_whole = True
        self.has_ended = False

    def find(self, asker: Asker[R], sent: TimeRange, before: int) -> Senders:
        """Return the campaigns from before `before` that sent during `sent`, as far as this poll may ask."""
        if self._parts and self._is_by_start and before > self._before:
            self._parts.append(TimeRange(self._before, before))
        self._before = before
        unseen, ignored, failure = "", False, None
        self._overlooked.clear()
        try:
            ignored = not (self._go_on(asker, sent) if self._parts else self._begin(asker, sent))
            unseen = "" if self._is_whole else "more campaigns may still send than could be found"
        except RequestsSpentError:
            unseen = "the search for campaigns that still send goes on with the next poll"
        except PollError as error:
            unseen, failure = "the search for campaigns that still send ended early", error
            self._parts.clear()
        self.has_ended = not self._parts
        return Senders(
            frozenset() if ignored else self._found,
            unseen,
            ignored,
            tuple(TimeRange(second, second) for second in self._overlooked),
            frozenset(self._starts),
            failure,
            goes_on=not self.has_ended,
        )

    @property
    def _found(self) -> frozenset[int]:
        return frozenset(number for number, start in self._starts.items() if start < self._before)

    def _begin(self, asker: Asker[R], sent: TimeRange) -> bool:
        """Ask for all at once, else in parts; return whether send filters select."""
        query = asker.sends(sent, FURTHEST)  # in whatever zone
        page = asker.probe(query)
        if page is not None:
            self._note(asker, page)
            if page.size >= DOCUMENTED_DEFAULT and not self._starts.keys() >= self._earlier:
                asker.limits.largest[Kind.SEND] = page_sizes(page)[0]
        if asker.limits.filters is None and asker.known.ids():  # which may be the first there are
            with asker.budget.unbounded():
                learn_filters(asker)
        if page is not None and asker.is_complete(query, page):
            return not self._found or _selects(asker)
        if not _selects(asker):
            return False
        self._plan(asker, sent)
        return self._go_on(asker, sent)

    def _plan(self, asker: Asker[R], sent: TimeRange) -> None:
        """Plan parts where one answer can't hold all campaigns that sent, most of which will be recent ones."""
        exact = asker.limits.filters and not asker.limits.coarse
        self._is_by_start = bool(exact and asker.limits.longest is None and _combines(asker, self._before))
        if self._is_by_start:
            slices = [TimeRange(self._before - 30 * DAY, self._before)]
            while slices[-1].first > OLDEST:
                last = slices[-1].first
                slices.append(TimeRange(max(OLDEST, last - 4 * slices[-1].seconds), last))
            self._parts = slices[::-1]
        else:  # there would be too many slices of starts
            margin = 0 if exact else FURTHEST
            self._parts = [TimeRange(sent.first - margin, sent.last + margin)]

    def _go_on(self, asker: Asker[R], sent: TimeRange) -> bool:
        """Ask for parts, smaller where they may have been cut or are refused."""
        while self._parts:
            if not self._left:
                self._is_whole = False
                self._parts.clear()
                break
            part = self._parts[-1]
            query = asker.starts(part, sent) if self._is_by_start else asker.sends(part)
            page = asker.probe(query)
            self._left -= 1
            self._parts.pop()
            if page is not None:
                self._note(asker, page)
            if page is None or not asker.is_complete(query, page):
                smaller = _smaller(part, page)
                self._parts += smaller
                self._is_whole = self._is_whole and bool(smaller)
        return True

    def _note(self, asker: Asker[R], page: Page[R]) -> None:
        known, now = asker.known, asker.now
        for row in page.rows:
            self._starts[row.campaign_id] = min(row.start, self._starts.get(row.campaign_id, row.start))
        self._overlooked.update(
            math.floor(row.start)
            for row in page.rows
            if self._before + 1 <= row.start < now - SETTLING and not known.count(RowKey.of(row))
        )
        known.add(page.rows)


def _selects(asker: Asker[R]) -> bool:
    """Whether send filters select at all: nothing was sent in a moment long ago."""
    limits = asker.limits
    if limits.send_filter is None:
        page = asker.put(asker.sends(NEVER))
        limits.send_filter = not page.size
    return limits.send_filter


def _combines(asker: Asker[R], before: int) -> bool:
    """Whether start and send filters select by both: sends that never were, and starts that never were."""
    limits = asker.limits
    starts = asker.known.within(TimeRange(0, int(asker.now)))
    if limits.combines is None and starts:
        second = math.floor(starts[-1].start)
        sent = TimeRange(before, int(asker.now))
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
