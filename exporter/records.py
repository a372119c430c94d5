"""The values that pass between the modules: frozen, slotted, without I/O and without a clock.

Times are seconds since the epoch (UTC). `start` of a row keeps its fraction of a second, if it has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from decimal import Decimal

STATISTICS: Final = "statistics"
CONVERSIONS: Final = "conversions"
ENDPOINTS: Final = (STATISTICS, CONVERSIONS)
"""Values of the label ``endpoint``."""

COUNTER_FIELDS: Final = (
    "skipped",
    "sent",
    "delivered",
    "opened",
    "clicked",
    "bounced",
    "softBounced",
    "rejected",
    "failed",
    "temporaryFailed",
    "complaint",
    "unsubscribed",
)
"""The twelve counts of a statistics row, by their names in the API. Every tuple of counts has this order."""


class Mark(Enum):
    """What stands for a value that was there but can't be used."""

    INVALID = "invalid"


INVALID: Final = Mark.INVALID
Count: TypeAlias = int | Literal[Mark.INVALID] | None
"""A count of the API: a non-negative integer, absent or null (None), or not readable as one."""
Amount: TypeAlias = "Decimal | Literal[Mark.INVALID] | None"
"""A sum of money, likewise."""
Values: TypeAlias = tuple[int | None, ...]
"""Twelve counts by COUNTER_FIELDS; None where there never was a value."""


N = TypeVar("N", int, "Decimal")


def add_up(values: Iterable[N | Mark | None]) -> N | Mark | None:
    """Add values up: what is absent is left out; one that can't be read makes the sum unknown (INVALID)."""
    found: N | None = None
    for value in values:
        if isinstance(value, Mark):
            return INVALID
        if value is not None:
            found = value if found is None else found + value
    return found


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """The whole seconds `first` to `last`, both included.

    A row belongs to second floor(start).
    """

    first: int
    last: int

    def __contains__(self, start: float) -> bool:
        return self.first <= math.floor(start) <= self.last

    @property
    def seconds(self) -> int:
        """How many seconds it has; never negative."""
        return max(0, self.last - self.first + 1)


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the API: the documented filters, no more.

    Bounds are whole seconds since the epoch, sent as they are: whether the server takes them as inclusive
    isn't documented, and whoever asks has to allow for both.
    """

    start_from: int | None = None
    start_to: int | None = None
    send_from: int | None = None
    send_to: int | None = None
    campaign_ids: tuple[int, ...] = ()
    per_page: int = 500

    @property
    def filtered(self) -> bool:
        """Whether it has a filter. The vendor forbids questions without one."""
        by_start = self.start_from is not None and self.start_to is not None
        by_send = self.send_from is not None and self.send_to is not None
        return by_start or by_send or bool(self.campaign_ids)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the API with status 200, not yet read. `headers` has lower-case names."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class MessageStats:
    """One row of ``/campaign/statistics``: one message of one campaign."""

    campaign_id: int
    channel: str
    start: float
    title: str
    values: tuple[Count, ...]

    @property
    def group(self) -> Hashable:
        """What its row is counted with: rows of one group are always in one answer, or the answer was cut."""
        return (self.campaign_id, self.channel, self.start)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One row of ``/campaign/statistic-conversions``."""

    campaign_id: int
    channel: str
    start: float
    stop: float | None
    title: str
    campaign_name: str
    event: str
    period: str
    deposits: Count
    amount: Amount
    converted_users: Count

    @property
    def group(self) -> Hashable:
        """As `MessageStats.group`, for one conversion event and period."""
        return (self.campaign_id, self.channel, self.start, self.event, self.period)


class Row(Protocol):
    """What paging needs to know of a row."""

    @property
    def campaign_id(self) -> int:
        """Identifier of the campaign."""

    @property
    def channel(self) -> str:
        """Channel, in lower case."""

    @property
    def start(self) -> float:
        """Start of the campaign, seconds since the epoch."""

    @property
    def group(self) -> Hashable:
        """Identity of the group of rows."""


R = TypeVar("R", bound=Row)
R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[R_co]):
    """One answer, read.

    `size` counts every row the server sent, also those that could not be read; `total` is what a total-count
    header said, if any; `invalid` counts invalid values by API field name (a row that was skipped counts under
    the field that made it unreadable); `unknown` names the fields that the documentation doesn't have.
    """

    rows: tuple[R_co, ...]
    size: int
    total: int | None = None
    invalid: Mapping[str, int] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Collected(Generic[R_co]):
    """What one or several questions together brought, each row once.

    `partial` holds the groups of which some rows may be missing (their sums are lower bounds); `ranges` the
    starts and `ids` the campaigns of which everything was read. `incomplete` is true where more rows may exist
    than could be read.
    """

    rows: tuple[R_co, ...] = ()
    partial: frozenset[Hashable] = frozenset()
    ranges: tuple[TimeRange, ...] = ()
    ids: frozenset[int] = frozenset()
    incomplete: bool = False


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

    `since` is when its state began, `successes` the times of the last successful polls by endpoint,
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


# What people are shown of the exporter itself


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """How the polling of one endpoint goes. `error` is a sentence for people; `reason` its label value."""

    endpoint: str
    interval: float
    polls: int = 0
    last_poll: float | None = None
    last_success: float | None = None
    last_duration: float | None = None
    error: str | None = None
    reason: str | None = None
    incomplete: bool = False
    requests_per_hour: float = 0.0
    page_cap: str = "unknown"


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """How one account goes: the status page's and readiness' source.

    `ready` is true once it has data or one failed poll behind it, and its data are not stale; `problem` says in
    words why not.
    """

    account: str
    base_url: str
    endpoints: tuple[EndpointStatus, ...] = ()
    campaigns: int = 0
    dropped: int = 0
    series: int = 0
    stale: bool = False
    ready: bool = False
    problem: str | None = None
