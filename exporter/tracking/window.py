"""What is known of one account: its campaigns, their counters, its channels.

Answers of the API are merged into it, and an immutable snapshot of what to export comes out. Values are kept
by campaign, channel and start, so that a poll of a part of the window touches only what it read. Pure: no I/O
and no clock; every method that depends on time takes it.

The order of a poll is merge, `changes`, save, `saved`, `snapshot`, publish; one thread at a time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from exporter.api.fields import CONVERSIONS, COUNTER_FIELDS, STATISTICS, Counts, same
from exporter.api.model import Mark, add_up
from exporter.tracking import counter as rules
from exporter.tracking.counter import Reading
from exporter.tracking.model import (
    AccountSnapshot,
    CampaignSnapshot,
    Changes,
    ChannelSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
    SavedCampaign,
    SavedChannel,
    SavedConversionGroup,
    SavedConversions,
    SavedGroup,
    SavedMessage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Conversion, Count, MessageStats, N, Row, TimeRange, Values
    from exporter.collect.model import Collected
    from exporter.tracking.model import SavedAccount

Key: TypeAlias = tuple[int, str]
"""Campaign and channel."""

NEW_SLACK: Final = 3600.0
"""A campaign is new if it started after the last successful poll less so many seconds."""

_NO_VALUES: Final[Values] = same(None)
_NO_CORRECTIONS: Final = (0,) * len(COUNTER_FIELDS)


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """The configuration of one account's window; all times in seconds.

    `window` is how long after its start a campaign is kept; without a successful poll for `stale_after`
    (`conversions_stale_after`) data are withdrawn; `zero_hold` is how long a new series stands at 0 (0: not at
    all); `max_campaigns` how many campaigns are exported at most; with `per_message` every title has counters.
    """

    window: float
    stale_after: float
    conversions_stale_after: float
    zero_hold: float
    max_campaigns: int
    per_message: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge or tick changed, for the log and the exporter's own metrics.

    Campaigns are counted once per channel: `new` by the counters' rule, `found` for the first time or again
    but not new, `changed`, `gone`. `corrections` counts downward steps by channel and field, `resets` the falls
    that were passed through, `released` the campaigns whose hold ended; `channels` are all that were seen so
    far. `staleness` is true if data were withdrawn or came back.
    """

    new: int = 0
    found: int = 0
    changed: int = 0
    gone: int = 0
    corrections: Mapping[tuple[str, str], int] = field(default_factory=dict)
    resets: int = 0
    released: int = 0
    channels: frozenset[str] = frozenset()
    staleness: bool = False


@dataclass(slots=True)
class _Tally:
    """What has changed so far."""

    new: int = 0
    found: int = 0
    changed: int = 0
    gone: int = 0
    corrections: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    resets: int = 0
    released: int = 0


