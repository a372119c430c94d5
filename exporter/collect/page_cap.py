"""What proves that an answer was not cut.

Nobody knows how many rows the server returns at most, nor whether it counts rows, campaigns, or campaigns and
channels, nor whether it does so alike for requests by start, by ids and by send. So an answer is complete if it
is smaller, in every unit, than the largest recent answer to a request of its own kind; or than 10, the
documented default of perPage. "Recent" is a day: the server may have been changed since.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.model import Page, Query, Row

DOCUMENTED_DEFAULT: Final = 10
"""Rows of an answer where perPage isn't given."""


class Kind(StrEnum):
    """Kinds of requests, each of which may have a cap of its own."""

    START = "start"
    IDS = "ids"
    SEND = "send"

    @classmethod
    def of(cls, query: Query) -> Kind:
        """Return the kind of a request."""
        if query.send_from is not None:
            return cls.SEND
        return cls.IDS if query.campaign_ids else cls.START


class Sizes(NamedTuple):
    """How large an answer is, in every unit that a server may count in."""

    rows: int = 0
    campaigns: int = 0
    pairs: int = 0
    """Campaigns and channels."""

    @classmethod
    def of(cls, rows: Iterable[Row], unreadable: int = 0) -> Sizes:
        """Measure rows, and some more that could not be read."""
        count = Counter((row.campaign_id, row.channel) for row in rows)
        campaigns = {campaign_id for campaign_id, _ in count}
        return cls(count.total() + unreadable, len(campaigns) + unreadable, len(count) + unreadable)

    def below(self, limit: Sizes) -> bool:
        """Whether it is smaller in every unit."""
        return all(mine < most for mine, most in zip(self, limit, strict=True))

    def larger(self, other: Sizes) -> Sizes:
        """Return the larger of both in each unit."""
        return Sizes(*map(max, self, other))

    def share(self, limit: Sizes) -> float:
        """Return how full of `limit` it is, in the unit in which it is fullest."""
        return max(mine / most for mine, most in zip(self, limit, strict=True))


def page_sizes(page: Page[Row]) -> tuple[Sizes, Sizes]:
    """Return the least and the most that an answer may measure: nobody knows whose its unreadable rows are."""
    unreadable = page.size - len(page.rows)
    least, most = Sizes.of(page.rows), Sizes.of(page.rows, unreadable)
    return least._replace(rows=page.size), most
