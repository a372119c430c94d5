"""Plain paging and its ends."""

from __future__ import annotations

import pytest

from exporter.api.model import Page, Query, TimeRange
from exporter.collect.asking import Asker
from exporter.collect.pages import all_pages
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from tests._cutapi import stats

ROWS = tuple(stats(number, float(number)) for number in range(1, 8))
FIRST, SECOND, THIRD = ROWS[:3], ROWS[3:6], ROWS[6:]


@pytest.mark.parametrize(
    ("pages", "found", "paged"),
    [
        ([FIRST, SECOND, THIRD, ()], 7, True),
        ([FIRST, SECOND, THIRD, THIRD], 7, True),
        ([FIRST, ()], 3, True),
        ([FIRST, FIRST], None, False),
        ([FIRST, ROWS[2:5]], None, None),
    ],
    ids=["empty end", "the last once more", "one", "ignored", "overlapping"],
)
def test_ends(pages: list[tuple[object, ...]], found: int | None, paged: bool | None) -> None:  # noqa: FBT001
    """All pages are one answer, unless they overlap or are the same."""

    def ask(query: Query) -> Page[object]:
        rows = pages[(query.page or 1) - 1]
        return Page(rows=rows, size=len(rows))

    limits = ServerLimits()
    asker = Asker(ask, limits, KnownRows(), now=0, whole=TimeRange(0, 9), per_page=3, pages=True)
    query = Query(start_from=0, start_to=9, per_page=3)
    whole = all_pages(asker, query, ask(query))
    assert (found, paged) == (None if whole is None else whole.size, limits.pages)