class Window:
    """The memory of one account.

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
        now: float,
    ) -> None:
        self.account = account
        self.currency = currency
        self.settings = settings
        self._since = now if saved is None else saved.since
        self._successes: dict[str, float] = {}
        self._campaigns: dict[Key, SavedCampaign] = {}
        self._channels: dict[str, SavedChannel] = {}
        self._conversions: dict[Key, SavedConversions] = {}
        self._discovered: dict[int, float] = {}
        self._held: set[Key] = set()
        # What isn't saved yet: the last records of each key; an evicted campaign is only here.
        self._unsaved_campaigns: dict[Key, SavedCampaign] = {}
        self._unsaved_channels: dict[str, SavedChannel] = {}
        self._unsaved_conversions: dict[Key, SavedConversions | None] = {}
        self._unsaved_discovered: dict[int, float | None] = {}
        self._saved_successes: Mapping[str, float] = {}
        self._whole = saved is None
        self._cache: dict[Key, CampaignSnapshot] = {}
        self._cached_stale = False
        if saved is not None:
            self._load(saved, now)
        self._stale = (self._is_stale(STATISTICS, now), self._is_stale(CONVERSIONS, now))

    def _load(self, saved: SavedAccount, now: float) -> None:
        # A clock that once ran ahead must not make data look fresh for ever.
        self._successes = {resource: min(time, now) for resource, time in saved.successes.items()}
        self._saved_successes = dict(self._successes)
        self._discovered = dict(saved.discovered)
        self._campaigns = {(item.campaign_id, item.channel): item for item in saved.campaigns}
        self._channels = {item.channel: item for item in saved.channels}
        self._conversions = {(item.campaign_id, item.channel): item for item in saved.conversions}
        self._held = {key for key, item in self._campaigns.items() if _holds(item)}
        self._hold_anew(now)
        self._evict(now, _Tally())

    # Merging

    def unknown(self, rows: Iterable[Row]) -> frozenset[Key]:
        """Return the campaigns and channels of `rows` that aren't in memory.

        They may be in the archive; what is found there goes to `merge_statistics` as `recalled`.
        """
        keys = {(row.campaign_id, row.channel) for row in rows}
        return frozenset(keys - self._campaigns.keys() - self._unsaved_campaigns.keys())

    def merge_statistics(
        self,
        collected: Collected[MessageStats],
        *,
        now: float,
        succeeded: bool,
        discovered: frozenset[int] | None = None,
        recalled: Iterable[SavedCampaign] = (),
    ) -> Merged:
        """Merge what a poll of the statistics read, be it all it wanted (`succeeded`) or not.

        `discovered` are the campaigns that it found still sending (None: it didn't look).
        """
        tally = _Tally()
        self._advance(now, tally, recovers=succeeded)
        for campaign_id in discovered or ():
            self._discovered[campaign_id] = self._unsaved_discovered[campaign_id] = now
        known = self._known(recalled)
        coverage = _Coverage(collected.ids, collected.ranges)
        by_campaign: dict[Key, list[MessageStats]] = defaultdict(list)
        for row in collected.rows:
            by_campaign[row.campaign_id, row.channel].append(row)
        others = self._starts_elsewhere(by_campaign.keys() - known.keys())
        for key, rows in by_campaign.items():
            held = known.get(key)
            if held is not None and not succeeded and _may_have_moved(rows, held.groups, coverage):
                continue  # the next poll finds out; until then it could count twice
            read = _read_statistics(
                rows,
                () if held is None else held.groups,
                coverage,
                collected.partial,
                window_start=now - self.settings.window,
                per_message=self.settings.per_message,
            )
            if self._leaves(key[0], (group.start for group in read.groups)) > now:
                # What told of the campaign's other channels, with these starts, knew nothing of this one
                joins = {group.start for group in read.groups} <= others.get(key[0], set())
                new = held is None and (joins or self._is_new(read.groups))
                self._merge_campaign(key, held, read, now, tally, new=new)
        if succeeded:
            self._successes[STATISTICS] = now
        return self._finish(now, tally)

    def _known(self, recalled: Iterable[SavedCampaign]) -> dict[Key, SavedCampaign]:
        """Return all campaigns in memory, tracked or just evicted, with those of the archive."""
        known = {(item.campaign_id, item.channel): item for item in recalled}
        known |= {key: item for key, item in self._unsaved_campaigns.items() if item.evicted is not None}
        return known | self._campaigns

    def _starts_elsewhere(self, unknown: AbstractSet[Key]) -> dict[int, set[float]]:
        """Return the starts of the tracked campaigns that have channels nobody knew of."""
        starts: dict[int, set[float]] = {campaign_id: set() for campaign_id, _ in unknown}
        for (campaign_id, _), item in self._campaigns.items() if starts else ():
            if campaign_id in starts:
                starts[campaign_id].update(_starts(item))
        return starts

    def merge_conversions(self, collected: Collected[Conversion], *, now: float, succeeded: bool) -> Merged:
        """Merge what a poll of the conversions read, be it all it wanted (`succeeded`) or not."""
        tally = _Tally()
        self._advance(now, tally, recovers=False)
        coverage = _Coverage(collected.ids, collected.ranges)
        by_campaign: dict[Key, list[Conversion]] = defaultdict(list)
        for row in collected.rows:
            by_campaign[row.campaign_id, row.channel].append(row)
        for key, rows in by_campaign.items():
            held = self._conversions.get(key)
            groups = _read_conversions(rows, () if held is None else held.groups, coverage, collected.partial)
            tracked = key in self._campaigns
            if not tracked and self._leaves(key[0], (group.start for group in groups)) <= now:
                continue
            names = [row.campaign_name for row in rows if row.campaign_name]
            merged = SavedConversions(
                key[0],
                key[1],
                names[-1] if names else ("" if held is None else held.campaign_name),
                groups,
                _gauges(groups, () if held is None else held.gauges),
            )
            if merged != held:
                tally.found += held is None and not tracked
                tally.changed += held is not None or tracked
                self._conversions[key] = self._unsaved_conversions[key] = merged
                self._cache.pop(key, None)
        if succeeded:
            self._successes[CONVERSIONS] = now
        return self._finish(now, tally)

    def tick(self, now: float) -> Merged | None:
        """Do what is due by time alone: end holds, withdraw stale data, evict. None: nothing changed."""
        tally = _Tally()
        before = {name: item.held for name, item in self._channels.items()}
        self._advance(now, tally, recovers=False)
        merged = self._finish(now, tally)
        released = before != {name: item.held for name, item in self._channels.items()}
        return merged if merged.gone or merged.released or merged.staleness or released else None

    def next_event(self) -> float | None:
        """Return when `tick` next has something to do; None: never, as things stand."""
        events: list[float] = []
        stale, conversions_stale = self._stale
        if not stale:
            events += [time for key in self._held for time in _holds(self._campaigns[key])]
            events += [time for item in self._channels.values() for time in item.held if time is not None]
            events.append(self._successes.get(STATISTICS, self._since) + self.settings.stale_after)
        if self._conversions and not conversions_stale:
            last = self._successes.get(CONVERSIONS, self._since)
            events.append(last + self.settings.conversions_stale_after)
        events += [self._leaves(key[0], _starts(item)) for key, item in self._campaigns.items()]
        events += [
            self._leaves(key[0], _starts(item))
            for key, item in self._conversions.items()
            if key not in self._campaigns
        ]
        return min(events, default=None)

    def _merge_campaign(
        self, key: Key, held: SavedCampaign | None, read: _ReadGroups, now: float, tally: _Tally, *, new: bool
    ) -> None:
        tracked = key in self._campaigns
        if held is not None and tracked and not read.lower and read.groups == held.groups and _settled(held):
            return
        if held is not None and not tracked:
            held = _held_until(held, now + self.settings.zero_hold)
        as_is = held is None and not new
        until = self._until(now)
        how = Reading(as_is, until, read.lower, read.confirms)
        before = rules.NEW if held is None else held.counters
        steps = [
            rules.read(counter, add_up(group.values[index] for group in read.groups), how)
            for index, counter in enumerate(before)
        ]
        merged = SavedCampaign(
            key[0],
            key[1],
            tuple(step.counter for step in steps),
            read.groups,
            self._merge_messages(held, read, replace(how, as_is=as_is)),
        )
        if merged == held and tracked:
            return
        self._put(key, merged)
        self._add(key[1], [step.increase for step in steps], until)
        tally.new += new
        tally.found += not new and not tracked
        tally.changed += tracked
        for name, step in zip(COUNTER_FIELDS, steps, strict=True):
            if step.corrected:
                tally.corrections[key[1], name] += 1
            tally.resets += step.reset

    def _merge_messages(
        self, held: SavedCampaign | None, read: _ReadGroups, how: Reading
    ) -> tuple[SavedMessage, ...]:
        """Read the sums by title, by the same rules; a renamed title goes on as it is under its new name."""
        known = {} if held is None else {message.title: message for message in held.messages}
        if not self.settings.per_message:
            return tuple(known.values())
        present = {title for group in read.groups for title, _ in group.messages}
        added = present - known.keys()
        absent = {title for title, message in known.items() if not message.gone} - present
        untracked = held is not None and not all(group.messages for group in held.groups)
        first = replace(how, as_is=how.as_is or untracked or bool(absent))
        for title in sorted(present):
            before = known[title].counters if title in known else rules.NEW
            sums = _title_sums(read.groups, title)
            known[title] = SavedMessage(
                title,
                tuple(
                    rules.read(counter, value, first if title in added else how).counter
                    for counter, value in zip(before, sums, strict=True)
                ),
            )
        if added:
            known |= {title: replace(known[title], gone=True) for title in absent}
        return tuple(known.values())

    def _is_new(self, groups: Sequence[SavedGroup]) -> bool:
        """Whether a campaign that was never seen started after the last successful poll, or shortly before."""
        last = self._successes.get(STATISTICS)
        return last is not None and min(group.start for group in groups) > last - NEW_SLACK

    def _until(self, now: float) -> float | None:
        return now + self.settings.zero_hold if self.settings.zero_hold > 0 else None

    def _put(self, key: Key, campaign: SavedCampaign) -> None:
        self._campaigns[key] = self._unsaved_campaigns[key] = campaign
        self._cache.pop(key, None)
        if _holds(campaign):
            self._held.add(key)
        else:
            self._held.discard(key)

    def _add(self, channel: str, increases: Sequence[int | None], until: float | None) -> None:
        """Add increases of one campaign to its channel; a field's first value begins it at 0, held."""
        held = self._channels.get(channel)
        if held is None:
            held = SavedChannel(channel, _NO_VALUES, (None,) * len(COUNTER_FIELDS))
        totals = list(held.totals)
        holds = list(held.held)
        for index, increase in enumerate(increases):
            if increase is None:
                continue
            total = totals[index]
            if total is None:
                total, holds[index] = 0, until
            totals[index] = total + increase
        merged = SavedChannel(channel, Counts._make(totals), tuple(holds))
        if merged != self._channels.get(channel):
            self._channels[channel] = self._unsaved_channels[channel] = merged

    # Time

    def _advance(self, now: float, tally: _Tally, *, recovers: bool) -> None:
        """End the holds that are due, but not while nothing is exported: then no one has seen the 0."""
        if not self._is_stale(STATISTICS, now):
            self._release(now, tally)
        elif recovers:
            self._hold_anew(now)

    def _release(self, now: float, tally: _Tally) -> None:
        for key in sorted(self._held):
            campaign = self._campaigns[key]
            if min(_holds(campaign)) > now:
                continue
            self._put(
                key,
                replace(
                    campaign,
                    counters=rules.release(campaign.counters, now),
                    messages=tuple(
                        replace(message, counters=rules.release(message.counters, now))
                        for message in campaign.messages
                    ),
                ),
            )
            tally.released += 1
        for name, channel in self._channels.items():
            holds = tuple(None if time is None or time <= now else time for time in channel.held)
            if holds != channel.held:
                self._channels[name] = self._unsaved_channels[name] = replace(channel, held=holds)

    def _hold_anew(self, now: float) -> None:
        """Begin every hold that hasn't ended anew. Nothing to save: every load does the same."""
        until = now + self.settings.zero_hold
        for key in self._held:
            self._campaigns[key] = _held_until(self._campaigns[key], until)
        for name, channel in self._channels.items():
            holds = tuple(None if time is None else until for time in channel.held)
            self._channels[name] = replace(channel, held=holds)

    def _is_stale(self, resource: str, now: float) -> bool:
        limits = {
            STATISTICS: self.settings.stale_after,
            CONVERSIONS: self.settings.conversions_stale_after,
        }
        return now - self._successes.get(resource, self._since) >= limits[resource]

    def _leaves(self, campaign_id: int, starts: Iterable[float]) -> float:
        """Return when a campaign leaves the window: by its last start, or its last discovery."""
        return max(*starts, self._discovered.get(campaign_id, -math.inf)) + self.settings.window

    def _evict(self, now: float, tally: _Tally) -> None:
        for key, campaign in list(self._campaigns.items()):
            if self._leaves(key[0], _starts(campaign)) <= now:
                del self._campaigns[key]
                self._held.discard(key)
                self._cache.pop(key, None)
                self._unsaved_campaigns[key] = replace(campaign, evicted=now)
                tally.gone += 1
        for key, conversions in list(self._conversions.items()):
            if key not in self._campaigns and self._leaves(key[0], _starts(conversions)) <= now:
                del self._conversions[key]
                self._cache.pop(key, None)
                self._unsaved_conversions[key] = None
        for campaign_id, time in list(self._discovered.items()):
            if time + self.settings.window <= now:
                del self._discovered[campaign_id]
                self._unsaved_discovered[campaign_id] = None

    def _finish(self, now: float, tally: _Tally) -> Merged:
        self._evict(now, tally)
        stale = (self._is_stale(STATISTICS, now), self._is_stale(CONVERSIONS, now))
        staleness = stale != self._stale
        self._stale = stale
        return Merged(
            tally.new,
            tally.found,
            tally.changed,
            tally.gone,
            dict(tally.corrections),
            tally.resets,
            tally.released,
            frozenset(self._channels),
            staleness,
        )

    # What the poller plans with

    def old_campaigns(self, now: float) -> frozenset[int]:
        """Return the tracked campaigns that started before the window: they must be read by their ids."""
        first = now - self.settings.window
        statistics = {key[0] for key, item in self._campaigns.items() if max(_starts(item)) < first}
        conversions = {key[0] for key, item in self._conversions.items() if max(_starts(item)) < first}
        return frozenset(statistics | conversions)

    def moved(
        self, resource: str, rows: Iterable[Row], recalled: Iterable[SavedCampaign] = ()
    ) -> frozenset[int]:
        """Return the campaigns of which `rows` have a start that isn't the one known so far.

        Their start was changed, maybe while they were being read: under both starts they would count twice.
        Who reads them again by their ids gets them once. `recalled` as for `merge_statistics`.
        """
        starts: dict[Key, set[float]] = defaultdict(set)
        for row in rows:
            starts[row.campaign_id, row.channel].add(row.start)
        items: Mapping[Key, SavedCampaign | SavedConversions]
        items = self._known(recalled) if resource == STATISTICS else self._conversions
        moved = set()
        for key, seen in starts.items():
            held = set(_starts(items[key])) if key in items else set()
            if len(seen | held) > 1 and not seen <= held:
                moved.add(key[0])
        return frozenset(moved)

    def starts(self, resource: str, ids: AbstractSet[int]) -> set[float]:
        """Return all starts that are known of some campaigns."""
        items: Mapping[Key, SavedCampaign | SavedConversions]
        items = self._campaigns if resource == STATISTICS else self._conversions
        return {start for key, item in items.items() if key[0] in ids for start in _starts(item)}

    def last_success(self, resource: str) -> float | None:
        """Return when a poll of the resource last succeeded, before a restart maybe; None: never."""
        return self._successes.get(resource)

    # Saving

    def changes(self, *, whole: bool = False) -> Changes:
        """Return what must be saved: what changed since the last `saved`, or everything if `whole`."""
        whole = whole or self._whole
        if not whole:
            return Changes(
                self._since,
                dict(self._successes) if self._successes != self._saved_successes else {},
                tuple(self._unsaved_campaigns.values()),
                tuple(self._unsaved_channels.values()),
                tuple(item for item in self._unsaved_conversions.values() if item is not None),
                tuple(key for key, item in self._unsaved_conversions.items() if item is None),
                dict(self._unsaved_discovered),
            )
        return Changes(
            self._since,
            dict(self._successes),
            tuple((self._unsaved_campaigns | self._campaigns).values()),
            tuple(self._channels.values()),
            tuple(self._conversions.values()),
            discovered=dict(self._discovered),
            whole=True,
        )

    def saved(self, changes: Changes) -> None:
        """Take note that `changes` were saved. What has changed since remains to be saved."""
        for campaign in changes.campaigns:
            _forget(self._unsaved_campaigns, (campaign.campaign_id, campaign.channel), campaign)
        for channel in changes.channels:
            _forget(self._unsaved_channels, channel.channel, channel)
        for conversions in changes.conversions:
            key = (conversions.campaign_id, conversions.channel)
            _forget(self._unsaved_conversions, key, conversions)
        for key in changes.conversions_gone:
            _forget(self._unsaved_conversions, key, None)
        for campaign_id, time in changes.discovered.items():
            if self._unsaved_discovered.get(campaign_id, math.nan) == time:
                del self._unsaved_discovered[campaign_id]
        if changes.successes:
            self._saved_successes = changes.successes
        if changes.whole:
            self._whole = False

    # Publishing

    def snapshot(self, now: float, *, hold: bool = True) -> AccountSnapshot:
        """Return what to export at `now`. Without `hold` nothing is held at 0."""
        if self._is_stale(STATISTICS, now):
            return AccountSnapshot(self.account, self.currency, self._since, stale=True)
        conversions_stale = self._is_stale(CONVERSIONS, now)
        if conversions_stale != self._cached_stale or not hold:
            self._cache.clear()
            self._cached_stale = conversions_stale
        keys = self._campaigns.keys() | self._conversions.keys()
        campaigns = [self._campaign_snapshot(key, hold=hold) for key in keys]
        if not hold:
            self._cache.clear()
        campaigns.sort(key=lambda item: (-item.start, item.campaign_id, item.channel))
        ids = list(dict.fromkeys(item.campaign_id for item in campaigns))
        dropped = frozenset(ids[self.settings.max_campaigns :])
        return AccountSnapshot(
            self.account,
            self.currency,
            self._since,
            tuple(item for item in campaigns if item.campaign_id not in dropped),
            tuple(
                ChannelSnapshot(name, _channel_values(self._channels[name], hold=hold))
                for name in sorted(self._channels)
            ),
            dropped=len(dropped),
        )

    def _campaign_snapshot(self, key: Key, *, hold: bool) -> CampaignSnapshot:
        if key in self._cache:
            return self._cache[key]
        campaign = self._campaigns.get(key)
        conversions = self._conversions.get(key)
        groups = (campaign or self._conversions[key]).groups
        counters = () if campaign is None else campaign.counters
        stops = () if conversions is None else [group.stop for group in conversions.groups]
        snapshot = CampaignSnapshot(
            key[0],
            key[1],
            min(group.start for group in groups),
            max((stop for stop in stops if stop is not None), default=None),
            "" if conversions is None else conversions.campaign_name,
            " | ".join(sorted({title for group in groups for title in group.titles})),
            Counts._make(rules.exported(counter, hold=hold) for counter in counters)
            if counters
            else _NO_VALUES,
            Counts._make(counter.vendor for counter in counters) if counters else _NO_VALUES,
            tuple(counter.corrections for counter in counters) or _NO_CORRECTIONS,
            held=hold and bool(rules.holds(counters)),
            messages=self._message_snapshots(campaign, hold=hold),
            conversions=() if conversions is None or self._cached_stale else conversions.gauges,
        )
        self._cache[key] = snapshot
        return snapshot

    def _message_snapshots(self, campaign: SavedCampaign | None, *, hold: bool) -> tuple[MessageSnapshot, ...]:
        if campaign is None or not self.settings.per_message:
            return ()
        return tuple(
            MessageSnapshot(
                message.title,
                Counts._make(rules.exported(counter, hold=hold) for counter in message.counters),
            )
            for message in campaign.messages
            if not message.gone
        )


# Groups of rows


class _Coverage:
    """Which rows an answer would have had, if they existed."""

    def __init__(self, ids: AbstractSet[int], ranges: Iterable[TimeRange]) -> None:
        self._ids = ids
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for item in sorted(ranges):
            if self._lasts and item.first <= self._lasts[-1] + 1:
                self._lasts[-1] = max(self._lasts[-1], item.last)
            else:
                self._firsts.append(item.first)
                self._lasts.append(item.last)

    def covers(self, campaign_id: int, start: float) -> bool:
        if campaign_id in self._ids:
            return True
        index = bisect_right(self._firsts, math.floor(start)) - 1
        return index >= 0 and math.floor(start) <= self._lasts[index]


@dataclass(frozen=True, slots=True)
class _ReadGroups:
    """The groups of a campaign and channel after a read.

    `lower`: their sums are lower bounds; `confirms`: they were all read, so that a fall is the campaign's.
    """

    groups: tuple[SavedGroup, ...]
    lower: bool
    confirms: bool


def _read_statistics(
    rows: Sequence[MessageStats],
    held: Sequence[SavedGroup],
    coverage: _Coverage,
    partial: AbstractSet[object],
    *,
    window_start: float,
    per_message: bool,
) -> _ReadGroups:
    """Merge all rows that an answer had of one campaign and channel into the groups held of it."""
    campaign_id = rows[0].campaign_id
    by_start: dict[float, list[MessageStats]] = defaultdict(list)
    for row in rows:
        by_start[row.start].append(row)
    groups: dict[float, SavedGroup] = {}
    confirms = True
    for group in held:
        # A start that should have been in the answer and wasn't has moved: the campaign came with another one.
        if group.start in by_start or not coverage.covers(campaign_id, group.start):
            groups[group.start] = group
            # No poll reads what lies before the window, unless by its id.
            confirms = confirms and (group.start in by_start or group.start < window_start)
    lower = False
    for start, members in by_start.items():
        group = _sum_up(start, members, per_message=per_message)
        if members[0].group in partial:
            group = _raise(groups.get(start), group)
            lower = True
        groups[start] = group
    return _ReadGroups(
        tuple(groups[start] for start in sorted(groups)),
        lower,
        confirms,
    )


def _may_have_moved(rows: Sequence[MessageStats], held: Sequence[SavedGroup], coverage: _Coverage) -> bool:
    """Whether a campaign came with another start, and nobody knows whether one held of it is still there."""
    seen, starts = {row.start for row in rows}, {group.start for group in held}
    return bool(seen - starts) and any(
        not coverage.covers(rows[0].campaign_id, start) for start in starts - seen
    )


def _sum_up(start: float, rows: Sequence[MessageStats], *, per_message: bool) -> SavedGroup:
    by_title: dict[str, list[MessageStats]] = defaultdict(list)
    for row in rows:
        by_title[row.title].append(row)
    titles = tuple(sorted(by_title))
    messages = tuple((title, _sums(by_title[title])) for title in titles) if per_message else ()
    return SavedGroup(start, len(rows), _sums(rows), titles, messages)


def _sums(rows: Sequence[MessageStats]) -> Counts[Count]:
    if len(rows) == 1:
        return rows[0].counts
    return Counts._make(add_up(column) for column in zip(*(row.counts for row in rows), strict=True))


def _title_sums(groups: Iterable[SavedGroup], title: str) -> tuple[Count, ...]:
    values = [sums for group in groups for name, sums in group.messages if name == title]
    return tuple(add_up(column) for column in zip(*values, strict=True))


def _higher(held: N | Mark | None, value: N | Mark | None) -> N | Mark | None:
    """Return what a lower bound says of a sum."""
    if value is None or isinstance(value, Mark):
        return held if value is None else value
    if held is None or isinstance(held, Mark):
        return value
    return max(held, value)


def _raise(held: SavedGroup | None, group: SavedGroup) -> SavedGroup:
    """Merge a group of which rows may be missing: it can raise sums, not lower them."""
    if held is None:
        return group
    messages = dict(held.messages)
    for title, sums in group.messages:
        before = messages.get(title, _NO_VALUES)
        messages[title] = tuple(map(_higher, before, sums))
    return SavedGroup(
        group.start,
        max(held.rows, group.rows),
        tuple(map(_higher, held.values, group.values)),
        tuple(sorted({*held.titles, *group.titles})),
        tuple(sorted(messages.items())),
    )


def _read_conversions(
    rows: Sequence[Conversion],
    held: Sequence[SavedConversionGroup],
    coverage: _Coverage,
    partial: AbstractSet[object],
) -> tuple[SavedConversionGroup, ...]:
    """Merge all conversion rows that an answer had of one campaign and channel into the groups held of it."""
    by_group: dict[tuple[str, str, float], list[Conversion]] = defaultdict(list)
    for row in rows:
        by_group[row.event, row.period, row.start].append(row)
    events = {(row.event, row.period) for row in rows}
    groups: dict[tuple[str, str, float], SavedConversionGroup] = {}
    for group in held:
        key = (group.event, group.period, group.start)
        moved = key not in by_group and key[:2] in events and coverage.covers(rows[0].campaign_id, group.start)
        if not moved:
            groups[key] = group
    for key, members in by_group.items():
        group = _sum_up_conversions(members)
        before = groups.get(key)
        if before is not None and members[0].group in partial:
            group = _raise_conversions(before, group)
        groups[key] = group
    return tuple(groups[key] for key in sorted(groups))


def _sum_up_conversions(rows: Sequence[Conversion]) -> SavedConversionGroup:
    first = rows[0]
    return SavedConversionGroup(
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


def _raise_conversions(held: SavedConversionGroup, group: SavedConversionGroup) -> SavedConversionGroup:
    return replace(
        group,
        rows=max(held.rows, group.rows),
        titles=tuple(sorted({*held.titles, *group.titles})),
        deposits=_higher(held.deposits, group.deposits),
        amount=_higher(held.amount, group.amount),
        converted_users=_higher(held.converted_users, group.converted_users),
    )


def _gauges(
    groups: Sequence[SavedConversionGroup], held: Sequence[ConversionSnapshot]
) -> tuple[ConversionSnapshot, ...]:
    """Sum the groups up by event and period. Where a sum is unknown, its last good value stays."""
    gauges = {(gauge.event, gauge.period): gauge for gauge in held}
    by_event: dict[tuple[str, str], list[SavedConversionGroup]] = defaultdict(list)
    for group in groups:
        by_event[group.event, group.period].append(group)
    for key, members in by_event.items():
        before = gauges.get(key)
        deposits = add_up(group.deposits for group in members)
        amount = add_up(group.amount for group in members)
        users = add_up(group.converted_users for group in members)
        gauges[key] = ConversionSnapshot(
            key[0],
            key[1],
            _good(deposits, None if before is None else before.deposits),
            _good(amount, None if before is None else before.amount),
            _good(users, None if before is None else before.converted_users),
        )
    return tuple(gauges[key] for key in sorted(gauges))


def _good(value: N | Mark | None, last: N | None) -> N | None:
    return last if value is None or isinstance(value, Mark) else value


# Small views


def _starts(item: SavedCampaign | SavedConversions) -> list[float]:
    return [group.start for group in item.groups]


def _holds(campaign: SavedCampaign) -> list[float]:
    """Return when the holds of all series of a campaign end."""
    times = [*rules.holds(campaign.counters)]
    for message in campaign.messages:
        times += rules.holds(message.counters)
    return times


def _settled(campaign: SavedCampaign) -> bool:
    """Whether reading the same values again changes nothing: no fall is pending."""
    return all(
        counter.top == counter.vendor
        for counters in (campaign.counters, *(message.counters for message in campaign.messages))
        for counter in counters
    )


def _held_until(campaign: SavedCampaign, until: float) -> SavedCampaign:
    """Begin the campaign's holds that haven't ended anew."""
    return replace(
        campaign,
        counters=rules.hold_anew(campaign.counters, until),
        messages=tuple(
            replace(message, counters=rules.hold_anew(message.counters, until)) for message in campaign.messages
        ),
    )


def _channel_values(channel: SavedChannel, *, hold: bool) -> Values:
    return Counts._make(
        0 if hold and until is not None else total
        for total, until in zip(channel.totals, channel.held, strict=True)
    )


K = TypeVar("K")
V = TypeVar("V")


def _forget(unsaved: dict[K, V], key: K, record: V) -> None:
    """Drop a record that was saved, unless a later one has taken its place."""
    if key in unsaved and unsaved[key] is record:
        del unsaved[key]
