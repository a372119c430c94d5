"""The pages for people, as complete HTML documents; pure functions of what they are given."""

from __future__ import annotations

import platform
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from exporter.api.fields import COUNTER_FIELDS
from exporter.limits import BOUNCE_LIMIT, COMPLAINT_LIMIT, WARNING_SHARE
from exporter.web import format as fmt
from exporter.web.campaigns import (
    ENOUGH_EVENTS,
    CampaignRow,
    Listing,
    Rate,
    Sort,
    Verdict,
    account_names,
    broadest,
    channel_names,
)
from exporter.web.html import Child, Markup, isolated, join, tag
from exporter.web.style import CSS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.status import AccountStatus, ResourceStatus
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot, MessageSnapshot, Snapshot
    from exporter.web.campaigns import ListQuery

_PYTHON: Final = f"{platform.python_implementation()} {platform.python_version()}"
_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Crect width='16' height='16' rx='3' fill='%230b5cad'/%3E"
    "%3Cpath d='M3 12V8h2v4zm4 0V4h2v8zm4 0V6h2v6z' fill='%23fff'/%3E%3C/svg%3E"
)
_VERDICTS: Final = {
    Verdict.OVER: ("over the limit", "badge bad"),
    Verdict.NEAR: ("near", "badge near"),
    Verdict.OK: ("ok", "badge ok"),
    Verdict.FEW: ("too few to say", "badge"),
    Verdict.NONE: ("no data", "badge"),
}
_FIELD_NAMES: Final = {
    "softBounced": "soft bounced",
    "temporaryFailed": "temporarily failed",
    "complaint": "complaints",
}


@dataclass(frozen=True)
class Frame:
    """What stands around every page. `now` in seconds since the epoch."""

    now: float
    version: str
    telemetry_path: str
    documentation: str | None = None


def status(frame: Frame, accounts: Sequence[AccountStatus]) -> str:
    """Return ``/``."""
    if accounts:
        states = Counter(_state(account)[0] for account in accounts)
        noun = "account" if len(accounts) == 1 else "accounts"
        summary = f"{len(accounts):,} {noun}: " + ", ".join(f"{n:,} {word}" for word, n in states.most_common())
        body: Child = [_account(frame, account) for account in accounts]
    else:
        summary = "No account is polled here."
        body = None
    return _document(frame, "Status", 0, "", tag("h1", "Status"), tag("p", summary, class_="soft"), body)


def campaigns(frame: Frame, snapshot: Snapshot, listing: Listing) -> str:
    """Return ``/campaigns`` for one page of rows."""
    query = listing.query
    return _document(
        frame,
        "Campaigns",
        0,
        "campaigns",
        tag("h1", "Campaigns"),
        _filter_form(snapshot, query),
        _stale_note(snapshot, query.account),
        _campaign_table(frame, listing) if listing.rows else _nothing_found(listing),
        _pager(listing),
        tag(
            "p",
            "Counts are InTarget's, since the start of a campaign. Bounce rate = bounced / sent, complaint "
            "rate = complaints / delivered (/ sent where delivered is missing). InTarget may stop an account's "
            f"sendings at {fmt.limit(BOUNCE_LIMIT)} bounces or {fmt.limit(COMPLAINT_LIMIT)} complaints; "
            f"\u201cnear\u201d begins at {WARNING_SHARE:.0%} of that, and a rate that looks high on fewer than "
            f"{ENOUGH_EVENTS} events is \u201ctoo few to say\u201d. Conversions are those of the event and "
            "period with the most deposits; events and periods overlap, so they are not summed.",
            class_="soft small",
        ),
    )


def campaign(frame: Frame, account: AccountSnapshot, found: Sequence[CampaignSnapshot]) -> str:
    """Return ``/campaigns/<account>/<id>``: one campaign, channel by channel. `found` has at least one."""
    first = found[0]
    title = _named(first)
    facts = (
        ("Account", isolated(account.account)),
        ("Campaign id", str(first.campaign_id)),
        ("Started", fmt.moment(min(item.start for item in found), frame.now)),
        ("Stopped", fmt.moment(first.stop, frame.now, never=fmt.NOTHING)),
        ("Channels", isolated(", ".join(item.channel for item in found))),
    )
    return _document(
        frame,
        title[:100],
        2,
        "campaigns",
        tag(
            "p",
            tag("a", "Campaigns", href="../../campaigns"),
            " / ",
            isolated(account.account),
            class_="crumbs",
        ),
        tag("h1", isolated(title, 2000)),
        _facts(facts),
        [_channel(frame, account, item) for item in found],
    )


