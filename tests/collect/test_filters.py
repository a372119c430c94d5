"""What start filters do, found out with known rows."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.api.model import TimeRange
from exporter.collect.asking import Asker
from exporter.collect.filters import learn_filters
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from tests._cutapi import CutApi, stats

DAY = 86400
NOW = 1_763_000_000
ROWS = [stats(number, float(NOW - number * 50_000)) for number in range(1, 9)]
LONG = {row.campaign_id: row.start + 2 * DAY for row in ROWS}


def learn(**how: Any) -> ServerLimits:  # noqa: ANN401 - fields of CutApi
    """Return what is learned of such a server; more than 40 requests are too many."""
    api, limits, known = CutApi(ROWS, **how), ServerLimits(), KnownRows()
    known.add(ROWS)
    asker = Asker(api, limits, known, now=NOW, whole=TimeRange(NOW - 9 * DAY, NOW), per_page=500)
    learn_filters(asker)
    assert len(api.requests) <= 40
    return limits


@pytest.mark.parametrize(
    ("how", "filters", "zone", "coarse"),
    [
        ({}, True, 0, False),
        ({"from_inclusive": False, "to_inclusive": False}, True, 0, False),
        ({"zone": 7200}, True, 7200, False),
        ({"zone": -18000}, True, -18000, False),
        ({"zone": 20700}, True, 20700, False),
        ({"to_means": "midnight"}, False, 0, False),
        ({"to_means": "end", "stops": LONG}, False, 0, False),
        ({"to_means": "day"}, True, 0, True),
    ],
    ids=str,
)
def test_readings(how: dict[str, Any], filters: bool, zone: int, coarse: bool) -> None:  # noqa: FBT001
    """Each reading is told from the others, in few requests."""
    limits = learn(**how)
    assert (filters, zone, coarse) == (limits.filters, limits.zone, limits.coarse)


def test_one_campaign_that_ended_at_once_tells_nothing_of_the_others() -> None:
    """Where startTo means the end, the newest campaigns may all have ended with their start."""
    ended = {row.campaign_id: row.start for row in ROWS[:4]}
    assert learn(to_means="end", stops=LONG | ended).filters is False


def test_without_rows_nothing_is_learned() -> None:
    """Nor is anything asked."""
    api, limits = CutApi(ROWS), ServerLimits()
    asker = Asker(api, limits, KnownRows(), now=NOW, whole=TimeRange(NOW - 9 * DAY, NOW), per_page=500)
    learn_filters(asker)
    assert (None, []) == (limits.filters, api.requests)
