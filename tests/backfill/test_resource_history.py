"""Steps of a span, and how a campaign's course is put together; the files as a whole are in test_job."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from hypothesis import given
from hypothesis import strategies as st

from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import INVALID, Conversion, MessageStats
from exporter.backfill.resource_history import by_channel, gauges, sums
from exporter.backfill.span import Span

if TYPE_CHECKING:
    from exporter.api.model import Count

DAY: Final = 86_400


def _day(second: float) -> str:
    return datetime.fromtimestamp(second, UTC).date().isoformat()


def test_steps() -> None:
    """Samples stand at the start and at the last second of each step; a start belongs to the next one."""
    span = Span(1000, 1000 + 249, 100)
    assert (1000, 1099, 1199, 1249) == span.ends
    assert [999, 1099, 1199, 1249] == [span.sent_until(number) for number in range(4)]
    starts = [999.9, 1000, 1099.9, 1100, 1249]
    assert [0, 1, 1, 2, 3] == [span.step_of(start) for start in starts]


@given(st.integers(0, 2 * 10**9), st.integers(1, 500 * DAY), st.integers(60, 40 * DAY))
def test_steps_fill_the_span(first: int, length: int, step: int) -> None:
    """Every second has its step, samples rise, none lies outside; months are disjoint and lose no second."""
    span = Span(first, first + length, max(step, length // 1000 + 60))
    ends = span.ends
    assert sorted(set(ends)) == list(ends)
    assert (first, first + length) == (ends[0], ends[-1])
    assert len(ends) == span.steps + 1
    for second in (first, first + length // 2, first + length):
        number = span.step_of(second)
        assert span.sent_until(number - 1) < second <= span.sent_until(number)
    months = span.months
    assert (first, first + length) == (months[0].first, months[-1].last)
    assert all(one.last + 1 == other.first for one, other in pairwise(months))
    assert len(months) == len({_day(month.first)[:7] for month in months})
    assert all(_day(month.first)[:7] == _day(month.last)[:7] for month in months)


def stats(sent: object, channel: str = "email") -> MessageStats:
    """Return a row of which only `sent` has a value."""
    values = tuple(sent if name == "sent" else None for name in COUNTER_FIELDS)
    return MessageStats(1, channel, 0.0, "t", values)  # type: ignore[arg-type] # whatever a test wants


def test_sums_by_field() -> None:
    """Each count is summed on its own; one that can't be read leaves only its field unknown."""
    sent = COUNTER_FIELDS.index("sent")
    assert 5 == sums([stats(2), stats(3), stats(None)])[sent]
    assert INVALID is sums([stats(2), stats(INVALID)])[sent]
    assert {None} == set(sums([]))


def test_rows_by_channel() -> None:
    """Channels are kept apart, and rows in their order."""
    rows = [stats(1), stats(2, "sms"), stats(3)]
    assert {"email": [rows[0], rows[2]], "sms": [rows[1]]} == by_channel(rows)


def test_gauges_by_goal() -> None:
    """Conversions are summed by event and period; an unreadable value has no sample, and hides no other."""

    def row(event: str, deposits: Count, users: Count) -> Conversion:
        return Conversion(1, "email", 0.0, None, "t", "c", event, "1 day", deposits, None, users)

    found = gauges([row("Opened", 1, 1), row("Clicked", 5, 2), row("Opened", 2, INVALID)])
    assert [("Clicked", "1 day"), ("Opened", "1 day")] == list(found)
    opened = found["Opened", "1 day"]
    assert (3, None, None) == (opened.deposits, opened.amount, opened.converted_users)
