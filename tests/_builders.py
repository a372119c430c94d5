"""Values for tests, built by name."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exporter.api.fields import Counts, same
from exporter.api.model import Conversion, MessageStats
from exporter.tracking.model import Moment, WindowSettings

if TYPE_CHECKING:
    from exporter.api.model import Count

DAY = 86400.0
NOW = 1_000_000.0
"""A time at which tests begin, in seconds since the epoch."""
SETTINGS = WindowSettings(
    window=14 * DAY,
    stale_after=1800.0,
    conversions_stale_after=3600.0,
    zero_hold=60.0,
    max_campaigns=100,
    per_message=False,
)


def counts(**values: Any) -> Counts[Any]:  # noqa: ANN401
    """Return counts with these values; the others are None."""
    return same(None)._replace(**values)


def at(seconds: float) -> Moment:
    """Return a moment on clocks that agree."""
    return Moment(seconds, seconds)


def row(
    campaign_id: int,
    sent: Count = None,
    *,
    start: float = NOW - 100,
    channel: str = "email",
    title: str = "t",
    **others: Count,
) -> MessageStats:
    """Return a row of the statistics; counts that aren't named are null."""
    return MessageStats(campaign_id, channel, start, title, counts(sent=sent, **others))


def conversion(
    campaign_id: int,
    deposits: Count = None,
    *,
    start: float = NOW - 100,
    channel: str = "email",
    title: str = "t",
    event: str = "Clicked",
) -> Conversion:
    """Return a row of the conversions."""
    return Conversion(
        campaign_id,
        channel,
        start,
        NOW + 5,
        title,
        "Name",
        event,
        "1 day",
        deposits=deposits,
        amount=Decimal("1.5"),
        converted_users=None,
    )
