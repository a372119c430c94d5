"""What several requests together brought."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic

from exporter.api.model import R, R_co
from exporter.collect.ranges import subtract, union

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from exporter.api.model import TimeRange
    from exporter.errors import PollError


@dataclass(frozen=True, slots=True)
class Collected(Generic[R_co]):
    """What one or several requests together brought, each row once.

    `partial` holds the groups of which some rows may be missing (their sums are lower bounds); `ranges` the
    starts and `ids` the campaigns of which everything was read. `incomplete` is true where more rows may exist
    than could be read. `failure` is what ended the reading early, if anything did; all that was read until then
    is here.
    """

    rows: tuple[R_co, ...] = ()
    partial: frozenset[Hashable] = frozenset()
    ranges: tuple[TimeRange, ...] = ()
    ids: frozenset[int] = frozenset()
    incomplete: bool = False
    failure: PollError | None = None


class Answers(Generic[R]):
    """The answers to the requests of one job, in the order of time.

    A group that stands in several is taken whole from the one that has most of its rows, the later on a tie.
    `read` are the starts that needn't be asked for again in this round, be they proven (`ranges`) or not.
    """

    def __init__(self) -> None:
        self.ranges: list[TimeRange] = []
        self.read: list[TimeRange] = []
        self.ids: set[int] = set()
        self.incomplete = False
        self.failure: PollError | None = None
        self._groups: dict[Hashable, list[R]] = {}
        self._proven: set[Hashable] = set()

    def add(self, rows: Iterable[R], *, proven: bool) -> None:
        """Take the rows of one answer; `proven`: none of any of their groups is missing."""
        for group, members in by_group(rows).items():
            if len(members) >= len(self._groups.get(group, ())):
                self._groups[group] = members
            if proven:
                self._proven.add(group)

    def prove(self, part: TimeRange) -> None:
        """Note that everything which starts in `part` was read."""
        self.ranges.append(part)
        self.read.append(part)

    def give_up(self, part: TimeRange) -> None:
        """Note that no more of what starts in `part` can be read now."""
        self.incomplete = True
        self.read.append(part)

    def take_back(self, parts: Iterable[TimeRange]) -> None:
        """Note that what was read of `parts` may have been something else, or cut."""
        parts = list(parts)
        self.ranges = list(subtract(self.ranges, parts))
        self.read = list(subtract(self.read, parts))

    @property
    def collected(self) -> Collected[R]:
        """All of it."""
        return Collected(
            rows=tuple(row for members in self._groups.values() for row in members),
            partial=frozenset(self._groups.keys() - self._proven),
            ranges=union(self.ranges),
            ids=frozenset(self.ids),
            incomplete=self.incomplete,
            failure=self.failure,
        )


def by_group(rows: Iterable[R]) -> dict[Hashable, list[R]]:
    """Return the rows of each group."""
    groups: defaultdict[Hashable, list[R]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    return groups


def merge(jobs: Sequence[Collected[R]]) -> Collected[R]:
    """Return what jobs brought together: what a later one has read whole stands for all read of it before."""
    reads = [job for job in jobs if job.rows or job.ids or job.ranges]
    if len(reads) == 1:  # as most often
        failure = next((job.failure for job in jobs if job.failure is not None), None)
        return replace(reads[0], incomplete=any(job.incomplete for job in jobs), failure=failure)
    best: dict[Hashable, list[R]] = {}
    partial: set[Hashable] = set()
    for job in jobs:
        groups = by_group(job.rows)
        for group, (row, *_) in list(best.items()):
            if row.campaign_id in job.ids or any(row.start in part for part in job.ranges):
                del best[group]
                partial.discard(group)
        for group, rows in groups.items():
            known = len(best.get(group, ()))
            if len(rows) < known:
                continue
            if group not in job.partial:
                partial.discard(group)
            elif not known or group in partial or len(rows) > known:
                partial.add(group)
            best[group] = rows
    return Collected(
        rows=tuple(row for rows in best.values() for row in rows),
        partial=frozenset(partial),
        ranges=union(part for job in jobs for part in job.ranges),
        ids=frozenset().union(*(job.ids for job in jobs)),
        incomplete=any(job.incomplete for job in jobs),
        failure=next((job.failure for job in jobs if job.failure is not None), None),
    )
