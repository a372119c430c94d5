"""The campaigns of an account: what rows do to their counters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from exporter.tracking.counters import NEW
from exporter.tracking.groups import (
    begins_anew,
    combine,
    distance,
    group_rows,
    may_have_moved,
    read_groups,
    title_total,
    total,
)
from exporter.tracking.model import CampaignRecord, MessageRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.api.model import MessageStats
    from exporter.tracking.counters import Counters, Step
    from exporter.tracking.groups import Coverage, ReadGroups
    from exporter.tracking.model import Group, Key
    from exporter.tracking.proven import ProvenStarts
    from exporter.tracking.still_sending import StillSending


MOST_GONE: Final = 10
"""Titles of a campaign and channel that are remembered though no message has them any more."""


@dataclass(frozen=True, slots=True)
class ReadContext:
    """How rows were read, at the time `wall`.

    `partial` are the groups of which rows may be missing; `proven` the starts that had been read whole before:
    an unknown campaign is new if it started in them, and from `new_from` on. `absent` are the tracked
    campaigns, by their id, that should have been among the rows and were not. First values are held at 0 until
    `hold_until` (steady seconds; None: not held).
    """

    wall: float
    coverage: Coverage
    partial: AbstractSet[object]
    succeeded: bool
    proven: ProvenStarts
    new_from: float
    absent: Mapping[int, Sequence[CampaignRecord]]
    hold_until: float | None


@dataclass(slots=True)
class Tally:
    """How many campaigns, each once per channel, came, changed and went.

    `new`: by the counters' rule; `found`: for the first time or again, but not new; `released`: their
    hold ended.
    """

    new: int = 0
    found: int = 0
    changed: int = 0
    gone: int = 0
    released: int = 0


class Campaigns:
    """All tracked campaigns of an account, and those that left but aren't saved yet.

    `changed` has the keys of what differs from the last snapshot; whoever makes that empties it.
    """

    def __init__(
        self, records: Iterable[CampaignRecord], still_sending: StillSending, *, per_message: bool
    ) -> None:
        self.records: dict[Key, CampaignRecord] = {record.key: record for record in records}
        self.unsaved: dict[Key, CampaignRecord] = {}
        self.changed: set[Key] = set(self.records)
        self._still_sending = still_sending
        self._per_message = per_message
        self._held = {key for key, record in self.records.items() if is_held(record)}
        self._rows: dict[Key, Sequence[MessageStats]] = {}
        self._next_leave: float | None = None

    def known(self, key: Key) -> CampaignRecord | None:
        """Return a campaign that is in memory, tracked or just gone."""
        return self.records.get(key) or self.unsaved.get(key)

    def absent(self, keys: AbstractSet[Key], coverage: Coverage) -> dict[int, list[CampaignRecord]]:
        """Return the campaigns that should have been in an answer with `keys` and weren't, by id.

        Only those that may now have another channel: with ids that came with an unknown one.
        """
        ids = {campaign_id for campaign_id, _ in keys - self.records.keys()}
        absent: dict[int, list[CampaignRecord]] = {}
        for key, record in self.records.items() if ids else ():
            is_absent = key[0] in ids and key not in keys
            if is_absent and all(coverage.covers(key[0], start) for start in record.starts):
                absent.setdefault(key[0], []).append(record)
        return absent

    # Merging

    def merge(
        self,
        rows: Sequence[MessageStats],
        loaded: CampaignRecord | None,
        context: ReadContext,
        tally: Tally,
    ) -> Step | None:
        """Merge all rows that were read of one campaign and channel; return what its channel has to add.

        `loaded` is what the archive has of a campaign that isn't in memory.
        """
        key = rows[0].campaign_id, rows[0].channel
        if rows == self._rows.get(key):
            return None
        before = self.records.get(key)
        renamed = None if before is not None else self._renamed(rows, context)
        before = before or self.known(key) or loaded
        if renamed is not None:
            before = _taken_over(renamed, before)
        groups = () if before is None else before.groups
        if not context.succeeded and may_have_moved(rows, groups, context.coverage):
            return None  # the next poll finds out; until then it could count twice
        past = None if before is None else before.past
        read = read_groups(rows, groups, past, context.coverage, context.partial, per_message=self._per_message)
        if read is None:
            return None
        if self._still_sending.leaves(key[0], [group.start for group in read.groups]) <= context.wall:
            return None
        if read.is_exact:
            self._rows[key] = rows
        else:
            self._rows.pop(key, None)
        if renamed is not None:
            self._leave(renamed, context.wall, tally)
        return self._count(key, before, read, context, tally)

    def _renamed(self, rows: Sequence[MessageStats], context: ReadContext) -> CampaignRecord | None:
        """Return what is known of a campaign whose channel was only renamed: that is no new traffic.

        If several of its channels were, the one with the nearest counts: each is taken over once.
        """
        read = combine([*group_rows(rows, per_message=False).values()])
        known = {
            record.key: combine(record.groups)
            for record in context.absent.get(rows[0].campaign_id, ())
            if record.key in self.records
        }
        likely = [
            key
            for key, group in known.items()
            if group.titles == read.titles and not begins_anew(group.values, read.values)
        ]
        if not likely:
            return None
        return self.records[min(likely, key=lambda key: distance(known[key].values, read.values))]

    def _count(
        self,
        key: Key,
        before: CampaignRecord | None,
        read: ReadGroups,
        context: ReadContext,
        tally: Tally,
    ) -> Step | None:
        is_tracked = key in self.records
        is_new = before is None and all(
            group.start in context.proven and group.start >= context.new_from for group in read.groups
        )
        if before is not None and not is_tracked:
            before = _hold_anew(before, context.hold_until)
        groups = read.groups if read.past is None else (*read.groups, read.past)
        counters = NEW if before is None else before.counters
        is_baseline = before is None and not is_new
        step = counters.read(total(groups), is_baseline=is_baseline, hold_until=context.hold_until)
        messages = () if before is None else before.messages
        if self._per_message:
            messages = _read_messages(before, groups, is_baseline=is_baseline, hold_until=context.hold_until)
        record = CampaignRecord(*key, step.counters, read.groups, read.past, messages)
        if is_tracked and record == before:
            return None
        self._put(key, record)
        tally.new += is_new
        tally.found += not is_new and not is_tracked
        tally.changed += is_tracked
        return step

    def _put(self, key: Key, record: CampaignRecord) -> None:
        self.records[key] = self.unsaved[key] = record
        self.changed.add(key)
        if self._next_leave is not None:
            self._next_leave = min(self._next_leave, self._still_sending.leaves(key[0], record.starts))
        if is_held(record):
            self._held.add(key)
        else:
            self._held.discard(key)

    # Time

    @property
    def release_at(self) -> float:
        """When the next hold ends, in steady seconds; infinity: none does."""
        return min((_release_at(self.records[key]) for key in self._held), default=math.inf)

    def release(self, steady: float, tally: Tally) -> None:
        """End the holds that are due."""
        for key in sorted(self._held):
            record = self.records[key]
            if _release_at(record) <= steady:
                self._put(key, _each(record, lambda counters: counters.release(steady)))
                tally.released += 1

    def hold_anew(self, until: float | None) -> None:
        """Begin every hold that hasn't ended anew. Nothing to save: every load does the same."""
        for key in self._held:
            self.records[key] = _hold_anew(self.records[key], until)
            self.changed.add(key)
        if until is None:
            self._held.clear()

    @property
    def leaves_at(self) -> float:
        """When the next campaign leaves the window, or earlier; infinity: none is tracked."""
        if self._next_leave is None:
            times = (self._still_sending.leaves(key[0], record.starts) for key, record in self.records.items())
            self._next_leave = min(times, default=math.inf)
        return self._next_leave

    def evict(self, wall: float, tally: Tally) -> None:
        """Let go of the campaigns that left the window."""
        if self.leaves_at > wall:
            return
        for key, record in list(self.records.items()):
            if self._still_sending.leaves(key[0], record.starts) <= wall:
                self._leave(record, wall, tally)
        self._next_leave = None

    def _leave(self, record: CampaignRecord, wall: float, tally: Tally) -> None:
        key = record.key
        del self.records[key]
        self._rows.pop(key, None)
        self._held.discard(key)
        self.unsaved[key] = replace(record, evicted=wall)
        self.changed.add(key)
        tally.gone += 1


