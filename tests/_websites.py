"""A made-up site for the tests of the web layer."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from decimal import Decimal
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from exporter.api.fields import COUNTER_FIELDS
from exporter.status import AccountStatus, ExporterStatus, ResourceStatus
from exporter.tracking.model import (
    AccountSnapshot,
    CampaignSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
    Snapshot,
)
from exporter.web.routes import WebApp
from exporter.web.site import Site

if TYPE_CHECKING:
    from collections.abc import MutableMapping

NOW = 1_795_435_200.0
"""2026-11-23 12:00:00 UTC."""

EXPOSITION = b"# HELP intarget_up Whether the last poll succeeded.\n# TYPE intarget_up gauge\nintarget_up 1\n"


@dataclass(frozen=True)
class Exposed:
    """A `Response` of the web layer."""

    parts: tuple[bytes, ...] = (EXPOSITION,)
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"
    content_encoding: str | None = None


def values(**counts: int) -> tuple[int | None, ...]:
    """Return counts by their API names, None for the others."""
    return tuple(counts.get(name) for name in COUNTER_FIELDS)


def campaign(campaign_id: int = 1, channel: str = "email", **changes: object) -> CampaignSnapshot:
    """Return a campaign with plausible counts, or what `changes` says."""
    counts = values(
        skipped=0, sent=12500, delivered=12340, bounced=160, softBounced=73, complaint=1, unsubscribed=9
    )
    fields: dict[str, object] = {
        "campaign_id": campaign_id,
        "channel": channel,
        "start": NOW - 3600 * campaign_id,
        "stop": None,
        "campaign_name": f"Campaign {campaign_id}",
        "message_title": f"Title {campaign_id}",
        "values": counts,
        "vendor": counts,
    }
    return CampaignSnapshot(**{**fields, **changes})


def snapshot(*campaigns: CampaignSnapshot, account: str = "main", currency: str | None = "EUR") -> Snapshot:
    """Return a snapshot of one account."""
    return Snapshot((AccountSnapshot(account, currency, NOW - 86400, tuple(campaigns)),))


def resource(name: str = "statistics", **changes: object) -> ResourceStatus:
    """Return a resource that goes well, or what `changes` says."""
    fields: dict[str, object] = {
        "interval": 300.0,
        "polls": 1234,
        "last_poll": NOW - 180,
        "last_success": NOW - 180,
        "last_duration": 2.4,
        "requests_per_hour": 61.2,
        "page_cap": "500",
    }
    return ResourceStatus(name, **{**fields, **changes})


def account(name: str = "main", *resources: ResourceStatus, **changes: object) -> AccountStatus:
    """Return an account that goes well, or what `changes` says."""
    fields: dict[str, object] = {
        "base_url": "https://api.intarget.app",
        "resources": resources or (resource(), resource("conversions", interval=900.0)),
        "campaigns": 142,
        "series": 3021,
        "ready": True,
    }
    return AccountStatus(name, **{**fields, **changes})


def site(**changes: object) -> Site:
    """Return a site with one campaign and one healthy account, or what `changes` says."""
    fields: dict[str, object] = {
        "exposition": lambda *_: Exposed(),
        "snapshot": lambda: snapshot(campaign()),
        "accounts": lambda: (account(),),
        "reload": lambda: None,
        "quit": lambda: None,
        "clock": lambda: NOW,
        "version": "1.2.3",
    }
    return Site(**{**fields, **changes})


def lively() -> Site:
    """Return a site with several accounts in every state and 230 campaigns of every kind."""
    random_ = random.Random(7)
    names = (
        "Black Friday warm-up",
        "Welcome bonus \u2013 second deposit, players who came by the autumn affiliate programme",
        "Win-back 30 days",
        "Cashback Tuesday",
        "Отыгрыш выходного дня",
        "<b>Bold</b> & \"quoted\" <script>alert('x')</script>",
        "عرض خاص",
        "Averyveryveryveryverylongsinglewordwithoutanyspaceinwhichnobreakwouldbeplacedbydefault",
    )
    campaigns = []
    for index in range(230):
        channel = ("email", "sms", "push")[index % 3]
        sent = int(10 ** random_.uniform(0.5, 5.5))
        bounced = int(sent * random_.choice((0.002, 0.01, 0.035, 0.07)))
        complaint = int(sent * random_.choice((0, 0, 0.0001, 0.0004, 0.001)))
        counts = values(
            skipped=sent // 50,
            sent=sent,
            delivered=sent - bounced,
            clicked=sent // 20,
            bounced=bounced,
            softBounced=bounced // 2,
            rejected=0,
            failed=sent // 900,
            temporaryFailed=0,
            complaint=complaint,
            unsubscribed=sent // 400,
            **({} if channel == "sms" else {"opened": sent // 4}),
        )
        exported = tuple(None if count is None else count + 3 * (index == 1 and count > 9) for count in counts)
        name = names[index % len(names)]
        deposits = sent // 300
        campaigns.append(
            campaign(
                1000 + index,
                channel,
                start=NOW - 1500 * (index + 1) ** 1.35,
                stop=NOW - 600 if index % 9 == 0 else None,
                campaign_name=name if index % 7 else "",
                message_title=f"{name} / variant {index}",
                values=exported,
                vendor=counts,
                held=index == 0,
                messages=(MessageSnapshot(f"{name} / A", exported), MessageSnapshot(f"{name} / B", exported)),
                conversions=()
                if index % 4 == 0
                else (
                    ConversionSnapshot(
                        "Delivered", "7 days", deposits, Decimal(deposits * 37) + Decimal("0.40"), 5
                    ),
                    ConversionSnapshot("Clicked", "1 day", deposits // 2, None, 2),
                ),
            ),
        )
    main = AccountSnapshot("main", "EUR", NOW - 86400, tuple(campaigns))
    brand = AccountSnapshot("brand/zwei", None, NOW - 86400, (campaign(5, "push"), campaign(5, "email")))
    old = AccountSnapshot("legacy", None, NOW - 86400, stale=True)
    statuses = (
        account(
            "main",
            resource(notes=("older campaigns that still send: 3 found, last looked 12 minutes ago",)),
            resource("conversions", interval=900.0),
            campaigns=230,
            series=4711,
            learned=(
                ("Zone of the filters", "UTC+03:00"),
                ("Largest perPage", "100"),
                ("Longest range", "7 days"),
            ),
        ),
        account(
            "seasonal", resource(failed_jobs={"still sending": "no answer within 30 seconds"}), campaigns=12
        ),
        account(
            "brand/zwei",
            resource(incomplete=True, page_cap="10", requests_per_hour=812.0),
            resource("conversions", error="no answer within 30 seconds; is the API up?", reason="timeout"),
            campaigns=2,
            series=24,
            dropped=1200,
        ),
        account(
            "legacy",
            resource(
                last_success=NOW - 90_000,
                error="InTarget rejected the token; check access_token_file",
                reason="auth",
            ),
            campaigns=0,
            series=0,
            stale=True,
            ready=False,
            problem="no success for 1 day 1 hour, longer than poll.stale_after; its series are withdrawn",
        ),
        account(
            "fresh",
            ResourceStatus("statistics", 300.0),
            ResourceStatus("conversions", 900.0),
            campaigns=0,
            series=0,
            ready=False,
            problem="the first poll has not finished yet",
        ),
    )
    exporter = ExporterStatus(
        state_path="/var/lib/intarget-exporter/intarget-exporter.db",
        state_problem="the folder may not be written to; check its owner and mode",
        reload_problem="config.yaml:3: poll.windw: unknown key; did you mean poll.window?",
        shard=1,
        total_shards=3,
    )
    return site(
        snapshot=lambda: Snapshot((main, brand, old)),
        accounts=lambda: statuses,
        status=lambda: exporter,
        configuration=lambda: "accounts:\n- name: <b>main</b>\n  access_token: '**********'\n",
    )


HOSTILE = (
    "</title></pre><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>\" onfocus=\"ran = 1"
)
"""Runs something in a browser, or leaves its place, wherever it isn't escaped."""


