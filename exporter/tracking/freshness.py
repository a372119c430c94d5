"""How old the data of an account are, by a clock that doesn't jump."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.tracking.model import AccountRecord, Moment


class Freshness:
    """When polls last succeeded, by resource; `limits`: for how many seconds their data may be shown."""

    def __init__(self, limits: Mapping[str, float], record: AccountRecord, now: Moment) -> None:
        self._limits = limits
        # A clock that once ran ahead must not make data look fresh for ever.
        self.successes = {resource: min(time, now.wall) for resource, time in record.successes.items()}
        self._since = {resource: now.steady - (now.wall - time) for resource, time in self.successes.items()}
        self._began = now.steady - max(0.0, now.wall - record.since)

    def succeed(self, resource: str, now: Moment) -> None:
        """Note that a poll succeeded."""
        self.successes[resource] = now.wall
        self._since[resource] = now.steady

    def stale_at(self, resource: str) -> float:
        """Return when the data become stale, in steady seconds."""
        return self._since.get(resource, self._began) + self._limits[resource]

    def is_stale(self, resource: str, now: Moment) -> bool:
        """Whether the data are to be withdrawn."""
        return now.steady >= self.stale_at(resource)
