"""How many requests one poll may make."""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.collect.page_cap import DOCUMENTED_DEFAULT
from exporter.errors import RequestsSpentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.api.model import TimeRange
    from exporter.collect.server_limits import ServerLimits
    from exporter.collect.split_plan import KnownRows


class Budget:
    """Twice what an API with pages would need, five times where little is known yet, and some more.

    What is known grows with each answer, and with it what is left. Where the budget is `bounded`, no more
    requests are made; else it only bounds those that serve a proof. Each job may leave a part to those after
    it: `share` is what all jobs until now may spend.
    """

    def __init__(
        self, limits: ServerLimits, known: KnownRows, *, whole: TimeRange, per_page: int, bounded: bool
    ) -> None:
        self._limits = limits
        self._known = known
        self._whole = whole
        self._per_page = per_page
        self._bounded = bounded
        self._rows = len(known)
        self._excused = 0
        self.spent = 0
        self.share = 1.0

    @property
    def left(self) -> int:
        """How many more requests may be made now; negative where some had to be made on top."""
        limits, rows = self._limits, len(self._known)
        least = min(DOCUMENTED_DEFAULT, limits.per_page or self._per_page)
        pages = math.ceil(rows / max(1, least, limits.most))
        if limits.longest is not None:
            pages += self._whole.seconds // limits.longest
        is_cold = not self._rows or 2 * self._rows < rows
        most = 5 * pages + 30 if is_cold else 2 * pages + 10
        return math.floor(most * self.share) - self.spent + self._excused

    def spend(self, requests: int) -> None:
        """Note that requests are made. Raises RequestsSpentError if they are more than the poll may make."""
        if self._bounded and self.left < requests:
            raise RequestsSpentError("the poll has made as many requests as it may; the next one goes on")
        self.spent += requests

    @contextmanager
    def unbounded(self, *, excused: bool = False) -> Iterator[None]:
        """Make all requests that it takes, since half of them would be in vain; `excused`: they don't count."""
        bounded, before, self._bounded = self._bounded, self.spent, False
        try:
            yield
        finally:
            self._bounded = bounded
            self._excused += self.spent - before if excused else 0