def not_found(frame: Frame, depth: int, what: str) -> str:
    """Return the page for a campaign that isn't there. `depth` is the number of folders in its path."""
    return _document(
        frame,
        "Not found",
        depth,
        "campaigns",
        tag("h1", "Not found"),
        tag("p", what),
        tag("p", tag("a", "All campaigns", href="../" * depth + "campaigns")),
    )


# Around every page


def _document(frame: Frame, title: str, depth: int, here: str, *content: Child) -> str:
    up = "../" * depth or "./"
    links = (
        ("Status", "", up),
        ("Campaigns", "campaigns", f"{up}campaigns"),
        ("Metrics", "metrics", up + quote(frame.telemetry_path.lstrip("/"))),
        ("Readiness", "ready", f"{up}-/ready"),
    )
    items: list[Child] = [
        tag("li", tag("a", text, href=href, aria_current="page" if name == here else None))
        for text, name, href in links
    ]
    if frame.documentation is not None:
        items.append(tag("li", tag("a", "Documentation", href=frame.documentation, rel="noreferrer")))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title} \u00b7 intarget-exporter"),
        tag("link", rel="icon", href=_ICON),
        tag("style", Markup(CSS)),
    )
    body = tag(
        "body",
        tag("a", "Skip to content", href="#content", class_="skip"),
        tag("header", tag("strong", "intarget-exporter"), tag("nav", tag("ul", items), aria_label="Pages")),
        tag("main", *content, id="content"),
        tag(
            "footer",
            f"intarget-exporter {frame.version} \u00b7 {_PYTHON} \u00b7 shown at {fmt.utc(frame.now)}",
        ),
    )
    return "<!DOCTYPE html>\n" + tag("html", head, body, lang="en")


def _facts(facts: Sequence[tuple[str, Child]]) -> Markup:
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts], class_="facts")


@dataclass(frozen=True)
class _Column:
    """A column: its heading, whether it holds numbers, and an alternative heading with links."""

    name: str
    number: bool = False
    heading: Child = None
    sort: str | None = None
    wide: bool = False


def _table(
    caption: Child,
    columns: Sequence[_Column],
    rows: Sequence[Sequence[Child]],
    label: str,
    kind: str = "",
) -> Markup:
    """Return a table whose first column heads its rows; on a narrow screen each row becomes a card."""
    head = [
        tag(
            "th",
            column.name if column.heading is None else column.heading,
            scope="col",
            role="columnheader",
            aria_sort=column.sort,
            class_=_cell_class(column),
        )
        for column in columns
    ]
    body = []
    for row in rows:
        cells: list[Child] = [tag("th", row[0], scope="row", role="rowheader", class_="name")]
        for column, cell in zip(columns[1:], row[1:], strict=True):
            cells.append(
                tag("td", tag("span", cell), role="cell", class_=_cell_class(column), data_label=column.name),
            )
        body.append(tag("tr", cells, role="row"))
    table = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", head, role="row"), role="rowgroup"),
        tag("tbody", body, role="rowgroup"),
        class_=f"cards {kind}".strip(),
        role="table",
    )
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


def _cell_class(column: _Column) -> str | None:
    return "num" if column.number else "wide" if column.wide else None


def _segment(text: str) -> str:
    """Return `text` for one segment of a path or one value of a query."""
    return quote(text, safe="", errors="replace")


# The status page


def _state(account: AccountStatus) -> tuple[str, str]:
    """Return the state of an account in a word, and its class."""
    if account.stale:
        return ("stale", "badge bad")
    if any(resource.error is not None for resource in account.resources):
        return ("failing", "badge bad")
    if not account.ready or all(resource.last_success is None for resource in account.resources):
        return ("starting", "badge info")
    return ("ok", "badge ok")


