"""Requests of one poll: within what the server takes, and each answer a lesson."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import Query, R, TimeRange
from exporter.collect.budget import Budget
from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, Sizes, page_sizes
from exporter.collect.pages import all_pages
from exporter.collect.poisoned import Poisoned
from exporter.collect.server_limits import FURTHEST
from exporter.errors import (
    BadResponseError,
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    PollError,
    RequestTimeoutError,
    ServerError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.api.model import Page
    from exporter.collect.server_limits import ServerLimits
    from exporter.collect.split_plan import KnownRows

DAY: Final = 86400
NEVER: Final = TimeRange(946_684_800, 946_684_801)
"""A moment in which nothing was sent or started (the turn of 2000)."""
REFUSALS: Final = (
    ClientError,
    ServerError,
    RequestTimeoutError,
    TooLargeError,
    BadResponseError,
    ConnectionFailedError,
)
"""How a request may fail that a smaller one wouldn't; what only looks for a proof may fail so, too."""
SIZE_STATUSES: Final = frozenset({None, 400, 413, 414, 422})
LARGER: Final = "per_page"
"""Stands in `ServerLimits.widened` once a larger perPage was tried."""
RUNGS: Final = (100, 50, 10)
"""What is tried for perPage where more is refused."""


def is_refusal(error: PollError) -> bool:
    """Whether a smaller request may succeed."""
    return isinstance(error, REFUSALS) and not (
        isinstance(error, ClientError) and error.status not in SIZE_STATUSES
    )


