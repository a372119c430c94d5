"""What is left out because every answer with it fails."""

from __future__ import annotations

import json

from exporter.api.model import TimeRange
from exporter.collect.poisoned import AGAIN, GRAIN, Poisoned

WHOLE = TimeRange(0, 100_000)
MINUTE = TimeRange(5000, 5000 + GRAIN - 1)
NOW = 1_000_000.0


def test_what_failed_is_asked_for_in_halves() -> None:
    """No request covers the whole of it again, and together they cover everything."""
    poisoned = Poisoned()
    poisoned.close_in(TimeRange(4000, 5999))
    pieces = poisoned.cut([WHOLE])
    assert [
        TimeRange(0, 3999),
        TimeRange(4000, 4999),
        TimeRange(5000, 5999),
        TimeRange(6000, 100_000),
    ] == pieces


def test_an_answer_narrows_what_fails() -> None:
    """The half that was answered isn't it; an answer about all of it clears it."""
    poisoned = Poisoned()
    poisoned.close_in(TimeRange(4000, 5999))
    poisoned.clear(TimeRange(0, 4999))
    assert [TimeRange(5000, 5999)] == list(poisoned.starts)
    poisoned.clear(WHOLE)
    assert [] == poisoned.save()


def test_it_is_asked_for_by_the_next_poll_and_then_once_a_day() -> None:
    """Once may be chance; a clock that was set back by more than a day doesn't hide it for longer."""
    poisoned = Poisoned()
    poisoned.leave_out(MINUTE, NOW)
    assert [MINUTE] == poisoned.left_out(NOW)
    assert [] == poisoned.left_out(NOW + 300)
    poisoned.leave_out(MINUTE, NOW + 300)
    assert [MINUTE] == poisoned.left_out(NOW + 600) == poisoned.left_out(NOW + AGAIN)
    assert [] == poisoned.left_out(NOW + 301 + AGAIN) == poisoned.left_out(NOW - AGAIN)


def test_campaigns_likewise() -> None:
    """A campaign that was answered is one like all others."""
    poisoned = Poisoned()
    poisoned.leave_out_id(7, NOW)
    poisoned.leave_out_id(7, NOW + 300)
    assert {7} == poisoned.are_left_out([6, 7], NOW + 600)
    poisoned.clear_ids([7])
    assert set() == poisoned.are_left_out([6, 7], NOW + 600)


def test_it_outlives_a_restart() -> None:
    """What was saved is read by name of its shape; what nobody knows is left out, as is what is long gone."""
    poisoned = Poisoned()
    poisoned.leave_out(MINUTE, NOW)
    poisoned.leave_out_id(7, NOW)
    saved = json.loads(json.dumps(poisoned.save()))
    again = Poisoned([*saved, "odd", [1], [1, "2", 3]])
    assert (poisoned.starts, poisoned.ids) == (again.starts, again.ids)
    again.forget_before(MINUTE.last + 1, NOW)
    assert ({}, {7: NOW}) == (again.starts, again.ids)
    again.forget_before(0, NOW + AGAIN)
    assert {} == again.ids
