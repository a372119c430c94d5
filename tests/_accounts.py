"""Made-up saved accounts and changes."""

from __future__ import annotations

from decimal import Decimal

from exporter.api.fields import same
from exporter.api.model import INVALID, TimeRange
from exporter.tracking.counters import PENDING, Counters
from exporter.tracking.model import (
    AccountRecord,
    CampaignRecord,
    Changes,
    ChannelRecord,
    ConversionGroup,
    ConversionSnapshot,
    ConversionsRecord,
    Group,
    MessageRecord,
    SavedAccount,
)
from tests._builders import counts

TITLE = 'Hello "you" \ud800 \U0001f600\n'
ACCOUNT = AccountRecord(
    since=500.5,
    successes={"statistics": 600.0, "conversions": 601.0},
    discovered={1: 650.0},
    proven=(TimeRange(100, 200), TimeRange(300, 10**9)),
)


def counters(value: int) -> Counters:
    """Return counters of every kind."""
    return Counters(
        top=counts(sent=value, delivered=value, opened=value, complaint=10**30),
        present=counts(sent=value - 1, delivered=value, opened=value, complaint=10**30),
        held=counts(delivered=PENDING),
        unread=same(value=False)._replace(clicked=True),
    )


def campaign(campaign_id: int, value: int = 100, *, evicted: float | None = None) -> CampaignRecord:
    """Return a campaign with everything that can be saved."""
    values = counts(sent=value, delivered=INVALID, opened=0)
    group = Group(
        start=1000.25,
        rows=2,
        counted=same(0)._replace(sent=2, delivered=2, opened=1),
        values=values,
        titles=("a", TITLE),
        messages=(("a", values), (TITLE, values)),
    )
    return CampaignRecord(
        campaign_id,
        "email",
        counters(value),
        (group, Group(2000.0, 1, same(0)._replace(sent=1), counts(sent=1), ("a",))),
        past=Group(10.0, 1, same(0)._replace(sent=1), counts(sent=7), ("old",)),
        messages=(MessageRecord("a", counters(value)), MessageRecord(TITLE, counters(1), gone=True)),
        evicted=evicted,
    )


def conversions(campaign_id: int) -> ConversionsRecord:
    """Return conversions with every kind of value."""
    return ConversionsRecord(
        campaign_id,
        "email",
        TITLE,
        (
            ConversionGroup(1000.25, "Opened", "1 day", 1, ("a",), None, 3, Decimal("12.30"), INVALID),
            ConversionGroup(2000.0, "Opened", "1 day", 2, ("a", TITLE), 3000.0, None, INVALID, 7),
            ConversionGroup(2000.0, "Clicked", "1 day", 2, (), 3000.0),
        ),
        (ConversionSnapshot("Opened", "1 day", 3, Decimal("12.30"), None),),
    )


def everything(value: int = 100) -> Changes:
    """Return the first changes of an account."""
    return Changes(
        account=ACCOUNT,
        campaigns=(campaign(1, value), campaign(2, value, evicted=700.0)),
        channels=(ChannelRecord("email", counters(value)),),
        conversions=(conversions(1),),
        notes={"plan": "{}"},
        whole=True,
    )


def everything_saved(value: int = 100) -> SavedAccount:
    """Return what `everything` is when loaded."""
    changes = everything(value)
    return SavedAccount(ACCOUNT, (campaign(1, value),), changes.channels, changes.conversions)