def _taken_over(renamed: CampaignRecord, before: CampaignRecord | None) -> CampaignRecord:
    """Return what is known of a campaign under its channel's new name, under which it stood at `before`."""
    titles = {} if before is None else {message.title: message.counters for message in before.messages}
    messages = [
        replace(message, counters=message.counters.taken_over(titles.pop(message.title, NEW)))
        for message in renamed.messages
    ]
    gone = [] if before is None else [replace(m, gone=True) for m in before.messages if m.title in titles]
    top = NEW if before is None else before.counters
    return replace(renamed, counters=renamed.counters.taken_over(top), messages=(*messages, *gone))


def _read_messages(
    before: CampaignRecord | None,
    groups: Sequence[Group],
    *,
    is_baseline: bool,
    hold_until: float | None,
) -> tuple[MessageRecord, ...]:
    """Read the sums by title, by the same rules; a renamed title goes on as it is under its new name.

    The titles that went first are forgotten. Since any other may be one of these, none is new from then on.
    """
    known = {} if before is None else {message.title: message for message in before.messages}
    present = {title for group in groups for title, _ in group.messages}
    absent = {title for title, message in known.items() if not message.gone} - present
    added = present - known.keys()
    was_untracked = before is not None and not all(group.messages for group in before.groups)
    has_forgotten = sum(message.gone for message in known.values()) >= MOST_GONE
    for title in sorted(present):
        is_renamed = title in added and bool(was_untracked or absent or has_forgotten)
        counters = known[title].counters if title in known else NEW
        totals = title_total(groups, title)
        step = counters.read(totals, is_baseline=is_baseline or is_renamed, hold_until=hold_until)
        known[title] = MessageRecord(title, step.counters)
    if added:
        known |= {title: replace(known.pop(title), gone=True) for title in sorted(absent)}
    gone = [title for title, message in known.items() if message.gone]
    for title in gone[:-MOST_GONE]:
        del known[title]
    return tuple(known.values())


def is_held(record: CampaignRecord) -> bool:
    """Whether a series of the campaign is held at 0."""
    return record.counters.is_held or any(message.counters.is_held for message in record.messages)


def _release_at(record: CampaignRecord) -> float:
    """Return when the first hold of a campaign's series ends."""
    if not record.messages:
        return record.counters.release_at
    return min(record.counters.release_at, *(message.counters.release_at for message in record.messages))


def _each(record: CampaignRecord, change: Callable[[Counters], Counters]) -> CampaignRecord:
    """Change all counters of a campaign."""
    messages = tuple([replace(message, counters=change(message.counters)) for message in record.messages])
    return replace(record, counters=change(record.counters), messages=messages)


def _hold_anew(record: CampaignRecord, until: float | None) -> CampaignRecord:
    return _each(record, lambda counters: counters.hold_anew(until))
