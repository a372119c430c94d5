"""The pages: what they say, and that nothing breaks out of them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.status import AccountStatus, ExporterStatus, ResourceStatus
from exporter.tracking.model import AccountSnapshot, ConversionSnapshot, MessageSnapshot, Snapshot
from exporter.web import views
from exporter.web.listing import CampaignRow, ListQuery, select
from tests._examples import examples
from tests._websites import NOW, Parsed, account, campaign, lively, resource, snapshot, values

FRAME = views.Frame(NOW, "1.2.3", "/metrics")
EXPORTER = ExporterStatus()
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="<>&\"'/=! -scriptbd;\x00\ud800\u202e", max_size=40),
    st.sampled_from(["</title><script>alert(1)</script>", "'\" onload=x", "]]><!--", "</style>", "&lt;b&gt;"]),
)
SHOWN = [
    "html",
    "head",
    "meta",
    "title",
    "link",
    "pre",
    "body",
    "a",
    "header",
    "strong",
    "nav",
    "ul",
    "li",
    "main",
    "h1",
    "h2",
    "h3",
    "p",
    "span",
    "div",
    "section",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "time",
    "br",
    "bdi",
    "form",
    "label",
    "input",
    "select",
    "option",
    "button",
    "footer",
]


def listed(found: Snapshot, query: ListQuery | None = None) -> Parsed:
    """Return ``/campaigns``, parsed."""
    return Parsed(views.campaigns(FRAME, found, select(found, query or ListQuery())))


def shown(text: str) -> str:
    """Return `text` as a page shows it: what HTML can't hold replaced, white space as single spaces."""
    return " ".join(str(views._clean(text)).split())


def detail(found: Snapshot) -> Parsed:
    """Return the page of the first account's first campaign, parsed."""
    first = found.accounts[0]
    rows = [CampaignRow(first.account, first.currency, item) for item in first.campaigns]
    return Parsed(views.campaign(FRAME, rows))


@examples(60)
@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_hostile_texts_stay_text(name: str, title: str, account_name: str, channel: str) -> None:
    """Names, titles, accounts and channels are shown as they are; no element or attribute comes of them."""
    conversion = ConversionSnapshot(name, title, 1, Decimal(1), 1)
    message = MessageSnapshot(title, values(sent=1))
    item = campaign(
        1,
        channel,
        campaign_name=name,
        message_title=title,
        messages=(message,),
        conversions=(conversion,),
    )
    found = snapshot(item, account=account_name, currency=name)
    status = account(
        account_name,
        resource(error=title, reason=name, page_cap=channel, failed_jobs={name: title}, notes=(name,)),
        problem=name,
        base_url=title,
        learned=((name, title),),
    )
    parsed = [
        listed(found, ListQuery(text="")),
        listed(found, ListQuery(text=name, account=account_name, channel=channel)),
        detail(found),
        Parsed(views.status(FRAME, ExporterStatus(title, name, channel), [status])),
        Parsed(views.configuration(FRAME, name + title)),
    ]
    for page in parsed:
        assert {element for element, _ in page.elements} <= set(SHOWN)
        assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
        assert all(not href.startswith("javascript") for href in page.attributes("a", "href"))
    assert shown(name) in parsed[2].text
    assert shown(title) in parsed[2].text
    assert shown(title) in parsed[3].text


def test_a_huge_title_is_cut() -> None:
    """A title of 10 kB doesn't fill the list."""
    page = listed(snapshot(campaign(campaign_name="x" * 10_000)))
    assert max(len(text) for text in page.inside("bdi")) <= 100


@pytest.mark.parametrize("page", ["status", "campaigns", "campaign"])
def test_no_external_resource(page: str) -> None:
    """Every link is relative, and nothing is loaded from anywhere."""
    site = lively()
    found = site.snapshot()
    parsed = {
        "status": lambda: Parsed(views.status(FRAME, EXPORTER, site.accounts())),
        "campaigns": lambda: listed(found),
        "campaign": lambda: detail(found),
    }[page]()
    assert all(href.startswith((".", "#")) for href in parsed.attributes("a", "href"))
    assert all(".." in href or href.startswith("./static/") for href in parsed.attributes("link", "href"))
    assert [] == [e for e, attributes in parsed.elements if "src" in attributes or "style" in attributes]


def test_pages_are_accessible() -> None:
    """Language, viewport, one h1, scopes on headings, labels on fields, and aria-sort on the sorted column."""
    page = listed(lively().snapshot(), ListQuery.decode(b"sort=bounce&order=asc"))
    assert ["en"] == page.attributes("html", "lang")
    assert "width=device-width, initial-scale=1" in page.attributes("meta", "content")
    assert 1 == sum(element == "h1" for element, _ in page.elements)
    heads = [attributes for element, attributes in page.elements if element == "th"]
    assert {"col", "row"} == {head["scope"] for head in heads}
    assert ["ascending"] == page.attributes("th", "aria-sort")
    fields = page.attributes("input", "id") + page.attributes("select", "id")
    assert sorted(fields) == sorted(page.attributes("label", "for"))


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (account(), "ok"),
        (account("main", resource(error="no answer", reason="timeout")), "failing"),
        (account(stale=True, ready=False, problem="old"), "stale"),
        (AccountStatus("main", "https://x", (ResourceStatus("statistics", 300.0),)), "starting"),
    ],
)
def test_state_of_an_account_in_words(status: AccountStatus, word: str) -> None:
    """The state is a word, not only a colour."""
    page = Parsed(views.status(FRAME, EXPORTER, [status]))
    assert f"1 account: 1 {word}" in page.text
    assert word in page.inside("span")


