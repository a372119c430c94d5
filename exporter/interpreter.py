"""How the interpreter and the C library behind it are used: for few pauses and little memory."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from typing import Final

SWITCH: Final = 0.001
"""Seconds after which a thread that computes lets another one go on: a scrape doesn't wait for a poll."""
GARBAGE: Final = (100_000, 20, 100)
"""Thresholds of Python's garbage collector."""
MALLOC: Final = ((-1, 2**17), (-3, 2**17), (-8, 2))
"""Of glibc (malloc.h): M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX."""


def tune() -> None:
    """Let scrapes go on while a poll computes, look for garbage less often, and give memory back.

    Campaigns are many objects without cycles: to look for garbage among them takes a third of a poll.
    """
    sys.setswitchinterval(SWITCH)
    gc.set_threshold(*GARBAGE)
    with suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in MALLOC:
            mallopt(parameter, value)


def give_memory_back() -> None:
    """Return to the system what a poll has left free between what is kept; takes less than a millisecond."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
