"""What of a refused request by start was too much: perPage, the future, the range, or what lies in it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import Query, R, TimeRange
from exporter.collect.asking import DAY, RUNGS
from exporter.collect.filters import QUARTER
from exporter.collect.poisoned import GRAIN, halves
from exporter.collect.ranges import intersect
from exporter.collect.server_limits import FURTHEST
from exporter.errors import ConnectionFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.collect.asking import Asker
    from exporter.collect.model import Answers
    from exporter.collect.ranges import Ranges
    from exporter.errors import PollError

HOUR: Final = 3600
BOUNDS: Final = 1
"""Seconds that the filters of a request may lie further apart than the starts that it is for."""


class Refusals(Generic[R]):
    """Finds out what the server takes instead of what it refused to one job."""

    def __init__(self, asker: Asker[R], answers: Answers[R]) -> None:
        self._asker = asker
        self._answers = answers
        self._accepted = 0

    def accept(self, part: TimeRange) -> None:
        """Note that a request for `part` was answered."""
        seconds = part.seconds + 2 * self._asker.limits.margin
        self._accepted = max(self._accepted, seconds)
        self._asker.limits.grow_range(seconds)
        self._asker.poisoned.clear(part)

    def reachable(self, ranges: Ranges) -> Ranges:
        """Leave the future out where the server refuses to be asked about it."""
        asker, answers = self._asker, self._answers
        if asker.limits.ahead is None:
            return ranges
        now = math.floor(asker.now)
        last = now + asker.limits.ahead - asker.limits.zone
        answers.read += intersect(ranges, [TimeRange(last + 1, 2**62)])
        answers.ranges += intersect(ranges, [TimeRange(max(last, now) + 1, 2**62)])
        return intersect(ranges, [TimeRange(0, last)])

    def smaller(self, part: TimeRange, error: PollError) -> Sequence[TimeRange]:
        """Return what to ask for instead of `part`; what no smaller request gets is given up.

        Raises `error` where the server takes nothing at all.
        """
        asker, limits = self._asker, self._asker.limits
        seconds = part.seconds + 2 * limits.margin
        is_too_much = seconds <= self._accepted  # the server takes as much: it is something that lies in it
        if (not is_too_much or isinstance(error, ConnectionFailedError)) and not asker.is_up():
            raise error
        if is_too_much:
            return self._close_in(part, error)
        if limits.longest is not None and 2 * limits.accepted >= seconds > limits.accepted:
            limits.longest, limits.refused = limits.accepted, seconds
            return [part]
        with asker.budget.unbounded(excused=True):
            least = self._least_accepted(part)
            if least is None:
                return self._close_in(part, error)
            if not self._is_per_page_refused(least) and not self._is_future_refused(part):
                accepted = (least.start_to or 0) - (least.start_from or 0) - BOUNDS
                limits.longest, limits.refused, limits.accepted = accepted, seconds, accepted
                self._accepted = max(self._accepted, accepted)
        return self.reachable((part,))

    def _close_in(self, part: TimeRange, error: PollError) -> Sequence[TimeRange]:
        """Halve what has failed; leave it out where that is no use. Raises `error` if nothing was read."""
        asker = self._asker
        if part.seconds > (DAY if asker.limits.coarse else GRAIN):
            asker.poisoned.close_in(part)
            return halves(part)
        if not asker.is_up():
            raise error
        asker.poisoned.leave_out(part, asker.now)
        self._answers.give_up(part)
        if not self._answers.ranges:
            raise error
        return ()

    def _least_accepted(self, part: TimeRange) -> Query | None:
        """Return a small request that the server takes: of a day, be it one of two, or of an hour."""
        asker = self._asker
        past = min(part.last, math.floor(asker.now) - FURTHEST)  # in every zone
        day = Query(start_from=past - DAY, start_to=past, per_page=RUNGS[-1])
        other_day = replace(day, start_from=past - 2 * DAY, start_to=past - DAY)
        hour = replace(other_day, start_to=past - 2 * DAY + HOUR)
        if asker.probe(day) is not None:
            return day
        if asker.probe(hour) is None:
            return None
        return hour if asker.probe(other_day) is None else other_day

    def _is_per_page_refused(self, least: Query) -> bool:
        asker = self._asker
        for per_page in (asker.per_page, *RUNGS):
            if per_page == RUNGS[-1] or (
                per_page <= asker.per_page and asker.probe(replace(least, per_page=per_page)) is not None
            ):
                break
        if per_page == asker.per_page:
            return False
        asker.limits.per_page = per_page
        asker.limits.use(per_page)
        return True

    def _is_future_refused(self, part: TimeRange) -> bool:
        asker, limits = self._asker, self._asker.limits
        now = math.floor(asker.now)
        if (limits.ahead is not None and part.last > now + limits.ahead) or part.last + 1 < now - FURTHEST:
            return False
        if self._takes_until(part.last + 1):
            return False
        low, high = -FURTHEST // QUARTER, FURTHEST // QUARTER  # where its clock may stand
        while low < high:
            middle = (low + high + 1) // 2
            if self._takes_until(now + middle * QUARTER):
                low = middle
            else:
                high = middle - 1
        limits.ahead = low * QUARTER
        return True

    def _takes_until(self, last: int) -> bool:
        query = Query(start_from=last - HOUR, start_to=last, per_page=self._asker.per_page)
        return self._asker.probe(query) is not None

    def try_more(self) -> None:
        """Once a day, ask for what was refused: a larger perPage, and the future."""
        asker, limits = self._asker, self._asker.limits
        if limits.tried <= asker.now < limits.tried + DAY:
            return
        limits.tried = asker.now
        query = Query(
            start_from=math.floor(asker.now) - FURTHEST - HOUR,
            start_to=math.floor(asker.now) - FURTHEST,
            per_page=asker.configured,
        )
        if asker.per_page < asker.configured and asker.probe(query) is not None:
            limits.per_page = None
            limits.use(asker.per_page)
        if limits.ahead is not None and self._takes_until(asker.whole.last):
            limits.ahead = None
