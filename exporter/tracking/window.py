"""What is known of one account: answers of the API go in, and a snapshot of what to export comes out.

Pure: no I/O and no clock; every method that depends on time takes it. The order of a poll is merge, `changes`,
save, `saved`, `snapshot`, publish; one thread at a time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.api.fields import CHANNEL, CONVERSIONS, STATISTICS
from exporter.tracking.campaigns import Campaigns, ReadContext, Tally
from exporter.tracking.channels import Channels
from exporter.tracking.conversions import Conversions
from exporter.tracking.freshness import Freshness
from exporter.tracking.groups import Coverage
from exporter.tracking.known_starts import KnownStarts
from exporter.tracking.label_limits import LabelLimits
from exporter.tracking.model import ARCHIVE_SECONDS, AccountRecord, Changes
from exporter.tracking.proven import ProvenStarts
from exporter.tracking.saves import AccountSaves
from exporter.tracking.snapshots import SnapshotMaker
from exporter.tracking.still_sending import StillSending

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from exporter.api.model import Conversion, MessageStats, Page, R, Row
    from exporter.collect.model import Collected
    from exporter.tracking.model import (
        AccountSnapshot,
        CampaignRecord,
        Key,
        Moment,
        SavedAccount,
        WindowSettings,
    )


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge or tick changed, for the log and the exporter's own metrics.

    Campaigns are counted as in `Tally`. `staleness` is true if data were withdrawn or came back.
    """

    new: int = 0
    found: int = 0
    changed: int = 0
    gone: int = 0
    released: int = 0
    staleness: bool = False