class Asker(Generic[R]):
    """Puts the requests of one poll, and learns from every answer.

    `whole` is the range of starts that is being watched; `bounded`: as of `Budget`.
    """

    def __init__(
        self,
        ask: Callable[[Query], Page[R]],
        limits: ServerLimits,
        known: KnownRows,
        *,
        now: float,
        whole: TimeRange,
        per_page: int,
        concurrency: int = 1,
        pages: bool = False,
        bounded: bool = False,
        poisoned: Poisoned | None = None,
    ) -> None:
        self._ask = ask
        self._pages = pages
        self.limits = limits
        self.known = known
        self.poisoned = Poisoned() if poisoned is None else poisoned
        self.budget = Budget(limits, known, whole=whole, per_page=per_page, bounded=bounded)
        self.now = now
        self.whole = whole
        self.configured = per_page
        self.concurrency = concurrency
        self._answered = False
        self._first_failure: PollError | None = None
        limits.expire(now)
        limits.use(self.per_page)

    @property
    def per_page(self) -> int:
        """The perPage of ordinary requests."""
        return self.limits.per_page or self.configured

    def pages(self, part: TimeRange) -> int:
        """Return how many answers an API with pages would need for what is known of `part`."""
        rows = self.known.sizes(self.known.within(part)).rows
        return math.ceil(rows / max(1, self.limits.limit(Kind.START, self.per_page).rows))

    def may_ask(self, requests: int = 1) -> bool:
        """Whether so many requests more are within the budget."""
        return self.budget.left >= requests

    def is_up(self) -> bool:
        """Whether the server answers at all: a request for a moment tells."""
        moment = math.floor(self.now) - FURTHEST
        with self.budget.unbounded(excused=True):
            return self.probe(Query(start_from=moment, start_to=moment + 1, per_page=RUNGS[-1])) is not None

    # Requests

    def starts(self, part: TimeRange, send: TimeRange | None = None) -> Query:
        """Return the request for all rows that start in `part`, under every reading of the bounds."""
        limits = self.limits
        margin = limits.margin
        last = part.last + 1 + limits.zone + margin
        if limits.ahead is not None:
            last = min(last, math.floor(self.now) + limits.ahead)
        query = Query(
            start_from=part.first + limits.zone - margin - (0 if limits.from_inclusive else 1),
            start_to=last,
            per_page=self.per_page,
        )
        if send is None:
            return query
        sends = self.sends(send)
        return replace(query, send_from=sends.send_from, send_to=sends.send_to)

    def ids(self, ids: Sequence[int]) -> Query:
        """Return the request for campaigns."""
        return Query(campaign_ids=tuple(ids), per_page=self.per_page)

    def sends(self, part: TimeRange, margin: int = 0) -> Query:
        """Return the request for all campaigns that sent during `part`, or up to `margin` seconds beside it."""
        first, last = part.first + self.limits.zone, part.last + 1 + self.limits.zone
        return Query(send_from=first - margin, send_to=last + margin, per_page=self.per_page)

    def put(self, query: Query) -> Page[R]:
        """Put one request. Raises PollError, RequestsSpentError."""
        (result,) = self.put_all([query])
        if isinstance(result, PollError):
            raise result
        return result

    def put_all(self, queries: Sequence[Query]) -> list[Page[R] | PollError]:
        """Put requests at the same time; a failure stands in the place of its answer.

        Raises RequestsSpentError if they are more than the poll may make.
        """
        self.budget.spend(len(queries))
        if len(queries) == 1:
            results = [self._try(query) for query in queries]
        else:
            with ThreadPoolExecutor(self.concurrency, thread_name_prefix="ask") as pool:
                results = list(pool.map(self._try, queries))
        for query, result in zip(queries, results, strict=True):
            if isinstance(result, PollError):
                self._first_failure = self._first_failure or result
                continue
            self._answered = True
            if query.per_page == self.per_page:
                self.limits.observe(Kind.of(query), page_sizes(result)[0])
        return results

    def cause(self, error: PollError) -> PollError:
        """Return why a job failed: that its time was up says nothing where no request was ever answered."""
        if isinstance(error, DeadlineError) and not self._answered:
            return self._first_failure or error
        return error

    def _try(self, query: Query) -> Page[R] | PollError:
        try:
            return self._ask(query)
        except PollError as error:
            return error

    def probe(self, query: Query) -> Page[R] | None:
        """Put a request that nothing depends on; None if it is refused. Raises other PollErrors."""
        try:
            return self.put(query)
        except PollError as error:
            if not is_refusal(error):
                raise
            return None

    # Proof

    def room(self, kind: Kind) -> Sizes:
        """Return how much to plan into one answer."""
        if kind not in self.limits.largest:
            return Sizes(self.per_page, self.per_page, self.per_page)
        limit = self.limits.limit(kind, self.per_page)
        return Sizes(*(max(1, min(most - 1, most * 19 // 20)) for most in limit))

    def is_complete(self, query: Query, page: Page[R], *, widen: bool = True) -> bool:
        """Whether the answer can't have been cut."""
        kind, (least, most) = Kind.of(query), page_sizes(page)
        if query.per_page != self.per_page:
            return most.rows < min(RUNGS[-1], query.per_page)
        limit = self.limits.limit(kind, self.per_page)
        fits = most.below(limit)
        if page.total is not None and self.limits.totals != []:
            if fits:
                return self._fits_total(page.total, least)
            if self._totals_hold(query, page):
                return all(page.total <= getattr(least, unit) for unit in self.limits.totals or ())
        unwidened = kind not in self.limits.widened and page.size != self.per_page
        if not fits and widen and unwidened and self.may_ask():
            self.widen(kind)
            fits = most.below(self.limits.limit(kind, self.per_page))
        return fits

    def _fits_total(self, total: int, sizes: Sizes) -> bool:
        """Whether the header agrees with an answer that is complete by its size, unless it is found to lie."""
        limits = self.limits
        if limits.totals is None:
            if total not in sizes:
                limits.totals = []
            return True
        units = [unit for unit in limits.totals if getattr(sizes, unit) == total]
        if not units and total > sizes.rows:
            return False
        limits.totals = units
        return True

    def _totals_hold(self, query: Query, page: Page[R]) -> bool:
        """Whether the header counts all that is asked for: an answer of one row tells, and one of none."""
        limits, campaigns = self.limits, len({row.campaign_id for row in page.rows})
        if limits.totals is None and (page.total or 0) >= campaigns and self.may_ask(2):
            limits.totals = []
            one = self.probe(replace(query, per_page=1))
            none = self.probe(Query(start_from=NEVER.first, start_to=NEVER.last, per_page=self.per_page))
            if one and none and (one.total or 0) > one.size and none.total == none.size:
                limits.totals = list(Sizes._fields)
        return bool(limits.totals)

    @property
    def is_paged(self) -> bool:
        """Whether answers are read page by page."""
        return self._pages and self.limits.pages is not False

    def complete(self, query: Query, page: Page[R]) -> Page[R] | None:
        """Return an answer with everything that was asked for; None if `page` may lack some of it."""
        if self.is_paged and page.size >= min(DOCUMENTED_DEFAULT, query.per_page):
            return all_pages(self, query, page)
        return page if self.is_complete(query, page) else None

    def widen(self, kind: Kind) -> None:
        """Ask once a day for as much as possible: the larger the answer, the more others it proves."""
        limits, whole = self.limits, self.whole
        limits.widened.append(kind)
        longest = min(4 * whole.seconds, limits.longest or 4 * whole.seconds)
        wide = TimeRange(whole.last - longest + 1, whole.last)
        if kind is Kind.IDS:
            query = self.ids(self.known.newest(limits.ids))
        else:
            query = self.starts(wide) if kind is Kind.START else self.sends(wide)
        page = self.probe(query) if query.filtered else None
        if page is not None:
            self.known.add(page.rows)

    def enlarge(self, query: Query, page: Page[R]) -> Page[R]:
        """Ask again with a larger perPage where the answer fills this one; once a day."""
        limits = self.limits
        if page.size < query.per_page or LARGER in limits.widened or not self.may_ask():
            return page
        limits.widened.append(LARGER)
        larger = self.probe(replace(query, per_page=10 * query.per_page))
        if larger is None or larger.size <= page.size:
            return page
        limits.per_page = 10 * query.per_page
        limits.use(self.per_page)
        limits.widened.append(LARGER)
        limits.observe(Kind.of(query), page_sizes(larger)[0])
        return larger
