"""Rows of the statistics to groups: what one campaign and channel has at each start.

Fewer rows than a group had, or null where a value was, is a lower bound and never a fall; a value that can't be
read leaves the last good one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exporter.api.fields import Counts, same
from exporter.api.model import INVALID, Mark, add_up
from exporter.collect.ranges import union
from exporter.tracking.model import Group

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Count, MessageStats, N, TimeRange

MOST_TITLES: Final = 50
"""Titles of a group that are kept beside those which were read last."""
_NONE: Final[Counts[Count]] = same(None)


class Coverage:
    """Which rows an answer would have had: those of `ids`, and those with starts in `ranges`."""

    def __init__(self, ids: AbstractSet[int], ranges: Iterable[TimeRange]) -> None:
        self._ids = ids
        joined = union(ranges)
        self._firsts = [part.first for part in joined]
        self._lasts = [part.last for part in joined]

    def covers(self, campaign_id: int, start: float) -> bool:
        """Whether a row of the campaign with this start would have been in the answer."""
        if campaign_id in self._ids:
            return True
        index = bisect_right(self._firsts, math.floor(start)) - 1
        return index >= 0 and math.floor(start) <= self._lasts[index]


@dataclass(frozen=True, slots=True)
class ReadGroups:
    """A campaign's groups after a read, and the sums of its earlier runs.

    `is_exact`: the groups that were read are as the rows say, so that the same rows would change nothing.
    """

    groups: tuple[Group, ...]
    past: Group | None
    is_exact: bool


def read_groups(
    rows: Sequence[MessageStats],
    known: Sequence[Group],
    past: Group | None,
    coverage: Coverage,
    partial: AbstractSet[object],
    *,
    per_message: bool,
) -> ReadGroups | None:
    """Merge all rows that were read of one campaign and channel into the groups known of it.

    None: a start has moved, and not all rows of the new one could be read, so nobody can tell what they add.
    """
    campaign_id = rows[0].campaign_id
    fresh = group_rows(rows, per_message=per_message)
    cut = {row.start for row in rows if row.group in partial}
    before = {group.start: group for group in known}
    absent = [g for g in known if g.start not in fresh and coverage.covers(campaign_id, g.start)]
    joined = fresh.keys() - before.keys()
    if absent and cut & joined:
        return None
    moved, past = _moved(absent, joined, before, fresh, past)
    groups = {start: group for start, group in before.items() if start not in moved}
    is_exact = True
    for start, group in fresh.items():
        merged = _merge(groups.get(start) or moved.get(start), group, is_partial=start in cut)
        is_exact = is_exact and merged == group
        groups[start] = merged
    return ReadGroups(tuple([groups[start] for start in sorted(groups)]), past, is_exact)


def may_have_moved(rows: Sequence[MessageStats], known: Sequence[Group], coverage: Coverage) -> bool:
    """Whether a campaign came with another start, and nobody knows whether one known of it is still there."""
    seen, starts = {row.start for row in rows}, {group.start for group in known}
    return not seen <= starts and any(
        not coverage.covers(rows[0].campaign_id, start) for start in starts - seen
    )


def total(groups: Iterable[Group]) -> Counts[Count]:
    """Return the sums over groups: INVALID where one of them has no readable value."""
    values = [group.values for group in groups]
    if len(values) == 1:
        return values[0]
    return Counts._make([add_up(column) for column in zip(*values, strict=True)]) if values else _NONE


def title_total(groups: Iterable[Group], title: str) -> Counts[Count]:
    """Return the sums over groups of the messages of one title."""
    values = [sums for group in groups for name, sums in group.messages if name == title]
    return Counts._make([add_up(column) for column in zip(*values, strict=True)]) if values else _NONE


def group_rows(rows: Sequence[MessageStats], *, per_message: bool) -> dict[float, Group]:
    """Return the sums of rows by start."""
    if len(rows) == 1:
        return {rows[0].start: _group_of(rows[0], per_message=per_message)}
    by_start: dict[float, list[MessageStats]] = defaultdict(list)
    for row in rows:
        by_start[row.start].append(row)
    return {start: _sum_up(start, members, per_message=per_message) for start, members in by_start.items()}


def _group_of(row: MessageStats, *, per_message: bool) -> Group:
    counted: Counts[int] = Counts._make([0 if count is None else 1 for count in row.counts])
    messages = ((row.title, row.counts),) if per_message else ()
    return Group(row.start, 1, counted, row.counts, (row.title,), messages)


def _sum_up(start: float, rows: Sequence[MessageStats], *, per_message: bool) -> Group:
    messages: tuple[tuple[str, Counts[Count]], ...] = ()
    titles = tuple(sorted({row.title for row in rows}))
    if per_message:
        messages = tuple([(title, _sums([row for row in rows if row.title == title])) for title in titles])
    counted = [sum([count is not None for count in column]) for column in zip(*_counts(rows), strict=True)]
    return Group(start, len(rows), Counts._make(counted), _sums(rows), titles, messages)


def _counts(rows: Iterable[MessageStats]) -> list[Counts[Count]]:
    return [row.counts for row in rows]


def _sums(rows: Sequence[MessageStats]) -> Counts[Count]:
    if len(rows) == 1:
        return rows[0].counts
    return Counts._make([add_up(column) for column in zip(*_counts(rows), strict=True)])


def _moved(
    absent: Sequence[Group],
    joined: AbstractSet[float],
    before: Mapping[float, Group],
    fresh: Mapping[float, Group],
    past: Group | None,
) -> tuple[dict[float, Group | None], Group | None]:
    """Tell what became of the groups whose starts should have been read and were not.

    Return, by start, the groups that are no more (None), with what stood before at a start that took
    their rows; and the sums of earlier runs. What is in neither has only vanished from this answer, and stays.
    """
    if not absent:
        return {}, past
    grown = [start for start in fresh if start in before and fresh[start].rows > before[start].rows]
    room = sum(fresh[start].rows - before[start].rows for start in grown)
    if not joined and room < sum(group.rows for group in absent):
        return {}, past
    receivers = [*joined, *grown]
    old = combine([*absent, *(before[start] for start in grown)])
    moved: dict[float, Group | None] = {group.start: None for group in absent}
    if begins_anew(old.values, total([fresh[start] for start in receivers])):
        return moved, combine([*absent, past] if past else absent)
    if len(receivers) == 1:
        moved[receivers[0]] = old
    return moved, past


def begins_anew(old: Counts[Count], new: Counts[Count]) -> bool:
    """Whether counts are those of a new run: a correction lowers a count or two, a new run most of them."""
    pairs = [
        (a, b) for a, b in zip(old, new, strict=True) if isinstance(a, int) and isinstance(b, int) and a > 0
    ]
    return 2 * sum(b < a for a, b in pairs) > len(pairs)


def distance(old: Counts[Count], new: Counts[Count]) -> int:
    """Return how far counts lie apart, over the fields that both have."""
    pairs = zip(old, new, strict=True)
    return sum(abs(b - a) for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def combine(groups: Sequence[Group]) -> Group:
    """Return groups as one, with the start of the last."""
    titles: tuple[str, ...] = ()
    by_title: tuple[str, ...] = ()
    for group in reversed(groups):  # the first is the latest
        titles = latest_titles(titles, group.titles)
        by_title = latest_titles(by_title, [title for title, _ in group.messages])
    return Group(
        groups[-1].start,
        sum(group.rows for group in groups),
        Counts._make([sum(column) for column in zip(*(group.counted for group in groups), strict=True)]),
        total(groups),
        titles,
        tuple((title, title_total(groups, title)) for title in by_title),
    )


def _merge(known: Group | None, group: Group, *, is_partial: bool) -> Group:
    """Merge a group that was read into what was known of it."""
    if known is None or known == group:
        return group
    fewer = [is_partial or now < then for now, then in zip(group.counted, known.counted, strict=True)]
    has_fewer_rows = is_partial or group.rows < known.rows
    if not (has_fewer_rows or group.messages or any(fewer) or INVALID in group.values):
        return group
    values = _latest(known.values, group.values, fewer)
    titles, messages = group.titles, dict(group.messages)
    then = dict(known.messages)
    for title, sums in messages.items():
        messages[title] = _latest(then.get(title, _NONE), sums, fewer)
    if has_fewer_rows:
        titles = latest_titles(known.titles, group.titles)
        messages = {title: (then | messages)[title] for title in latest_titles(then, messages)}
    return replace(
        group,
        rows=max(known.rows, group.rows) if has_fewer_rows else group.rows,
        counted=Counts._make(map(max, known.counted, group.counted)) if any(fewer) else group.counted,
        values=values,
        titles=titles,
        messages=tuple(sorted(messages.items())),
    )


def latest_titles(known: Iterable[str], read: Iterable[str]) -> tuple[str, ...]:
    """Return the titles that were read, and a bounded number of the others: an API may invent them."""
    latest = set(read)
    others = sorted(set(known) - latest)
    return tuple(sorted([*latest, *others[: max(0, MOST_TITLES - len(latest))]]))


def _latest(known: Counts[Count], read: Counts[Count], fewer: Sequence[bool]) -> Counts[Count]:
    return Counts._make(
        [latest(then, now, is_bound=bound) for then, now, bound in zip(known, read, fewer, strict=True)]
    )


def latest(known: N | Mark | None, read: N | Mark | None, *, is_bound: bool) -> N | Mark | None:
    """Return what is known of a sum: the last good one, or the higher one if `read` is a lower bound."""
    if read is None or read is INVALID or isinstance(read, Mark):
        return read if known is None else known
    if known is None or isinstance(known, Mark) or not is_bound:
        return read
    return max(known, read)
