"""Made-up saved accounts and changes."""

from __future__ import annotations

from decimal import Decimal

from exporter.api.model import INVALID
from exporter.tracking.model import (
    Changes,
    ConversionSnapshot,
    Counter,
    Counters,
    SavedCampaign,
    SavedChannel,
    SavedConversionGroup,
    SavedConversions,
    SavedGroup,
    SavedMessage,
)

TITLE = 'Hello "you" \ud800 \U0001f600\n'


def counters(value: int) -> Counters:
    """Return twelve counters that differ in every part."""
    return (
        Counter(value, value - 1, 2, 3),
        Counter(value, value, held=0.0),
        Counter(as_is=True),
        *(Counter() for _ in range(8)),
        Counter(10**30, 10**30),
    )


def campaign(campaign_id: int, value: int = 100, *, evicted: float | None = None) -> SavedCampaign:
    """Return a campaign with everything that can be saved."""
    values = (value, INVALID, None, *([0] * 9))
    return SavedCampaign(
        campaign_id,
        "email",
        counters(value),
        (
            SavedGroup(1000.25, 2, values, ("a", TITLE), (("a", values), (TITLE, values))),
            SavedGroup(2000.0, 1, values, ("a",)),
        ),
        (SavedMessage("a", counters(value)), SavedMessage(TITLE, counters(1), gone=True)),
        evicted,
    )


def conversions(campaign_id: int) -> SavedConversions:
    """Return conversions with every kind of value."""
    return SavedConversions(
        campaign_id,
        "email",
        TITLE,
        (
            SavedConversionGroup(1000.25, "Opened", "1 day", 1, ("a",), None, 3, Decimal("12.30"), INVALID),
            SavedConversionGroup(2000.0, "Opened", "1 day", 2, ("a", TITLE), 3000.0, None, INVALID, 7),
            SavedConversionGroup(2000.0, "Clicked", "1 day", 2, (), 3000.0, None, None, None),
        ),
        (ConversionSnapshot("Opened", "1 day", 3, Decimal("12.30"), None),),
    )


def everything(value: int = 100) -> Changes:
    """Return the first changes of an account."""
    return Changes(
        since=500.5,
        successes={"statistics": 600.0, "conversions": 601.0},
        campaigns=(campaign(1, value), campaign(2, value, evicted=700.0)),
        channels=(SavedChannel("email", (value, None, *([0] * 10)), (None, *([0.0] * 11))),),
        conversions=(conversions(1),),
        discovered={1: 650.0},
        memory={"plan": "{}"},
        whole=True,
    )