def _account(frame: Frame, account: AccountStatus) -> Markup:
    word, class_ = _state(account)
    incomplete = any(resource.incomplete for resource in account.resources)
    successes = [resource.last_success for resource in account.resources if resource.last_success is not None]
    notes: list[Child] = []
    if account.problem:
        notes.append(tag("p", account.problem, class_="note" if word != "starting" else "note mild"))
    if incomplete:
        notes.append(
            tag(
                "p",
                "InTarget may have more rows than could be read: an answer may have been cut in a way that no "
                "further question could settle. What is exposed may lack campaigns or messages.",
                class_="note mild",
            ),
        )
    if account.dropped:
        notes.append(
            tag(
                "p",
                f"{fmt.count(account.dropped)} older campaigns are left out: metrics.max_campaigns is reached.",
                class_="note mild",
            ),
        )
    requests = sum(resource.requests_per_hour for resource in account.resources)
    facts: tuple[tuple[str, Child], ...] = (
        ("Last success", fmt.moment(max(successes, default=None), frame.now)),
        (
            "Campaigns",
            tag("a", fmt.count(account.campaigns), href=f"./campaigns?account={_segment(account.account)}"),
        ),
        ("Dropped", fmt.count(account.dropped)),
        ("Series", fmt.count(account.series)),
        ("Requests per hour", fmt.count(round(requests))),
    )
    columns = (
        _Column("Endpoint"),
        _Column("State", wide=True),
        _Column("Last success"),
        _Column("Last poll"),
        _Column("Every"),
        _Column("Polls", number=True),
        _Column("Requests/h", number=True),
        _Column("Page cap", number=True),
        _Column("Rows"),
    )
    return tag(
        "section",
        tag(
            "div",
            tag("h2", isolated(account.account)),
            tag("span", word, class_=class_),
            tag("span", "incomplete", class_="badge near") if incomplete else None,
            tag("span", isolated(account.base_url), class_="soft small"),
            class_="title",
        ),
        notes,
        _facts(facts),
        _table(
            "Polling, by endpoint of the API",
            columns,
            [_resource(frame, resource) for resource in account.resources],
            f"Polling of account {account.account}",
        ),
        class_="card",
    )


def _resource(frame: Frame, resource: ResourceStatus) -> Sequence[Child]:
    if resource.error is not None:
        reason = f" ({resource.reason})" if resource.reason else ""
        state: Child = [tag("span", "failing", class_="badge bad"), " ", tag("span", resource.error + reason)]
    elif resource.last_success is None:
        state = tag("span", "no poll yet", class_="badge info")
    else:
        state = tag("span", "ok", class_="badge ok")
    took: Child = None
    if resource.last_duration is not None:
        took = [
            tag("br"),
            tag("span", f"took {fmt.duration(resource.last_duration)}", class_="soft small fixed"),
        ]
    return (
        resource.resource,
        state,
        fmt.moment(resource.last_success, frame.now),
        [fmt.moment(resource.last_poll, frame.now), took],
        tag("span", fmt.duration(resource.interval), class_="fixed"),
        fmt.count(resource.polls),
        fmt.count(round(resource.requests_per_hour)),
        resource.page_cap,
        _completeness(resource),
    )


def _completeness(resource: ResourceStatus) -> Child:
    if resource.incomplete:
        return tag("span", "incomplete", class_="badge near")
    return fmt.NOTHING if resource.last_success is None else "complete"


# The table of campaigns

_SORTS: Final = (
    (Sort.NAME, "Campaign", False),
    (Sort.ACCOUNT, "Account", False),
    (Sort.CHANNEL, "Channel", False),
    (Sort.STARTED, "Started", False),
    (Sort.SENT, "Sent", True),
    (Sort.DELIVERED, "Delivered", True),
    (Sort.BOUNCE, f"Bounce rate (limit {fmt.limit(BOUNCE_LIMIT)})", True),
    (Sort.COMPLAINT, f"Complaint rate (limit {fmt.limit(COMPLAINT_LIMIT)})", True),
    (Sort.UNSUBSCRIBED, "Unsubscribes", True),
    (Sort.DEPOSITS, "Conversions", True),
)
_TWO_LINES: Final = {Sort.BOUNCE: BOUNCE_LIMIT, Sort.COMPLAINT: COMPLAINT_LIMIT}


def _filter_form(snapshot: Snapshot, query: ListQuery) -> Markup:
    def select(
        name: str, label: str, chosen: str, options: Sequence[tuple[str, str]], class_: str | None
    ) -> Markup:
        items = [tag("option", text, value=value, selected=value == chosen) for value, text in options]
        return tag(
            "div", tag("label", label, for_=name), tag("select", items, id=name, name=name), class_=class_
        )

    accounts = [("", "All accounts"), *((name, name) for name in account_names(snapshot))]
    channels = [("", "All channels"), *((name, name) for name in channel_names(snapshot))]
    return tag(
        "form",
        tag(
            "div",
            tag("label", "Name, title or id", for_="q"),
            tag("input", type="search", id="q", name="q", value=query.text, maxlength="200"),
            class_="grow",
        ),
        select("account", "Account", query.account, accounts, None),
        select("channel", "Channel", query.channel, channels, None),
        select(
            "sort",
            "Sort by",
            query.sort.value,
            [(s.value, name.partition(" (")[0]) for s, name, _ in _SORTS],
            "narrow",
        ),
        select(
            "order",
            "Order",
            "desc" if query.descending else "asc",
            [("desc", "Highest or newest first"), ("asc", "Lowest or oldest first")],
            "narrow",
        ),
        tag("div", tag("button", "Show", type="submit")),
        method="get",
        action="./campaigns",
        class_="filter",
        role="search",
    )