class Window:
    """All that is known of one account; `known` is what to plan polls with.

    Without `saved` a new state begins at `now`; with it, everything goes on from there, holds begin anew, and
    `snapshot` has the data at once.
    """

    def __init__(
        self,
        account: str,
        currency: str | None,
        settings: WindowSettings,
        *,
        saved: SavedAccount | None,
        now: Moment,
    ) -> None:
        self.account = account
        self.settings = settings
        record = AccountRecord(now.wall) if saved is None else saved.account
        self._since = record.since
        self._labels = LabelLimits(saved)
        limits = {STATISTICS: settings.stale_after, CONVERSIONS: settings.conversions_stale_after}
        self._freshness = Freshness(limits, record, now)
        self._still_sending = StillSending(settings.window, record.discovered)
        self._proven = ProvenStarts(record.proven)
        self._campaigns = Campaigns(
            () if saved is None else saved.campaigns, self._still_sending, per_message=settings.per_message
        )
        self._channels = Channels(() if saved is None else saved.channels)
        self._conversions = Conversions(() if saved is None else saved.conversions, self._still_sending)
        self.known = KnownStarts(self._campaigns, self._conversions, self._still_sending, settings.window)
        self._forget_excess(record.overflowed)
        self._snapshots = SnapshotMaker(
            account,
            currency,
            settings,
            campaigns=self._campaigns,
            channels=self._channels,
            conversions=self._conversions,
        )
        self._saves = AccountSaves(None if saved is None else record, stale_after=settings.stale_after)
        self._hold_anew(now)
        self._evict(now, Tally())
        self._stale = self._staleness(now)

    def _forget_excess(self, overflowed: Collection[str]) -> None:
        """Begin labels anew that were too many before a restart, with what there still is."""
        if CHANNEL in overflowed:
            self._channels.forget_all_but({channel for _, channel in self._campaigns.records})
        if overflowed:
            self._conversions.forget()

    # Merging

    def bounded(self, page: Page[R]) -> tuple[Page[R], Mapping[str, int]]:
        """Return an answer without more labels than there may be, and how many values were too many, by field.

        Needs no lock.
        """
        rows, excess = self._labels.bounded(page.rows)
        return (replace(page, rows=tuple(rows)) if excess else page), excess

    def unknown(self, rows: Iterable[Row]) -> frozenset[Key]:
        """Return the campaigns and channels of `rows` that aren't in memory.

        They may be in the archive; what is found there goes to `merge_statistics` as `loaded`.
        """
        keys = {(row.campaign_id, row.channel) for row in rows}
        return frozenset(keys - self._campaigns.records.keys() - self._campaigns.unsaved.keys())

    def merge_statistics(
        self,
        collected: Collected[MessageStats],
        *,
        now: Moment,
        succeeded: bool,
        discovered: frozenset[int] | None = None,
        loaded: Iterable[CampaignRecord] | None = (),
    ) -> Merged:
        """Merge what a poll of the statistics read, be it all it wanted (`succeeded`) or not.

        `discovered` are the campaigns that it found still sending (None: it didn't look). `loaded` None: the
        archive can't be read now, so older campaigns may be in it, and aren't new.
        """
        tally = Tally()
        self._release(now, tally, recovers=succeeded)
        if discovered:
            self._still_sending.find(discovered, now.wall)
        self._proven.skip_jump(now)
        self._proven.forget_before(now.wall - ARCHIVE_SECONDS)
        by_campaign = _by_campaign(collected.rows)
        coverage = Coverage(collected.ids, collected.ranges)
        context = ReadContext(
            wall=now.wall,
            coverage=coverage,
            partial=collected.partial,
            succeeded=succeeded,
            proven=self._proven,
            new_from=-math.inf if loaded is not None else now.wall - self.settings.window,
            absent=self._campaigns.absent(by_campaign.keys(), coverage),
            hold_until=self._hold_until(now),
        )
        archive = {record.key: record for record in loaded or ()}
        for key, rows in by_campaign.items():
            step = self._campaigns.merge(rows, archive.get(key), context, tally)
            if step is not None:
                self._channels.add(key[1], step, hold_until=context.hold_until)
        since = now.wall - min(self.settings.window, ARCHIVE_SECONDS)
        self._proven.add(collected.ranges, now=now, since=since)
        self._note_end(STATISTICS, now, succeeded=succeeded)
        return self._finish(now, tally)

    def merge_conversions(self, collected: Collected[Conversion], *, now: Moment, succeeded: bool) -> Merged:
        """Merge what a poll of the conversions read, be it all it wanted (`succeeded`) or not."""
        tally = Tally()
        self._release(now, tally, recovers=False)
        coverage = Coverage(collected.ids, collected.ranges)
        for key, rows in _by_campaign(collected.rows).items():
            is_tracked = key in self._campaigns.records
            was_known = is_tracked or key in self._conversions.records
            keep_from = None if is_tracked else now.wall
            if self._conversions.merge(rows, coverage, collected.partial, keep_from=keep_from):
                tally.changed += was_known
                tally.found += not was_known
        self._note_end(CONVERSIONS, now, succeeded=succeeded)
        return self._finish(now, tally)

    def tick(self, now: Moment) -> Merged | None:
        """Do what is due by time alone: end holds, withdraw stale data, evict. None: nothing changed."""
        tally = Tally()
        has_released = self._release(now, tally, recovers=False)
        conversions = len(self._conversions.records)
        merged = self._finish(now, tally)
        has_gone = merged.gone > 0 or len(self._conversions.records) < conversions
        return merged if has_gone or has_released or merged.staleness else None

    def next_event(self, now: Moment) -> float:
        """Return when `tick` next has something to do, in steady seconds; infinity: never, as things stand."""
        stale, conversions_stale = self._stale
        events = []
        if not stale:
            events += [
                self._campaigns.release_at,
                self._channels.release_at,
                self._freshness.stale_at(STATISTICS),
            ]
        if self._conversions.records and not conversions_stale:
            events.append(self._freshness.stale_at(CONVERSIONS))
        leaves_at = min(self._campaigns.leaves_at, self._conversions.leaves_at(self._campaigns.records))
        return min([*events, now.steady + leaves_at - now.wall])

    # Time

    def _hold_until(self, now: Moment) -> float | None:
        return now.steady + self.settings.zero_hold if self.settings.zero_hold > 0 else None

    def _release(self, now: Moment, tally: Tally, *, recovers: bool) -> bool:
        """End the holds that are due, but not while nothing is exported: then no one has seen the 0.

        Return whether any has ended.
        """
        if not self._freshness.is_stale(STATISTICS, now):
            self._campaigns.release(now.steady, tally)
            return self._channels.release(now.steady) or tally.released > 0
        if recovers:
            self._hold_anew(now)
        return False

    def _hold_anew(self, now: Moment) -> None:
        self._campaigns.hold_anew(self._hold_until(now))
        self._channels.hold_anew(self._hold_until(now))

    def _note_end(self, resource: str, now: Moment, *, succeeded: bool) -> None:
        if succeeded:
            self._freshness.succeed(resource, now)
        else:
            self._saves.has_failed = True

    def _staleness(self, now: Moment) -> tuple[bool, bool]:
        return self._freshness.is_stale(STATISTICS, now), self._freshness.is_stale(CONVERSIONS, now)

    def _evict(self, now: Moment, tally: Tally) -> None:
        self._campaigns.evict(now.wall, tally)
        self._conversions.evict(now.wall, self._campaigns.records)
        self._still_sending.expire(now.wall)

    def _finish(self, now: Moment, tally: Tally) -> Merged:
        self._evict(now, tally)
        before, self._stale = self._stale, self._staleness(now)
        return Merged(
            tally.new, tally.found, tally.changed, tally.gone, tally.released, staleness=before != self._stale
        )

    def last_success(self, resource: str) -> float | None:
        """Return when a poll of the resource last succeeded, before a restart maybe; None: never."""
        return self._freshness.successes.get(resource)

    # Saving

    def changes(self, now: Moment, *, whole: bool = False) -> Changes:
        """Return what must be saved: what changed since the last `saved`, or everything if `whole`."""
        account = AccountRecord(
            self._since,
            dict(self._freshness.successes),
            dict(self._still_sending.times),
            self._proven.ranges,
            self._labels.overflowed,
        )
        if whole or self._saves.is_first:
            return Changes(
                account,
                tuple((self._campaigns.unsaved | self._campaigns.records).values()),
                tuple(self._channels.records.values()),
                tuple(self._conversions.records.values()),
                whole=True,
            )
        changes = Changes(
            None,
            tuple(self._campaigns.unsaved.values()),
            tuple(record for record in self._channels.unsaved.values() if record is not None),
            tuple(record for record in self._conversions.unsaved.values() if record is not None),
            tuple(key for key, record in self._conversions.unsaved.items() if record is None),
            tuple(name for name, record in self._channels.unsaved.items() if record is None),
        )
        is_due = self._saves.is_due(account, now, with_others=changes != Changes())
        return replace(changes, account=account) if is_due else changes

    def saved(self, changes: Changes, now: Moment) -> None:
        """Take note that `changes` were saved."""
        self._campaigns.unsaved.clear()
        self._channels.unsaved.clear()
        self._conversions.unsaved.clear()
        self._saves.saved(changes.account, now)

    # Publishing

    def snapshot(self) -> AccountSnapshot:
        """Return what to export as of the last merge or tick; the same object as long as nothing changes."""
        return self._snapshots.make(self._since, stale=self._stale)

    def snapshot_without_holds(self) -> AccountSnapshot:
        """Return the same with nothing held at 0: who asks only once sees no step."""
        return self._snapshots.without_holds(self._since, stale=self._stale)


def _by_campaign(rows: Iterable[R]) -> dict[Key, list[R]]:
    """Return the rows of each campaign and channel."""
    found: dict[Key, list[R]] = defaultdict(list)
    for row in rows:
        found[row.campaign_id, row.channel].append(row)
    return found
