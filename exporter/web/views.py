"""The pages for people: plain values for the templates in ``templates/``, and their rendering."""

from __future__ import annotations

import hashlib
import platform
import re
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter.api.fields import COUNTER_FIELDS
from exporter.limits import BOUNCE_LIMIT, COMPLAINT_LIMIT, WARNING_SHARE
from exporter.web import format as fmt
from exporter.web.listing import ENOUGH_EVENTS, FIELD_NAMES, Sort, account_names, channel_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.status import AccountStatus, ExporterStatus
    from exporter.tracking.model import MessageSnapshot, Snapshot
    from exporter.web.listing import CampaignRow, Listing, ListQuery

_PYTHON: Final = f"{platform.python_implementation()} {platform.python_version()}"
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_MESSAGE_FIELDS: Final = ("sent", "delivered", "opened", "clicked", "bounced", "complaint", "unsubscribed")

STYLE: Final = files("exporter.web").joinpath("static", "style.css").read_bytes()
ICON: Final = files("exporter.web").joinpath("static", "icon.svg").read_bytes()


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around every page. `now` in seconds since the epoch."""

    now: float
    version: str
    telemetry_path: str
    documentation: str | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account with its state in a `word` and the badge's `kind`."""

    account: AccountStatus
    word: str
    kind: str

    @property
    def incomplete(self) -> bool:
        """Whether rows may be missing."""
        return any(resource.incomplete for resource in self.account.resources)

    @property
    def last_success(self) -> float | None:
        """When a poll of any resource last succeeded."""
        return max((r.last_success for r in self.account.resources if r.last_success is not None), default=None)


@dataclass(frozen=True, slots=True)
class StateFileView:
    """Whether what is counted survives a restart, in a `word` and the badge's `kind`."""

    word: str
    kind: str


@dataclass(frozen=True, slots=True)
class ColumnView:
    """A heading of the campaign table: a link that orders by it, and `arrow` and `order` if it does already."""

    name: str
    query: str
    number: bool
    limit: float | None
    order: str | None
    arrow: str


_SORTS: Final = (
    (Sort.NAME, "Campaign", False, None),
    (Sort.ACCOUNT, "Account", False, None),
    (Sort.CHANNEL, "Channel", False, None),
    (Sort.STARTED, "Started", False, None),
    (Sort.SENT, "Sent", True, None),
    (Sort.DELIVERED, "Delivered", True, None),
    (Sort.BOUNCE, "Bounce rate", True, BOUNCE_LIMIT),
    (Sort.COMPLAINT, "Complaint rate", True, COMPLAINT_LIMIT),
    (Sort.UNSUBSCRIBED, "Unsubscribes", True, None),
    (Sort.DEPOSITS, "Conversions", True, None),
)


# Pages


def status(frame: Frame, exporter: ExporterStatus, accounts: Sequence[AccountStatus]) -> str:
    """Return ``/``."""
    views = [AccountView(account, *_account_state(account)) for account in accounts]
    summary = "No account is polled here."
    if views:
        words = Counter(view.word for view in views).most_common()
        noun = "account" if len(views) == 1 else "accounts"
        summary = f"{len(views):,} {noun}: " + ", ".join(f"{number:,} {word}" for word, number in words)
    return _render(
        "status.html",
        frame,
        here="",
        exporter=exporter,
        state_file=_state_file(exporter),
        accounts=views,
        jobs=_JOBS,
        summary=summary,
    )


def campaigns(frame: Frame, snapshot: Snapshot, listing: Listing) -> str:
    """Return ``/campaigns`` for one page of rows."""
    query = listing.query
    accounts, channels = account_names(snapshot), channel_names(snapshot)
    return _render(
        "campaigns.html",
        frame,
        here="campaigns",
        listing=listing,
        query=query,
        columns=list(_columns(query)),
        account_choices=[("", "All accounts"), *zip(accounts, accounts, strict=True)],
        channel_choices=[("", "All channels"), *zip(channels, channels, strict=True)],
        sort_choices=[(sort.value, name) for sort, name, _, _ in _SORTS],
        stale=[one.account for one in snapshot.accounts if one.stale and query.account in ("", one.account)],
        bounce_limit=BOUNCE_LIMIT,
        complaint_limit=COMPLAINT_LIMIT,
        warning_share=WARNING_SHARE,
        enough_events=ENOUGH_EVENTS,
    )


