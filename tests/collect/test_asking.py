"""What one poll makes of answers, within its budget."""

from __future__ import annotations

from exporter.api.model import Page, Query, TimeRange
from exporter.collect.asking import Asker
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from tests._cutapi import stats


def test_a_total_count_is_judged_when_there_are_requests_for_it() -> None:
    """A poll that may make none concludes nothing about the header; a later one can."""
    page = Page(rows=tuple(stats(number, 1.0) for number in range(20)), size=20, total=40)
    limits = ServerLimits()
    asker = Asker(
        lambda _query: page, limits, KnownRows(), now=0, whole=TimeRange(0, 9), per_page=500, bounded=True
    )
    asker.budget.spend(asker.budget.left)
    assert not asker.is_complete(Query(start_from=0, start_to=9), page)
    assert limits.totals is None
