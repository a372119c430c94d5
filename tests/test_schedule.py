"""Calls at intervals, through every jump of the wall clock.

apscheduler reads the real clock, so it is the clock that is handed in which stands for the wall clock as it was
when the jobs were scheduled: moving it moves the past.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from exporter.clocks import steady
from exporter.schedule import Schedule, _Interval
from tests._program import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Wall:
    """The real clock, off by some seconds."""

    def __init__(self, off: float) -> None:
        self.off = off

    def __call__(self) -> float:
        """Return the time."""
        return time.time() + self.off


@pytest.fixture
def wall(request: pytest.FixtureRequest) -> Wall:
    """Return a clock that can be set; it is right, or off by the parameter."""
    return Wall(getattr(request, "param", 0.0))


@pytest.fixture
def schedule(wall: Wall) -> Iterator[Schedule]:
    """Return a schedule that runs."""
    one = Schedule(wall=wall, steady=steady)
    one.start()
    yield one
    one.shutdown()


def counter() -> tuple[list[float], Callable[[], None]]:
    """Return a list, and a call that adds to it."""
    calls: list[float] = []
    return calls, lambda: calls.append(time.monotonic())


@pytest.mark.parametrize(
    ("previous", "following"),
    [
        pytest.param(NOW, NOW + HOUR, id="in time"),
        pytest.param(NOW - 0.5 * HOUR, NOW + 0.5 * HOUR, id="late"),
        pytest.param(NOW - 10 * HOUR, NOW + HOUR, id="missed runs"),
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), NOW + HOUR, id="set forward from 1970"),
        pytest.param(NOW + 2 * HOUR, NOW + HOUR, id="set back"),
    ],
)
def test_intervals(previous: datetime, following: datetime) -> None:
    """The next run is never in the past and never further than an interval away."""
    assert following == _Interval(HOUR).get_next_fire_time(previous, NOW)


def test_every(schedule: Schedule) -> None:
    """A call is made at once, and then again and again."""
    calls, call = counter()
    schedule.every(0.05, call, "test")
    until(lambda: len(calls) >= 3, "three calls")


@pytest.mark.parametrize("wall", [7200.0], indirect=True)
def test_a_clock_that_was_set_back_delays_nothing(schedule: Schedule, wall: Wall) -> None:
    """Jobs that seem to be hours away are run as soon as the jump is noticed."""
    often, call_often = counter()
    single, call_once = counter()
    schedule.every(3600, call_often, "often")
    schedule.once(0.0, call_once, "single")
    wall.off = 0.0
    assert schedule.follow_clock()
    until(lambda: often and single, "both calls")
    assert not schedule.follow_clock()


@pytest.mark.parametrize("wall", [-time.time()], indirect=True, ids=["1970"])
def test_a_clock_that_was_set_forward_makes_no_storm(schedule: Schedule, wall: Wall) -> None:
    """From 1970 to now: no run is made up for, and the jobs go on at their interval."""
    calls, call = counter()
    began = time.process_time()
    schedule.every(0.1, call, "test")
    until(lambda: calls, "the first call")
    wall.off = 0.0
    assert schedule.follow_clock()
    until(lambda: len(calls) >= 3, "later calls")
    assert 2 > time.process_time() - began


def test_once_replaces(schedule: Schedule) -> None:
    """Only the last call under a key is made; a cancelled one isn't."""
    first, call_first = counter()
    second, call_second = counter()
    schedule.once(3600, call_first, "key")
    schedule.once(3600, call_first, "other")
    schedule.once(0, call_second, "key")
    schedule.cancel("other")
    schedule.cancel("unknown")
    until(lambda: second, "the second call")
    assert [] == first
    assert [] == schedule._scheduler.get_jobs()


def test_a_skipped_run_is_named(schedule: Schedule, caplog: pytest.LogCaptureFixture) -> None:
    """Where a call takes longer than its interval, the log says which one."""
    go = threading.Event()
    with caplog.at_level(logging.WARNING):
        schedule.every(0.05, lambda: go.wait(60), "poll of statistics of account main")
        until(lambda: "skipped" in caplog.text, "a skipped run")
        go.set()
    assert "poll of statistics of account main" in caplog.text


def test_a_call_under_way_may_schedule_another_while_it_shuts_down(wall: Wall) -> None:
    """A call that schedules the next one at its end is waited for, without a deadlock; the next isn't run."""
    schedule = Schedule(wall=wall, steady=steady)
    schedule.start()
    under_way, ending = threading.Event(), threading.Event()
    calls, call = counter()

    def reschedule() -> None:
        under_way.set()
        ending.wait(30)
        schedule.once(0.0, call, "next")

    schedule.once(0.0, reschedule, "first")
    assert under_way.wait(30)
    shutdown = threading.Thread(target=schedule.shutdown, daemon=True)
    shutdown.start()
    until(lambda: not schedule._scheduler.running, "the scheduler has stopped")
    ending.set()
    shutdown.join(30)
    assert not shutdown.is_alive()
    assert [] == calls
