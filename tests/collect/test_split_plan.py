"""Where rows are known to be, and how seconds are cut into requests."""

from __future__ import annotations

import pytest

from exporter.api.model import TimeRange
from exporter.collect.page_cap import Sizes
from exporter.collect.split_plan import Gap, KnownRows, RowKey, last_chunk
from tests._cutapi import stats


def known(*starts: float, rows: int = 1) -> KnownRows:
    """Return campaigns that start then, with so many rows each."""
    return KnownRows((number, "email", start, rows) for number, start in enumerate(starts, 1))


def chunk(
    rows: KnownRows, *, first: int = 0, last: int = 100, room: int = 2, longest: float = 1e9
) -> TimeRange:
    """Return the last seconds that fit an answer."""
    return last_chunk(rows, Gap(TimeRange(first, last), longest), Sizes(room, room, room))


@pytest.mark.parametrize(
    ("starts", "expected"),
    [
        ((), (0, 100)),
        ((10, 50), (0, 100)),
        ((10, 50, 90), (31, 100)),
        ((10, 88, 90), (50, 100)),
        ((10, 97, 98, 99), (99, 100)),
        ((50, 50, 50), (52, 100)),
        ((100, 100, 100), (99, 100)),
        ((99, 99, 99), (98, 100)),
    ],
)
def test_the_last_seconds_that_fit(starts: tuple[int, ...], expected: tuple[int, int]) -> None:
    """They end between two known starts; a second that doesn't fit alone comes with its neighbours."""
    assert TimeRange(*expected) == chunk(known(*starts))


def test_a_gap_has_a_longest_request() -> None:
    """No more seconds than it says, whatever is known."""
    assert TimeRange(91, 100) == chunk(known(), longest=10)


def test_chunks_cover_a_gap() -> None:
    """From the last second to the first none is left out, and none asked twice."""
    rows, last, parts = known(*range(0, 100, 3)), 100, []
    while last >= 0:
        parts.append(chunk(rows, last=last, room=5))
        last = parts[-1].first - 1
    assert sorted(second for part in parts for second in range(part.first, part.last + 1)) == list(range(101))


def test_rows_are_counted_by_campaign_channel_and_start() -> None:
    """An answer that may be cut takes nothing away; a complete one does."""
    rows = known(10, 20)
    rows.add([stats(1, 10.0, "a"), stats(1, 10.0, "b")])
    rows.add([stats(1, 10.0)])
    assert 2 == rows.count(RowKey(10.0, 1, "email"))
    assert Sizes(3, 2, 2) == rows.sizes(rows.within(TimeRange(0, 100)))
    rows.replace(rows.within(TimeRange(0, 15)), [stats(1, 10.0)])
    rows.replace(rows.within(TimeRange(16, 100)), [])
    assert (1, {1}) == (len(rows), set(rows.ids()))


def test_missing_rows_are_noticed() -> None:
    """Of a campaign with two rows an answer may have one."""
    rows = known(10, 20, rows=2)
    answer = [stats(1, 10.0, "a"), stats(1, 10.0, "b"), stats(2, 20.0)]
    assert {RowKey(20.0, 2, "email")} == rows.missing(rows.within(TimeRange(0, 100)), answer)


def test_what_is_old_is_forgotten() -> None:
    """Except the campaigns to keep."""
    rows = known(10, 20, 30)
    rows.forget_before(25, keep={1})
    assert {1, 3} == rows.ids()
    assert [3, 1] == rows.newest(5)
    assert [3] == rows.newest(1)
