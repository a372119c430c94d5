"""How many requests one poll may make."""

from __future__ import annotations

import pytest

from exporter.api.model import TimeRange
from exporter.collect.budget import Budget
from exporter.collect.server_limits import ServerLimits
from exporter.collect.split_plan import KnownRows
from exporter.errors import RequestsSpentError
from tests._cutapi import stats

DAY = 86400


def budget(rows: int, *, most: int = 50, longest: int | None = None, bounded: bool = True) -> Budget:
    """Return the budget of a poll of a fortnight in which so many rows are known."""
    limits = ServerLimits(most=most, longest=longest)
    known = KnownRows((number, "email", float(number), 1) for number in range(rows))
    return Budget(limits, known, whole=TimeRange(0, 14 * DAY - 1), per_page=500, bounded=bounded)


@pytest.mark.parametrize(
    ("rows", "most", "longest", "left"),
    [(0, 0, None, 30), (9, 0, None, 12), (1000, 10, None, 210), (1000, 50, None, 50), (1000, 50, DAY, 78)],
)
def test_bounds(rows: int, most: int, longest: int | None, left: int) -> None:
    """2·ceil(n/c)+10, or 30 where nothing is known; short ranges count as pages."""
    assert left == budget(rows, most=most, longest=longest).left


def test_it_ends_and_leaves_a_share() -> None:
    """A job may spend its share, the next one the rest."""
    one = budget(9)
    one.share = 0.5
    for _ in range(6):
        one.spend(1)
    with pytest.raises(RequestsSpentError):
        one.spend(1)
    one.share = 1.0
    one.spend(6)
    assert (0, 12) == (one.left, one.spent)


def test_what_must_not_stop_half_way_may_go_beyond() -> None:
    """It counts all the same, unless it is excused."""
    one = budget(9)
    with one.unbounded():
        one.spend(20)
    assert -8 == one.left
    with one.unbounded(excused=True):
        one.spend(20)
    assert -8 == one.left
    with pytest.raises(RequestsSpentError):
        one.spend(1)


def test_a_cold_start_earns_requests_by_what_it_finds() -> None:
    """Five for each page that turns out to be there."""
    limits, known = ServerLimits(most=10), KnownRows()
    one = Budget(limits, known, whole=TimeRange(0, DAY), per_page=500, bounded=True)
    known.add([stats(number, float(number)) for number in range(100)])
    assert 5 * 10 + 30 == one.left
