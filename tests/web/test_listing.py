"""Rates, filters, order and pages of the list of campaigns."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.tracking.model import AccountSnapshot, CampaignSnapshot, ConversionSnapshot, Snapshot
from exporter.web.listing import (
    CampaignRow,
    ListQuery,
    Rate,
    Sort,
    Verdict,
    account_names,
    broadest,
    channel_names,
    find,
    select,
)
from tests._websites import NOW, campaign, snapshot, values

TEXTS = st.text(alphabet="aB\u00e9<&\"' %/?#+", max_size=6)
COUNTS = st.none() | st.integers(0, 10_000)
CAMPAIGNS = st.builds(
    lambda number, channel, name, title, start, sent, bounced: campaign(
        number,
        channel,
        campaign_name=name,
        message_title=title,
        start=start,
        vendor=values(**{k: v for k, v in (("sent", sent), ("bounced", bounced)) if v is not None}),
    ),
    st.integers(1, 30),
    st.sampled_from(["email", "sms"]),
    TEXTS,
    TEXTS,
    st.integers(0, 100).map(lambda hours: NOW - 3600.0 * hours),
    COUNTS,
    COUNTS,
)
SNAPSHOTS = st.lists(CAMPAIGNS, max_size=25).map(
    lambda found: Snapshot(
        (
            AccountSnapshot("a", "EUR", 0.0, tuple(found[::2])),
            AccountSnapshot("b/c", None, 0.0, tuple(found[1::2])),
        ),
    ),
)
QUERIES = st.builds(
    ListQuery,
    account=st.sampled_from(["", "a", "b/c", "none"]),
    channel=st.sampled_from(["", "email", "none"]),
    text=TEXTS.map(str.strip),
    sort=st.sampled_from(Sort),
    descending=st.booleans(),
    page=st.integers(1, 9),
)


@pytest.mark.parametrize(
    ("events", "of", "verdict"),
    [
        (50, 1000, Verdict.OVER),
        (49, 1000, Verdict.NEAR),
        (30, 1000, Verdict.NEAR),
        (29, 1000, Verdict.OK),
        (0, 5, Verdict.OK),
        (1, 5, Verdict.FEW),
        (2, 20, Verdict.FEW),
        (3, 20, Verdict.OVER),
        (None, 20, Verdict.NONE),
        (3, None, Verdict.NONE),
        (0, 0, Verdict.NONE),
    ],
)
def test_verdict(events: int | None, of: int | None, verdict: Verdict) -> None:
    """Over from the limit, near from 60 % of it, but on no fewer than 3 events."""
    assert verdict is Rate(events, of, 0.05).verdict


def test_complaints_are_of_delivered() -> None:
    """The complaint rate's denominator is delivered."""
    row = CampaignRow("a", None, campaign(vendor=values(sent=200, delivered=100, complaint=1)))
    assert 0.01 == row.complaint.ratio


def test_complaints_without_delivered_are_of_sent() -> None:
    """Where InTarget gives no delivered, sent stands in."""
    row = CampaignRow("a", None, campaign(vendor=values(sent=200, complaint=1)))
    assert 0.005 == row.complaint.ratio


def test_rates_are_of_the_vendors_values() -> None:
    """A held or zero-held counter doesn't change what InTarget would count."""
    item = campaign(vendor=values(sent=100, bounced=5), values=values(sent=0, bounced=0), held=True)
    assert Verdict.OVER is CampaignRow("a", None, item).bounce.verdict


@given(SNAPSHOTS, QUERIES, st.integers(1, 7))
def test_pages_hold_every_match_once(found: Snapshot, query: ListQuery, per_page: int) -> None:
    """Turning all pages shows each matching campaign exactly once, and nothing else."""
    expected = [
        (account.account, item)
        for account in found.accounts
        for item in account.campaigns
        if query.account in ("", account.account)
        and query.channel in ("", item.channel)
        and (
            not query.text
            or query.text.casefold() in item.campaign_name.casefold()
            or query.text.casefold() in item.message_title.casefold()
            or query.text == str(item.campaign_id)
        )
    ]
    pages = select(found, query, per_page).pages
    shown = [
        (row.account, row.campaign)
        for page in range(1, pages + 1)
        for row in select(found, query.with_(page=page), per_page).rows
    ]

    def key(pair: tuple[str, CampaignSnapshot]) -> str:
        return repr(pair)

    assert sorted(expected, key=key) == sorted(shown, key=key)
    assert len(expected) == select(found, query, per_page).total


@given(SNAPSHOTS, st.sampled_from([Sort.SENT, Sort.BOUNCE, Sort.STARTED]), st.booleans())
def test_order(found: Snapshot, sort: Sort, descending: bool) -> None:  # noqa: FBT001
    """Rows stand in order, and those without a value last, whichever way."""
    key = {
        Sort.SENT: lambda row: row.value("sent"),
        Sort.BOUNCE: lambda row: row.bounce.ratio,
        Sort.STARTED: lambda row: row.campaign.start,
    }[sort]
    shown = [key(row) for row in select(found, ListQuery(sort=sort, descending=descending)).rows]
    present = [value for value in shown if value is not None]
    assert sorted(present, reverse=descending) == present
    assert [None] * (len(shown) - len(present)) == shown[len(present) :]


def test_a_page_too_far_is_the_last() -> None:
    """A link to a page that is gone still shows something."""
    listing = select(snapshot(campaign(1), campaign(2), campaign(3)), ListQuery(page=99), per_page=2)
    assert (2, 1) == (listing.query.page, len(listing.rows))


@given(QUERIES)
def test_query_round_trip(query: ListQuery) -> None:
    """What a link says is what its target shows."""
    assert query == ListQuery.decode(query.encode().removeprefix("?").encode())


@given(
    st.binary(max_size=60) | st.sampled_from([b"page=-1", b"page=1e9", b"sort=x&order=y", b"&" * 50, b"q=%ff"])
)
def test_any_query_string_is_read(query: bytes) -> None:
    """A query string from anywhere gives some list, never an error."""
    decoded = ListQuery.decode(query)
    assert decoded.page >= 1
    assert 1 == len(select(snapshot(campaign()), ListQuery.decode(b"sort=x")).rows)


def test_the_first_click_sorts_as_people_want() -> None:
    """Without an order, numbers start with the largest and names with A."""
    assert ListQuery.decode(b"sort=bounce").descending
    assert not ListQuery.decode(b"sort=name").descending


def test_find_returns_all_channels() -> None:
    """A campaign is found with all its channels, by account and id."""
    found = snapshot(campaign(1, "sms"), campaign(2), campaign(1, "email"))
    result = find(found, "main", 1)
    assert ["email", "sms"] == [row.campaign.channel for row in result]
    assert [(), ()] == [find(found, "main", 3), find(found, "other", 1)]


def test_names_for_the_filters() -> None:
    """The filters offer what there is."""
    found = snapshot(campaign(1, "sms"), campaign(2, "email"), campaign(3, "sms"))
    assert (["main"], ["email", "sms"]) == (account_names(found), channel_names(found))


def test_broadest_conversion() -> None:
    """The list shows the event and period with the most deposits; absent numbers don't win."""
    none = ConversionSnapshot("Opened", "1 day", None, None, 9)
    small = ConversionSnapshot("Clicked", "1 day", 2, Decimal(900), 1)
    large = ConversionSnapshot("Delivered", "7 days", 5, None, 1)
    assert large is broadest([none, small, large])
    assert None is broadest([])