def _stale_note(snapshot: Snapshot, account: str) -> Child:
    names = [item.account for item in snapshot.accounts if item.stale and account in ("", item.account)]
    if not names:
        return None
    return tag(
        "p",
        "Withdrawn, because their data are stale: ",
        isolated(", ".join(names)),
        ". The ",
        tag("a", "status page", href="./"),
        " says why.",
        class_="note",
    )


def _nothing_found(listing: Listing) -> Markup:
    if listing.query.filtered:
        return tag("p", "No campaign matches. ", tag("a", "Show all", href="./campaigns"), class_="card")
    return tag("p", "No campaigns are tracked yet.", class_="card")


def _campaign_table(frame: Frame, listing: Listing) -> Markup:
    query = listing.query
    columns = []
    for sort, name, number in _SORTS:
        current = query.sort is sort
        descending = not query.descending if current else sort.descending_first
        arrow = ("\u25bc" if query.descending else "\u25b2") if current else ""
        text: Child = name
        if sort in _TWO_LINES:
            short, _, limit = name.partition(" (")
            text = [short, tag("br"), tag("span", f"({limit}", class_="unit")]
        columns.append(
            _Column(
                name.partition(" (")[0],
                number=number,
                heading=tag(
                    "a",
                    text,
                    tag("span", arrow, class_="arrow", aria_hidden="true"),
                    href="./campaigns" + query.with_(sort=sort, descending=descending, page=1).encode(),
                    class_="sort",
                ),
                sort=("descending" if query.descending else "ascending") if current else None,
            ),
        )
    first = (listing.query.page - 1) * listing.per_page + 1
    caption = (
        f"{fmt.count(first)}\u2013{fmt.count(first + len(listing.rows) - 1)} of {fmt.count(listing.total)} "
    )
    caption += (
        "campaign, one row for each channel" if listing.total == 1 else "campaigns, one row for each channel"
    )
    rows = [_campaign_row(frame, row) for row in listing.rows]
    return _table(caption, columns, rows, "Tracked campaigns", "broad")


def _named(item: CampaignSnapshot) -> str:
    """Return what people call the campaign, never an empty text."""
    return item.campaign_name.strip() or item.message_title.strip() or f"Campaign {item.campaign_id}"


def _campaign_row(frame: Frame, row: CampaignRow) -> Sequence[Child]:
    item = row.campaign
    name = _named(item)
    under = f"id {item.campaign_id}"
    if item.message_title not in ("", name):
        under += f" \u00b7 {item.message_title}"
    return (
        [
            tag("a", isolated(name, 80), href=f"./campaigns/{_segment(row.account)}/{item.campaign_id}"),
            tag("br"),
            tag("span", isolated(under, 80), class_="soft"),
        ],
        isolated(row.account, 60),
        isolated(item.channel, 40),
        fmt.moment(item.start, frame.now),
        fmt.count(row.value("sent")),
        fmt.count(row.value("delivered")),
        _rate(row.bounce),
        _rate(row.complaint),
        fmt.count(row.value("unsubscribed")),
        _conversions(row),
    )


def _rate(rate: Rate) -> Markup:
    text, class_ = _VERDICTS[rate.verdict]
    if rate.ratio is None:
        return tag("span", text, class_=class_)
    return join(tag("span", fmt.percent(rate.ratio), class_="value"), " ", tag("span", text, class_=class_))


def _conversions(row: CampaignRow) -> Child:
    best = broadest(row.campaign.conversions)
    if best is None:
        return fmt.NOTHING
    lines: list[Child] = [fmt.count(best.deposits), " ", "deposit" if best.deposits == 1 else "deposits"]
    if best.amount is not None:
        lines.append([tag("br"), fmt.amount(best.amount, row.currency)])
    lines.append([tag("br"), tag("span", isolated(f"{best.event}, {best.period}", 40), class_="soft small")])
    return lines