def test_status_shows_what_the_exporter_knows() -> None:
    """Freshness, last error in words, requests per hour, cap, campaigns, dropped, series, incompleteness."""
    status = account(
        "main",
        resource(
            error="no answer within 30 seconds",
            reason="timeout",
            page_cap="at most 50",
            incomplete=True,
            requests_per_hour=1234.4,
        ),
        dropped=1200,
        series=98765,
        problem="the last poll failed",
    )
    text = Parsed(views.status(FRAME, EXPORTER, [status])).text
    for expected in (
        "3 minutes ago",
        "no answer within 30 seconds (timeout)",
        "1,234",
        "at most 50",
        "142",
        "1,200",
        "98,765",
        "incomplete",
        "the last poll failed",
        "took 2.4 seconds",
        "intarget-exporter 1.2.3",
    ):
        assert expected in text


def test_status_without_accounts() -> None:
    """A shard without accounts says so."""
    assert "No account is polled here." in Parsed(views.status(FRAME, EXPORTER, [])).text


def test_links_of_the_frame() -> None:
    """Metrics, campaigns, readiness and, where known, the documentation are linked."""
    frame = views.Frame(NOW, "1", "/own/metrics", "https://example.org/docs")
    hrefs = Parsed(views.status(frame, EXPORTER, [])).attributes("a", "href")
    assert {"./", "./campaigns", "./own/metrics", "./-/ready", "https://example.org/docs"} <= set(hrefs)


def test_rates_have_numbers_and_words() -> None:
    """Both rates show their ratio and how it stands to the limit, which is in the heading."""
    page = listed(
        snapshot(
            campaign(1, vendor=values(sent=1000, delivered=900, bounced=60, complaint=0)),
            campaign(2, vendor=values(sent=1000, delivered=900, bounced=35, complaint=2)),
            campaign(3, vendor=values()),
        ),
    )
    text = page.text.replace("\u00a0", " ")
    assert ["over the limit", "ok", "near", "too few to say", "no data", "no data"] == [
        text
        for text in page.inside("span")
        if text in ("over the limit", "near", "ok", "too few to say", "no data")
    ]
    for expected in ("6.00 %", "3.50 %", "0.222 %", "(limit 5 %)", "(limit 0.05 %)", "complaints / delivered"):
        assert expected in text


def test_conversions_in_the_list() -> None:
    """The list shows deposits and the amount with its currency, of the broadest event and period."""
    conversions = (
        ConversionSnapshot("Clicked", "1 day", 3, Decimal(1), 1),
        ConversionSnapshot("Delivered", "7 days", 1154, Decimal("18752.40"), 1),
    )
    text = listed(snapshot(campaign(conversions=conversions))).text
    assert "1,154 deposits18,752.40 EURDelivered, 7 days" in text


def test_sort_links() -> None:
    """The sorted column's link turns the order round; others start in their own, and filters stay."""
    page = listed(snapshot(campaign()), ListQuery.decode(b"channel=email&sort=bounce&order=desc"))
    hrefs = page.attributes("a", "href")
    assert "./campaigns?channel=email&sort=bounce&order=asc" in hrefs
    assert "./campaigns?channel=email&sort=name&order=asc" in hrefs
    assert "./campaigns?channel=email&sort=sent&order=desc" in hrefs


def test_pager() -> None:
    """Of 230 campaigns the second page shows 101 to 200, with links to both neighbours."""
    found = snapshot(*(campaign(number) for number in range(1, 231)))
    page = listed(found, ListQuery(page=2))
    hrefs = page.attributes("a", "href")
    assert "101\u2013200 of 230 campaigns, one row for each channel" in page.text
    assert ["prev", "next"] == page.attributes("a", "rel")
    assert "./campaigns?page=3" in hrefs
    assert "./campaigns" in hrefs
    assert 100 == sum("/campaigns/main/" in href for href in hrefs)


def test_the_form_keeps_what_was_chosen() -> None:
    """Filters, order and search stand in the form as they are in force."""
    query = ListQuery.decode(b"account=main&channel=email&q=camp&sort=sent&order=asc")
    page = listed(snapshot(campaign()), query)
    chosen = [attributes["value"] for element, attributes in page.elements if "selected" in attributes]
    assert ["main", "email", "sent", "asc"] == chosen
    assert ["camp"] == page.attributes("input", "value")


