"""The rules of one counter: what a reading of the API does to the exported value.

Prometheus reads every step down as a reset, so that a dip of 1 in 5870 would count as +5869, and sees no
increase in a series that appears with a value. Hence: never down, except by a real reset; and a counter whose
first value is an increase is held at 0 for a while.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import INVALID
from exporter.tracking.model import Counter

if TYPE_CHECKING:
    from exporter.api.model import Count
    from exporter.tracking.model import Counters

RESET_READINGS: Final = 3
"""So many readings in a row make a reset."""

RESET_DROP: Final = 100
"""A smaller fall is never a reset."""

NEW: Final[Counters] = (Counter(),) * len(COUNTER_FIELDS)
"""Counters before their first reading."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How values were read.

    `as_is`: a first value is no increase, since nobody knows when it grew; `until`: a first value that is an
    increase is held at 0 until then (None: not at all); `lower_bound`: rows may be missing; `confirms`: a low
    value speaks for a reset.
    """

    as_is: bool = False
    until: float | None = None
    lower_bound: bool = False
    confirms: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What one reading did: the counter afterwards, and by how much it grew (None: it had no value to read)."""

    counter: Counter
    increase: int | None = None
    corrected: bool = False
    reset: bool = False


def read(counter: Counter, value: Count, how: Reading) -> Step:
    """Read `value`, the sum over all messages, into `counter`."""
    if value is None or value is INVALID:
        # A value that is there but can't be read may be old, too.
        marks = value is INVALID and counter.top is None and how.as_is
        return Step(replace(counter, as_is=True) if marks else counter)
    if counter.top is None:
        return _first(counter, value, how)
    if value >= counter.top:
        if value == counter.top == counter.vendor and not counter.low:
            return Step(counter, 0)
        grown = Counter(value, value, 0, counter.corrections, counter.held)
        return Step(grown, value - counter.top)
    return _below(counter, counter.top, value, how)


def _first(counter: Counter, value: int, how: Reading) -> Step:
    if how.as_is or counter.as_is:
        return Step(Counter(top=value, vendor=value), 0)
    return Step(Counter(top=value, vendor=value, held=how.until), value)


def _below(counter: Counter, top: int, value: int, how: Reading) -> Step:
    """Read a value lower than the exported one."""
    vendor = counter.vendor if counter.vendor is not None else top
    far = value * 2 < top and top - value >= RESET_DROP
    if how.lower_bound:
        low = counter.low if far else 0
        return Step(replace(counter, vendor=max(vendor, value), low=low), 0)
    corrected = value < vendor
    low = 0
    if far:
        # Not while held: the maximum must be seen once before the reset, or its increase would be lost.
        low = counter.low + 1 if how.confirms and counter.held is None else counter.low
    corrections = counter.corrections + corrected
    if low >= RESET_READINGS:
        return Step(Counter(value, value, corrections=corrections), value, corrected, reset=True)
    return Step(replace(counter, vendor=value, low=low, corrections=corrections), 0, corrected)


def exported(counter: Counter, *, hold: bool = True) -> int | None:
    """Return the value to export; None: no sample."""
    if hold and counter.held is not None:
        return 0
    return counter.top


def release(counters: Counters, now: float) -> Counters:
    """End the holds whose time has come."""
    return tuple(
        counter if counter.held is None or now < counter.held else replace(counter, held=None)
        for counter in counters
    )


def hold_anew(counters: Counters, until: float) -> Counters:
    """Begin every hold that hasn't ended anew."""
    return tuple(counter if counter.held is None else replace(counter, held=until) for counter in counters)


def holds(counters: Counters) -> tuple[float, ...]:
    """Return when the holds end."""
    return tuple(counter.held for counter in counters if counter.held is not None)