def _pager(listing: Listing) -> Child:
    query = listing.query
    if listing.pages < 2:  # noqa: PLR2004 - nothing to turn
        return None

    def link(text: str, page: int, rel: str) -> Markup | None:
        if not 1 <= page <= listing.pages:
            return None
        return tag("a", text, href="./campaigns" + query.with_(page=page).encode(), rel=rel)

    return tag(
        "nav",
        link("\u2190 Previous", query.page - 1, "prev"),
        tag("span", f"Page {fmt.count(query.page)} of {fmt.count(listing.pages)}"),
        link("Next \u2192", query.page + 1, "next"),
        class_="pages",
        aria_label="Pages of the table",
    )


# One campaign


def _channel(frame: Frame, account: AccountSnapshot, item: CampaignSnapshot) -> Markup:
    row = CampaignRow(account.account, account.currency, item)
    facts: tuple[tuple[str, Child], ...] = (
        (f"Bounce rate (limit {fmt.limit(BOUNCE_LIMIT)})", _rate(row.bounce)),
        (f"Complaint rate (limit {fmt.limit(COMPLAINT_LIMIT)})", _rate(row.complaint)),
        ("Started", fmt.moment(item.start, frame.now)),
        ("Unsubscribes", fmt.count(row.value("unsubscribed"))),
    )
    held = None
    if item.held:
        held = tag(
            "p",
            "Published at 0 for now: a new campaign's counters stand at 0 for metrics.zero_hold, so that "
            "Prometheus sees their first step.",
            class_="note mild",
        )
    return tag(
        "section",
        tag("div", tag("h2", isolated(item.channel)), class_="title"),
        tag("p", isolated(item.message_title), class_="soft") if item.message_title else None,
        held,
        _facts(facts),
        _reconciliation(item),
        _messages(item.messages),
        _conversion_table(account, item),
        class_="card",
    )


def _reconciliation(item: CampaignSnapshot) -> Markup:
    columns = (
        _Column("Field"),
        _Column("InTarget says", number=True),
        _Column("Exported", number=True),
        _Column("Held above InTarget", number=True),
        _Column("Downward steps", number=True),
    )
    rows: list[Sequence[Child]] = []
    for name, vendor, exported, steps in zip(
        COUNTER_FIELDS, item.vendor, item.values, item.corrections, strict=True
    ):
        if vendor is None and exported is None:
            continue
        over = exported - vendor if exported is not None and vendor is not None and exported > vendor else 0
        held: Child = tag("span", f"+{fmt.count(over)}", class_="badge near") if over else "0"
        rows.append(
            (_FIELD_NAMES.get(name, name), fmt.count(vendor), fmt.count(exported), held, fmt.count(steps))
        )
    caption = (
        "Reconciliation. A counter never goes down: what InTarget takes back is held, and counted as a "
        "downward step."
    )
    return _table(caption, columns, rows, f"Reconciliation of channel {item.channel}")


_MESSAGE_FIELDS: Final = ("sent", "delivered", "opened", "clicked", "bounced", "complaint", "unsubscribed")


def _messages(messages: Sequence[MessageSnapshot]) -> Child:
    if not messages:
        return None
    columns = [
        _Column("Message"),
        *(_Column(_FIELD_NAMES.get(n, n).capitalize(), number=True) for n in _MESSAGE_FIELDS),
    ]
    indexes = [COUNTER_FIELDS.index(name) for name in _MESSAGE_FIELDS]
    rows = [(isolated(m.title, 2000), *(fmt.count(m.values[index]) for index in indexes)) for m in messages]
    return [tag("h3", "Messages"), _table("Exported counters, by title", columns, rows, "Messages")]


def _conversion_table(account: AccountSnapshot, item: CampaignSnapshot) -> Child:
    if not item.conversions:
        return [tag("h3", "Conversions"), tag("p", "InTarget has given none.", class_="soft")]
    columns = (
        _Column("Conversion event"),
        _Column("Period"),
        _Column("Converted users", number=True),
        _Column("Deposits", number=True),
        _Column("Amount", number=True),
    )
    rows = [
        (
            isolated(c.event),
            isolated(c.period),
            fmt.count(c.converted_users),
            fmt.count(c.deposits),
            fmt.amount(c.amount, account.currency),
        )
        for c in item.conversions
    ]
    caption = "They keep changing until the period after the last goal event has passed, and overlap."
    return [tag("h3", "Conversions"), _table(caption, columns, rows, "Conversions")]
