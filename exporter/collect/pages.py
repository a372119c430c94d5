"""Plain paging, where a page parameter was configured: the API's documentation doesn't have one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.api.model import Page, R

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.model import Query
    from exporter.collect.asking import Asker


def all_pages(asker: Asker[R], query: Query, first: Page[R]) -> Page[R] | None:
    """Return all pages of an answer as one; None where they can't be trusted. Raises PollError, also a refusal.

    The end is reached with an empty page, or with the last one once more, which some servers return beyond it.
    A row that stands on two pages says that the order changed meanwhile: rows may have slipped through.
    """
    pages, seen = [first], _bag(first.rows)
    while True:
        asker.known.add(pages[-1].rows)  # so that the poll may make as many requests as there are pages
        page = asker.put(replace(query, page=len(pages) + 1))
        rows = _bag(page.rows)
        if not page.size or rows == _bag(pages[-1].rows):
            break
        if rows & seen:
            return None
        seen += rows
        pages.append(page)
    if page.size and len(pages) == 1:  # the same page again: the server doesn't know the parameter
        asker.limits.pages = False
        return None
    asker.limits.pages = True
    size = sum(page.size for page in pages)
    return Page(rows=tuple(row for page in pages for row in page.rows), size=size, total=first.total)


def _bag(rows: Iterable[R]) -> Counter[object]:
    return Counter((row.group, row.title) for row in rows)
