"""Jumps of the wall clock are told from drift."""

from __future__ import annotations

import time

import pytest

from exporter.clocks import JumpWatch, steady


def test_steady_goes_on() -> None:
    """It never goes back, and is as fast as time itself."""
    before, began = steady(), time.monotonic()
    assert 0 <= steady() - before <= time.monotonic() - began + 0.1


@pytest.mark.parametrize("jump", [7200.0, -7200.0, 1.7e9])
def test_jumps(jump: float) -> None:
    """One jump is told once, by its size, however long nobody asked."""
    wall, monotonic = [1000.0], [5.0]
    watch = JumpWatch(wall=lambda: wall[0], steady=lambda: monotonic[0])
    wall[0], monotonic[0] = 1600.0 + jump, 605.0
    assert jump == watch.jumped()
    assert 0 == watch.jumped()


def test_drift_is_no_jump() -> None:
    """A clock that is slewed is followed without a word, even if it all adds up."""
    wall, monotonic = [1000.0], [5.0]
    watch = JumpWatch(wall=lambda: wall[0], steady=lambda: monotonic[0])
    for _ in range(10):
        wall[0] += 60.4
        monotonic[0] += 60.0
        assert 0 == watch.jumped()
