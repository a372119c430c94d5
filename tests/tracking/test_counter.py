"""Tests of the rules of one counter."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.model import INVALID, Count
from exporter.tracking.counter import Reading, exported, hold_anew, holds, read, release
from exporter.tracking.model import Counter
from tests._prometheus import Line, increase


def run(values: list[Count], counter: Counter, how: Reading | None = None) -> list[Counter]:
    """Return the counter after each value."""
    how = how or Reading()
    return list(accumulate(values, lambda before, value: read(before, value, how).counter, initial=counter))[1:]


AT_1000 = Counter(top=1000, vendor=1000)


def test_first_value_of_an_old_series_is_no_increase() -> None:
    """A series of which nobody knows when it grew starts as it is and adds nothing."""
    step = read(Counter(), 5870, Reading(as_is=True, until=60.0))
    assert (5870, 0, 5870) == (step.counter.top, step.increase, exported(step.counter))


def test_first_value_of_a_new_series_is_held_at_zero() -> None:
    """A new series shows 0 until its hold ends, and its whole value is an increase at once."""
    step = read(Counter(), 12, Reading(until=60.0))
    assert (12, 0) == (step.increase, exported(step.counter))
    assert 12 == exported(step.counter, hold=False)
    assert 0 == exported(release((step.counter,), 59.9)[0])
    assert 12 == exported(release((step.counter,), 60.0)[0])


def test_growth_accumulates_beneath_a_hold() -> None:
    """What a series gains while held shows when the hold ends, and isn't lost."""
    counter = run([12, 20], Counter(), Reading(until=60.0))[-1]
    assert (60.0,) == holds((counter,))
    assert 20 == exported(release((counter,), 60.0)[0])


def test_restart_begins_a_hold_anew() -> None:
    """Only holds that haven't ended get a new end."""
    assert (None, 90.0) == tuple(
        counter.held for counter in hold_anew((AT_1000, Counter(top=3, vendor=3, held=0.0)), 90.0)
    )


@pytest.mark.parametrize("value", [None, INVALID])
def test_no_sample_without_a_value(value: Count) -> None:
    """Neither an absent nor an unreadable value makes a sample."""
    assert exported(read(Counter(), value, Reading()).counter) is None


@pytest.mark.parametrize("value", [None, INVALID])
def test_last_good_value_stays(value: Count) -> None:
    """A value that is missing from one answer changes nothing."""
    step = read(AT_1000, value, Reading())
    assert (AT_1000, None) == (step.counter, step.increase)


def test_unreadable_at_first_sight_is_old_when_read() -> None:
    """A value that was there, unreadable, when an old series was first seen adds nothing once it is read."""
    blind = read(Counter(), INVALID, Reading(as_is=True)).counter
    assert 0 == read(blind, 500, Reading(until=60.0)).increase
    assert 500 == read(Counter(), 500, Reading(until=60.0)).increase


def test_dip_is_held_at_the_maximum() -> None:
    """A correction by 1 never shows; growth counts again from the maximum on."""
    levels = [exported(counter) for counter in run([5870, 5869, 5870, 5871], Counter(), Reading(as_is=True))]
    assert [5870, 5870, 5870, 5871] == levels


def test_correction_is_counted_once_per_downward_step() -> None:
    """A lasting correction is one; a second step downwards and a dip after recovery are one more each."""
    values: list[Count] = [990, 990, 985, 988, 1000, 999, 999]
    assert [1, 1, 2, 2, 2, 3, 3] == [counter.corrections for counter in run(values, AT_1000)]


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ([400, 400, 400], 400),  # three readings in a row
        ([400, 410, 420], 420),  # may move meanwhile
        ([400, 400], 1000),  # two aren't enough
        ([400, 400, 900, 400, 400], 1000),  # nor with a better one between
        ([500, 500, 500], 1000),  # exactly half isn't less than half
        ([499, 499, 499], 499),
        ([400, None, 400, INVALID, 400], 400),  # what says nothing doesn't break the row
        ([0, 0, 0], 0),
    ],
)
def test_lasting_large_fall_is_a_reset(values: list[Count], level: int) -> None:
    """A fall below half, and by at least 100, is passed through after three readings in a row."""
    assert level == run(values, AT_1000)[-1].top


@pytest.mark.parametrize(("top", "value", "level"), [(150, 50, 50), (150, 51, 150), (99, 0, 99), (100, 0, 0)])
def test_small_fall_is_never_a_reset(top: int, value: int, level: int) -> None:
    """However low the value is, less than 100 below the maximum is a correction."""
    assert level == run([value] * 5, Counter(top=top, vendor=top))[-1].top


def test_reset_adds_its_new_value() -> None:
    """A reset adds to the channel what `increase()` adds: the new value."""
    low = run([30, 30], AT_1000)[-1]
    step = read(low, 31, Reading())
    assert (31, 31, True) == (step.increase, step.counter.top, step.reset)
    assert step.increase == increase([1000, 31])


def test_no_reset_while_held() -> None:
    """The maximum must be seen once, or a reset would lose what came before it."""
    held = Counter(top=1000, vendor=1000, held=60.0)
    assert 1000 == run([10] * 5, held)[-1].top


def test_lower_bound_only_raises() -> None:
    """A sum of which rows may be missing neither corrects nor confirms a reset, but may raise the value."""
    bound = Reading(lower_bound=True)
    after = run([10, 10, 10, 10], AT_1000, bound)[-1]
    assert (1000, 0, 0) == (after.top, after.corrections, after.low)
    assert 1001 == read(AT_1000, 1001, bound).counter.top


@pytest.mark.parametrize(("bound", "level"), [(900, 1000), (400, 400)])
def test_lower_bound_can_break_the_row_of_a_reset(bound: int, level: int) -> None:
    """A lower bound that isn't low shows recovery; a low one says nothing."""
    low = run([400, 400], AT_1000)[-1]
    after = read(low, bound, Reading(lower_bound=True)).counter
    assert level == read(after, 400, Reading()).counter.top


def test_unconfirmed_low_value_keeps_the_row() -> None:
    """A low reading of only a part of the campaign doesn't count towards a reset."""
    assert 1000 == run([10] * 5, AT_1000, Reading(confirms=False))[-1].top


@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 3000), st.integers(0, 100)), st.booleans()), min_size=1, max_size=40
    ),
    st.booleans(),
)
def test_steps_agree_with_hindsight(readings: list[tuple[int, bool]], as_is: bool) -> None:  # noqa: FBT001
    """Read one by one, any values give the level and the increases that hindsight over all of them gives."""
    counter = Counter()
    levels, added = [] if as_is else [0], 0
    for value, confirms in readings:
        step = read(counter, value, Reading(as_is=as_is, confirms=confirms))
        counter = step.counter
        added += step.increase or 0
        levels.append(counter.top or 0)
    line = Line(readings, from_zero=not as_is)
    assert (line.level, line.total) == (counter.top, added)
    assert added == increase(levels)
