"""A server in memory that answers like the statistics API, with every looseness that its page leaves open."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import MessageStats, Page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.model import Query

NO_COUNTS = (None,) * len(COUNTER_FIELDS)


def stats(campaign_id: int, start: float, title: str = "t", channel: str = "email") -> MessageStats:
    """Return a row without counts."""
    return MessageStats(campaign_id, channel, start, title, NO_COUNTS)


@dataclass
class CutApi:
    """Answers questions about `rows`, each cut to `cap` rows; `sent` gives the sends of campaigns by second."""

    rows: list[MessageStats]
    cap: int | None = None
    from_inclusive: bool = True
    to_inclusive: bool = True
    order: str = "start"
    total: str = "none"
    combine: str = "and"
    send_filter: bool = True
    sent: dict[int, Sequence[int]] = field(default_factory=dict)
    requests: list[Query] = field(default_factory=list)

    def __call__(self, query: Query) -> Page[MessageStats]:
        """Return the page that `query` gets."""
        assert query.filtered
        self.requests.append(query)
        found = [row for row in self.rows if self._matches(row, query)]
        self._sort(found)
        limit = query.per_page if self.cap is None else min(query.per_page, self.cap)
        page = found[:limit]
        total = {"none": None, "true": len(found), "all": len(self.rows), "zero": 0}[self.total]
        return Page(rows=tuple(page), size=len(page), total=total)

    def _matches(self, row: MessageStats, query: Query) -> bool:
        by_start = query.start_from is None or query.start_to is None or self._starts(row, query)
        by_send = True
        if query.send_from is not None and query.send_to is not None and self.send_filter:
            sends = self.sent.get(row.campaign_id, ())
            by_send = any(query.send_from <= second <= query.send_to for second in sends)
            if query.start_from is not None and self.combine == "send":
                by_start = True
            if query.start_from is not None and self.combine == "start":
                by_send = True
        by_id = not query.campaign_ids or row.campaign_id in query.campaign_ids
        return by_start and by_send and by_id

    def _starts(self, row: MessageStats, query: Query) -> bool:
        after = row.start >= query.start_from if self.from_inclusive else row.start > query.start_from
        before = row.start <= query.start_to if self.to_inclusive else row.start < query.start_to
        return after and before

    def _sort(self, found: list[MessageStats]) -> None:
        if self.order == "start":
            found.sort(key=lambda row: row.start)
        elif self.order == "start_desc":
            found.sort(key=lambda row: -row.start)
        elif self.order == "id":
            found.sort(key=lambda row: row.campaign_id)
        else:
            random.Random(len(self.requests)).shuffle(found)
