"""The counters of one campaign, message or channel, and the rules of what a poll does to them.

Prometheus takes every step down for a reset, so that a dip of 1 in 5870 would count as +5869, and sees no
increase in a series that appears with a value. So a counter stands at the highest total that the API has shown,
with the difference to its present total beside it (`overcount`); and one whose first value is an increase is
held at 0 for a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.api.fields import Counts, same
from exporter.api.model import INVALID, Mark
from exporter.tracking.model import NO_VALUES, ZEROS

if TYPE_CHECKING:
    from exporter.api.model import Count, Values

NO_HOLDS: Final[Counts[float | None]] = same(None)
NONE_UNREAD: Final = same(False)  # noqa: FBT003 - a value

PENDING: Final = math.inf
"""The end of a hold that was saved, until `hold_anew` gives it one: a restart begins holds anew."""


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of one campaign, message or channel, by field.

    `top` is the highest total so far (None: never had a value), `present` the API's present total. Until the
    time `held` (steady seconds; None: not held) a counter is exported as 0. `unread`: it had a value that could
    not be read when the campaign was first seen, so its first value will be no increase.
    """

    top: Values = NO_VALUES
    present: Values = NO_VALUES
    held: Counts[float | None] = NO_HOLDS
    unread: Counts[bool] = NONE_UNREAD

    def exported(self, *, hold: bool = True) -> Values:
        """Return the values to export, None: no sample; without `hold` as if nothing were held."""
        if not (hold and self.is_held):
            return self.top
        pairs = zip(self.top, self.held, strict=True)
        return Counts._make([top if until is None else 0 for top, until in pairs])

    @property
    def overcount(self) -> Counts[int]:
        """How far each counter stands above the API's present total; 0 where there is none."""
        if self.top == self.present:
            return ZEROS
        pairs = zip(self.top, self.present, strict=True)
        return Counts._make([0 if top is None or now is None else top - now for top, now in pairs])

    def exported_overcount(self, *, hold: bool = True) -> Counts[int]:
        """Return how far each exported value stands above the API's present total; a held one hardly ever."""
        if not (hold and self.is_held):
            return self.overcount
        pairs = zip(self.exported(), self.present, strict=True)
        return Counts._make(
            [0 if value is None or now is None else max(0, value - now) for value, now in pairs]
        )

    @property
    def is_held(self) -> bool:
        """Whether any of them is held at 0."""
        return self.held != NO_HOLDS

    @property
    def release_at(self) -> float:
        """When the first hold ends; infinity: none does."""
        if not self.is_held:
            return math.inf
        return min(until for until in self.held if until is not None)

    def release(self, steady: float) -> Counters:
        """End the holds whose time has come."""
        if self.release_at > steady:
            return self
        held = [None if until is None or until <= steady else until for until in self.held]
        return replace(self, held=Counts._make(held))

    def hold_anew(self, until: float | None) -> Counters:
        """Begin every hold that hasn't ended anew; None ends them."""
        if not self.is_held:
            return self
        held = [None if before is None else until for before in self.held]
        return replace(self, held=Counts._make(held))

    def taken_over(self, before: Counters) -> Counters:
        """Return counters of another series, which stood at `before`, that go on from these present totals."""
        pairs = zip(self.present, before.top, strict=True)
        top = [now if then is None else then if now is None else max(now, then) for now, then in pairs]
        return _counters(top, list(self.present), list(NO_HOLDS), list(self.unread))

    def read(self, totals: Counts[Count], *, is_baseline: bool, hold_until: float | None) -> Step:
        """Read the API's present totals: None is no value, INVALID one that can't be read.

        With `is_baseline` a first value is no increase, since nobody knows when it grew; else it is held until
        `hold_until` (None: not at all).
        """
        growth = None if self.is_held or self.top is not self.present else _growth(self.top, totals)
        if growth is not None:  # as nearly always; the rest is for the other cases
            values: Values = Counts._make([None if isinstance(total, Mark) else total for total in totals])
            return Step(Counters(values, values, unread=self.unread), growth, growth)
        columns = zip(self.top, self.present, self.held, self.unread, totals, strict=True)
        read = [_read(*column, is_baseline=is_baseline, hold_until=hold_until) for column in columns]
        top, present, held, unread, increase, change = (list(column) for column in zip(*read, strict=True))
        return Step(_counters(top, present, held, unread), Counts._make(increase), Counts._make(change))

    def add(self, step: Step, *, hold_until: float | None) -> Counters:
        """Add what one campaign's `step` was to its channel; a field begins at 0, held until `hold_until`."""
        top, present, held = list(self.top), list(self.present), list(self.held)
        for index, (increase, change) in enumerate(zip(step.increase, step.change, strict=True)):
            if increase is None or change is None:
                continue
            if top[index] is None:
                held[index] = hold_until
            top[index] = (top[index] or 0) + increase
            present[index] = (present[index] or 0) + change
        return _counters(top, present, held, list(self.unread))


class Step(NamedTuple):
    """What one reading did: the counters afterwards, and how they and the API's totals changed.

    None: there was no value to read.
    """

    counters: Counters
    increase: Values
    change: Values


NEW: Final = Counters()
"""Before the first reading."""


class _Read(NamedTuple):
    """One counter after a total was read, and how it and the API's total changed."""

    top: int | None
    present: int | None
    held: float | None
    unread: bool
    increase: int | None = None
    change: int | None = None


def _read(
    top: int | None,
    present: int | None,
    held: float | None,
    unread: bool,  # noqa: FBT001 - as it stands in the counters
    total: Count,
    *,
    is_baseline: bool,
    hold_until: float | None,
) -> _Read:
    """Read the API's total into one counter, as `Counters.read` says."""
    if total is None or isinstance(total, Mark):
        was_there = total is INVALID and is_baseline and top is None
        return _Read(top, present, held, unread or was_there)
    if top is None or present is None:
        if is_baseline or unread:
            return _Read(total, total, None, unread=False, increase=0, change=0)
        return _Read(total, total, hold_until, unread=False, increase=total, change=total)
    return _Read(max(top, total), total, held, unread, max(0, total - top), total - present)


def _growth(top: Values, totals: Counts[Count]) -> Values | None:
    """Return by how much totals have grown; None if a field lost or got its value, or fell."""
    growth: list[int | None] = []
    for before, now in zip(top, totals, strict=True):
        if before is None or now is None or isinstance(now, Mark):
            if before is not now:
                return None
            growth.append(None)
        elif now < before:
            return None
        else:
            growth.append(now - before)
    return Counts._make(growth)


def _counters(
    top: list[int | None], present: list[int | None], held: list[float | None], unread: list[bool]
) -> Counters:
    """Return counters that share equal parts, which they mostly have."""
    highest: Values = Counts._make(top)
    holds: Counts[float | None] = Counts._make(held)
    marks: Counts[bool] = Counts._make(unread)
    return Counters(
        highest,
        highest if top == present else Counts._make(present),
        NO_HOLDS if holds == NO_HOLDS else holds,
        NONE_UNREAD if marks == NONE_UNREAD else marks,
    )
