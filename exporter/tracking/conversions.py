"""The conversions of an account: gauges, which may fall."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from exporter.api.model import Mark, add_up
from exporter.tracking.groups import latest, latest_titles
from exporter.tracking.model import ConversionGroup, ConversionSnapshot, ConversionsRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Conversion, N
    from exporter.tracking.groups import Coverage
    from exporter.tracking.model import Key
    from exporter.tracking.still_sending import StillSending

GroupKey: TypeAlias = tuple[str, str, float]
"""Conversion event, period and start."""


class Conversions:
    """The conversions of all tracked campaigns.

    `unsaved` has what changed since the last save (None: gone), `changed` the keys of what differs from the
    last snapshot; whoever makes that empties it.
    """

    def __init__(self, records: Iterable[ConversionsRecord], still_sending: StillSending) -> None:
        self.records: dict[Key, ConversionsRecord] = {record.key: record for record in records}
        self.unsaved: dict[Key, ConversionsRecord | None] = {}
        self.changed: set[Key] = set(self.records)
        self._still_sending = still_sending
        self._rows: dict[Key, Sequence[Conversion]] = {}

    def merge(
        self,
        rows: Sequence[Conversion],
        coverage: Coverage,
        partial: AbstractSet[object],
        *,
        keep_from: float | None,
    ) -> bool:
        """Merge all rows that were read of one campaign and channel; return whether anything changed.

        Conversions of a campaign that left the window before `keep_from` are not taken (None: all are).
        """
        key = rows[0].campaign_id, rows[0].channel
        if rows == self._rows.get(key):
            return False
        before = self.records.get(key)
        groups = _read_groups(rows, () if before is None else before.groups, coverage, partial)
        starts = [group.start for group in groups]
        if keep_from is not None and self._still_sending.leaves(key[0], starts) <= keep_from:
            return False
        names = [row.campaign_name for row in rows if row.campaign_name]
        name = names[-1] if names else ("" if before is None else before.campaign_name)
        gauges = _gauges(groups, () if before is None else before.gauges)
        record = ConversionsRecord(*key, name, groups, gauges)
        if not partial:
            self._rows[key] = rows
        else:
            self._rows.pop(key, None)
        if record == before:
            return False
        self.records[key] = self.unsaved[key] = record
        self.changed.add(key)
        return True

    def leaves_at(self, tracked: Collection[Key]) -> float:
        """Return when the next ones leave the window whose campaign isn't `tracked`; infinity: none do."""
        times = (
            self._still_sending.leaves(key[0], record.starts)
            for key, record in self.records.items()
            if key not in tracked
        )
        return min(times, default=math.inf)

    def forget(self) -> None:
        """Forget all: the next poll reads anew what there is."""
        self.unsaved |= dict.fromkeys(self.records)
        self.records.clear()

    def evict(self, wall: float, tracked: Collection[Key]) -> None:
        """Let go of those that left the window and whose campaign isn't `tracked`."""
        for key, record in list(self.records.items()):
            if key not in tracked and self._still_sending.leaves(key[0], record.starts) <= wall:
                del self.records[key]
                self._rows.pop(key, None)
                self.unsaved[key] = None
                self.changed.add(key)


def _read_groups(
    rows: Sequence[Conversion],
    known: Sequence[ConversionGroup],
    coverage: Coverage,
    partial: AbstractSet[object],
) -> tuple[ConversionGroup, ...]:
    """Merge all rows that were read of one campaign and channel into the groups known of it."""
    by_group: dict[GroupKey, list[Conversion]] = defaultdict(list)
    for row in rows:
        by_group[row.event, row.period, row.start].append(row)
    events = {(row.event, row.period) for row in rows}
    groups: dict[GroupKey, ConversionGroup] = {}
    for group in known:
        key = (group.event, group.period, group.start)
        moved = key not in by_group and key[:2] in events and coverage.covers(rows[0].campaign_id, group.start)
        if not moved:
            groups[key] = group
    for key, members in by_group.items():
        is_partial = members[0].group in partial
        groups[key] = _merge(groups.get(key), _sum_up(members), is_partial=is_partial)
    return tuple([groups[key] for key in sorted(groups)])


def _sum_up(rows: Sequence[Conversion]) -> ConversionGroup:
    first = rows[0]
    return ConversionGroup(
        first.start,
        first.event,
        first.period,
        len(rows),
        tuple(sorted({row.title for row in rows})),
        max((row.stop for row in rows if row.stop is not None), default=None),
        add_up(row.deposits for row in rows),
        add_up(row.amount for row in rows),
        add_up(row.converted_users for row in rows),
    )


def _merge(known: ConversionGroup | None, group: ConversionGroup, *, is_partial: bool) -> ConversionGroup:
    """Merge a group that was read into what was known of it: fewer rows than it had are a lower bound."""
    if known is None or known == group:
        return group
    is_bound = is_partial or group.rows < known.rows
    return replace(
        group,
        rows=max(known.rows, group.rows) if is_bound else group.rows,
        titles=latest_titles(known.titles, group.titles) if is_bound else group.titles,
        deposits=latest(known.deposits, group.deposits, is_bound=is_bound),
        amount=latest(known.amount, group.amount, is_bound=is_bound),
        converted_users=latest(known.converted_users, group.converted_users, is_bound=is_bound),
    )


def _gauges(
    groups: Sequence[ConversionGroup], known: Sequence[ConversionSnapshot]
) -> tuple[ConversionSnapshot, ...]:
    """Sum the groups up by event and period. Where a sum is unknown, its last good value stays."""
    gauges = {(gauge.event, gauge.period): gauge for gauge in known}
    by_event: dict[tuple[str, str], list[ConversionGroup]] = defaultdict(list)
    for group in groups:
        by_event[group.event, group.period].append(group)
    for (event, period), members in by_event.items():
        before = gauges.get((event, period), ConversionSnapshot(event, period, None, None, None))
        gauges[event, period] = ConversionSnapshot(
            event,
            period,
            _good(add_up(group.deposits for group in members), before.deposits),
            _good(add_up(group.amount for group in members), before.amount),
            _good(add_up(group.converted_users for group in members), before.converted_users),
        )
    return tuple([gauges[key] for key in sorted(gauges)])


def _good(value: N | Mark | None, last: N | None) -> N | None:
    return last if value is None or isinstance(value, Mark) else value
