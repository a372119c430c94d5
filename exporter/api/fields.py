"""The resources of the API, their paths and their fields: the one place that names them.

Source: the vendor's page *Campaign Statistics API*, "Response Field Definitions". To export one more count, add
a line to `Counts`; parsing, counters, state file, metrics and pages follow it by name.
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, NamedTuple, TypeVar, get_type_hints

STATISTICS: Final = "statistics"
CONVERSIONS: Final = "conversions"
RESOURCES: Final = (STATISTICS, CONVERSIONS)
"""Values of the label ``resource``."""

PATHS: Final = {
    STATISTICS: "/rest/campaign/statistics",
    CONVERSIONS: "/rest/campaign/statistic-conversions",
}
"""Where each resource is, below ``base_url``."""

T = TypeVar("T")


class CounterField(NamedTuple):
    """One cumulative count: its name in the API, its metrics' name without prefix and suffix, its help."""

    name: str
    metric: str
    help: str


class Counts(NamedTuple, Generic[T]):
    """One value for each cumulative count of a statistics row, reached by name: ``counts.sent``.

    `T` is what is kept of a count: its value, a counter, a time.
    """

    skipped: Annotated[
        T, CounterField("skipped", "messages_skipped", "Messages not sent because the recipient was skipped")
    ]
    sent: Annotated[T, CounterField("sent", "messages_sent", "Messages sent")]
    delivered: Annotated[T, CounterField("delivered", "messages_delivered", "Messages delivered")]
    opened: Annotated[T, CounterField("opened", "messages_opened", "Messages opened (Email and Push only)")]
    clicked: Annotated[T, CounterField("clicked", "messages_clicked", "Messages with a click")]
    bounced: Annotated[
        T, CounterField("bounced", "messages_bounced", "Messages bounced, soft bounces included")
    ]
    soft_bounced: Annotated[
        T,
        CounterField("softBounced", "messages_soft_bounced", "Messages bounced softly, counted as bounced too"),
    ]
    rejected: Annotated[T, CounterField("rejected", "messages_rejected", "Messages rejected")]
    failed: Annotated[T, CounterField("failed", "messages_failed", "Messages that failed")]
    temporary_failed: Annotated[
        T,
        CounterField("temporaryFailed", "messages_temporarily_failed", "Messages that failed temporarily"),
    ]
    complaint: Annotated[
        T, CounterField("complaint", "complaints", "Complaints of recipients (marked as spam)")
    ]
    unsubscribed: Annotated[T, CounterField("unsubscribed", "unsubscribes", "Recipients who unsubscribed")]


COUNTERS: Final[tuple[CounterField, ...]] = tuple(
    hint.__metadata__[0] for hint in get_type_hints(Counts, include_extras=True).values()
)
"""The counts of a statistics row, in the order of `Counts`; nothing outside of the process relies on it."""

COUNTER_FIELDS: Final = tuple(counter.name for counter in COUNTERS)
"""Their names in the API: the values of the label ``field``, and the keys of what is saved."""

IDENTITY_FIELDS: Final = ("campaign_id", "message_title", "type", "campaign_start_at")
CONVERSION_FIELDS: Final = (
    "campaign_stop_at",
    "campaign_name",
    "conversion_event",
    "conversion_period",
    "deposits_count",
    "deposits_amount",
    "converted_users",
)
FIELDS: Final = {
    STATISTICS: (*IDENTITY_FIELDS, *COUNTER_FIELDS),
    CONVERSIONS: (*IDENTITY_FIELDS, *CONVERSION_FIELDS),
}
"""The documented fields of a row, by resource."""

CHANNEL: Final = "type"
EVENT: Final = "conversion_event"
PERIOD: Final = "conversion_period"
LABEL_LIMITS: Final = {CHANNEL: 50, EVENT: 20, PERIOD: 50}
"""How many different values an account may have of the fields that become labels."""


def same(value: T) -> Counts[T]:
    """Return counts that all are `value`."""
    return Counts._make([value] * len(COUNTERS))