def campaign(frame: Frame, rows: Sequence[CampaignRow]) -> str:
    """Return ``/campaigns/<account>/<id>``: one campaign, channel by channel. `rows` has at least one."""
    names = [FIELD_NAMES.get(name, name).capitalize() for name in _MESSAGE_FIELDS]

    def values(message: MessageSnapshot) -> Iterator[tuple[str, int | None]]:
        by_name = dict(zip(COUNTER_FIELDS, message.values, strict=True))
        return zip(names, (by_name[name] for name in _MESSAGE_FIELDS), strict=True)

    return _render(
        "campaign.html",
        frame,
        here="campaigns",
        depth=2,
        rows=rows,
        name=next((row.name for row in rows if row.campaign.campaign_name.strip()), rows[0].name),
        stop=max((row.campaign.stop for row in rows if row.campaign.stop is not None), default=None),
        message_columns=[("Message", ""), *((name, "num") for name in names)],
        message_values=values,
    )


def campaign_not_found(frame: Frame) -> str:
    """Return the page for a campaign that isn't there."""
    return _render("not_found.html", frame, here="campaigns", depth=2)


def configuration(frame: Frame, text: str) -> str:
    """Return ``/config`` with the configuration in force, whose secrets are masked already."""
    return _render("config.html", frame, here="config", configuration=text)


_JOBS: Final = {
    "still sending": "the search for older campaigns that still send",
    "old campaigns": "reading older campaigns that still send",
    "moved campaigns": "reading campaigns whose start moved",
}
"""How people call the parts of a poll that may fail on their own."""


def _account_state(account: AccountStatus) -> tuple[str, str]:
    """Return the state of an account in a word, and the badge's kind."""
    if account.stale:
        return ("stale", "bad")
    if any(resource.error is not None for resource in account.resources):
        return ("failing", "bad")
    if not account.ready or all(resource.last_success is None for resource in account.resources):
        return ("starting", "info")
    if any(resource.failed_jobs for resource in account.resources):
        return ("partly failing", "near")
    return ("ok", "ok")


def _state_file(exporter: ExporterStatus) -> StateFileView:
    if exporter.state_path is None:
        return StateFileView("no state file: counters begin anew at every start", "")
    if exporter.state_problem is not None:
        return StateFileView("state file not in use", "bad")
    return StateFileView("state file in use", "ok")


def _columns(query: ListQuery) -> Iterator[ColumnView]:
    for sort, name, number, limit in _SORTS:
        current = query.sort is sort
        descending = not query.descending if current else sort.descending_first
        yield ColumnView(
            name,
            query.with_(sort=sort, descending=descending, page=1).encode(),
            number,
            limit,
            order=("descending" if query.descending else "ascending") if current else None,
            arrow=("\u25bc" if query.descending else "\u25b2") if current else "",
        )


# Rendering


def _clean(value: object) -> object:
    """Return a text with what HTML can't hold (control characters, lone surrogates) replaced by U+FFFD."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _UNPRINTABLE.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))
    return value


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "\u2026"


def _segment(text: str) -> str:
    """Return `text` for one segment of a path or one value of a query."""
    return quote(text, safe="", errors="replace")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_clean,
        auto_reload=False,
    )
    environment.filters.update(
        amount=fmt.amount,
        count=fmt.count,
        cut=_cut,
        duration=fmt.duration,
        iso=fmt.iso,
        limit=fmt.limit,
        percent=fmt.percent,
        relative=fmt.relative,
        segment=_segment,
        utc=fmt.utc,
    )
    environment.globals.update(
        nothing=fmt.NOTHING,
        python=_PYTHON,
        style_version=hashlib.sha256(STYLE).hexdigest()[:12],
    )
    return environment


_ENVIRONMENT: Final = _environment()


def _render(template: str, frame: Frame, *, here: str, depth: int = 0, **values: Any) -> str:  # noqa: ANN401 - for the template
    """Return the page; `depth` is the number of folders in its path, `here` its entry in the navigation."""
    up = "../" * depth or "./"
    navigation = (
        ("Status", "", up),
        ("Campaigns", "campaigns", f"{up}campaigns"),
        ("Metrics", "metrics", up + quote(frame.telemetry_path.lstrip("/"))),
        ("Readiness", "ready", f"{up}-/ready"),
        ("Configuration", "config", f"{up}config"),
    )
    page = _ENVIRONMENT.get_template(template)
    return page.render(frame=frame, up=up, here=here, navigation=navigation, **values)
