"""The campaign list behind ``/campaigns``: rates against InTarget's limits, filters, order, pages."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlencode

from exporter.api.fields import COUNTER_FIELDS
from exporter.limits import BOUNCE_LIMIT, COMPLAINT_LIMIT, WARNING_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal

    from exporter.tracking.model import CampaignSnapshot, ConversionSnapshot, Snapshot

ENOUGH_EVENTS: Final = 3
PER_PAGE: Final = 100
_MAX_TEXT: Final = 200
_MAX_QUERY: Final = 4096
FIELD_NAMES: Final = {
    "softBounced": "soft bounced",
    "temporaryFailed": "temporarily failed",
    "complaint": "complaints",
}
"""How people call the API's counters, where that isn't the field's name."""
_INDEX: Final = {name: index for index, name in enumerate(COUNTER_FIELDS)}


class Verdict(Enum):
    """How a rate stands against its limit."""

    OVER = "over"
    NEAR = "near"
    OK = "ok"
    FEW = "few"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rate:
    """`events` of `of` messages, against `limit` (a ratio)."""

    events: int | None
    of: int | None
    limit: float

    @property
    def ratio(self) -> float | None:
        """Events of messages, 0 to 1; None where that can't be said."""
        return self.events / self.of if self.events is not None and self.of else None

    @property
    def verdict(self) -> Verdict:
        """A rate that looks high on fewer than 3 events isn't called so."""
        ratio = self.ratio
        if ratio is None or self.events is None:
            return Verdict.NONE
        if ratio < WARNING_SHARE * self.limit:
            return Verdict.OK
        if self.events < ENOUGH_EVENTS:
            return Verdict.FEW
        return Verdict.OVER if ratio >= self.limit else Verdict.NEAR


@dataclass(frozen=True, slots=True)
class CounterRow:
    """One counter of a campaign: InTarget's present figure beside the exported one."""

    name: str
    vendor: int | None
    exported: int | None

    @property
    def overcount(self) -> int:
        """How far the exported figure stands above InTarget's."""
        if self.exported is None or self.vendor is None:
            return 0
        return max(0, self.exported - self.vendor)


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """One campaign in one channel of one account."""

    account: str
    currency: str | None
    campaign: CampaignSnapshot

    def value(self, field: str) -> int | None:
        """Return InTarget's last good value of `field`, a name of COUNTER_FIELDS."""
        return self.campaign.vendor[_INDEX[field]]

    @property
    def name(self) -> str:
        """What people call the campaign, never an empty text."""
        campaign = self.campaign
        return (
            campaign.campaign_name.strip()
            or campaign.message_title.strip()
            or f"Campaign {campaign.campaign_id}"
        )

    @property
    def subtitle(self) -> str:
        """Its id, and its title unless that is its name."""
        title = self.campaign.message_title
        under = f"id {self.campaign.campaign_id}"
        return under if title in ("", self.name) else f"{under} \u00b7 {title}"

    @property
    def conversion(self) -> ConversionSnapshot | None:
        """Its broadest conversion, if it has any."""
        return broadest(self.campaign.conversions)

    @property
    def counters(self) -> tuple[CounterRow, ...]:
        """The counters that ever had a value, in the API's order."""
        return tuple(
            CounterRow(FIELD_NAMES.get(name, name), vendor, exported)
            for name, vendor, exported in zip(
                COUNTER_FIELDS, self.campaign.vendor, self.campaign.values, strict=True
            )
            if vendor is not None or exported is not None
        )

    @property
    def bounce(self) -> Rate:
        """Bounced of sent."""
        return Rate(self.value("bounced"), self.value("sent"), BOUNCE_LIMIT)

    @property
    def complaint(self) -> Rate:
        """Complaints of delivered, or of sent where InTarget gives no delivered."""
        delivered = self.value("delivered")
        return Rate(
            self.value("complaint"), self.value("sent") if delivered is None else delivered, COMPLAINT_LIMIT
        )


