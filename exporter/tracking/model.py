"""What is known of an account: what is saved and what is published. Frozen and slotted.

Times are seconds since the epoch (UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from exporter.api.model import Amount, Count, Values

# What is published


@dataclass(frozen=True, slots=True)
class ConversionSnapshot:
    """The conversion gauges of one campaign, channel, event and period; None: never had a value."""

    event: str
    period: str
    deposits: int | None
    amount: Decimal | None
    converted_users: int | None


@dataclass(frozen=True, slots=True)
class MessageSnapshot:
    """Counters of all messages of one title in a campaign and channel."""

    title: str
    values: Values


@dataclass(frozen=True, slots=True)
class CampaignSnapshot:
    """One campaign in one channel, as it is exported.

    `values` are the exported counters; `vendor` the last good values that the API gave, summed over messages;
    `corrections` the downward steps seen by field. `held` is true while the counters stand at 0 for zero_hold.
    """

    campaign_id: int
    channel: str
    start: float
    stop: float | None
    campaign_name: str
    message_title: str
    values: Values
    vendor: Values
    corrections: tuple[int, ...]
    held: bool = False
    messages: tuple[MessageSnapshot, ...] = ()
    conversions: tuple[ConversionSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """The exported counters of one channel of an account."""

    channel: str
    values: Values


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """All campaign series of one account. `since` is when its state began: `_created` of channel counters.

    `stale` accounts have no campaigns and no channels here. `campaigns` is sorted by start, newest first.
    """

    account: str
    currency: str | None
    since: float
    campaigns: tuple[CampaignSnapshot, ...] = ()
    channels: tuple[ChannelSnapshot, ...] = ()
    dropped: int = 0
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the polls have found, as of one moment."""

    accounts: tuple[AccountSnapshot, ...] = ()


# What is saved: what must survive a restart


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of one series, as the rules in `counters` see it.

    `top` is the value to export, the maximum seen since the last reset (None: never had a value); `vendor` the
    last good value of the API; `low` the readings in a row that were low enough for a reset; `corrections` the
    downward steps seen. Until the time `held` (None: not held) it is exported as 0. With `as_is` its first
    value will be no increase.
    """

    top: int | None = None
    vendor: int | None = None
    low: int = 0
    corrections: int = 0
    held: float | None = None
    as_is: bool = False


Counters: TypeAlias = tuple[Counter, ...]
"""Twelve counters by COUNTER_FIELDS."""


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """The rows of one campaign and channel with the same start, as last read.

    `rows` is how many they were; `values` their sums, INVALID where a value couldn't be read; `titles` are
    sorted and distinct; `messages` has the sums by title where these are tracked.
    """

    start: float
    rows: int
    values: tuple[Count, ...]
    titles: tuple[str, ...]
    messages: tuple[tuple[str, tuple[Count, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class SavedMessage:
    """The counters of one title in a campaign and channel. `gone`: renamed, so no longer exported."""

    title: str
    counters: Counters
    gone: bool = False


@dataclass(frozen=True, slots=True)
class SavedCampaign:
    """Everything known of one campaign in one channel. `evicted` is when it left the window, if it has."""

    campaign_id: int
    channel: str
    counters: Counters
    groups: tuple[SavedGroup, ...]
    messages: tuple[SavedMessage, ...] = ()
    evicted: float | None = None


@dataclass(frozen=True, slots=True)
class SavedChannel:
    """The counters of one channel: everything added since the state began, and until when each is held at 0."""

    channel: str
    totals: Values
    held: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class SavedConversionGroup:
    """The rows of one campaign, channel, start, conversion event and period, as last read."""

    start: float
    event: str
    period: str
    rows: int
    titles: tuple[str, ...]
    stop: float | None
    deposits: Count
    amount: Amount
    converted_users: Count


@dataclass(frozen=True, slots=True)
class SavedConversions:
    """The conversions of one campaign in one channel: `gauges` has the last good sums, which are exported."""

    campaign_id: int
    channel: str
    campaign_name: str
    groups: tuple[SavedConversionGroup, ...]
    gauges: tuple[ConversionSnapshot, ...]


@dataclass(frozen=True, slots=True)
class SavedAccount:
    """One account as it was last saved.

    `since` is when its state began, `successes` the times of the last successful polls by resource,
    `discovered` when a campaign was last found to be still sending.
    """

    since: float
    successes: Mapping[str, float] = field(default_factory=dict)
    campaigns: tuple[SavedCampaign, ...] = ()
    channels: tuple[SavedChannel, ...] = ()
    conversions: tuple[SavedConversions, ...] = ()
    discovered: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changes:
    """What of one account must be saved, in one transaction.

    `campaigns`, `channels` and `conversions` replace the saved ones of the same key; the pairs of campaign and
    channel in `conversions_gone` lose their conversions; a time of None ends a discovery. `whole` changes
    replace all that is saved of the account. `memory` are free-form notes of others, by key.
    """

    since: float
    successes: Mapping[str, float] = field(default_factory=dict)
    campaigns: tuple[SavedCampaign, ...] = ()
    channels: tuple[SavedChannel, ...] = ()
    conversions: tuple[SavedConversions, ...] = ()
    conversions_gone: tuple[tuple[int, str], ...] = ()
    discovered: Mapping[int, float | None] = field(default_factory=dict)
    memory: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
