"""Until when a campaign is tracked: a window after its last start, or after it was last found still sending."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class StillSending:
    """When campaigns were last found to be still sending, for one window (seconds)."""

    def __init__(self, window: float, found: Mapping[int, float]) -> None:
        self._window = window
        self._found = dict(found)

    @property
    def times(self) -> Mapping[int, float]:
        """When each campaign was last found."""
        return self._found

    def find(self, ids: Iterable[int], wall: float) -> None:
        """Note that campaigns are sending at `wall`."""
        self._found.update(dict.fromkeys(ids, wall))

    def leaves(self, campaign_id: int, starts: Iterable[float]) -> float:
        """Return when a campaign with these starts leaves the window."""
        return max(*starts, self._found.get(campaign_id, -math.inf)) + self._window

    def expire(self, wall: float) -> None:
        """Forget campaigns that were not found for a window."""
        for campaign_id, time in list(self._found.items()):
            if time + self._window <= wall:
                del self._found[campaign_id]