@pytest.mark.parametrize(
    ("found", "query", "text"),
    [
        (Snapshot(), b"", "No campaigns are tracked yet."),
        (snapshot(campaign()), b"q=zzz", "No campaign matches."),
        (
            Snapshot((AccountSnapshot("old", None, 0.0, stale=True),)),
            b"",
            "Withdrawn, because their data are stale: old",
        ),
    ],
)
def test_an_empty_list_says_why(found: Snapshot, query: bytes, text: str) -> None:
    """Nothing tracked, nothing found and stale are told apart."""
    assert text in listed(found, ListQuery.decode(query)).text


def test_links_to_campaigns_are_encoded() -> None:
    """An account's name may hold anything."""
    hrefs = listed(snapshot(campaign(7), account="a/b ?#\u00e9")).attributes("a", "href")
    assert "./campaigns/a%2Fb%20%3F%23%C3%A9/7" in hrefs


def test_reconciliation() -> None:
    """Vendor's and exported value, and how far the exported one stands above, per field."""
    vendor, exported = values(sent=5869, bounced=7), values(sent=5870, bounced=7)
    item = campaign(vendor=vendor, values=exported)
    page = detail(snapshot(item))
    assert "sent 5,869 5,870 +1" in page.text
    assert "bounced 7 7 0" in page.text
    assert "delivered" not in page.inside("th")


def test_a_campaign_has_the_name_and_the_end_that_any_channel_has() -> None:
    """They come with conversions, which not every channel has."""
    page = detail(
        snapshot(campaign(channel="email", campaign_name=""), campaign(channel="push", stop=NOW - 7200))
    )
    assert "Campaign 1 \u00b7 intarget-exporter" == "".join(page.inside("title"))
    assert "Stopped 2 hours ago" in page.text


def test_a_held_campaign_says_so() -> None:
    """While the counters stand at 0, the page explains it."""
    assert "metrics.zero_hold" in detail(snapshot(campaign(held=True))).text
    assert "metrics.zero_hold" not in detail(snapshot(campaign())).text


def test_detail_of_all_channels() -> None:
    """Each channel has its section, with messages and conversions by event and period."""
    conversion = ConversionSnapshot("Deposit Refcode", "1 day", 154, Decimal("18752.40"), 98)
    message = MessageSnapshot("Hello", values(sent=10))
    page = detail(
        snapshot(campaign(1, "email", messages=(message,), conversions=(conversion,)), campaign(1, "sms"))
    )
    assert {"email", "sms"} <= set(page.inside("bdi"))
    assert "Deposit Refcode 1 day 98 154 18,752.40 EUR" in page.text
    assert "Hello 10" in page.text
    assert "InTarget has given none." in page.text


@pytest.mark.parametrize(
    ("exporter", "word", "kind"),
    [
        (ExporterStatus("x.db"), "state file in use", "badge ok"),
        (ExporterStatus("x.db", "the disk is full"), "state file not in use", "badge bad"),
        (ExporterStatus(), "no state file: counters begin anew at every start", "badge"),
    ],
)
def test_the_state_file_in_words_and_colour(exporter: ExporterStatus, word: str, kind: str) -> None:
    """Whether a restart would lose what is counted is seen at once, with the reason."""
    page = Parsed(views.status(FRAME, exporter, []))
    badges = [attributes["class"] for element, attributes in page.elements if element == "span"]
    assert (word, kind) == (page.inside("span")[0], badges[0])
    assert (exporter.state_problem or "") in page.text


def test_status_tells_of_parts_shards_and_what_was_learned() -> None:
    """A part of a poll that failed, the search for older campaigns, the shard, the server's habits."""
    status = account(
        "main",
        resource(
            failed_jobs={"still sending": "the search timed out"}, notes=("3 older campaigns still send",)
        ),
        learned=(("Zone of the filters", "UTC+03:00"),),
    )
    text = Parsed(views.status(FRAME, ExporterStatus(shard=1, total_shards=3), [status])).text
    for expected in (
        "1 partly failing",
        "A part of the last poll of statistics failed: the search for older campaigns that still send: ",
        "the search timed out",
        "3 older campaigns still send",
        "Zone of the filters UTC+03:00",
        "Shard 2 of 3",
    ):
        assert expected in text


def test_a_failed_reload_is_reported() -> None:
    """The page says that the configuration in force isn't the file's, and why."""
    text = Parsed(views.status(FRAME, ExporterStatus(reload_problem="c.yaml:1: x: unknown key"), [])).text
    assert "reload failed" in text
    assert "c.yaml:1: x: unknown key" in text


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (None, "never"),
        (float("inf"), "\u2013"),
        (
            NOW - 180,
            '<time datetime="2026-11-23T11:57:00Z" title="2026-11-23 11:57:00 UTC">3 minutes ago</time>',
        ),
    ],
)
def test_moments(when: float | None, expected: str) -> None:
    """A time is relative, with its UTC value for machines and the pointer; what no calendar has is a dash."""
    page = views.status(FRAME, EXPORTER, [account("main", resource(last_success=when))])
    assert expected in page
