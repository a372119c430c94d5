"""Which starts count as read before."""

from __future__ import annotations

from exporter.api.model import TimeRange
from exporter.tracking.model import Moment
from exporter.tracking.proven import ProvenStarts
from tests._builders import NOW, at


def test_what_reached_the_present_holds_for_all_that_comes() -> None:
    """Once everything up to now was read, later starts are proven too; earlier gaps stay unproven."""
    proven = ProvenStarts()
    proven.add(
        [TimeRange(int(NOW) - 500, int(NOW) - 300), TimeRange(int(NOW) - 200, int(NOW))], now=at(NOW), since=0
    )
    starts = [NOW - 501, NOW - 400, NOW - 250, NOW - 100, NOW + 10**8]
    assert [False, True, False, True, True] == [start in proven for start in starts]


def test_what_did_not_reach_the_present_holds_only_for_itself() -> None:
    """A poll that was cut off before the present proves nothing of what comes."""
    proven = ProvenStarts()
    proven.add([TimeRange(int(NOW) - 500, int(NOW) - 300)], now=at(NOW), since=0)
    assert NOW + 5 not in proven


def test_what_lies_before_the_window_is_never_proven() -> None:
    """Rows there are left out, so that nobody knows them afterwards."""
    proven = ProvenStarts()
    proven.add([TimeRange(0, int(NOW))], now=at(NOW), since=NOW - 100.5)
    assert [False, False, True] == [start in proven for start in (NOW - 200, NOW - 101, NOW - 100)]


def test_a_jump_of_the_clock_leaves_a_gap() -> None:
    """Starts that a clock set forward has skipped were not watched; one set back skips none."""
    proven = ProvenStarts()
    proven.add([TimeRange(0, int(NOW))], now=Moment(NOW, 0.0), since=0)
    proven.skip_jump(Moment(NOW + 50_000, 60.0))
    starts = [NOW - 5, NOW + 100, NOW + 49_900, NOW + 50_001]
    assert [True, False, False, True] == [start in proven for start in starts]
    proven.skip_jump(Moment(NOW - 50_000, 120.0))
    assert NOW + 50_001 in proven
