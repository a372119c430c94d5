"""What is known of an account: what is published, and the records that are saved. Frozen and slotted.

Times are seconds since the epoch (UTC), where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from exporter.api.fields import Counts, same

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from exporter.api.model import Amount, Count, TimeRange, Values
    from exporter.tracking.counters import Counters

Key: TypeAlias = tuple[int, str]
"""Campaign and channel."""

FOREVER: Final = 253402300799
"""The end of the year 9999."""

ARCHIVE_SECONDS: Final = 400 * 86400.0
"""A campaign that left the window is remembered for so long."""

NO_VALUES: Final[Values] = same(None)
ZEROS: Final[Counts[int]] = same(0)


class Moment(NamedTuple):
    """A time: `wall` in seconds since the epoch, `steady` in seconds of a clock that never jumps."""

    wall: float
    steady: float


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
    """Counters of all messages of one title in a campaign and channel; `overcount` as of `CampaignSnapshot`."""

    title: str
    values: Values
    overcount: Counts[int] = ZEROS


@dataclass(frozen=True, slots=True)
class CampaignSnapshot:
    """One campaign in one channel, as it is exported.

    `values` are the exported counters; `vendor` InTarget's present figures, as far as they could be read;
    `overcount` how far the counters stand above them. `held`: a counter stands at 0 for zero_hold.
    """

    campaign_id: int
    channel: str
    start: float
    stop: float | None
    campaign_name: str
    message_title: str
    values: Values
    vendor: Values
    overcount: Counts[int] = ZEROS
    held: bool = False
    messages: tuple[MessageSnapshot, ...] = ()
    conversions: tuple[ConversionSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class ChannelSnapshot:
    """The exported counters of one channel of an account, and how far they stand above InTarget's figures."""

    channel: str
    values: Values
    overcount: Counts[int] = ZEROS


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


# What is saved


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one campaign and channel with the same start, as last read.

    `rows` is how many they were, `counted` how many of them had a value, by field. `values` are their sums,
    INVALID where none could be read so far. `titles` are sorted and distinct; `messages` has the sums by title
    where these are tracked.
    """

    start: float
    rows: int
    counted: Counts[int]
    values: Counts[Count]
    titles: tuple[str, ...] = ()
    messages: tuple[tuple[str, Counts[Count]], ...] = ()


class OfCampaign:
    """A record of one campaign in one channel: by what it is known."""

    __slots__ = ()
    campaign_id: int
    channel: str
    groups: tuple[Group, ...] | tuple[ConversionGroup, ...]

    @property
    def key(self) -> Key:
        """Campaign and channel."""
        return self.campaign_id, self.channel

    @property
    def starts(self) -> tuple[float, ...]:
        """The starts of its rows, in rising order."""
        return tuple([group.start for group in self.groups])


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """The counters of one title in a campaign and channel. `gone`: renamed, so no longer exported."""

    title: str
    counters: Counters
    gone: bool = False


@dataclass(frozen=True, slots=True)
class CampaignRecord(OfCampaign):
    """Everything known of one campaign in one channel.

    `groups` has its rows by start; `past` the sums of the earlier runs of a recurring campaign, if it had any.
    `evicted` is when it left the window, if it has.
    """

    campaign_id: int
    channel: str
    counters: Counters
    groups: tuple[Group, ...]
    past: Group | None = None
    messages: tuple[MessageRecord, ...] = ()
    evicted: float | None = None


@dataclass(frozen=True, slots=True)
class ChannelRecord:
    """The counters of one channel: all increases since the state began."""

    channel: str
    counters: Counters


@dataclass(frozen=True, slots=True)
class ConversionGroup:
    """The rows of one campaign, channel, start, conversion event and period, as last read."""

    start: float
    event: str
    period: str
    rows: int
    titles: tuple[str, ...] = ()
    stop: float | None = None
    deposits: Count = None
    amount: Amount = None
    converted_users: Count = None


@dataclass(frozen=True, slots=True)
class ConversionsRecord(OfCampaign):
    """The conversions of one campaign in one channel: `gauges` has the last good sums, which are exported."""

    campaign_id: int
    channel: str
    campaign_name: str = ""
    groups: tuple[ConversionGroup, ...] = ()
    gauges: tuple[ConversionSnapshot, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """What is known of an account as a whole.

    `since` is when its state began, `successes` the times of the last successful polls by resource,
    `discovered` when a campaign was last found to be still sending, `proven` the starts of which everything
    has been read. `overflowed` are the API's fields of which there were too many labels.
    """

    since: float
    successes: Mapping[str, float] = field(default_factory=dict)
    discovered: Mapping[int, float] = field(default_factory=dict)
    proven: tuple[TimeRange, ...] = ()
    overflowed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedAccount:
    """One account as it was last saved, without the campaigns that left the window."""

    account: AccountRecord
    campaigns: tuple[CampaignRecord, ...] = ()
    channels: tuple[ChannelRecord, ...] = ()
    conversions: tuple[ConversionsRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Changes:
    """What of one account must be saved, in one transaction.

    Records replace the saved ones of the same key; `account` None: as it was. The campaigns and channels in
    `conversions_gone` lose their conversions, the channels in `channels_gone` their counters. `whole` changes
    replace all that is saved of the account. `notes` are free-form, of others, by key.
    """

    account: AccountRecord | None = None
    campaigns: tuple[CampaignRecord, ...] = ()
    channels: tuple[ChannelRecord, ...] = ()
    conversions: tuple[ConversionsRecord, ...] = ()
    conversions_gone: tuple[Key, ...] = ()
    channels_gone: tuple[str, ...] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
