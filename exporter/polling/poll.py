"""One poll under way: what it may ask for, and what it has read so far."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic

from exporter.api.model import R
from exporter.collect.model import Collected

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from exporter.collect.collector import Collector
    from exporter.collect.ranges import Ranges


class Poll(Generic[R]):
    """What one poll reads; it stands also if the poll then fails.

    `spawn` returns a collector whose requests end at the poll's deadline. `now` is when the poll began, in
    seconds since the epoch, `began` the same on the monotonic clock. `discovered` are the campaigns that were
    found still sending (None: not looked for). `unsettled` are campaigns whose start was changed and that could
    not be read again: under both starts they would count twice.
    """

    def __init__(self, spawn: Callable[[], Collector[R]], *, now: float, began: float) -> None:
        self.spawn = spawn
        self.now = now
        self.began = began
        self.discovered: frozenset[int] | None = None
        self.unsettled: frozenset[int] = frozenset()
        self._collectors: list[Collector[R]] = []

    def collector(self) -> Collector[R]:
        """Return a collector whose rows replace those of earlier ones for the campaigns it reads whole."""
        collector = self.spawn()
        self._collectors.append(collector)
        return collector

    @property
    def collected(self) -> Collected[R]:
        """Everything read. What a later collector has read whole stands for all that was read of it before."""
        best: dict[Hashable, list[R]] = {}
        partial: set[Hashable] = set()
        ranges: Ranges = ()
        ids: frozenset[int] = frozenset()
        incomplete = False
        for collector in self._collectors:
            part = collector.collected
            groups: defaultdict[Hashable, list[R]] = defaultdict(list)
            for row in part.rows:
                if row.campaign_id not in self.unsettled:
                    groups[row.group].append(row)
            for group, (row, *_) in list(best.items()):
                if row.campaign_id in part.ids or any(row.start in one for one in part.ranges):
                    del best[group]
                    partial.discard(group)
            for group, rows in groups.items():
                known = len(best.get(group, ()))
                if len(rows) < known:
                    continue
                if group not in part.partial:
                    partial.discard(group)
                elif not known or group in partial or len(rows) > known:
                    partial.add(group)
                best[group] = rows
            ranges, ids = (*ranges, *part.ranges), ids | part.ids
            incomplete = incomplete or part.incomplete
        return Collected(
            rows=tuple(row for rows in best.values() for row in rows),
            partial=frozenset(partial),
            ranges=ranges,
            ids=ids,
            incomplete=incomplete,
        )
