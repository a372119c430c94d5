"""What is known of an account to what is published of it; what didn't change stays the same object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.tracking.campaigns import is_held
from exporter.tracking.counters import NEW
from exporter.tracking.model import AccountSnapshot, CampaignSnapshot, MessageSnapshot

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from exporter.tracking.campaigns import Campaigns
    from exporter.tracking.channels import Channels
    from exporter.tracking.conversions import Conversions
    from exporter.tracking.model import (
        CampaignRecord,
        ChannelSnapshot,
        ConversionsRecord,
        Key,
        WindowSettings,
    )


class SnapshotMaker:
    """Makes the snapshots of one account, from those parts of the last one that didn't change."""

    def __init__(
        self,
        account: str,
        currency: str | None,
        settings: WindowSettings,
        *,
        campaigns: Campaigns,
        channels: Channels,
        conversions: Conversions,
    ) -> None:
        self._account = account
        self._currency = currency
        self._settings = settings
        self._campaigns = campaigns
        self._channels = channels
        self._conversions = conversions
        self._made: dict[Key, CampaignSnapshot] = {}
        self._order: list[Key] = []
        self._made_channels: tuple[ChannelSnapshot, ...] = ()
        self._last: AccountSnapshot | None = None
        self._stale: tuple[bool, bool] | None = None

    def make(self, since: float, *, stale: tuple[bool, bool]) -> AccountSnapshot:
        """Return the snapshot, the same object as long as nothing changes.

        `stale`: whether the data of statistics and of conversions are withdrawn.
        """
        if stale == self._stale and self._last is not None and not self._changed():
            return self._last
        if stale[0]:
            self._last = AccountSnapshot(self._account, self._currency, since, stale=True)
        else:
            self._update(stale)
            campaigns = [self._made[key] for key in self._order]
            self._last = self._account_snapshot(since, campaigns, self._made_channels)
        self._stale = stale
        return self._last

    def without_holds(self, since: float, *, stale: tuple[bool, bool]) -> AccountSnapshot:
        """Return the snapshot as it is with nothing held at 0."""
        if stale[0]:
            return AccountSnapshot(self._account, self._currency, since, stale=True)
        made = [
            self._campaign_snapshot(key, has_conversions=not stale[1], hold=False) for key in self._all_keys()
        ]
        return self._account_snapshot(
            since, sorted(made, key=_newest_first), self._channels.snapshots(hold=False)
        )

    def _all_keys(self) -> AbstractSet[Key]:
        return self._campaigns.records.keys() | self._conversions.records.keys()

    def _changed(self) -> bool:
        is_withdrawn = self._stale is not None and self._stale[0]
        return not is_withdrawn and bool(
            self._campaigns.changed or self._conversions.changed or self._channels.has_changed
        )

    def _update(self, stale: tuple[bool, bool]) -> None:
        """Make anew what changed since the last snapshot."""
        if stale != self._stale:
            self._made.clear()
            changed = self._all_keys()
        else:
            changed = self._campaigns.changed | self._conversions.changed
        is_moved = not self._made
        for key in changed:
            before = self._made.pop(key, None)
            if key in self._campaigns.records or key in self._conversions.records:
                made = self._campaign_snapshot(key, has_conversions=not stale[1], hold=True)
                self._made[key] = made
                is_moved = is_moved or before is None or made.start != before.start
            else:
                is_moved = is_moved or before is not None
        if is_moved:
            self._order = sorted(self._made, key=lambda key: _newest_first(self._made[key]))
        if self._channels.has_changed:
            self._made_channels = self._channels.snapshots(hold=True)
        self._campaigns.changed.clear()
        self._conversions.changed.clear()
        self._channels.has_changed = False

    def _account_snapshot(
        self, since: float, newest: Sequence[CampaignSnapshot], channels: tuple[ChannelSnapshot, ...]
    ) -> AccountSnapshot:
        """Return campaigns, the newest first, as far as they are exported, and channels as one snapshot."""
        dropped: frozenset[int] = frozenset()
        if len(newest) > self._settings.max_campaigns:
            ids = list(dict.fromkeys([item.campaign_id for item in newest]))
            dropped = frozenset(ids[self._settings.max_campaigns :])
        campaigns = tuple([item for item in newest if item.campaign_id not in dropped])
        return AccountSnapshot(self._account, self._currency, since, campaigns, channels, dropped=len(dropped))

    def _campaign_snapshot(self, key: Key, *, has_conversions: bool, hold: bool) -> CampaignSnapshot:
        campaign = self._campaigns.records.get(key)
        conversions = self._conversions.records.get(key)
        groups = () if campaign is None else campaign.groups
        sources = groups or (() if conversions is None else conversions.groups)
        counters = NEW if campaign is None else campaign.counters
        return CampaignSnapshot(
            *key,
            start=min([group.start for group in sources]),
            stop=_stop(conversions),
            campaign_name="" if conversions is None else conversions.campaign_name,
            message_title=" | ".join(sorted({title for group in sources for title in group.titles})),
            values=counters.exported(hold=hold),
            vendor=counters.present,
            overcount=counters.exported_overcount(hold=hold),
            held=hold and campaign is not None and is_held(campaign),
            messages=self._message_snapshots(campaign, hold=hold),
            conversions=conversions.gauges if conversions is not None and has_conversions else (),
        )

    def _message_snapshots(self, campaign: CampaignRecord | None, *, hold: bool) -> tuple[MessageSnapshot, ...]:
        if campaign is None or not self._settings.per_message:
            return ()
        return tuple(
            [
                MessageSnapshot(
                    message.title,
                    message.counters.exported(hold=hold),
                    message.counters.exported_overcount(hold=hold),
                )
                for message in campaign.messages
                if not message.gone
            ]
        )


def _newest_first(item: CampaignSnapshot) -> tuple[float, int, str]:
    return -item.start, item.campaign_id, item.channel


def _stop(conversions: ConversionsRecord | None) -> float | None:
    stops = () if conversions is None else [group.stop for group in conversions.groups]
    return max((stop for stop in stops if stop is not None), default=None)
