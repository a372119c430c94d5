"""Answers of one kind compared with those of another, and with what is known."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

from exporter.api.model import R, TimeRange
from exporter.collect.asking import DAY, is_refusal
from exporter.collect.page_cap import DOCUMENTED_DEFAULT
from exporter.collect.split_plan import RowKey
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.model import Page
    from exporter.collect.asking import Asker
    from exporter.collect.by_ids import IdReader

YEAR: Final = 366 * DAY
BEYOND: Final = "beyond"
"""Stands in `ServerLimits.widened` once a year ahead was asked for."""


def ask_again(asker: Asker[R], reader: IdReader[R], part: TimeRange, page: Page[R]) -> Page[R] | None:
    """Return the answer to believe where one lacks known rows; None if they may exist all the same."""
    known, query = asker.known, asker.starts(part)
    if not asker.may_ask(3):
        return None
    answer = asker.probe(query)
    again = None if answer is None else asker.complete(query, answer)
    if again is None:
        return None
    keys = known.within(part)
    better = min(again, page, key=lambda answer: len(known.missing(keys, answer.rows)))
    lacking = known.missing(keys, better.rows)
    ids = sorted({key.campaign_id for key in lacking}, reverse=True)
    few = DOCUMENTED_DEFAULT - 1  # where these exist, none of the others has to be asked for
    for some in filter(None, (ids[:few], ids[few:])):
        if not asker.may_ask(1 + len(some) // asker.limits.ids):
            return None
        try:
            reader.read(some)
        except PollError as error:
            if not is_refusal(error):
                raise
            return None
        if not _agree(reader, better, {key for key in lacking if key.campaign_id in some}):
            return None
    return better


def _agree(ids: IdReader[R], page: Page[R], lacking: set[RowKey]) -> bool:
    """Whether the answers by id lack the same rows; one that may be cut itself must have as many."""
    counts = Counter(map(RowKey.of, page.rows))
    return all(
        key.campaign_id in ids.answered
        and ids.seen[key] <= counts[key]
        and (
            key.campaign_id not in ids.unproven
            or (ids.seen[key] == counts[key] and len(page.rows) > counts[key])
        )
        for key in lacking
    )


def look_beyond(asker: Asker[R], read: Sequence[TimeRange]) -> None:
    """Ask once a day with a startTo in the far future, for rows that what was `read` whole should have had.

    Where startTo is compared with the end of a campaign, nothing else finds those that still run.
    """
    limits = asker.limits
    is_limited = limits.ahead is not None or limits.longest is not None
    if BEYOND in limits.widened or is_limited or not asker.may_ask():
        return
    limits.widened.append(BEYOND)
    page = asker.probe(asker.starts(TimeRange(asker.whole.first, math.floor(asker.now) + YEAR)))
    if any(
        not asker.known.count(RowKey.of(row)) and any(row.start in part for part in read)
        for row in (() if page is None else page.rows)
    ):
        limits.filters = False