class Sort(Enum):
    """What the table is ordered by; the values stand in URLs."""

    NAME = "name"
    ACCOUNT = "account"
    CHANNEL = "channel"
    STARTED = "started"
    SENT = "sent"
    DELIVERED = "delivered"
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    UNSUBSCRIBED = "unsubscribed"
    DEPOSITS = "deposits"

    @property
    def descending_first(self) -> bool:
        """Whether people want the largest first."""
        return self not in (Sort.NAME, Sort.ACCOUNT, Sort.CHANNEL)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What of the list to show, as it stands in the URL. Empty texts: everything."""

    account: str = ""
    channel: str = ""
    text: str = ""
    sort: Sort = Sort.STARTED
    descending: bool = True
    page: int = 1

    @classmethod
    def decode(cls, query: bytes) -> ListQuery:
        """Read a query string; what can't be read is as if it weren't there."""
        try:
            found = parse_qs(query[:_MAX_QUERY].decode("ascii"), max_num_fields=20, errors="replace")
        except ValueError:
            return cls()
        last = {name: values[-1] for name, values in found.items()}
        try:
            sort = Sort(last.get("sort", "started"))
        except ValueError:
            sort = Sort.STARTED
        order = last.get("order", "")
        number = last.get("page", "")
        page = int(number) if number.isascii() and number.isdecimal() and len(number) < 7 else 1  # noqa: PLR2004 - digits
        return cls(
            account=last.get("account", ""),
            channel=last.get("channel", ""),
            text=last.get("q", "").strip()[:_MAX_TEXT],
            sort=sort,
            descending=order == "desc" if order in ("asc", "desc") else sort.descending_first,
            page=max(1, page),
        )

    def encode(self) -> str:
        """Return the query string with its question mark, or nothing for the default."""
        pairs = [
            (name, value) for name, value in zip(("account", "channel", "q"), self._texts, strict=True) if value
        ]
        if self.sort is not Sort.STARTED or not self.descending:
            pairs += [("sort", self.sort.value), ("order", "desc" if self.descending else "asc")]
        if self.page > 1:
            pairs.append(("page", str(self.page)))
        return "?" + urlencode(pairs, errors="replace") if pairs else ""

    def with_(self, **changes: Any) -> ListQuery:  # noqa: ANN401 - the types of the fields
        """Return a copy with `changes`."""
        return dataclasses.replace(self, **changes)

    @property
    def filtered(self) -> bool:
        """Whether it leaves anything out."""
        return any(self._texts)

    @property
    def _texts(self) -> tuple[str, str, str]:
        return (self.account, self.channel, self.text)


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of the list: `query.page` of `pages`, `rows` of `total`, counted after the filters."""

    rows: tuple[CampaignRow, ...]
    total: int
    pages: int
    query: ListQuery
    per_page: int = PER_PAGE

    @property
    def first(self) -> int:
        """The number of its first row, from 1."""
        return (self.query.page - 1) * self.per_page + 1

    @property
    def last(self) -> int:
        """The number of its last row."""
        return self.first + len(self.rows) - 1


def select(snapshot: Snapshot, query: ListQuery, per_page: int = PER_PAGE) -> Listing:
    """Return the page of `snapshot` that `query` asks for, or the last there is."""
    needle = query.text.casefold()
    rows = [
        CampaignRow(account.account, account.currency, campaign)
        for account in snapshot.accounts
        if query.account in ("", account.account)
        for campaign in account.campaigns
        if query.channel in ("", campaign.channel) and (not needle or _matches(campaign, needle))
    ]
    key = _KEYS[query.sort]
    keyed = [(key(row), row) for row in rows]
    # Rows without a value come last either way; equals stand newest first.
    with_value = [pair for pair in keyed if pair[0] is not None]
    with_value.sort(key=lambda pair: (-pair[1].campaign.start, pair[1].campaign.campaign_id))
    with_value.sort(key=lambda pair: pair[0], reverse=query.descending)
    ordered = [row for _, row in with_value] + [row for value, row in keyed if value is None]
    pages = max(1, -(-len(ordered) // per_page))
    page = min(query.page, pages)
    first = (page - 1) * per_page
    return Listing(
        rows=tuple(ordered[first : first + per_page]),
        total=len(ordered),
        pages=pages,
        query=query.with_(page=page),
        per_page=per_page,
    )


def find(snapshot: Snapshot, account: str, campaign_id: int) -> tuple[CampaignRow, ...]:
    """Return the account's campaign in every channel, by the channel's name; nothing if there is none."""
    rows = (
        CampaignRow(candidate.account, candidate.currency, item)
        for candidate in snapshot.accounts
        if candidate.account == account
        for item in candidate.campaigns
        if item.campaign_id == campaign_id
    )
    return tuple(sorted(rows, key=lambda row: row.campaign.channel))


def account_names(snapshot: Snapshot) -> list[str]:
    """Return the accounts by name."""
    return sorted(account.account for account in snapshot.accounts)


def channel_names(snapshot: Snapshot) -> list[str]:
    """Return every channel of a tracked campaign."""
    return sorted({campaign.channel for account in snapshot.accounts for campaign in account.campaigns})


def broadest(conversions: Sequence[ConversionSnapshot]) -> ConversionSnapshot | None:
    """Return the event and period with the most deposits: the others are mostly contained in it."""

    def size(conversion: ConversionSnapshot) -> tuple[int, Decimal | int]:
        deposits = -1 if conversion.deposits is None else conversion.deposits
        return (deposits, -1 if conversion.amount is None else conversion.amount)

    return max(conversions, key=size, default=None)


def _matches(campaign: CampaignSnapshot, needle: str) -> bool:
    return (
        needle in campaign.campaign_name.casefold()
        or needle in campaign.message_title.casefold()
        or needle == str(campaign.campaign_id)
    )


def _deposits(row: CampaignRow) -> int | None:
    best = row.conversion
    return None if best is None else best.deposits


def _name(row: CampaignRow) -> str:
    return (row.campaign.campaign_name or row.campaign.message_title).casefold()


_KEYS: Final[dict[Sort, Callable[[CampaignRow], Any]]] = {
    Sort.NAME: _name,
    Sort.ACCOUNT: lambda row: row.account.casefold(),
    Sort.CHANNEL: lambda row: row.campaign.channel,
    Sort.STARTED: lambda row: row.campaign.start,
    Sort.SENT: lambda row: row.value("sent"),
    Sort.DELIVERED: lambda row: row.value("delivered"),
    Sort.BOUNCE: lambda row: row.bounce.ratio,
    Sort.COMPLAINT: lambda row: row.complaint.ratio,
    Sort.UNSUBSCRIBED: lambda row: row.value("unsubscribed"),
    Sort.DEPOSITS: _deposits,
}
