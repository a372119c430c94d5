"""Requests, answers and rows of the API: frozen, slotted, without I/O and without a clock.

Times are seconds since the epoch (UTC). `start` of a row keeps its fraction of a second, if it has one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, Literal, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from decimal import Decimal

    from exporter.api.fields import Counts


class Mark(Enum):
    """What stands for a value that was there but can't be used."""

    INVALID = "invalid"


INVALID: Final = Mark.INVALID
Count: TypeAlias = int | Literal[Mark.INVALID] | None
"""A count of the API: a non-negative integer, absent or null (None), or not readable as one."""
Amount: TypeAlias = "Decimal | Literal[Mark.INVALID] | None"
"""A sum of money, likewise."""
Values: TypeAlias = "Counts[int | None]"
"""Counts as they are exported; None where there never was a value."""


N = TypeVar("N", int, "Decimal")


def add_up(values: Iterable[N | Mark | None]) -> N | Mark | None:
    """Add values up: what is absent is left out; one that can't be read makes the sum unknown (INVALID)."""
    found: N | None = None
    for value in values:
        if isinstance(value, Mark):
            return INVALID
        if value is not None:
            found = value if found is None else found + value
    return found


@dataclass(frozen=True, slots=True, order=True)
class TimeRange:
    """The whole seconds `first` to `last`, both included.

    A row belongs to second floor(start).
    """

    first: int
    last: int

    def __contains__(self, start: float) -> bool:
        return self.first <= math.floor(start) <= self.last

    @property
    def seconds(self) -> int:
        """How many seconds it has; never negative."""
        return max(0, self.last - self.first + 1)


@dataclass(frozen=True, slots=True)
class Query:
    """One request to the API: the documented filters, and a page if the server is known to have pages.

    Bounds are whole seconds since the epoch, sent as they are: whether the server takes them as inclusive
    isn't documented, and whoever asks has to allow for both. Pages count from 1.
    """

    start_from: int | None = None
    start_to: int | None = None
    send_from: int | None = None
    send_to: int | None = None
    campaign_ids: tuple[int, ...] = ()
    per_page: int = 500
    page: int | None = None

    def __str__(self) -> str:
        """Say what is asked for, in words for a log line."""
        parts = [
            f"{kind} from {format_bound(first)} to {format_bound(last)}"
            for kind, first, last in (
                ("starts", self.start_from, self.start_to),
                ("sends", self.send_from, self.send_to),
            )
            if first is not None and last is not None
        ]
        if self.campaign_ids:
            more = len(self.campaign_ids) - 1
            parts.append(f"campaign {self.campaign_ids[0]}" + (f" and {more} more" if more else ""))
        return ", ".join([*parts, f"perPage {self.per_page}"])

    @property
    def filtered(self) -> bool:
        """Whether it has a filter. The vendor forbids requests without one."""
        by_start = self.start_from is not None and self.start_to is not None
        by_send = self.send_from is not None and self.send_to is not None
        return by_start or by_send or bool(self.campaign_ids)


def format_bound(second: int) -> str:
    """Return a bound as the API's filters have it: ``YYYY-MM-DD HH:MM:SS``, in UTC."""
    return datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the API with status 200, not yet read. `headers` has lower-case names."""

    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class MessageStats:
    """One row of ``/campaign/statistics``: one message of one campaign."""

    campaign_id: int
    channel: str
    start: float
    title: str
    counts: Counts[Count]

    @property
    def group(self) -> Hashable:
        """What its row is counted with: rows of one group are always in one answer, or the answer was cut."""
        return (self.campaign_id, self.channel, self.start)


@dataclass(frozen=True, slots=True)
class Conversion:
    """One row of ``/campaign/statistic-conversions``."""

    campaign_id: int
    channel: str
    start: float
    stop: float | None
    title: str
    campaign_name: str
    event: str
    period: str
    deposits: Count
    amount: Amount
    converted_users: Count

    @property
    def group(self) -> Hashable:
        """As `MessageStats.group`, for one conversion event and period."""
        return (self.campaign_id, self.channel, self.start, self.event, self.period)


class Row(Protocol):
    """What paging needs to know of a row."""

    @property
    def campaign_id(self) -> int:
        """Identifier of the campaign."""

    @property
    def channel(self) -> str:
        """Channel, in lower case."""

    @property
    def start(self) -> float:
        """Start of the campaign, seconds since the epoch."""

    @property
    def title(self) -> str:
        """Title of the message."""

    @property
    def group(self) -> Hashable:
        """Identity of the group of rows."""


R = TypeVar("R", bound=Row)
R_co = TypeVar("R_co", bound=Row, covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[R_co]):
    """One answer, read.

    `size` counts every row the server sent, also those that could not be read; `total` is what a total-count
    header said, if any; `invalid` counts invalid values by API field name (a row that was skipped counts under
    the field that made it unreadable); `unknown` names the fields that the documentation doesn't have.
    """

    rows: tuple[R_co, ...]
    size: int
    total: int | None = None
    invalid: Mapping[str, int] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
