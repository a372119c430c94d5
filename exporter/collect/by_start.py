"""Every row that starts in given ranges: split until each answer is known to be complete."""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.asking import DAY, is_refusal
from exporter.collect.cross_check import ask_again, look_beyond
from exporter.collect.dense_second import CELLS, DenseCell
from exporter.collect.filters import learn_filters
from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, Sizes
from exporter.collect.ranges import intersect, subtract, union
from exporter.collect.refusals import Refusals
from exporter.collect.split_plan import Gap, cell, last_chunk
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.api.model import Page
    from exporter.collect.asking import Asker
    from exporter.collect.by_ids import IdReader
    from exporter.collect.dense_second import DenseSeconds
    from exporter.collect.model import Answers

COARSE: Final = 2 * DAY
"""Filters that don't select by seconds do so by days."""
CONTRADICTIONS: Final = 3
"""How often a poll lowers what it believes of the cap."""
NEWEST: Final = 5
"""Known rows in the answer that may get new ones, at least."""
NOISE: Final = 2
"""A change of the density of rows that may be chance is followed half way."""


class StartReader(Generic[R]):
    """Reads by start, into `answers`."""

    def __init__(self, asker: Asker[R], answers: Answers[R], ids: IdReader[R], dense: DenseSeconds[R]) -> None:
        self._asker = asker
        self._answers = answers
        self._ids = ids
        self._dense = dense
        self._refusals = Refusals(asker, answers)
        self._accepted: dict[TimeRange, Sizes] = {}
        self._gaps: list[Gap] = []
        self._contradictions = 0
        self._is_test_refused = False

    def read(self, ranges: Iterable[TimeRange]) -> None:
        """Read, the latest first. Raises PollError where no smaller request helps, or when the time is up."""
        asker, dense = self._asker, self._dense
        reachable = self._refusals.reachable(union(ranges))
        left_out = intersect(reachable, asker.poisoned.left_out(asker.now))
        parts = asker.poisoned.cut(subtract(reachable, left_out))
        self._gaps = self._newest_apart(parts)
        while self._gaps or dense.cells:
            chunks = self._next_chunks()
            if not chunks or dense.are_enough:
                dense.settle(2 * len(self._gaps) + CELLS)
            self._ask_for(chunks)
            if self._test_filters():
                self._answers.take_back(parts)
                self._gaps = [Gap(part) for part in parts]
        dense.search()
        look_beyond(asker, self._answers.ranges)
        for part in left_out:
            self._answers.give_up(part)
        self._refusals.try_more()

    def _newest_apart(self, parts: Sequence[TimeRange]) -> list[Gap]:
        """Return the gaps to read: what may get new rows comes with few known ones.

        An answer that grew to a lowered cap lacks no known row, but the others of the same poll then do.
        """
        known, limits = self._asker.known, self._asker.limits
        sizes = known.sizes(key for part in parts for key in known.within(part))
        tells = not self._asker.is_paged and not limits.coarse and limits.filters is not False
        if sizes.rows < DOCUMENTED_DEFAULT or not tells:
            return [Gap(part) for part in parts]
        most = self._asker.room(Kind.START)
        few = Sizes(*(max(NEWEST, min(count // 4, room // 2)) for count, room in zip(sizes, most, strict=True)))
        apart = last_chunk(known, Gap(parts[-1]), few)
        return [Gap(part) for part in (*parts[:-1], *subtract(parts[-1:], [apart]), apart)]

    def _ask_for(self, chunks: list[tuple[Gap, Gap]]) -> None:
        failure: PollError | None = None
        results = self._asker.put_all([self._asker.starts(gap.part) for gap, _ in chunks]) if chunks else []
        for (chunk, rest), result in zip(chunks, results, strict=True):
            try:
                if isinstance(result, PollError):
                    raise result
                self._take(chunk, rest, result)
            except PollError as error:
                if is_refusal(error):
                    smaller = self._refusals.smaller(chunk.part, error)
                    self._gaps += [Gap(piece, chunk.longest) for piece in smaller]
                else:
                    failure = error
        if failure is not None:
            raise failure

    def _test_filters(self) -> bool:
        """Test once a day what start filters do; return whether everything has to be asked anew."""
        asker, limits = self._asker, self._asker.limits
        if limits.filters is not None or self._is_test_refused:
            return False
        zone = limits.zone
        try:
            if not self._gaps and Kind.START not in limits.widened and not asker.known.ids():
                asker.widen(Kind.START)  # there is no row to test them with
            before = asker.budget.spent
            with asker.budget.unbounded():  # half of it would be in vain
                learn_filters(asker)
            self._is_test_refused = limits.filters is None and asker.budget.spent > before
        except PollError:
            self._answers.take_back(self._answers.read)
            raise
        return limits.zone != zone

    def _next_chunks(self) -> list[tuple[Gap, Gap]]:
        """Take as many chunks off the last gaps as can be asked for at the same time, each with its gap."""
        asker, dense = self._asker, self._dense
        chunks: list[tuple[Gap, Gap]] = []
        while self._gaps and len(chunks) < asker.concurrency and len(dense.cells) < CELLS:
            gap = self._gaps[-1]
            longest = (asker.limits.longest or math.inf) - 2 * asker.limits.margin
            room = Sizes(*[sys.maxsize] * 3) if asker.is_paged else asker.room(Kind.START)
            part = last_chunk(asker.known, replace(gap, longest=min(gap.longest, longest)), room)
            if asker.limits.coarse and part.seconds < DAY:  # it would get the whole day
                part = TimeRange(max(gap.part.first, part.last - int(min(DAY, longest)) + 1), part.last)
            gap.part = TimeRange(gap.part.first, part.first - 1)
            if not gap.part.seconds:
                self._gaps.pop()
            if dense.is_settled(part):
                dense.cells.append(DenseCell(part))
            else:
                chunks.append((Gap(part, gap.longest), gap))
        return chunks

    # Answers

    def _take(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        asker, part = self._asker, chunk.part
        whole = asker.complete(asker.starts(part), page)
        self._refusals.accept(part)
        if whole is None:
            asker.known.add(page.rows)
            self._answers.add(page.rows, proven=False)
            self._split(chunk, rest, page)
            return
        if asker.known.missing(asker.known.within(part), whole.rows):
            if asker.limits.filters is False:  # so what an answer lacks tells nothing
                self._answers.add(page.rows, proven=False)
                self._answers.give_up(part)
                return
            whole = ask_again(asker, self._ids, part, whole)
        if whole is None:
            self._doubt(chunk, rest, page)
            return
        self._accept(part, whole)
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
        self._answers.prove(part)
        self._accepted[part] = Sizes.of(page.rows, page.size - len(page.rows))
        known.replace(known.within(part), page.rows)
        self._dense.forget(part)

    def _doubt(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        """Ask for the parts of an answer that lacks rows which exist: the cap may have been lowered.

        Or filters mean something else now.
        """
        self._answers.add(page.rows, proven=False)
        asker = self._asker
        if self._contradictions < CONTRADICTIONS and page.size >= DOCUMENTED_DEFAULT and asker.may_ask(3):
            asker.limits.filters = None if not self._contradictions else asker.limits.filters
            self._contradictions += 1
            asker.limits.largest = {Kind.START: Sizes.of(page.rows, page.size - len(page.rows))}
            self._take_back()
            self._split(chunk, rest, page)
        else:
            self._answers.give_up(chunk.part)

    def _take_back(self) -> None:
        """Ask again for what a lowered cap may have cut before it was noticed."""
        limit = self._asker.limits.limit(Kind.START, self._asker.per_page)
        doubtful = [part for part, sizes in self._accepted.items() if not sizes.below(limit)]
        for part in doubtful:
            del self._accepted[part]
        self._answers.take_back(doubtful)
        self._gaps += [Gap(part) for part in doubtful]

    # Smaller parts

    def _split(self, chunk: Gap, rest: Gap, page: Page[R]) -> None:
        """Ask in smaller parts for what an answer may lack."""
        part, limits = chunk.part, self._asker.limits
        if part.seconds <= COARSE and any(
            not part.first - 1 <= row.start <= part.last + 1 for row in page.rows
        ):
            limits.coarse = True
            self._answers.give_up(part)
            return
        if limits.coarse and part.seconds <= DAY:
            self._answers.give_up(part)
            return
        seconds = Counter(math.floor(row.start) for row in page.rows if row.start in part)
        crowd, count = seconds.most_common(1)[0] if seconds else (part.last, 0)
        crowded = self._dense.is_crowded(crowd)
        if part.seconds <= cell(0).seconds:
            if part.seconds == 1 or crowded:
                self._found_dense(part, page)
            else:
                self._gaps += [Gap(TimeRange(n, n)) for n in range(part.first, part.last + 1)]
        elif crowded or 2 * count >= page.size:
            middle = TimeRange(max(part.first, crowd - 1), min(part.last, crowd + 1))
            self._gaps += [Gap(piece) for piece in subtract([part], [middle])]
            if crowded and page.total is None:
                self._dense.cells.append(DenseCell(middle))
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
        self._dense.cells.append(DenseCell(part, page.total if asker.limits.totals else None))
