"""A clock that never jumps, and how far the one on the wall has jumped."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP: Final = 1.0
"""Seconds; what the wall clock is off by less than that, it has drifted or been slewed."""


def steady() -> float:
    """Return seconds of a clock that goes on through suspends and that nobody sets.

    The usual monotonic clock stands still while the machine is suspended, and so would the age of the data.
    """
    boottime = getattr(time, "CLOCK_BOOTTIME", None)  # Linux has it
    return time.clock_gettime(time.CLOCK_MONOTONIC if boottime is None else boottime)


class JumpWatch:
    """Watches the wall clock; `wall` gives seconds since the epoch, `steady` any that never jump."""

    def __init__(self, *, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self._wall = wall
        self._steady = steady
        self._offset = wall() - steady()

    def jumped(self) -> float:
        """Return by how many seconds the wall clock was set forward since the last call (negative: back)."""
        offset = self._wall() - self._steady()
        jump, self._offset = offset - self._offset, offset
        return jump if abs(jump) >= JUMP else 0.0
