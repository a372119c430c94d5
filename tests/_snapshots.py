"""Snapshots for tests of the exposition: small ones by hand, and any at all by hypothesis."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from exporter.api.fields import COUNTER_FIELDS, Counts, same
from exporter.tracking.model import (
    AccountSnapshot,
    CampaignSnapshot,
    ChannelSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
    Snapshot,
)

ZEROS = same(0)
VALUES = same(1)._replace(
    skipped=5,
    sent=12500,
    delivered=12340,
    opened=5870,
    clicked=1422,
    bounced=160,
    soft_bounced=73,
    rejected=12,
    failed=85,
    temporary_failed=13,
    complaint=4,
    unsubscribed=27,
)

HOSTILE_TITLES = (
    "",
    'He said "go", 100% \\o/',
    "back\\slash at the end\\",
    "new\nline",
    "\\n is not a newline",
    "carriage\rreturn, both\r\n, \x85, \u2028, \u2029, \x0b\x0c\x1c\x1d\x1e.",
    "nul\x00 escape\x1b[31m delete\x7f",
    "tab\there",
    "lone \ud800 surrogate \udfff",
    "🎉 family 👨‍👩‍👧 flag 🇺🇦",
    "مرحبا بالعالم \u202eright to left",
    '"} 1\nintarget_up{account="main"} 0',
    "# EOF",
    " { , = } # { } ",
    "é" * 256,
    "é" * 257,
    "x" * 10_000,
)


def campaign(campaign_id: int = 111, channel: str = "email", **changes: Any) -> CampaignSnapshot:  # noqa: ANN401
    """Return a campaign with believable values."""
    fields: dict[str, Any] = {
        "start": 1741944000.0,
        "stop": None,
        "campaign_name": "Spring",
        "message_title": "Spring Promo",
        "values": VALUES,
        "vendor": VALUES,
    }
    return CampaignSnapshot(campaign_id=campaign_id, channel=channel, **(fields | changes))


def account(*campaigns: CampaignSnapshot, name: str = "main", **changes: Any) -> AccountSnapshot:  # noqa: ANN401
    """Return an account with these campaigns."""
    fields: dict[str, Any] = {"currency": "EUR", "since": 1741900000.0}
    return AccountSnapshot(account=name, campaigns=campaigns, **(fields | changes))


def golden() -> Snapshot:
    """Return two accounts that between them have every metric and every odd case worth looking at."""
    spring = campaign(
        stop=1741977600.25,
        message_title='25 % "off"\nC:\\promo',
        overcount=ZEROS._replace(opened=1),
        messages=(MessageSnapshot("A", VALUES, ZEROS._replace(opened=2)), MessageSnapshot("B", ZEROS)),
        conversions=(
            ConversionSnapshot("Opened", "1 day", 154, Decimal("18752.40"), 102),
            ConversionSnapshot("Clicked", "1 day", 0, None, None),
        ),
    )
    sms = campaign(
        112,
        "sms",
        start=1742000000.5,
        campaign_name="بريد 🎉",
        values=VALUES._replace(opened=None),
        messages=(MessageSnapshot("A", VALUES._replace(opened=None)),),
    )
    channels = (
        ChannelSnapshot("email", VALUES, ZEROS._replace(sent=7, opened=1)),
        ChannelSnapshot("sms", ZEROS._replace(opened=None)),
    )
    return Snapshot((account(sms, spring, channels=channels), account(name="other", currency=None)))


texts = st.one_of(
    st.sampled_from(HOSTILE_TITLES), st.text(max_size=12), st.text('a\r\n\\"\ud812\x00', max_size=4)
)
counts = st.one_of(st.none(), st.integers(0, 10**12))
values = st.builds(Counts, *[counts] * len(COUNTER_FIELDS))
overcounts = st.builds(Counts, *[st.sampled_from((0, 0, 0, 1, 10**12))] * len(COUNTER_FIELDS))
times = st.floats(-1e9, 4e9, allow_nan=False)
amounts = st.one_of(st.none(), st.decimals(0, 10**20, allow_nan=False, places=2))
channels = st.sampled_from(("email", "sms", "push", "web\n", "web\r", "web\\"))
conversions = st.builds(
    ConversionSnapshot,
    event=st.sampled_from(("Opened", "Clicked")),
    period=st.sampled_from(("1 day", "1 day\x00", "1 day\x01")),
    deposits=counts,
    amount=amounts,
    converted_users=counts,
)
campaigns = st.builds(
    CampaignSnapshot,
    campaign_id=st.integers(1, 4),
    channel=channels,
    start=times,
    stop=st.one_of(st.none(), times),
    campaign_name=texts,
    message_title=texts,
    values=values,
    vendor=st.just(ZEROS),
    overcount=overcounts,
    messages=st.lists(
        st.builds(MessageSnapshot, title=texts, values=values, overcount=overcounts), min_size=1, max_size=3
    ).map(tuple),
    conversions=st.lists(conversions, max_size=3).map(tuple),
)
accounts = st.builds(
    AccountSnapshot,
    account=st.sampled_from(("main", "other", "a\r", "a\n")),
    currency=st.one_of(st.none(), st.sampled_from(("EUR", 'U"D'))),
    since=times,
    campaigns=st.lists(campaigns, max_size=4).map(tuple),
    channels=st.lists(
        st.builds(ChannelSnapshot, channel=channels, values=values, overcount=overcounts), max_size=3
    ).map(tuple),
)
snapshots = st.lists(accounts, max_size=3, unique_by=lambda a: a.account).map(lambda a: Snapshot(tuple(a)))
