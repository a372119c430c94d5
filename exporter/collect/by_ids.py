"""Campaigns, read by their identifiers."""

from __future__ import annotations

import math
from collections import Counter
from operator import add, sub
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.asking import is_refusal
from exporter.collect.page_cap import Kind, Sizes
from exporter.collect.split_plan import RowKey
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from exporter.api.model import Page
    from exporter.collect.asking import Asker
    from exporter.collect.model import Answers

REFUSED_AT_MOST: Final = 3
"""Refusals in a row of requests for one campaign, after which the job is given up."""

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
        """Read campaigns; `sparse`: most don't exist. Raises PollError where no smaller request helps."""
        asker = self._asker
        limits = asker.limits
        todo = self._chunks(sorted(set(ids) - self._answers.ids), Sizes() if sparse else Sizes(1, 1, 1))
        before = limits.ids, limits.ids_refused
        while todo:
            if limits.ids_ignored:
                self._answers.incomplete = True
                self.unproven.update(number for chunk in todo for number in chunk)
                return
            chunks = self._next(todo)
            failure = None
            results = asker.put_all([asker.ids(chunk) for chunk in chunks])
            for chunk, result in zip(chunks, results, strict=True):
                if not isinstance(result, PollError):
                    self._refused = 0
                    limits.grow_ids(len(chunk))
                    todo += self._take(chunk, result)
                elif not is_refusal(result):
                    failure = result
                elif len(chunk) > 1:
                    limits.ids, limits.ids_refused = len(chunk) // 2, len(chunk)
                    todo.append(chunk)
                else:
                    self._refused += 1
                    self._answers.incomplete = True
                    self.unproven.update(chunk)
                    if self._refused >= REFUSED_AT_MOST:
                        limits.ids, limits.ids_refused = before  # it isn't their number
                        failure = result
            if failure is not None:
                raise failure

    def _next(self, todo: list[Ids]) -> list[Ids]:
        """Take as many chunks as can be asked for at the same time, none with more than the server takes."""
        chunks: list[Ids] = []
        most = self._asker.limits.ids
        while todo and len(chunks) < self._asker.concurrency:
            chunk = todo.pop()
            todo += [chunk[index : index + most] for index in range(most, len(chunk), most)]
            chunks.append(chunk[:most])
        return chunks

    def _chunks(self, ids: list[int], least: Sizes) -> list[Ids]:
        """Split `ids` so that the rows known of them, at least so many of each, fit an answer."""
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
        self._answers.incomplete = True
        self.unproven.update(ids)

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
        self._answers.incomplete = True
        self.unproven.add(number)


def _halves(chunk: Ids) -> list[Ids]:
    middle = len(chunk) // 2
    return [chunk[:middle], chunk[middle:]]
