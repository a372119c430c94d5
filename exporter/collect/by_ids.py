"""Campaigns, read by their identifiers."""

from __future__ import annotations

import math
from collections import Counter
from operator import add, sub
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.asking import is_refusal
from exporter.collect.page_cap import Kind, Sizes
from exporter.collect.server_limits import MOST_IDS
from exporter.collect.split_plan import RowKey
from exporter.errors import ConnectionFailedError, PollError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from exporter.api.model import Page
    from exporter.collect.asking import Asker
    from exporter.collect.model import Answers

REFUSED_AT_MOST: Final = 3
"""Campaigns whose every answer fails, and no other that is answered, after which the job is given up."""

Ids = tuple[int, ...]


class IdReader(Generic[R]):
    """Reads campaigns: `answers.ids` are those of which everything was read, `unproven` the others so far."""

    def __init__(self, asker: Asker[R], answers: Answers[R], *, filtered: bool = False) -> None:
        self._asker = asker
        self._answers = answers
        self._filtered = filtered
        self._asked_again: set[int] = set()
        self._refused = 0
        self.unproven: set[int] = set()
        self.answered: set[int] = set()
        self.seen: Counter[RowKey] = Counter()  # the most rows that any answer had

    def read(self, ids: Iterable[int], *, sparse: bool = False) -> None:
        """Read campaigns, in this order; `sparse`: most don't exist.

        Raises PollError where no smaller request helps, or when the time is up.
        """
        asker = self._asker
        wanted = list(dict.fromkeys(number for number in ids if number not in self._answers.ids))
        left_out = asker.poisoned.are_left_out(wanted, asker.now)
        self._give_up(left_out)
        failed = [number for number in wanted if number in asker.poisoned.ids]
        others = [number for number in wanted if number not in asker.poisoned.ids]
        chunks = [
            *self._chunks(others, sparse=sparse),
            *((number,) for number in failed if number not in left_out),
        ]
        todo = chunks[::-1]
        while todo:
            if asker.limits.ids_ignored:
                self._give_up(number for chunk in todo for number in chunk)
                return
            chunks = self._next(todo)
            failure = None
            results = asker.put_all([asker.ids(chunk) for chunk in chunks])
            for chunk, result in zip(chunks, results, strict=True):
                try:
                    if isinstance(result, PollError):
                        raise result
                    todo += self._take(chunk, result)
                    asker.limits.grow_ids(len(chunk))
                except PollError as error:
                    if not is_refusal(error) or (
                        isinstance(error, ConnectionFailedError) and not asker.is_up()
                    ):
                        failure = error
                    elif sparse:
                        continue
                    elif len(chunk) > 1:
                        asker.limits.ids, asker.limits.ids_refused = len(chunk) // 2, len(chunk)
                        todo.append(chunk)
                    else:
                        asker.limits.ids, asker.limits.ids_refused = MOST_IDS, None  # it isn't their number
                        self._leave_out(chunk[0], error)
            if failure is not None:
                raise failure

    def _leave_out(self, number: int, error: PollError) -> None:
        """Leave out a campaign whose every answer fails. Raises `error` if no other is answered, either."""
        self._give_up([number])
        self._refused += 1
        if not self._asker.is_up():
            raise error
        self._asker.poisoned.leave_out_id(number, self._asker.now)
        if self._refused >= REFUSED_AT_MOST and not self.answered:
            raise error

    def _give_up(self, ids: Iterable[int]) -> None:
        for number in ids:
            self._answers.incomplete = True
            self.unproven.add(number)

    def _next(self, todo: list[Ids]) -> list[Ids]:
        """Take as many chunks as can be asked for at the same time, none with more than the server takes."""
        chunks: list[Ids] = []
        most = self._asker.limits.ids
        while todo and len(chunks) < self._asker.concurrency:
            chunk = todo.pop()
            todo += [chunk[index : index + most] for index in range(most, len(chunk), most)]
            chunks.append(chunk[:most])
        return chunks

    def _chunks(self, ids: list[int], *, sparse: bool) -> list[Ids]:
        """Split `ids` so that the rows known of them, at least one each unless `sparse`, fit an answer."""
        least = Sizes() if sparse else Sizes(1, 1, 1)
        known, room = self._asker.known, self._asker.room(Kind.IDS)
        chunks: list[Ids] = []
        chunk: list[int] = []
        load = Sizes()
        for number in ids:
            more = Sizes(*map(add, load, known.sizes(known.of(number)).larger(least)))
            if chunk and (len(chunk) == self._asker.limits.ids or more.share(room) > 1):
                chunks.append(tuple(chunk))
                more = Sizes(*map(sub, more, load))
                chunk = []
            chunk.append(number)
            load = more
        return [*chunks, tuple(chunk)] if chunk else chunks

    def _take(self, chunk: Ids, page: Page[R]) -> list[Ids]:
        """Take an answer; return what has to be asked again."""
        asker, known = self._asker, self._asker.known
        query = asker.ids(chunk)
        if any(row.campaign_id not in chunk for row in page.rows):
            asker.limits.ids_ignored = True
            self._doubt(chunk, page)
            return []
        self.answered.update(chunk)
        asker.poisoned.clear_ids(chunk)
        self.seen |= Counter(map(RowKey.of, page.rows))
        whole = asker.complete(query, page)
        if whole is None:
            known.add(page.rows)
            if len(chunk) > 1:
                return _halves(chunk)
            page = asker.enlarge(query, page)
            whole = asker.complete(query, page)
        if whole is None:
            self._doubt(chunk, page)
            return []
        return self._compare(chunk, whole)

    def _compare(self, chunk: Ids, page: Page[R]) -> list[Ids]:
        """Take what an answer has all known rows of; return what has to be asked again."""
        known = self._asker.known
        found = {row.campaign_id for row in page.rows}
        lacking = {
            number
            for number in chunk
            if not self._filtered
            and known.missing(known.of(number), page.rows)
            and number not in self._asked_again & found
        }
        self._accept([number for number in chunk if number not in lacking], page)
        self._asked_again |= lacking
        if 0 < len(lacking) < len(chunk):
            return [tuple(sorted(lacking))]
        if lacking and len(chunk) > 1:
            return _halves(chunk)
        if lacking and found:
            return [chunk]
        if lacking:
            self._settle_absent(chunk[0])
        return []

    def _accept(self, ids: Collection[int], page: Page[R]) -> None:
        known = self._asker.known
        rows = [row for row in page.rows if row.campaign_id in ids]
        self._answers.add(rows, proven=True)
        self._answers.ids.update(ids)
        self.unproven.difference_update(ids)
        if not self._filtered:
            known.replace([key for number in ids for key in known.of(number)], rows)

    def _doubt(self, ids: Ids, page: Page[R]) -> None:
        """Keep the rows of an answer that may lack some."""
        rows = [row for row in page.rows if row.campaign_id in ids]
        self._asker.known.add(rows)
        self._answers.add(rows, proven=False)
        self._give_up(ids)

    def _settle_absent(self, number: int) -> None:
        """Ask by start for a campaign that its identifier doesn't find: it is gone if neither does."""
        asker, known = self._asker, self._asker.known
        keys = known.of(number)
        if keys and asker.may_ask():
            second = math.floor(max(keys).start)
            query = asker.starts(TimeRange(second, second))
            page = asker.probe(query)
            if page is not None and asker.is_complete(query, page):
                rows = [row for row in page.rows if row.campaign_id == number]
                if not rows:
                    known.replace(keys, ())
                    self._answers.ids.add(number)
                    return
                self._answers.add(rows, proven=False)
        self._give_up([number])


def _halves(chunk: Ids) -> list[Ids]:
    middle = len(chunk) // 2
    return [chunk[:middle], chunk[middle:]]
