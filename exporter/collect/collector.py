"""Complete answers from an API that has no pages and may cut an answer anywhere without a word.

An answer of k rows is known complete only if k < 10 (the documented default of perPage), or the server has once
returned more than k rows to any question, or a total-count header says so. Everything else is split until each
part is known complete: ranges of starts into shorter ones, by what is known of where the rows are; one second
with too many rows into campaigns, by their identifiers. What can't be proven is exposed all the same and
reported as `incomplete`.

Whether startFrom and startTo are inclusive isn't documented, and starts may have fractions of a second. To read
the seconds a to b, from a - 1 to b + 1 is asked: under every reading that holds all of them, and neighbours may
come twice. Rows are therefore taken by group (campaign, channel, start, …), each from the one answer that has
most of its rows.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from exporter.api.model import Page, Query, R, TimeRange
from exporter.collect.evidence import DOCUMENTED_DEFAULT, DenseSecond
from exporter.collect.model import Collected
from exporter.collect.ranges import subtract, union
from exporter.errors import (
    BadResponseError,
    ClientError,
    ExporterError,
    RequestTimeoutError,
    ServerError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterable

    from exporter.collect.evidence import Evidence, RowMap

IDS_PER_QUESTION: Final = 100
"""Keeps a URL under 3 kB."""
IDS_SEARCHED: Final = 20_000
"""How many unknown identifiers may be asked for to prove one second complete."""
MARGIN: Final = 200
"""How many identifiers around those of a dense second must be without a campaign of it."""
SETTLED: Final = 3600
"""Seconds after which no more campaigns are expected to begin in a past second."""
NEVER: Final = TimeRange(946_684_800, 946_684_801)
"""A moment in which nothing was sent (the turn of 2000): whoever answers with rows ignores the send filter."""
OLDEST: Final = 946_684_800
"""No campaign started before it."""
SENDER_QUESTIONS: Final = 60
"""How many questions one discovery of still sending campaigns may cost where filters don't combine."""

UNTOLD: Final = (ClientError, ServerError, RequestTimeoutError, TooLargeError, BadResponseError)
"""How a question may fail that only looks for a proof, without the poll failing."""

T = TypeVar("T")


@dataclass(slots=True)
class _Gap:
    """Seconds yet to be read, in questions of at most `longest` seconds."""

    part: TimeRange
    longest: int


@dataclass(frozen=True, slots=True)
class _Span:
    """One question by start: the seconds to be covered, and the send filter beside it, if any."""

    part: TimeRange
    send: TimeRange | None = None
    narrow: bool = False


