"""The time that a backfill covers, in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporter.api.model import TimeRange


@dataclass(frozen=True, slots=True)
class Span:
    """The seconds `first` to `last`, both included, in steps of `step` seconds; the last may be shorter.

    Samples are numbered: 0 stands at `first` for what was before, the others at the last second of each step.
    """

    first: int
    last: int
    step: int

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return -(-(self.last - self.first + 1) // self.step)

    @property
    def ends(self) -> tuple[int, ...]:
        """The time of each sample."""
        return (
            self.first,
            *(min(self.first + n * self.step - 1, self.last) for n in range(1, self.steps + 1)),
        )

    def sent_until(self, number: int) -> int:
        """Return the last second whose sends belong to a sample."""
        return self.first - 1 if number == 0 else self.ends[number]

    def step_of(self, start: float) -> int:
        """Return the number of the first sample at or after a start; 0 for what started before."""
        return 0 if start < self.first else (math.floor(start) - self.first) // self.step + 1

    @property
    def months(self) -> tuple[TimeRange, ...]:
        """The calendar months (UTC) in it, the first and last one as far as they are in it."""
        months = []
        first = self.first
        while first <= self.last:
            moment = datetime.fromtimestamp(first, UTC)
            later = moment.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)
            last = int(later.replace(day=1).timestamp()) - 1
            months.append(TimeRange(first, min(last, self.last)))
            first = last + 1
        return tuple(months)
