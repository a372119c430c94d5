"""Every row that starts in given ranges: split until each answer is known to be complete."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import Query, R, TimeRange
from exporter.collect.asking import DAY, RUNGS, is_refusal
from exporter.collect.dense_second import SETTLED, DenseCell, candidates
from exporter.collect.filters import QUARTER, learn_filters
from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, Sizes
from exporter.collect.ranges import intersect, subtract, union
from exporter.collect.server_limits import FURTHEST, MOST_IDS
from exporter.collect.split_plan import Gap, RowKey, cell, last_chunk
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.model import Page
    from exporter.collect.asking import Asker
    from exporter.collect.by_ids import IdReader
    from exporter.collect.model import Answers
    from exporter.collect.ranges import Ranges

HOUR: Final = 3600
BOUNDS: Final = 1
"""Seconds that the filters of a request may lie further apart than the starts that it is for."""
YEAR: Final = 366 * DAY
BEYOND: Final = "beyond"
"""Stands in `ServerLimits.widened` once a year ahead was asked for."""
COARSE: Final = 2 * DAY
"""Filters that don't select by seconds do so by days."""
CELLS: Final = 8
"""Dense cells whose campaigns are read together at most."""
FULL: Final = 3
"""Requests by id that are worth being put."""
CONTRADICTIONS: Final = 3
"""How often a poll lowers what it believes of the cap."""
LOST_AT_MOST: Final = 3
"""Refusals that no smaller request ends before a job is given up."""
NOISE: Final = 2
"""A change of the density of rows that may be chance is followed half way."""
SEARCHED: Final = 200
"""Unknown identifiers asked for in search of more campaigns of a dense second."""