class Collector(Generic[R]):
    """Collects complete answers for one poll of one resource.

    `ask` puts one question and returns the page, or raises; it is called from `concurrency` threads. `evidence`
    and `rows` live longer than the poll. `shared_most` returns the largest answer of the account's other
    resource: the last resort. After an exception `collected` still has all that was proven until then.
    """

    def __init__(
        self,
        ask: Callable[[Query], Page[R]],
        evidence: Evidence,
        rows: RowMap,
        *,
        now: float,
        per_page: int,
        concurrency: int = 1,
        shared_most: Callable[[], int] = lambda: 0,
    ) -> None:
        self._ask = ask
        self._evidence = evidence
        self._map = rows
        self._now = now
        self._configured = per_page
        self._concurrency = concurrency
        self._shared_most = shared_most
        self._rate: float | None = None  # rows per second where nothing was read yet
        self._suspects: list[tuple[TimeRange, int]] = []
        self._answers: list[tuple[tuple[R, ...], bool]] = []
        self._ranges: list[TimeRange] = []
        self._ids: set[int] = set()
        self._told: set[int] = set()
        self._dense: set[int] = set()  # seconds read by campaign, to be judged once all is read
        self._doubt: tuple[TimeRange, int] | None = None
        self._accepted: list[tuple[TimeRange, int]] = []
        self._incomplete = False
        self.requests = 0
        evidence.expire(now)

    @property
    def collected(self) -> Collected[R]:
        """Everything read so far, each row once."""
        best: dict[Hashable, list[R]] = {}
        proven: set[Hashable] = set()
        for answer, is_proven in self._answers:
            groups: defaultdict[Hashable, list[R]] = defaultdict(list)
            for row in answer:
                groups[row.group].append(row)
            for group, members in groups.items():
                if len(members) >= len(best.get(group, ())):
                    best[group] = members
            if is_proven:
                proven.update(groups)
        return Collected(
            rows=tuple(row for members in best.values() for row in members),
            partial=frozenset(best.keys() - proven),
            ranges=union(self._ranges),
            ids=frozenset(self._ids),
            incomplete=self._incomplete,
        )

    # by start

    def by_start(self, ranges: Iterable[TimeRange], send: TimeRange | None = None) -> None:
        """Read every row that starts in `ranges`, the latest first; `send` adds a send filter.

        Raises what `ask` raises.
        """
        asked = union(ranges)
        stuck: list[tuple[_Span, Page[R], int]] = []
        gaps = [_Gap(part, part.seconds) for part in asked]

        def pick() -> _Span | None:
            while gaps:
                span = self._carve(gaps, send)
                if not self._read_dense(span):
                    return span
            return None

        def take(span: _Span, page: Page[R]) -> None:
            self._take(span, page, gaps, stuck)

        while True:
            self._going_on(lambda: self._work(pick, self._question, take))
            # First those that have rows exactly at their second: these can tell whether startFrom is inclusive
            stuck.sort(key=lambda entry: entry[0].part.first not in {row.start for row in entry[1].rows})
            for span, page, per_page in stuck:
                self._going_on(partial(self._settle, span, page, per_page))
            stuck.clear()
            lowered = self._lowered_cap()
            if not lowered:
                for second in sorted(self._dense):
                    self._judge_dense(second)
                self._dense.clear()
                self._evidence.unfinished.clear()
                return
            gaps.extend(_Gap(part, part.seconds) for part in lowered)

    def _going_on(self, read: Callable[[], None]) -> None:
        """Read; if that fails, the next poll needn't read the same campaigns again."""
        try:
            read()
        except ExporterError:
            self._evidence.unfinished |= self._ids
            raise

    def _take(
        self, span: _Span, page: Page[R], gaps: list[_Gap], stuck: list[tuple[_Span, Page[R], int]]
    ) -> None:
        if span.send and not self._within(span.part, page):
            self._evidence.combines = False
            gaps.clear()
        elif self._complete(page) and not self._doubtful(span, page, gaps):
            self._accept(span, page)
        elif span.part.seconds == 1:
            self._map.add(page.rows)
            stuck.append((span, page, self._per_page))
        else:
            gaps.append(self._cut(span, page))

    @staticmethod
    def _within(part: TimeRange, page: Page[R]) -> bool:
        return all(part.first - 1 <= row.start <= part.last + 1 for row in page.rows)

    def _question(self, span: _Span) -> Query:
        margin = 0 if self._evidence.from_inclusive or span.narrow else 1
        return Query(
            start_from=span.part.first - margin,
            start_to=span.part.last + 1,
            send_from=span.send.first if span.send else None,
            send_to=span.send.last if span.send else None,
            per_page=self._per_page,
        )

    @property
    def _per_page(self) -> int:
        return max(self._configured, self._evidence.per_page)

    def _complete(self, page: Page[R]) -> bool:
        evidence = self._evidence
        if page.total is not None and evidence.totals is not False:
            short = page.size < min(DOCUMENTED_DEFAULT, self._per_page)
            if page.total < page.size or (short and page.total != page.size):
                evidence.totals = False
            elif page.total > page.size:
                return False
            elif short or evidence.proves(page.size, self._per_page) or self._totals_hold(page):
                return True
        return evidence.proves(page.size, self._per_page)

    def _totals_hold(self, page: Page[R]) -> bool:
        """Whether the header counts all rows, not the page's: an answer of one row tells, and one of none."""
        evidence = self._evidence
        if evidence.totals is None:
            starts = [math.floor(row.start) for row in page.rows]
            try:
                one = self._put(Query(start_from=min(starts) - 1, start_to=max(starts) + 1, per_page=1))
                none = self._put(Query(start_from=NEVER.first, start_to=NEVER.last, per_page=1))
            except UNTOLD:
                evidence.totals = False
                return False
            evidence.totals = (one.total or 0) > one.size and none.total == none.size
        return evidence.totals

    def _carve(self, gaps: list[_Gap], send: TimeRange | None) -> _Span:
        """Take the latest seconds off the last gap: as many as one answer will probably hold."""
        gap = gaps.pop()
        first, last = gap.part.first, gap.part.last
        low = max(first, last - gap.longest + 1)
        if self._load(TimeRange(low, last), send) <= 1:
            first_taken = low
        else:  # the earliest second from which everything still fits
            below, first_taken = low, last
            while first_taken - below > 1:
                middle = (below + first_taken) // 2
                if self._load(TimeRange(middle, last), send) <= 1:
                    first_taken = middle
                else:
                    below = middle
            first_taken = self._between_rows(first_taken, last)
        if first_taken > first:
            gaps.append(_Gap(TimeRange(first, first_taken - 1), max(gap.longest, first_taken - first)))
        return _Span(TimeRange(first_taken, last), send)

    def _load(self, part: TimeRange, send: TimeRange | None) -> float:
        """Return how full an answer over `part` would be; above 1 it would probably have to be split."""
        margin = 0 if self._evidence.from_inclusive else 1
        known = self._map.rows(TimeRange(part.first - margin, part.last + 1)) if send is None else 0
        unexplored = part.seconds if send else sum(gap.seconds for gap in subtract([part], self._map.explored))
        room = self._room(known, whole=not unexplored)
        if not unexplored:
            return known / max(1, math.floor(0.95 * room))
        expected = known * 1.0 if self._rate is None else max(known, self._rate * unexplored)
        return expected / max(1.0, room - math.sqrt(room))

    def _room(self, known: int, *, whole: bool) -> int:
        """Return the size of answer to aim for: more than can be proven as long as the cap isn't known."""
        evidence = self._evidence
        proven = evidence.limit(self._per_page)
        if evidence.cut or evidence.most >= self._per_page or (whole and known <= evidence.most):
            return proven
        return max(proven, self._per_page - 1)

    def _between_rows(self, first: int, last: int) -> int:
        """Move a boundary to where no row stands, since rows beside it come with both neighbours' answers."""
        before, after = self._map.before(first), self._map.after(first)
        if before is None or after is None or after >= last:
            return first
        return max(first, (math.floor(before) + math.floor(after)) // 2 + 1)

    def _accept(self, span: _Span, page: Page[R]) -> None:
        part = span.part
        self._answers.append((page.rows, True))
        self._ranges.append(part)
        explored = self._map.explored if span.send is None else ()
        new = sum(gap.seconds for gap in subtract([part], explored))
        if 2 * new > part.seconds:
            measured = page.size / part.seconds
            self._rate = measured if self._rate is None else (self._rate + measured) / 2
        if span.send is None:
            self._map.replace(part, page.rows)
            self._map.explored = union([*self._map.explored, part])
            self._accepted.append((part, page.size))
        self._look_for_cuts()

    def _cut(self, span: _Span, page: Page[R]) -> _Gap:
        """Learn from an answer that may have been cut; return what to read instead, in shorter questions."""
        part = span.part
        if span.send is None:
            self._map.add(page.rows)
            self._suspects.append((part, page.size))
            self._look_for_cuts()
        if page.total is not None and self._evidence.totals is not False:
            self._rate = page.total / part.seconds
        elif page.rows:
            starts = [row.start for row in page.rows]
            spread = math.floor(max(starts)) - math.floor(min(starts)) + 1
            # Rows from end to end: the server doesn't sort by start, so their density tells nothing
            rate = page.size / spread * (2 if 2 * spread > part.seconds else 1)
            self._rate = rate if self._rate is None else max(self._rate, min(rate, 2 * self._rate))
        return _Gap(part, max(1, part.seconds * 2 // 3))

    def _look_for_cuts(self) -> None:
        evidence = self._evidence
        self._suspects = [(part, size) for part, size in self._suspects if size == evidence.most]
        if not evidence.cut and any(self._map.rows(part) > size for part, size in self._suspects):
            evidence.cut = True

    # a cap that was lowered since it was learned

    def _doubtful(self, span: _Span, page: Page[R], gaps: list[_Gap]) -> bool:
        """Whether a believed answer lacks rows that were there before; if so, its halves are asked for."""
        part = span.part
        if (
            span.send is not None
            or self._doubt is not None
            or page.size < DOCUMENTED_DEFAULT
            or page.total is not None
            or part.seconds == 1
            or self._map.rows(part) <= page.size
            or self._evidence.most <= page.size
        ):
            return False
        self._doubt = (part, page.size)
        self._map.replace(part, ())
        self._map.add(page.rows)
        middle = part.first + part.seconds // 2
        halves = (TimeRange(part.first, middle - 1), TimeRange(middle, part.last))
        gaps.extend(_Gap(half, half.seconds) for half in halves)
        return True

    def _lowered_cap(self) -> list[TimeRange]:
        """If the halves had more rows than the whole: forget the cap, and return what must be read again."""
        if self._doubt is None:
            return []
        part, size = self._doubt
        self._doubt = (part, 2**62)  # once a poll is enough
        if self._map.rows(part) <= size:
            return []
        self._evidence.forget(self._now)
        again = [done for done, rows in self._accepted if rows >= DOCUMENTED_DEFAULT]
        again += [TimeRange(second, second) for second in self._dense]
        self._dense.clear()
        self._ids.clear()
        for rows in (rows for _, rows in self._accepted):
            self._evidence.observe(rows)
        self._ranges = list(subtract(self._ranges, again))
        self._answers = [(rows, proven and len(rows) < DOCUMENTED_DEFAULT) for rows, proven in self._answers]
        self._accepted.clear()
        return again

    # one second that has more rows than an answer is trusted with

    def _settle(self, span: _Span, page: Page[R], per_page: int) -> None:
        """Prove an answer about one second, or read more of it by campaign, or report it incomplete."""
        if self._evidence.proves(page.size, per_page):
            self._accept(span, page)
            return
        if per_page < self._per_page:
            page = self._put(self._question(span))
        page = self._with_larger_pages(self._narrowest(span, page), lambda: self._question(span))
        if self._complete(page) or self._proves_by_wider(page):
            self._accept(span, page)
        elif span.send is not None:
            self._loose(page)
            self._incomplete = True
        else:
            self._by_campaign(span, page)

    def _narrowest(self, span: _Span, page: Page[R]) -> Page[R]:
        """Ask for one second alone if startFrom is inclusive: so far the second before may have come, too."""
        known = self._evidence.from_inclusive
        answer = self._put(self._question(_Span(span.part, span.send, narrow=True)))
        return answer if known or self._evidence.from_inclusive else page

    def _with_larger_pages(self, page: Page[R], question: Callable[[], Query]) -> Page[R]:
        """Ask again with a larger perPage as long as that brings more rows."""
        while page.size >= self._per_page:
            before = self._evidence.per_page
            self._evidence.per_page = 2 * self._per_page
            try:
                answer = self._put(question())
            except UNTOLD:  # a perPage that the server doesn't take
                self._evidence.per_page = before
                break
            if answer.size <= page.size:
                break
            page = answer
        return page

    def _proves_by_wider(self, page: Page[R]) -> bool:
        """Whether the server can be made to return more rows than `page` has, which proves it complete."""
        evidence = self._evidence
        if page.size >= evidence.most and page.size != evidence.widened and page.size < self._per_page:
            first, last = self._hull()
            for factor in (1, 4, 16):
                since = max(OLDEST, last - factor * (last - first + 1))
                try:
                    self._put(Query(start_from=since, start_to=last + 1, per_page=self._per_page))
                except UNTOLD:  # too much to ask
                    evidence.widened = page.size
                    break
                if evidence.most > page.size:
                    break
            else:
                evidence.widened = page.size
        return evidence.proves(page.size, self._per_page)

    def _hull(self) -> tuple[int, int]:
        parts = [*self._map.explored, *self._ranges, *(part for part, _ in self._suspects)]
        first = min((part.first for part in parts), default=math.floor(self._now) - 14 * 86400)
        last = max((part.last for part in parts), default=math.floor(self._now))
        return first, last

    def _by_campaign(self, span: _Span, page: Page[R]) -> None:
        """Read one second by its campaigns, and look for more of them among the identifiers not yet known."""
        second = span.part.first
        self._loose(page)
        beside = [self._evidence.dense.get(second - 1), self._evidence.dense.get(second + 1)]
        found = self._map.campaigns(span.part)
        if not found and any(beside):
            # Its rows are those of the second beside it: what was searched for that one was searched for both
            self._evidence.dense[second] = next(dense for dense in beside if dense is not None)
        else:
            self.by_ids(found - self._evidence.unfinished)
            first, last = self._search(span.part) if found <= self._read_by_id else (1, 0)
            ids = self._map.campaigns(span.part)
            self._evidence.dense[second] = DenseSecond(ids, first, last, self._now)
        self._dense.add(second)

    def _search(self, part: TimeRange) -> tuple[int, int]:
        """Ask for unknown identifiers around the campaigns known to start in `part` until no more turn up.

        Return the first and last identifier between which all were asked for, as far as they weren't known.
        """
        first, last = self._search_around(part)
        known = self._map.ids
        # A campaign known from another second may have a row here, too
        if first > last or not self._ask_for(known) or not known or self._map.ids_rise():
            return first, last
        # Identifiers in no order: a campaign of this second may have any of them
        everywhere = range(max(0, min(known) - MARGIN), max(known) + MARGIN + 1)
        if len(everywhere) - len(known) > IDS_SEARCHED:
            return first, last
        return (everywhere[0], everywhere[-1]) if self._ask_for(everywhere) else (first, last)

    def _search_around(self, part: TimeRange) -> tuple[int, int]:
        known = self._map.ids
        first, last = 1, 0
        asked = 0
        while asked <= IDS_SEARCHED:
            found = self._map.campaigns(part)
            others = sorted(set(self._map.ids) - found)
            low, high = min(found, default=0), max(found, default=0)
            # At least to the next campaign that starts elsewhere, if there is one near enough
            below = others[bisect_left(others, low) - 1] if others and others[0] < low else low
            above = others[bisect_right(others, high)] if others and others[-1] > high else high
            near = MARGIN * 10
            wanted = range(
                max(0, min(low - MARGIN, below if low - below < near else low)),
                max(high + MARGIN, above if above - high < near else high) + 1,
            )
            if first <= wanted[0] and wanted[-1] <= last:
                break
            if len(wanted) - len(known) > IDS_SEARCHED:
                break
            if not self._ask_for(wanted):
                break
            first, last = wanted[0], wanted[-1]
            asked += len(wanted)
        return first, last

    def _ask_for(self, ids: Collection[int]) -> bool:
        """Ask for the identifiers that weren't asked for yet; return whether the server told of all of them."""
        evidence = self._evidence
        unread = set(ids) - self._read_by_id - evidence.searched
        if not self._told.isdisjoint(unread):
            return False
        for chunk in self._id_chunks(sorted(unread)):  # so that a failure loses no more than one
            try:
                self.by_ids(chunk)
            except ClientError:  # an identifier that isn't any is refused, maybe
                return False
            if not self._told.isdisjoint(chunk):
                return False
            evidence.searched.update(self._ids.intersection(chunk))
        return True

    def _read_dense(self, span: _Span) -> bool:
        """Read a second that is known to be too dense by its campaigns; False if it isn't one."""
        second = span.part.first
        dense = self._evidence.dense.get(second)
        if dense is None or span.part.seconds > 1 or span.send or dense.at < second + SETTLED:
            return False
        if self._evidence.proves(sum(self._map.ids[number] for number in dense.ids), self._per_page):
            del self._evidence.dense[second]  # by now the server has returned more rows than that
            return False
        self.by_ids(dense.ids - self._evidence.unfinished)
        if not dense.ids <= self._read_by_id:  # what can't be proven by id may have left the second
            page = self._put(self._question(span))
            if self._complete(page):
                del self._evidence.dense[second]
                self._accept(span, page)
                return True
            self._loose(page)
        self._dense.add(second)
        return True

    def _judge_dense(self, second: int) -> None:
        """Report a second proven if no campaign can hide between the identifiers that were asked for.

        The campaigns found must stand between known ones of other seconds, with every identifier in between
        asked for: the next ones, if identifiers rise with the start; otherwise the lowest and highest of all.
        Below 0 there is none.
        """
        dense = self._evidence.dense[second]
        others = set(self._map.ids) - dense.ids
        asked = [number for number in others if dense.asked_first <= number <= dense.asked_last]
        bracketed = (
            bool(asked and dense.ids)
            and (min(asked) < min(dense.ids) or dense.asked_first == 0)
            and max(dense.ids) < max(asked)
            and (len(asked) == len(others) or self._map.ids_rise())
        )
        size = sum(self._map.ids[number] for number in dense.ids)
        if dense.ids <= self._read_by_id and (bracketed or size < self._shared_most()):
            part = TimeRange(second, second)
            self._ranges.append(part)
            self._map.explored = union([*self._map.explored, part])
        else:
            self._incomplete = True

    @property
    def _read_by_id(self) -> set[int]:
        return self._ids | self._evidence.unfinished

    def _loose(self, page: Page[R]) -> None:
        self._answers.append((page.rows, False))
        self._map.add(page.rows)

    # by campaign

    def by_ids(self, ids: Collection[int]) -> None:
        """Read every row of the campaigns `ids`. Raises what `ask` raises."""
        todo = self._id_chunks(sorted(set(ids) - self._ids))
        stuck: list[tuple[tuple[int, ...], Page[R], int]] = []

        def take(chunk: tuple[int, ...], page: Page[R]) -> None:
            if self._complete(page):
                self._accept_ids(chunk, page)
            elif len(chunk) == 1:
                stuck.append((chunk, page, self._per_page))
            else:
                middle = len(chunk) // 2
                todo.extend((chunk[:middle], chunk[middle:]))

        self._work(lambda: todo.pop() if todo else None, self._question_ids, take)
        for chunk, page, per_page in stuck:
            self._settle_ids(chunk, page, per_page)

    def _question_ids(self, ids: tuple[int, ...]) -> Query:
        return Query(campaign_ids=ids, per_page=self._per_page)

    def _id_chunks(self, ids: list[int]) -> list[tuple[int, ...]]:
        """Split `ids` so that the rows known of them fit an answer; an unknown one is expected to have none."""
        room = max(1, math.floor(0.95 * self._evidence.limit(self._per_page)))
        chunks: list[tuple[int, ...]] = []
        chunk: list[int] = []
        load = 0
        for number in ids:
            more = self._map.ids[number]
            if chunk and (load + more > room or len(chunk) == IDS_PER_QUESTION):
                chunks.append(tuple(chunk))
                chunk, load = [], 0
            chunk.append(number)
            load += more
        if chunk:
            chunks.append(tuple(chunk))
        return chunks

    def _accept_ids(self, ids: tuple[int, ...], page: Page[R]) -> None:
        self._answers.append((page.rows, True))
        self._ids.update(ids)
        self._map.replace_campaigns(ids, page.rows)

    def _settle_ids(self, ids: tuple[int, ...], page: Page[R], per_page: int) -> None:
        if self._evidence.proves(page.size, per_page):
            self._accept_ids(ids, page)
            return
        if per_page < self._per_page:
            page = self._put(self._question_ids(ids))
        page = self._with_larger_pages(page, lambda: self._question_ids(ids))
        if self._complete(page) or self._proves_by_wider(page) or page.size < self._shared_most():
            self._accept_ids(ids, page)
        else:
            self._loose(page)
            self._told.update(ids)
            self._incomplete = True

    # by sends

    def senders(self, send: TimeRange, before: int) -> frozenset[int] | None:
        """Return the campaigns that started before `before` and sent during `send`; None: the API can't tell.

        The rows that come back may count only the sends in the range, so nothing but identifiers is taken from
        them. Raises what `ask` raises.
        """
        page = self._put(self._question_send(send))
        found = _older(page.rows, before)
        if not self._complete(page):
            return self._many_senders(send, before, found)
        if found and not self._honours_send_filter():
            return None
        return found

    def _question_send(self, send: TimeRange) -> Query:
        return Query(send_from=send.first, send_to=send.last, per_page=self._per_page)

    def _honours_send_filter(self) -> bool:
        if self._evidence.send_filter is None:
            self._evidence.send_filter = not self._put(self._question_send(NEVER)).size
        return self._evidence.send_filter

    def _many_senders(self, send: TimeRange, before: int, found: frozenset[int]) -> frozenset[int] | None:
        """Find them where one answer can't hold all campaigns that sent, most of which will be recent ones."""
        if not self._honours_send_filter():
            return None
        old = TimeRange(OLDEST, before)
        if self._combines(old):
            inner = self._spawn()
            inner.by_start([old], send)
            if self._evidence.combines:
                self._incomplete = self._incomplete or inner.collected.incomplete
                return found | _older(inner.collected.rows, before)
        parts = [send]
        for _ in range(SENDER_QUESTIONS):
            part = parts.pop()
            page = self._put(self._question_send(part))
            found |= _older(page.rows, before)
            if not self._complete(page) and part.seconds > 1:
                middle = part.first + part.seconds // 2
                parts += [TimeRange(part.first, middle), TimeRange(middle, part.last)]
            elif not self._complete(page):
                self._incomplete = True
            if not parts:
                return found
        self._incomplete = True
        return found

    def _combines(self, old: TimeRange) -> bool:
        """Whether send and start filters select by both: sends that never were, of campaigns that are."""
        if self._evidence.combines is None:
            nothing = self._put(self._question(_Span(old, NEVER)))
            self._evidence.combines = not nothing.size
        return self._evidence.combines

    def _spawn(self) -> Collector[R]:
        """Return a collector for another question of the same poll, whose rows are no statistics."""
        return Collector(
            self._counted,
            self._evidence,
            self._map,
            now=self._now,
            per_page=self._configured,
            concurrency=self._concurrency,
            shared_most=self._shared_most,
        )

    def _counted(self, query: Query) -> Page[R]:
        self.requests += 1
        return self._ask(query)

    # putting questions

    def _put(self, query: Query) -> Page[R]:
        page = self._counted(query)
        self._learn(query, page)
        return page

    def _learn(self, query: Query, page: Page[R]) -> None:
        self._evidence.observe(page.size)
        if query.start_from is not None and any(row.start == query.start_from for row in page.rows):
            self._evidence.from_inclusive = True

    def _work(
        self,
        pick: Callable[[], T | None],
        question: Callable[[T], Query],
        take: Callable[[T, Page[R]], None],
    ) -> None:
        """Put questions until `pick` has no more, several at a time; only `ask` runs in other threads."""
        if self._concurrency == 1:
            while (item := pick()) is not None:
                take(item, self._put(question(item)))
            return
        running: dict[Future[Page[R]], tuple[T, Query]] = {}
        failure: ExporterError | None = None
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(self._concurrency, thread_name_prefix="ask"))
            while True:
                while failure is None and len(running) < self._concurrency and (item := pick()) is not None:
                    query = question(item)
                    running[pool.submit(self._counted, query)] = (item, query)
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item, query = running.pop(future)
                    try:
                        page = future.result()
                    except ExporterError as error:
                        failure = failure or error
                        continue
                    self._learn(query, page)
                    take(item, page)
        if failure is not None:
            raise failure


def _older(rows: Iterable[R], before: int) -> frozenset[int]:
    return frozenset(row.campaign_id for row in rows if row.start < before)
