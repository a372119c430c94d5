"""The search for campaigns that started long ago and still send."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.api.model import TimeRange
from exporter.collect.asking import Asker
from exporter.collect.senders import MOST_REQUESTS, Search, Senders
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from tests._cutapi import CutApi, stats

DAY = 86400
NOW = 1_763_000_000
BEFORE = NOW - 14 * DAY
OLD = [stats(number, float(BEFORE - number * 7 * DAY)) for number in range(1, 31)]
NEW = [stats(100 + number, float(NOW - 3600 * number - 1800)) for number in range(60)]
STILL = frozenset({1, 7, 30})


def search(limits: ServerLimits | None = None, **how: Any) -> Senders:  # noqa: ANN401 - fields of CutApi
    """Search for senders of the last day among old campaigns and new ones, within the requests of a search."""
    api = CutApi(OLD + NEW, **how)
    api.sent = {row.campaign_id: [int(row.start), NOW - row.campaign_id * 60] for row in NEW}
    api.sent |= {row.campaign_id: [int(row.start)] for row in OLD}
    api.sent |= {number: [NOW - 3600 * number // 2] for number in STILL}
    known = KnownRows()
    known.add(NEW)
    whole = TimeRange(BEFORE, NOW)
    asker = Asker(api, limits or ServerLimits(), known, now=NOW, whole=whole, per_page=500)
    senders = Search().find(asker, TimeRange(NOW - DAY, NOW), BEFORE)
    assert len(api.requests) <= MOST_REQUESTS + 30
    return senders


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"cap": 20},
        {"cap": 20, "combine": "send"},
        {"cap": 20, "combine": "start"},
        {"cap": 20, "zone": -18000},
        {"cap": 20, "to_means": "day", "zone": 7200},
        {"cap": 20, "unit": "campaigns"},
        {"cap": 10, "most_seconds": 2 * DAY},
    ],
    ids=str,
)
def test_all_are_found_or_it_is_reported(how: dict[str, Any]) -> None:
    """However filters are read and combined."""
    senders = search(**how)
    assert senders.ids <= STILL
    assert senders.unseen or senders.ids == STILL
    assert senders.failure is None
    assert () == senders.overlooked


@pytest.mark.parametrize("how", [{}, {"cap": 20}, {"cap": 20, "combine": "send"}], ids=str)
def test_the_ordinary_ones_leave_nothing_out(how: dict[str, Any]) -> None:
    """Where filters mean what they say, or a start filter is dropped, all are found."""
    senders = search(**how)
    assert (STILL, "") == (senders.ids, senders.unseen)


def test_short_ranges_are_searched_by_send() -> None:
    """A server that refuses long ranges would need thousands of slices of starts."""
    senders = search(ServerLimits(since=NOW, longest=2 * DAY), cap=20, most_seconds=5 * DAY)
    assert (STILL, "") == (senders.ids, senders.unseen)


@pytest.mark.parametrize("cap", [None, 20])
def test_an_ignored_send_filter_is_reported(cap: int | None) -> None:
    """Everything comes back, which tells nothing of who sends."""
    senders = search(cap=cap, send_filter=False)
    assert (True, frozenset()) == (senders.ignored, senders.ids)
