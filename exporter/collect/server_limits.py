"""What one server takes and how it reads what its documentation leaves open, as far as it was learned."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Final, Self

from exporter.collect.page_cap import DOCUMENTED_DEFAULT, Kind, Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFETIME: Final = 86400
"""Seconds for which something learned is believed, and after which something refused is tried again."""
FURTHEST: Final = 14 * 3600
"""Seconds that a zone adds to UTC, or takes away, at most."""
MOST_IDS: Final = 100
"""Identifiers in one request: keeps its URL under 3 kB."""


@dataclass(slots=True)
class ServerLimits:
    """Everything learned of one server for one resource. None: not known yet.

    `largest` is the largest recent answer to each kind of request with perPage `asked`, and `widened` the kinds
    of which one for as much as possible was made since then; `most` the most rows of an answer by start, be it
    believed or not that as many would come again. `per_page`, `longest` (seconds of starts per
    request) and `ids` (identifiers per request) are the most that is asked for because more was refused;
    `ahead` is how far a startTo may lie ahead of now. `tried` is when more was last tried.

    `zone` is what the server adds to UTC before it compares starts, in seconds. `filters`: whether known rows
    are found by their own second; `coarse`: together with others, so that the zone isn't known to the second.
    `from_inclusive`: whether startFrom includes its second. `totals` names the units that a total-count header
    may count; empty: it is none.
    `ids_ignored`: whether rows of other campaigns than those asked for came back.
    `send_filter`: whether send filters select; `combines`: whether they do together with a start filter.
    `pages`: whether the configured page parameter pages.
    """

    since: float = 0.0
    asked: int | None = None
    largest: dict[str, Sizes] = field(default_factory=dict)
    widened: list[str] = field(default_factory=list)
    most: int = 0
    per_page: int | None = None
    longest: int | None = None
    accepted: int = 0
    refused: int | None = None
    ids: int = MOST_IDS
    ids_refused: int | None = None
    ids_ignored: bool = False
    ahead: int | None = None
    tried: float = 0.0
    zone: int = 0
    filters: bool | None = None
    coarse: bool = False
    from_inclusive: bool | None = None
    totals: list[str] | None = None
    send_filter: bool | None = None
    combines: bool | None = None
    pages: bool | None = None

    @classmethod
    def load(cls, saved: Mapping[str, object] | None) -> Self:
        """Return what was saved, by name; what is unknown or unusable is left out."""
        limits = cls()
        for item in fields(cls):
            value = (saved or {}).get(item.name)
            if value is not None and _fits(value, getattr(limits, item.name), item.name):
                setattr(limits, item.name, value)
        limits.largest = {kind: Sizes(*sizes) for kind, sizes in limits.largest.items() if kind in set(Kind)}
        return limits

    def save(self) -> dict[str, object]:
        """Return it as plain values for JSON."""
        return asdict(self) | {"largest": {kind: list(sizes) for kind, sizes in self.largest.items()}}

    @property
    def margin(self) -> int:
        """Seconds to ask for beside a range, on either side, where the zone isn't known to the second."""
        if not self.coarse:
            return 0
        return FURTHEST if self.longest is None else min(FURTHEST, self.longest // 3)

    @property
    def is_margin_short(self) -> bool:
        """Whether no request may be long enough for it."""
        return self.coarse and self.margin < FURTHEST

    def limit(self, kind: Kind, per_page: int) -> Sizes:
        """Return the size below which an answer to a request of `kind` is complete."""
        base = min(DOCUMENTED_DEFAULT, per_page)
        return self.largest.get(kind, Sizes()).larger(Sizes(base, base, base))

    def use(self, per_page: int) -> None:
        """Ask with `per_page` from now on: what was returned to another one proves nothing for it."""
        if self.asked != per_page:
            self.asked, self.largest, self.widened, self.most = per_page, {}, [], 0

    def observe(self, kind: Kind, sizes: Sizes) -> None:
        """Note the size of an answer."""
        self.largest[kind] = sizes.larger(self.largest.get(kind, Sizes()))
        self.most = max(self.most, self.largest.get(Kind.START, Sizes()).rows)

    def expire(self, now: float) -> None:
        """Forget once a day what may have changed; what is refused stays until more was tried."""
        if not self.since <= now < self.since + LIFETIME:
            kept = ServerLimits(
                since=now,
                per_page=self.per_page,
                longest=self.longest,
                accepted=self.accepted,
                ids=self.ids,
                ahead=self.ahead,
                tried=self.tried,
                zone=self.zone,
                from_inclusive=self.from_inclusive,
            )
            for item in fields(self):
                setattr(self, item.name, getattr(kept, item.name))

    def grow_ids(self, accepted: int) -> None:
        """Ask for more identifiers again, as far as these were not refused."""
        if accepted == self.ids < MOST_IDS and 2 * accepted < (self.ids_refused or 2 * MOST_IDS):
            self.ids = min(2 * accepted, MOST_IDS)

    def grow_range(self, accepted: int) -> None:
        """Ask for longer ranges again, as far as these were not refused."""
        if self.longest is not None and accepted >= self.longest:
            self.accepted = self.longest
            if self.refused is None or 2 * self.longest < self.refused:
                self.longest *= 2


def _fits(value: object, default: object, name: str) -> bool:
    if name == "largest":
        return isinstance(value, dict) and all(
            isinstance(sizes, list)
            and len(sizes) == len(Sizes._fields)
            and all(isinstance(n, int) for n in sizes)
            for sizes in value.values()
        )
    if isinstance(default, list) or name == "totals":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if isinstance(default, bool) or (
        default is None and name not in {"asked", "per_page", "longest", "refused", "ids_refused", "ahead"}
    ):
        return isinstance(value, bool)
    return isinstance(value, int) or (isinstance(default, float) and isinstance(value, float))
