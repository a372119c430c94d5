"""One poll under way: what it may ask for, and what it has read so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Generic

from exporter.api.model import R

if TYPE_CHECKING:
    from exporter.collect.collector import Poll as Requests
    from exporter.collect.model import Collected


class Poll(Generic[R]):
    """What one poll reads; it stands also if the poll then fails.

    The jobs of `requests` end at the poll's deadline. `now` is when the poll began, in seconds since the epoch,
    `began` the same on the monotonic clock. `discovered` are the campaigns that were found still sending (None:
    not looked for). `unsettled` are campaigns whose start was changed and that could not be read again: under
    both starts they would count twice.
    """

    def __init__(self, requests: Requests[R], *, now: float, began: float) -> None:
        self.requests = requests
        self.now = now
        self.began = began
        self.discovered: frozenset[int] | None = None
        self.unsettled: frozenset[int] = frozenset()

    @property
    def collected(self) -> Collected[R]:
        """Everything read. What a later job has read whole stands for all that was read of it before."""
        collected = self.requests.collected
        if not self.unsettled:
            return collected
        rows = tuple(row for row in collected.rows if row.campaign_id not in self.unsettled)
        return replace(collected, rows=rows)