class StartReader(Generic[R]):
    """Reads by start; `read_ranges` is what needn't be asked for again in this round, be it proven or not.

    `dense` has the seconds that couldn't be proven, and when more campaigns were last searched for there.
    """

    def __init__(
        self, asker: Asker[R], answers: Answers[R], ids: IdReader[R], *, dense: dict[int, float], done: set[int]
    ) -> None:
        self._asker = asker
        self._answers = answers
        self._ids = ids
        self._dense = dense
        self._done = done
        self._gaps: list[Gap] = []
        self._cells: list[DenseCell] = []
        self._unproven: list[DenseCell] = []  # the search for others may find what they lack
        self._contradictions = 0
        self._lost: list[TimeRange] = []
        self._accepted = 0
        self.read_ranges: list[TimeRange] = []

    def read(self, ranges: Iterable[TimeRange], *, bounded: bool = False) -> None:
        """Read, the latest first; `bounded`: no more than the poll's allowance, the rest is left over.

        Raises PollError where no smaller request helps.
        """
        ranges = self._reachable(union(ranges))
        self._gaps = [Gap(part) for part in ranges]
        asker = self._asker
        while self._gaps or self._cells:
            chunks = self._next_chunks()
            if not chunks or self._is_time_to_settle():
                self._settle()
            self._ask_for(chunks)
            if self._test_filters():
                self._gaps = [Gap(part) for part in ranges]
            if bounded and self._gaps and not asker.may_ask():
                self._answers.incomplete = True
                break
        self._settle()
        self._answers.ranges += [dense.part for dense in self._unproven if self._is_proven(dense)]
        self._look_beyond()
        for part in self._lost:
            self._give_up(part)  # or the round would never end, and nothing be read again
        self._try_more()

    def _ask_for(self, chunks: list[tuple[Gap, Gap]]) -> None:
        asker = self._asker
        failure: PollError | None = None
        results = asker.put_all([asker.starts(gap.part) for gap, _ in chunks]) if chunks else []
        for (chunk, rest), result in zip(chunks, results, strict=True):
            if not isinstance(result, PollError):
                self._take(chunk, rest, result)
            elif is_refusal(result):
                before = asker.requests
                self._find_accepted(chunk, result)
                asker.excused += asker.requests - before
            else:
                failure = result
        if failure is not None:
            raise failure

    def _try_more(self) -> None:
        """Once a day, ask for what was refused: a larger perPage, and the future."""
        asker, limits = self._asker, self._asker.limits
        if limits.tried <= asker.now < limits.tried + DAY:
            return
        limits.tried = asker.now
        query = Query(
            start_from=math.floor(asker.now) - FURTHEST - HOUR,
            start_to=math.floor(asker.now) - FURTHEST,
            per_page=asker.configured,
        )
        if asker.per_page < asker.configured and asker.probe(query) is not None:
            limits.per_page = None
            limits.use(asker.per_page)
        if limits.ahead is not None and self._takes_until(asker.whole.last):
            limits.ahead = None

    def _reachable(self, ranges: Ranges) -> Ranges:
        """Leave the future out where the server refuses to be asked about it."""
        asker = self._asker
        if asker.limits.ahead is None:
            return ranges
        last = math.floor(asker.now) + asker.limits.ahead - asker.limits.zone
        self.read_ranges += intersect(ranges, [TimeRange(last + 1, 2**62)])
        self._answers.ranges += intersect(ranges, [TimeRange(max(last, math.floor(asker.now)) + 1, 2**62)])
        return intersect(ranges, [TimeRange(0, last)])

    def _test_filters(self) -> bool:
        """Test once a day what start filters do; return whether everything has to be asked anew."""
        asker, limits = self._asker, self._asker.limits
        if limits.filters is not None:
            return False
        zone = limits.zone
        try:
            if not self._gaps and Kind.START not in limits.widened and not asker.known.ids():
                asker.widen(Kind.START)  # there is no row to test them with
            learn_filters(asker)
        except PollError:
            self._forget_ranges()
            raise
        if limits.zone == zone:
            return False
        self._forget_ranges()
        return True

    def _look_beyond(self) -> None:
        """Ask once a day with a startTo in the far future, for rows that what was read should have had.

        Where startTo is compared with the end of a campaign, nothing else finds those that still run.
        """
        asker, limits = self._asker, self._asker.limits
        is_limited = limits.ahead is not None or limits.longest is not None
        if self._gaps or BEYOND in limits.widened or is_limited or not asker.may_ask():
            return
        limits.widened.append(BEYOND)
        page = asker.probe(asker.starts(TimeRange(asker.whole.first, math.floor(asker.now) + YEAR)))
        if any(
            not asker.known.count(RowKey.of(row)) and any(row.start in part for part in self._answers.ranges)
            for row in (() if page is None else page.rows)
        ):
            limits.filters = False

    def _forget_ranges(self) -> None:
        """Take back what was read with filters that may mean something else."""
        self._answers.ranges.clear()
        self.read_ranges.clear()

    def _next_chunks(self) -> list[tuple[Gap, Gap]]:
        """Take as many chunks off the last gaps as can be asked for at the same time, each with its gap."""
        asker = self._asker
        chunks: list[tuple[Gap, Gap]] = []
        while self._gaps and len(chunks) < asker.concurrency and len(self._cells) < CELLS:
            gap = self._gaps[-1]
            longest = (asker.limits.longest or math.inf) - 2 * asker.limits.margin
            room = Sizes(*[sys.maxsize] * 3) if asker.is_paged else asker.room(Kind.START)
            part = last_chunk(asker.known, replace(gap, longest=min(gap.longest, longest)), room)
            if asker.limits.coarse and part.seconds < DAY:  # it would get the whole day
                part = TimeRange(max(gap.part.first, part.last - int(min(DAY, longest)) + 1), part.last)
            gap.part = TimeRange(gap.part.first, part.first - 1)
            if not gap.part.seconds:
                self._gaps.pop()
            if self._is_settled(part):
                self._cells.append(DenseCell(part))
            else:
                chunks.append((Gap(part, gap.longest), gap))
        return chunks

    def _is_settled(self, part: TimeRange) -> bool:
        """Whether it has a dense second that was searched before: a request by start would tell nothing new."""
        asker = self._asker
        seconds = [second for second in self._dense if second in part]
        return (
            part.seconds <= cell(0).seconds
            and bool(seconds)
            and not asker.limits.totals
            and all(self._is_crowded(second) for second in seconds)
            and all(second + SETTLED < asker.now < self._dense[second] + DAY for second in seconds)
        )

    def _is_time_to_settle(self) -> bool:
        """Whether the campaigns of the dense cells fill some requests, so that reading them needn't wait."""
        known = self._asker.known
        keys = [key for dense in self._cells for key in known.within(dense.part)]
        return len(self._cells) >= CELLS or known.sizes(keys).share(self._asker.room(Kind.IDS)) > FULL

    def _is_crowded(self, second: int) -> bool:
        known = self._asker.known
        limit = self._asker.limits.limit(Kind.START, self._asker.per_page)
        return not known.sizes(known.within(TimeRange(second, second))).below(limit)

    # Answers

    def _take(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        asker, part = self._asker, chunk.part
        whole = asker.complete(asker.starts(part), page)
        if whole is None:
            asker.known.add(page.rows)
            self._answers.add(page.rows, proven=False)
            self._split(chunk, rest, page)
            return
        if asker.known.missing(asker.known.within(part), whole.rows):
            whole = self._ask_again(part, whole)
        if whole is None:
            self._doubt(chunk, rest, page)
            return
        self._accept(part, whole)
        seconds = part.seconds + 2 * asker.limits.margin
        self._accepted = max(self._accepted, seconds)
        asker.limits.grow_range(seconds)
        if math.isfinite(rest.longest):
            share = Sizes.of(page.rows).share(asker.limits.limit(Kind.START, asker.per_page))
            factor = min(4.0, max(0.5, self._target / max(share, 0.01)))
            is_noise = rest.measured and factor < NOISE
            rest.longest = part.seconds * (math.sqrt(factor) if is_noise else factor)
            rest.measured = True

    @property
    def _target(self) -> float:
        """How full to plan an answer where rows are expected, but not known."""
        return max(0.5, 1 - 1.4 / math.sqrt(self._asker.limits.limit(Kind.START, self._asker.per_page).rows))

    def _accept(self, part: TimeRange, page: Page[R]) -> None:
        known = self._asker.known
        self._answers.add(page.rows, proven=True)
        self._answers.ranges.append(part)
        self.read_ranges.append(part)
        known.replace(known.within(part), page.rows)
        for second in [second for second in self._dense if second in part]:
            del self._dense[second]

    # Contradictions

    def _ask_again(self, part: TimeRange, page: Page[R]) -> Page[R] | None:
        """Return the answer to believe where one lacks known rows; None if they may exist all the same."""
        asker, known, query = self._asker, self._asker.known, self._asker.starts(part)
        if not asker.may_ask(3):
            return None
        answer = asker.probe(query)
        again = None if answer is None else asker.complete(query, answer)
        if again is None:
            return None
        keys = known.within(part)
        better = min(again, page, key=lambda answer: len(known.missing(keys, answer.rows)))
        lacking = known.missing(keys, better.rows)
        ids = {key.campaign_id for key in lacking}
        if not ids:
            return better
        if not asker.may_ask(1 + len(ids) // asker.limits.ids):
            return None
        self._ids.read(ids)
        return better if self._agree(better, lacking) else None

    def _agree(self, page: Page[R], lacking: set[RowKey]) -> bool:
        """Whether the answers by id lack the same rows; one that may be cut itself must have as many."""
        ids, counts = self._ids, Counter(map(RowKey.of, page.rows))
        return all(
            key.campaign_id in ids.answered
            and ids.seen[key] <= counts[key]
            and (
                key.campaign_id not in ids.unproven
                or (ids.seen[key] == counts[key] and len(page.rows) > counts[key])
            )
            for key in lacking
        )

    def _doubt(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        """Ask for the parts of an answer that lacks rows which exist: the cap may have been lowered."""
        self._answers.add(page.rows, proven=False)
        asker = self._asker
        if self._contradictions < CONTRADICTIONS and page.size >= DOCUMENTED_DEFAULT and asker.may_ask(3):
            self._contradictions += 1
            asker.limits.largest = {Kind.START: Sizes.of(page.rows, page.size - len(page.rows))}
            self._split(chunk, rest, page)
        else:
            self._give_up(chunk.part)

    def _give_up(self, part: TimeRange) -> None:
        self._answers.incomplete = True
        self.read_ranges.append(part)

    # Smaller parts

    def _split(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        """Ask in smaller parts for what an answer may lack."""
        part, limits = chunk.part, self._asker.limits
        if part.seconds <= COARSE and any(
            not part.first - 1 <= row.start <= part.last + 1 for row in page.rows
        ):
            limits.coarse = True
            self._give_up(part)
            return
        if limits.coarse and part.seconds <= DAY:
            self._give_up(part)
            return
        seconds = Counter(math.floor(row.start) for row in page.rows if row.start in part)
        crowd, count = seconds.most_common(1)[0] if seconds else (part.last, 0)
        crowded = self._is_crowded(crowd)
        if part.seconds <= cell(0).seconds:
            if part.seconds == 1 or crowded:
                self._found_dense(part, page)
            else:
                self._gaps += [Gap(TimeRange(n, n)) for n in range(part.first, part.last + 1)]
        elif crowded or 2 * count >= page.size:
            middle = TimeRange(max(part.first, crowd - 1), min(part.last, crowd + 1))
            self._gaps += [Gap(piece) for piece in subtract([part], [middle])]
            if crowded and page.total is None:
                self._cells.append(DenseCell(middle))
            else:
                self._gaps.append(Gap(middle))
        else:
            self._shorten(chunk, rest, max(seconds) - min(seconds) + 1 if seconds else part.seconds)

    def _shorten(self, chunk: Gap, rest: Gap, span: int) -> None:
        """Ask for fewer seconds than those of an answer whose rows spread over `span`."""
        part = chunk.part
        longest = max(
            1, part.seconds * 7 // 10 if rest.measured else min(part.seconds // 2, int(span * self._target))
        )
        if rest.part.last + 1 == part.first and math.isfinite(rest.longest):
            if not rest.part.seconds:
                self._gaps.append(rest)
            rest.part, rest.longest = TimeRange(rest.part.first, part.last), longest
        else:
            self._gaps.append(Gap(part, longest))

    def _found_dense(self, part: TimeRange, page: Page[R]) -> None:
        asker = self._asker
        query = asker.starts(part)
        larger = asker.enlarge(query, page)
        if larger is not page and asker.is_complete(query, larger):
            self._accept(part, larger)
            return
        asker.known.add(larger.rows)
        self._answers.add(larger.rows, proven=False)
        self._cells.append(DenseCell(part, page.total if asker.limits.totals else None))

    def _settle(self) -> None:
        """Read the campaigns of dense seconds by their identifiers, and judge whether these are all."""
        cells, self._cells = self._cells, []
        known = self._asker.known
        ids = {number for dense in cells for number in known.campaigns(dense.part)}
        try:
            self._ids.read(ids - self._done)
            for dense in cells:
                self._search(dense.part)
        finally:
            self._done |= self._answers.ids
        for dense in cells:
            if self._is_proven(dense):
                self._answers.ranges.append(dense.part)
                self.read_ranges.append(dense.part)
            else:
                self._unproven.append(dense)
                self._give_up(dense.part)

    def _is_proven(self, dense: DenseCell) -> bool:
        """Whether as many rows were found as the total-count header says that there are."""
        known = self._asker.known
        sizes = known.sizes(known.within(dense.part))
        counted = [getattr(sizes, unit) for unit in self._asker.limits.totals or ()]
        return (
            dense.total is not None
            and known.campaigns(dense.part) <= self._done
            and bool(counted)
            and min(counted) >= dense.total
        )

    def _search(self, part: TimeRange) -> None:
        """Look for more campaigns of a dense second, once a day."""
        asker, known = self._asker, self._asker.known
        seconds = [second for second in range(part.first, part.last + 1) if self._is_crowded(second)]
        if all(self._dense.get(second, 0.0) > asker.now - DAY for second in seconds or [part.first]):
            return
        self._dense.update(dict.fromkeys(seconds or [part.first], asker.now))
        found = candidates(known.campaigns(part), known.ids() | self._done, SEARCHED)
        for first in range(0, len(found), MOST_IDS):
            if asker.may_ask(2 + 2 * len(self._gaps) + CELLS):
                self._ids.read(found[first : first + MOST_IDS], sparse=True)

    # Refusals

    def _find_accepted(self, chunk: Gap, error: PollError) -> None:
        """Find out what of a refused request was too much, and ask for less. Raises `error` in vain."""
        limits, part = self._asker.limits, chunk.part
        seconds = part.seconds + 2 * limits.margin
        if seconds <= self._accepted:  # so the server takes as much: something that lies in it is too much
            if part.seconds <= (DAY if limits.coarse else HOUR):
                self._lose(part, error)
            else:
                self._gaps.append(Gap(part, math.ceil(part.seconds / 2)))
            return
        if limits.longest is not None and 2 * limits.accepted >= seconds > limits.accepted:
            limits.longest, limits.refused = limits.accepted, seconds
            self._gaps.append(chunk)
            return
        least = self._least_accepted(part)
        if least is None:
            self._lose(part, error)
            return
        if not self._is_per_page_refused(least) and not self._is_future_refused(part):
            accepted = (least.start_to or 0) - (least.start_from or 0) - BOUNDS
            limits.longest, limits.refused, limits.accepted = accepted, seconds, accepted
            self._accepted = max(self._accepted, accepted)
        self._gaps += [Gap(piece, chunk.longest) for piece in self._reachable((part,))]

    def _least_accepted(self, part: TimeRange) -> Query | None:
        """Return a small request that the server takes: of a day, be it one of two, or of an hour."""
        asker = self._asker
        past = min(part.last, math.floor(asker.now) - FURTHEST)  # in every zone
        day = Query(start_from=past - DAY, start_to=past, per_page=RUNGS[-1])
        other_day = replace(day, start_from=past - 2 * DAY, start_to=past - DAY)
        hour = replace(other_day, start_to=past - 2 * DAY + HOUR)
        if asker.probe(day) is not None:
            return day
        if asker.probe(hour) is None:
            return None
        return hour if asker.probe(other_day) is None else other_day

    def _lose(self, part: TimeRange, error: PollError) -> None:
        """Leave out what no smaller request gets. Raises `error` if that was too often, or all there is."""
        self._lost.append(part)
        self._answers.incomplete = True
        if len(self._lost) > LOST_AT_MOST or not self._answers.ranges:
            raise error

    def _is_per_page_refused(self, least: Query) -> bool:
        asker = self._asker
        for per_page in (asker.per_page, *RUNGS):
            if per_page == RUNGS[-1] or (
                per_page <= asker.per_page and asker.probe(replace(least, per_page=per_page)) is not None
            ):
                break
        if per_page == asker.per_page:
            return False
        asker.limits.per_page = per_page
        asker.limits.use(per_page)
        return True

    def _is_future_refused(self, part: TimeRange) -> bool:
        asker, limits = self._asker, self._asker.limits
        now = math.floor(asker.now)
        if (limits.ahead is not None and part.last > now + limits.ahead) or part.last + 1 < now - FURTHEST:
            return False
        if self._takes_until(part.last + 1):
            return False
        low, high = -FURTHEST // QUARTER, FURTHEST // QUARTER  # where its clock may stand
        while low < high:
            middle = (low + high + 1) // 2
            if self._takes_until(now + middle * QUARTER):
                low = middle
            else:
                high = middle - 1
        limits.ahead = low * QUARTER
        return True

    def _takes_until(self, last: int) -> bool:
        query = Query(start_from=last - HOUR, start_to=last, per_page=self._asker.per_page)
        return self._asker.probe(query) is not None
