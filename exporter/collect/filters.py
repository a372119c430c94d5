"""What start filters do: a known row must be found by its own second, in one zone or another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from exporter.api.model import R, TimeRange
from exporter.collect.server_limits import FURTHEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.collect.asking import Asker

QUARTER: Final = 900
"""Every zone is a multiple of it."""
ZONE_REQUESTS: Final = 16
BESIDE: Final = 3
"""So many seconds after a row's start, a request for one second doesn't return it."""


def learn_filters(asker: Asker[R]) -> None:
    """Look for known rows by their own second alone; where they aren't, look for the zone. Raises PollError.

    Filters that are cut to midnight, that mean the end of a campaign or that are in local time don't find them.
    """
    limits, known = asker.limits, asker.known
    keys = known.within(TimeRange(0, math.floor(asker.now)))
    seconds = list(dict.fromkeys(math.floor(key.start) for key in reversed(keys) if key.start.is_integer()))
    seconds = seconds or [math.floor(key.start) for key in keys]
    if not seconds:
        return
    seconds.sort(key=lambda second: len(known.within(TimeRange(second - 2, second + 2))))
    tested = list(dict.fromkeys((*seconds[:2], min(seconds), max(seconds))))
    before = limits.zone
    try:
        for zone in dict.fromkeys((before, 0, None)):
            limits.zone = _zone(asker, tested[0]) if zone is None else zone
            for limits.from_inclusive in (True, False):
                limits.coarse = False
                found = _finds_all(asker, tested)
                if found is None:
                    return
                if found:
                    _finds(asker, tested[0] + BESIDE)
                    limits.filters, limits.zone = True, 0 if limits.coarse else limits.zone
                    return
        limits.filters, limits.zone, limits.coarse = False, 0, False
    finally:
        if limits.filters is None:
            limits.zone, limits.from_inclusive = before, None


def _finds_all(asker: Asker[R], seconds: Iterable[int]) -> bool | None:
    """Whether all known rows of some seconds are found, as far as requests aren't refused; None: all are."""
    answers = []
    for second in seconds:
        answers.append(_finds(asker, second))
        if answers[-1] is False:
            return False
    return True if any(answers) else None


def _finds(asker: Asker[R], second: int) -> bool | None:
    """Whether a request for one second returns rows that start in it, maybe others, too; None: refused."""
    page = asker.probe(asker.starts(TimeRange(second, second)))
    if page is None:
        return None
    if any(not second - 1 <= row.start <= second + 1 for row in page.rows):
        asker.limits.coarse = True
    return any(second <= row.start < second + 1 for row in page.rows)


def _zone(asker: Asker[R], second: int) -> int:
    """Return what the server seems to add to UTC before it compares: the row at `second` is closed in on."""
    low, high = -FURTHEST, FURTHEST
    for _ in range(ZONE_REQUESTS):
        middle = (low + high) // 2 // QUARTER * QUARTER
        query = asker.starts(TimeRange(second + low, second + middle))
        page = asker.probe(query)
        if page is None or high - low < QUARTER:
            break
        if any(second <= row.start < second + 1 for row in page.rows):
            high = middle
        elif asker.is_complete(query, page, widen=False):
            low = middle + QUARTER
        else:  # it was cut, but what came was within the bounds
            starts = [row.start for row in page.rows]
            low = max(low, math.ceil((second + low - 1 - min(starts)) / QUARTER) * QUARTER)
            high = min(high, math.floor((second + middle + 1 - max(starts)) / QUARTER) * QUARTER)
    return max(-FURTHEST, min(low, FURTHEST))
