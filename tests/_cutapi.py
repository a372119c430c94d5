"""A server in memory that answers like the statistics API, with every looseness that its page leaves open."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import MessageStats, Page
from exporter.errors import ClientError, DeadlineError, RequestTimeoutError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from exporter.api.model import Query
    from exporter.errors import PollError

NO_COUNTS = (None,) * len(COUNTER_FIELDS)
DAY = 86400


def stats(campaign_id: int, start: float, title: str = "t", channel: str = "email") -> MessageStats:
    """Return a row without counts."""
    return MessageStats(campaign_id, channel, start, title, NO_COUNTS)


def refused(status: int) -> ClientError:
    """Return the error of a refused request."""
    return ClientError(f"HTTP {status}", status=status)


@dataclass
class CutApi:
    """Answers requests about `rows`, each cut to `cap` of `unit`; `sent` gives the sends of campaigns.

    `caps` replaces `cap` for requests of one kind ("ids", "send"). `zone` is what the server adds to UTC before
    it compares; `to_means` ("start", "midnight", "day", "end") how startTo is read, with `stops` for "end";
    `ids_taken` how many of the asked identifiers it heeds. `most_*`, `future` and `slowest` are what it takes:
    more is refused, or times out; an answer with one of the campaigns `broken` fails with `breaks`. `half` is
    the chance of an answer that lacks rows. After `deadline` requests nothing is answered any more. `between`
    is called before each answer.
    """

    rows: list[MessageStats]
    cap: int | None = None
    caps: dict[str, int] = field(default_factory=dict)
    unit: str = "rows"
    from_inclusive: bool = True
    to_inclusive: bool = True
    zone: int = 0
    to_means: str = "start"
    stops: dict[int, float | None] = field(default_factory=dict)
    order: str = "start"
    total: str = "none"
    combine: str = "and"
    send_filter: bool = True
    sent: dict[int, Sequence[int]] = field(default_factory=dict)
    paged: bool = False
    ids_taken: int | None = None
    ids_filter: bool = True
    most_per_page: int | None = None
    most_seconds: int | None = None
    most_ids: int | None = None
    slowest: int | None = None
    broken: Collection[int] = ()
    breaks: PollError = field(default_factory=lambda: ServerError("HTTP 500", status=500))
    future: bool = True
    half: float = 0.0
    now: float = math.inf
    deadline: int | None = None
    between: Callable[[], None] = lambda: None
    seed: int = 0
    requests: list[Query] = field(default_factory=list)
    errors: int = 0

    def __call__(self, query: Query) -> Page[MessageStats]:
        """Return the page that `query` gets."""
        assert query.filtered
        if self.deadline is not None and self.deadline <= 0:
            raise DeadlineError("the poll took longer than api.deadline")
        if self.deadline is not None:
            self.deadline -= 1
        self.requests.append(query)
        self.between()
        self._refuse(query)
        found = [row for row in self._near(query) if self._matches(row, query)]
        if any(row.campaign_id in self.broken for row in found):
            self.errors += 1
            raise self.breaks
        self._sort(found)
        page = self._cut(found[self._skipped(found, query) :], query)
        if self.half and self._random(query).random() < self.half:
            page = page[: len(page) // 2] if len(self.requests) % 2 else []
        total = {"none": None, "true": self._count(found), "all": len(self.rows), "zero": 0, "page": len(page)}
        return Page(rows=tuple(page), size=len(page), total=total[self.total])

    def _random(self, query: Query) -> random.Random:
        return random.Random(f"{self.seed} {len(self.requests)} {query}")

    def _refuse(self, query: Query) -> None:
        seconds = 0 if query.start_from is None else query.start_to - query.start_from
        ahead = query.start_to is not None and query.start_to - self.zone > self.now + 60
        refusals = (
            (self.most_per_page is not None and query.per_page > self.most_per_page, refused(422)),
            (self.most_seconds is not None and seconds > self.most_seconds, refused(400)),
            (self.most_ids is not None and len(query.campaign_ids) > self.most_ids, refused(414)),
            (not self.future and ahead, refused(400)),
            (self.slowest is not None and seconds > self.slowest, RequestTimeoutError("no answer")),
        )
        for applies, error in refusals:
            if applies:
                self.errors += 1
                raise error

    def _cut(self, found: list[MessageStats], query: Query) -> list[MessageStats]:
        kind = "send" if query.send_from is not None else "ids" if query.campaign_ids else "start"
        cap = self.caps.get(kind, self.cap)
        limit = query.per_page if cap is None else min(query.per_page, cap)
        if self.unit == "rows":
            return found[:limit]
        taken = dict.fromkeys(list(dict.fromkeys(self._key(row) for row in found))[:limit])
        return [row for row in found if self._key(row) in taken]

    def _near(self, query: Query) -> list[MessageStats]:
        """Return rows among which all that a plain request by start selects are; others look at every row."""
        if query.start_from is None or query.send_from is not None or self.to_means != "start":
            return self.rows
        low, high = query.start_from - self.zone, query.start_to - self.zone
        return [row for row in self.rows if low <= row.start <= high]

    def _skipped(self, found: list[MessageStats], query: Query) -> int:
        """Return how many rows the earlier pages have; beyond the last page comes the last one again."""
        if not self.paged or query.page is None:
            return 0
        skipped = before = 0
        for _ in range(query.page - 1):
            before, skipped = skipped, skipped + len(self._cut(found[skipped:], query))
        return skipped if skipped < len(found) else before

    def _key(self, row: MessageStats) -> object:
        return row.campaign_id if self.unit == "campaigns" else (row.campaign_id, row.channel)

    def _count(self, found: list[MessageStats]) -> int:
        return len(found) if self.unit == "rows" else len({self._key(row) for row in found})

    def _matches(self, row: MessageStats, query: Query) -> bool:
        by_start = query.start_from is None or query.start_to is None or self._starts(row, query)
        by_send = True
        if query.send_from is not None and query.send_to is not None and self.send_filter:
            sends = self.sent.get(row.campaign_id, ())
            by_send = any(query.send_from <= second + self.zone <= query.send_to for second in sends)
            if query.start_from is not None and self.combine == "send":
                by_start = True
            if query.start_from is not None and self.combine == "start":
                by_send = True
        ids = query.campaign_ids if self.ids_taken is None else query.campaign_ids[: self.ids_taken]
        by_id = not query.campaign_ids or not self.ids_filter or row.campaign_id in ids
        return by_start and by_send and by_id

    def _starts(self, row: MessageStats, query: Query) -> bool:
        start, first, last = row.start + self.zone, query.start_from, query.start_to
        after = start >= first if self.from_inclusive else start > first
        if self.to_means == "end":
            stop = self.stops.get(row.campaign_id)
            return after and stop is not None and stop + self.zone <= last
        if self.to_means == "midnight":
            last -= last % DAY
        elif self.to_means == "day":
            after = start >= first - first % DAY
            last += DAY - 1 - last % DAY
        return after and (start <= last if self.to_inclusive else start < last)

    def _sort(self, found: list[MessageStats]) -> None:
        if self.order == "start":
            found.sort(key=lambda row: row.start)
        elif self.order == "start_desc":
            found.sort(key=lambda row: -row.start)
        elif self.order == "id":
            found.sort(key=lambda row: row.campaign_id)
        else:
            random.Random(f"{self.seed} {len(self.requests)}").shuffle(found)
