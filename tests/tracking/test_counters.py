"""Tests of the rules of a counter."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api.model import INVALID, Count
from exporter.tracking.counters import NEW, Counters
from tests._builders import counts
from tests._prometheus import increase

AT_1000 = Counters(top=counts(sent=1000), present=counts(sent=1000))


def run(values: list[Count], begin: Counters) -> list[Counters]:
    """Return the counters after each value of `sent`."""
    steps = accumulate(
        values,
        lambda before, value: before.read(counts(sent=value), is_baseline=False, hold_until=None).counters,
        initial=begin,
    )
    return list(steps)[1:]


def test_first_value_of_an_old_series_is_no_increase() -> None:
    """A series of which nobody knows when it grew starts as it is and adds nothing."""
    step = NEW.read(counts(sent=5870), is_baseline=True, hold_until=60.0)
    assert (5870, 0, 0) == (step.counters.exported().sent, step.increase.sent, step.change.sent)


def test_first_value_of_a_new_series_is_held_at_zero() -> None:
    """A new series shows 0 until its hold ends, and its whole value is an increase at once."""
    step = NEW.read(counts(sent=12), is_baseline=False, hold_until=60.0)
    assert (12, 12, 0) == (step.increase.sent, step.change.sent, step.counters.exported().sent)
    assert 12 == step.counters.exported(hold=False).sent
    assert 60.0 == step.counters.release_at
    assert 0 == step.counters.release(59.9).exported().sent
    assert 12 == step.counters.release(60.0).exported().sent


def test_growth_accumulates_beneath_a_hold() -> None:
    """What a series gains while held shows when the hold ends, and isn't lost."""
    held = NEW.read(counts(sent=12), is_baseline=False, hold_until=60.0).counters
    assert 20 == run([20], held)[-1].release(60.0).exported().sent


def test_restart_begins_a_hold_anew() -> None:
    """Only holds that haven't ended get a new end, and none where nothing is to be held."""
    both = AT_1000.read(counts(sent=1000, opened=3), is_baseline=False, hold_until=0.0).counters
    assert (counts(opened=90.0), 90.0) == (both.hold_anew(90.0).held, both.hold_anew(90.0).release_at)
    assert not both.hold_anew(None).is_held
    assert AT_1000 is AT_1000.hold_anew(90.0)


@pytest.mark.parametrize("value", [None, INVALID])
def test_no_sample_without_a_value(value: Count) -> None:
    """Neither an absent nor an unreadable value makes a sample."""
    step = NEW.read(counts(sent=value), is_baseline=False, hold_until=None)
    assert (None, None) == (step.counters.exported().sent, step.increase.sent)


@pytest.mark.parametrize("value", [None, INVALID])
def test_last_good_value_stays(value: Count) -> None:
    """A value that is missing from one answer changes nothing."""
    step = AT_1000.read(counts(sent=value), is_baseline=False, hold_until=None)
    assert (AT_1000, None, None) == (step.counters, step.increase.sent, step.change.sent)


def test_unreadable_at_first_sight_is_old_when_read() -> None:
    """A value that was there, unreadable, when an old series was first seen adds nothing once it is read."""
    blind = NEW.read(counts(sent=INVALID), is_baseline=True, hold_until=None).counters
    assert 0 == blind.read(counts(sent=500), is_baseline=False, hold_until=60.0).increase.sent
    assert 500 == NEW.read(counts(sent=500), is_baseline=False, hold_until=60.0).increase.sent


def test_a_correction_never_shows_in_the_counter() -> None:
    """However far the API's total falls, the counter stands; the difference is told until it is made up."""
    after = run([600, 200, 200, 200, 200, 599, 601], NEW)
    assert [600, 600, 600, 600, 600, 600, 601] == [one.exported().sent for one in after]
    assert [0, 400, 400, 400, 400, 1, 0] == [one.overcount.sent for one in after]


def test_a_counter_held_at_zero_stands_above_nothing() -> None:
    """A correction during a hold is told when the hold ends, with the value that it belongs to."""
    first = NEW.read(counts(sent=100), is_baseline=False, hold_until=60.0).counters
    corrected = first.read(counts(sent=90), is_baseline=False, hold_until=60.0).counters
    released = corrected.release(60.0)
    assert (0, 0) == (corrected.exported().sent, corrected.exported_overcount().sent)
    assert (100, 10) == (corrected.exported(hold=False).sent, corrected.exported_overcount(hold=False).sent)
    assert (100, 10) == (released.exported().sent, released.exported_overcount().sent)


def test_fields_don_t_touch_each_other() -> None:
    """A field's correction or hold says nothing of another field."""
    before = Counters(top=counts(sent=10, opened=5), present=counts(sent=10, opened=5))
    step = before.read(counts(sent=8, opened=6, clicked=1), is_baseline=False, hold_until=60.0)
    assert counts(sent=10, opened=6, clicked=0) == step.counters.exported()
    assert (2, 0, 0) == (
        step.counters.overcount.sent,
        step.counters.overcount.opened,
        step.counters.overcount.failed,
    )
    assert counts(sent=0, opened=1, clicked=1) == step.increase
    assert counts(sent=-2, opened=1, clicked=1) == step.change


def test_a_channel_adds_increases_and_corrections() -> None:
    """A channel begins at 0, held, and has the sum of its campaigns' overcounts."""
    first = NEW.read(counts(sent=600), is_baseline=True, hold_until=60.0)
    channel = NEW.add(first, hold_until=60.0)
    assert (0, 60.0) == (channel.top.sent, channel.release_at)
    other = NEW.read(counts(sent=70), is_baseline=False, hold_until=None)
    corrected = first.counters.read(counts(sent=200), is_baseline=False, hold_until=None)
    channel = channel.add(other, hold_until=60.0).add(corrected, hold_until=60.0)
    assert (70, 400) == (channel.top.sent, channel.overcount.sent)


@given(
    st.lists(st.one_of(st.integers(0, 3000), st.none(), st.just(INVALID)), min_size=1, max_size=40),
    st.booleans(),
)
def test_counter_less_overcount_is_the_present_total(readings: list[Count], is_baseline: bool) -> None:  # noqa: FBT001
    """Never down; less the overcount the last total; increases are as Prometheus counts them."""
    one, channel = NEW, NEW
    levels = [] if is_baseline else [0]
    for value in readings:
        step = one.read(counts(sent=value), is_baseline=is_baseline, hold_until=None)
        one, channel = step.counters, channel.add(step, hold_until=None)
        if one.top.sent is not None:
            levels.append(one.top.sent)
    totals = [value for value in readings if isinstance(value, int)]
    if not totals:
        assert (None, None) == (one.top.sent, channel.top.sent)
        return
    begin = totals[0] if is_baseline else 0
    assert all(before <= after for before, after in pairwise(levels))
    assert (max(totals), totals[-1]) == (one.top.sent, one.top.sent - one.overcount.sent)
    assert (increase(levels), totals[-1] - begin) == (
        channel.top.sent,
        channel.top.sent - channel.overcount.sent,
    )