def hostile() -> Site:
    """Return a site in which every foreign text is hostile."""
    item = campaign(
        1,
        HOSTILE,
        campaign_name=HOSTILE,
        message_title=HOSTILE,
        messages=(MessageSnapshot(HOSTILE, values(sent=1)),),
        conversions=(ConversionSnapshot(HOSTILE, HOSTILE, 1, Decimal(1), 1),),
    )
    status = account(
        HOSTILE,
        resource(
            error=HOSTILE, reason=HOSTILE, failed_jobs={HOSTILE: HOSTILE}, notes=(HOSTILE,), page_cap=HOSTILE
        ),
        base_url=HOSTILE,
        problem=HOSTILE,
        learned=((HOSTILE, HOSTILE),),
    )
    exporter = ExporterStatus(state_path=HOSTILE, state_problem=HOSTILE, reload_problem=HOSTILE)
    return site(
        snapshot=lambda: snapshot(item, account=HOSTILE, currency=HOSTILE),
        accounts=lambda: (status,),
        status=lambda: exporter,
        configuration=lambda: HOSTILE,
    )


@dataclass(frozen=True)
class Answer:
    """What an ASGI application answered: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


async def acall(app: WebApp, target: str = "/", method: str = "GET", **headers: str) -> Answer:
    """Call `app` as a server would; header names have underscores for hyphens."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *bodies = sent
    assert [True] * (len(bodies) - 1) + [False] == [message.get("more_body", False) for message in bodies]
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    body = b"".join(message["body"] for message in bodies)
    return Answer(start["status"], found, b"" if method == "HEAD" else body)  # as the server does


def call(site: Site, target: str = "/", method: str = "GET", **headers: str) -> Answer:
    """Return what an application for `site` answers."""
    app = WebApp(site)
    try:
        return asyncio.run(acall(app, target, method, **headers))
    finally:
        app.close()


class Parsed(HTMLParser):
    """A page as a parser sees it: texts by element, attributes, and every element's name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in ("br", "input", "link", "meta"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element, which must be the innermost."""
        assert tag == self._open.pop()

    def handle_data(self, data: str) -> None:
        """Note the text under its innermost element."""
        if self._open:
            self.texts.append((self._open[-1], data))

    def inside(self, tag: str) -> list[str]:
        """Return the texts right inside elements of this name."""
        return [text for name, text in self.texts if name == tag]

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join("".join(text for _, text in self.texts).split())

    def attributes(self, tag: str, name: str) -> list[str]:
        """Return an attribute of all elements of this name that have it."""
        return [attrs[name] or "" for element, attrs in self.elements if element == tag and name in attrs]
