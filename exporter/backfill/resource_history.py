"""What was answered about one resource of one account so far, by the journal alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

from exporter.api import parse
from exporter.api.fields import CONVERSIONS, STATISTICS, Counts, same
from exporter.api.model import Conversion, Mark, MessageStats, R, TimeRange, add_up
from exporter.backfill.journal import pack_conversion, pack_stats, unpack_conversion, unpack_stats
from exporter.collect.collector import Collector
from exporter.collect.ranges import Ranges, union
from exporter.tracking.model import NO_VALUES, ConversionSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exporter.api.model import Count, N, Page, Reply
    from exporter.backfill.journal import Record
    from exporter.config.model import ApiConfig

EventKey: TypeAlias = tuple[str, str]
"""Conversion event and period."""


class SendFilter(StrEnum):
    """What sendFrom and sendTo do to the counts of a campaign."""

    DIVIDES = "divides"
    SELECTS = "selects"
    IGNORED = "ignored"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """One resource, as a backfill needs it.

    `pack` and `unpack` are how a row stands in the journal. `measure` counts what a send filter would divide;
    `reached` says whether nothing of some rows (the second) is missing in others (the first).
    """

    name: str
    reader: Callable[[], Callable[[Reply], Page[R]]]
    pack: Callable[[R], Record]
    unpack: Callable[[Any], R]
    measure: Callable[[Iterable[R]], int]
    reached: Callable[[Sequence[R], Sequence[R]], bool]


class ResourceHistory(Generic[R]):
    """One resource of one account: what is known of it.

    `totals` has the rows of each campaign as they are today; `until[n]` those of what was sent until sample n,
    of the campaigns that were asked for; `samples` the samples of each campaign in `until`. `done` are the
    starts that were read, `older` the campaigns from before the span, `unproven` those that may have more rows.
    """

    def __init__(self, kind: Kind[R]) -> None:
        self.kind = kind
        self.name = kind.name
        self.read = kind.reader()
        self._collector: Collector[R] | None = None
        self.send_filter: SendFilter | None = None
        self.done: Ranges = ()
        self.older: set[int] = set()
        self.unproven: set[int] = set()
        self.totals: dict[int, list[R]] = {}
        self.until: defaultdict[int, dict[int, list[R]]] = defaultdict(dict)
        self.samples: defaultdict[int, list[int]] = defaultdict(list)

    def collector(self, config: ApiConfig) -> Collector[R]:
        """Return what knows the server and where rows are; all requests of the backfill share it."""
        if self._collector is None:
            rows = (row for members in self.totals.values() for row in members)
            counts = Counter((row.campaign_id, row.channel, row.start) for row in rows)
            self._collector = Collector(
                per_page=config.per_page,
                concurrency=config.concurrency,
                pages=config.page_parameter is not None,
                known=[(*key, count) for key, count in counts.items()],
            )
        return self._collector

    @property
    def divides(self) -> bool:
        """Whether there is history within a campaign."""
        return self.send_filter is SendFilter.DIVIDES

    def apply(self, record: Record) -> None:
        """Take in a record about this resource."""
        rows = [self.kind.unpack(packed) for packed in record.get("rows", ())]
        by_id: defaultdict[int, list[R]] = defaultdict(list)
        for row in rows:
            by_id[row.campaign_id].append(row)
        self.unproven.update(record.get("unproven", ()))
        kind = record["kind"]
        if kind == "starts":
            self.done = union([*self.done, *(TimeRange(*part) for part in record["ranges"])])
            for number, members in by_id.items():
                if number not in self.older:
                    self.totals.setdefault(number, []).extend(members)
        elif kind == "older":
            self.older.update(record["ids"])
            self.totals.update(by_id)
        elif kind == "meaning":
            self.send_filter = SendFilter(record["meaning"])
        elif kind == "until":
            for number in record["ids"]:
                self.until[record["sample"]][number] = by_id.get(number, [])
                self.samples[number].append(record["sample"])

    def start(self, number: int) -> float:
        """Return when a campaign started."""
        return min(row.start for row in self.totals[number])


# Sums over the rows of one campaign


def by_channel(rows: Iterable[R]) -> dict[str, list[R]]:
    """Return the rows of each channel, in their order."""
    channels: defaultdict[str, list[R]] = defaultdict(list)
    for row in rows:
        channels[row.channel].append(row)
    return channels


def sums(rows: Iterable[MessageStats]) -> Counts[Count]:
    """Return each count over all rows; INVALID where one can't be read."""
    columns = list(zip(*(row.counts for row in rows), strict=True))
    return Counts._make(map(add_up, columns)) if columns else same(None)


def gauges(rows: Iterable[Conversion]) -> dict[EventKey, ConversionSnapshot]:
    """Return the sums of one campaign and channel by event and period."""
    groups: defaultdict[EventKey, list[Conversion]] = defaultdict(list)
    for row in rows:
        groups[row.event, row.period].append(row)
    return {
        (event, period): ConversionSnapshot(
            event,
            period,
            _good(add_up(row.deposits for row in members)),
            _good(add_up(row.amount for row in members)),
            _good(add_up(row.converted_users for row in members)),
        )
        for (event, period), members in sorted(groups.items())
    }


def _good(value: N | Mark | None) -> N | None:
    return None if isinstance(value, Mark) else value


# The two resources


def _stats_reached(now: Sequence[MessageStats], final: Sequence[MessageStats]) -> bool:
    """Whether no count of `final` is still to come."""
    have = {channel: sums(rows) for channel, rows in by_channel(now).items()}
    for channel, rows in by_channel(final).items():
        for value, last in zip(have.get(channel, NO_VALUES), sums(rows), strict=True):
            missing = isinstance(last, int) and last > 0 and not (isinstance(value, int) and value >= last)
            if missing or isinstance(last, Mark):
                return False
    return True


def _conversions_reached(now: Sequence[Conversion], final: Sequence[Conversion]) -> bool:
    have = {channel: gauges(rows) for channel, rows in by_channel(now).items()}
    return all(have.get(channel) == gauges(rows) for channel, rows in by_channel(final).items())


def _sent(rows: Iterable[MessageStats]) -> int:
    return sum(value for row in rows if isinstance(value := row.counts.sent, int))


def _deposits(rows: Iterable[Conversion]) -> int:
    return sum(row.deposits for row in rows if isinstance(row.deposits, int))


STATISTICS_KIND: Final = Kind(
    STATISTICS, parse.statistics_reader, pack_stats, unpack_stats, _sent, _stats_reached
)
CONVERSIONS_KIND: Final = Kind(
    CONVERSIONS,
    parse.conversions_reader,
    pack_conversion,
    unpack_conversion,
    _deposits,
    _conversions_reached,
)
