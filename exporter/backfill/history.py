"""From what a backfill was answered to what it writes: what every campaign had at each step, in OpenMetrics.

Everything here is a function of the answers: no I/O, no clock. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from exporter.api.fields import COUNTER_FIELDS, Counts, same
from exporter.api.model import Conversion, Mark, MessageStats, R, TimeRange, add_up
from exporter.collect.evidence import Evidence, RowMap
from exporter.collect.ranges import Ranges, union
from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CAMPAIGN_METRICS
from exporter.exposition.writer import metadata, snapshot_lines
from exporter.tracking.model import (
    AccountSnapshot,
    CampaignSnapshot,
    ChannelSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.api.model import N, Page, Reply, Values
    from exporter.backfill.journal import Record
    from exporter.config.model import AccountConfig

NO_VALUES: Final[Values] = same(None)
_COUNTERS: Final = frozenset(metric.name for metric in CAMPAIGN_COUNTERS.values())


@dataclass(frozen=True, slots=True)
class Span:
    """The seconds `first` to `last`, both included, in steps of `step` seconds; the last may be shorter.

    Samples are numbered: 0 stands at `first` for what was before, the others at the last second of each step.
    """

    first: int
    last: int
    step: int

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return -(-(self.last - self.first + 1) // self.step)

    @property
    def ends(self) -> tuple[int, ...]:
        """The time of each sample."""
        return (
            self.first,
            *(min(self.first + n * self.step - 1, self.last) for n in range(1, self.steps + 1)),
        )

    def sent_until(self, number: int) -> int:
        """Return the last second whose sends belong to a sample."""
        return self.first - 1 if number == 0 else self.ends[number]

    def step_of(self, start: float) -> int:
        """Return the number of the first sample at or after a start; 0 for what started before."""
        return 0 if start < self.first else (math.floor(start) - self.first) // self.step + 1

    @property
    def months(self) -> tuple[TimeRange, ...]:
        """The calendar months (UTC) in it, the first and last one as far as they are in it."""
        months = []
        first = self.first
        while first <= self.last:
            moment = datetime.fromtimestamp(first, UTC)
            later = moment.replace(day=1, hour=0, minute=0, second=0) + timedelta(days=32)
            last = int(later.replace(day=1).timestamp()) - 1
            months.append(TimeRange(first, min(last, self.last)))
            first = last + 1
        return tuple(months)


# Sums over the rows of one campaign
V_co = TypeVar("V_co", covariant=True)
EventKey: TypeAlias = tuple[str, str]


def _good(value: N | Mark | None) -> N | None:
    return None if isinstance(value, Mark) else value


def sums(rows: Iterable[MessageStats]) -> tuple[int | Mark | None, ...]:
    """Return the twelve counts of COUNTER_FIELDS over all rows; INVALID where one can't be read."""
    return tuple(add_up(column) for column in zip(*(row.counts for row in rows), strict=True)) or NO_VALUES


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


def by_channel(rows: Iterable[R]) -> dict[str, list[R]]:
    """Return the rows of each channel, in their order."""
    channels: defaultdict[str, list[R]] = defaultdict(list)
    for row in rows:
        channels[row.channel].append(row)
    return channels


# What is known of an resource


class Meaning(StrEnum):
    """What sendFrom and sendTo do to the counts of a campaign."""

    DIVIDES = "divides"
    SELECTS = "selects"
    IGNORED = "ignored"
    UNCLEAR = "unclear"


class Side(Generic[R]):
    """One resource of one account: what is known of it, by the journal alone.

    `totals` has the rows of each campaign as they are today; `until[n]` those of what was sent until sample n,
    of the campaigns that were asked for. `done` are the starts that were read.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[Reply], Page[R]],
        codec: tuple[Callable[[R], Record], Callable[[Record | list[Any]], R]],
        measure: Callable[[Iterable[R]], int],
        reached: Callable[[Sequence[R], Sequence[R]], bool],
    ) -> None:
        self.name = name
        self.read = read
        self.pack, self.unpack = codec
        self.measure = measure
        self.reached = reached
        self.evidence = Evidence()
        self.map = RowMap()
        self.meaning: Meaning | None = None
        self.done: Ranges = ()
        self.older: set[int] = set()
        self.unproven: set[int] = set()  # campaigns that may have more rows
        self.totals: dict[int, list[R]] = {}
        self.until: defaultdict[int, dict[int, list[R]]] = defaultdict(dict)
        self.samples: defaultdict[int, list[int]] = defaultdict(list)  # of each campaign, those in `until`
        self.learned: float | None = None

    def apply(self, record: Record) -> None:
        """Take in a record about this resource."""
        self.evidence.since, self.evidence.most, self.evidence.cut = record["evidence"]
        rows = [self.unpack(packed) for packed in record.get("rows", ())]
        self.map.add(rows)
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
            self.meaning = Meaning(record["meaning"])
        elif kind == "until":
            for number in record["ids"]:
                self.until[record["sample"]][number] = by_id.get(number, [])
                self.samples[number].append(record["sample"])

    def start(self, number: int) -> float:
        """Return when a campaign started."""
        return min(row.start for row in self.totals[number])


# What is written

Lines: TypeAlias = dict[str, dict[str, list[str]]]
"""Values and times, as they are written, by the name of their metric and by series, in the order of time."""


class _Course(Generic[V_co]):
    """How one thing went: its value from each sample at which it changed."""

    def __init__(self, points: Sequence[tuple[int, V_co]]) -> None:
        self.points = points
        self._numbers = [number for number, _ in points]

    def at(self, sample: int) -> V_co | None:
        """Return the value as of a sample; None before the first one."""
        index = bisect_right(self._numbers, sample) - 1
        return self.points[index][1] if index >= 0 else None


@dataclass(frozen=True, slots=True)
class _Campaign:
    """One campaign in one channel. `first` is its first sample, `last` the last one that it is written at."""

    shape: CampaignSnapshot
    first: int
    last: int
    counts: _Course[Values]
    messages: Mapping[str, _Course[Values]]
    conversions: _Course[tuple[ConversionSnapshot, ...]]

    def snapshot(self, sample: int) -> CampaignSnapshot:
        """Return it as of a sample."""
        return replace(
            self.shape,
            values=self.counts.at(sample) or NO_VALUES,
            messages=tuple(
                MessageSnapshot(title, course.at(sample) or NO_VALUES)
                for title, course in self.messages.items()
            ),
            conversions=self.conversions.at(sample) or (),
        )


class History:
    """What one account's campaigns had at each sample, in the words of the live exposition.

    A campaign is written from the sample before it started, where its counters stand at 0, until `window`
    seconds after it last grew, as the exporter would have shown it. Counters never go down. Those of a channel
    begin at 0 with the span and add what its campaigns grow by.
    """

    def __init__(
        self,
        account: AccountConfig,
        span: Span,
        statistics: Side[MessageStats],
        conversions: Side[Conversion],
        *,
        window: float,
        per_message: bool,
    ) -> None:
        self._account = account
        self._span = span
        self._ends = span.ends
        self._window = window
        self._per_message = per_message
        counts, earned = self._channels_of(statistics), self._channels_of(conversions)
        self.campaigns = [
            self._campaign(number, channel, statistics, conversions)
            for number, channel in sorted(counts | earned)
        ]
        self._channels = self._add_up()

    @staticmethod
    def _channels_of(side: Side[R]) -> set[tuple[int, str]]:
        divides = side.meaning is Meaning.DIVIDES
        return {
            (number, row.channel)
            for number, rows in side.totals.items()
            if divides or number not in side.older
            for row in rows
        }

    def _campaign(
        self, number: int, channel: str, statistics: Side[MessageStats], conversions: Side[Conversion]
    ) -> _Campaign:
        rows = [row for row in statistics.totals.get(number, ()) if row.channel == channel]
        earned = [row for row in conversions.totals.get(number, ()) if row.channel == channel]
        start = min(row.start for row in (rows or earned))
        first = self._span.step_of(start)
        answers = self._answers(statistics, number, channel, rows, first)
        counts = _course(answers, rows, first)
        titles = sorted({row.title for row in rows}) or sorted({row.title for row in earned})
        messages = {}
        if self._per_message:
            for title in sorted({row.title for _, found in answers for row in found} | set(titles)):
                mine = [(sample, [row for row in found if row.title == title]) for sample, found in answers]
                messages[title] = _course(mine, [row for row in rows if row.title == title], first)
        grown = max((sample for sample, _ in counts.points), default=first)
        gone = self._ends[max(grown, first)] + self._window
        return _Campaign(
            CampaignSnapshot(
                number,
                channel,
                start,
                max((row.stop for row in earned if row.stop is not None), default=None),
                earned[0].campaign_name if earned else "",
                " | ".join(titles),
                NO_VALUES,
                NO_VALUES,
                (0,) * len(COUNTER_FIELDS),
            ),
            first,
            bisect_right(self._ends, gone) - 1,
            counts,
            messages,
            _gauge_course(self._answers(conversions, number, channel, earned, first)),
        )

    @staticmethod
    def _answers(
        side: Side[R], number: int, channel: str, totals: Sequence[R], first: int
    ) -> list[tuple[int, Sequence[R]]]:
        """Return the rows of a campaign and channel as of each sample that was asked for."""
        if side.meaning is not Meaning.DIVIDES:
            return [(first, totals)] if number not in side.older else []
        return [
            (sample, [row for row in side.until[sample][number] if row.channel == channel])
            for sample in sorted(side.samples[number])
        ]

    def _add_up(self) -> list[tuple[ChannelSnapshot, ...]]:
        """Return the channels at each sample."""
        totals: dict[str, list[int | None]] = {}
        growth: defaultdict[int, list[tuple[str, Values]]] = defaultdict(list)
        for campaign in self.campaigns:
            channel, before = campaign.shape.channel, NO_VALUES
            total = totals.setdefault(channel, [None] * len(COUNTER_FIELDS))
            for sample, values in campaign.counts.points:
                pairs = list(zip(before, values, strict=True))
                growth[sample].append(
                    (channel, Counts._make(0 if a is None or b is None else b - a for a, b in pairs))
                )
                before = values
            for index, value in enumerate(before):
                if value is not None:
                    total[index] = 0
        channels = []
        for sample in range(len(self._ends)):
            for channel, steps in growth[sample]:
                total = totals[channel]
                for index, step in enumerate(steps):
                    value = total[index]
                    total[index] = None if value is None else value + (step or 0)
            channels.append(tuple(ChannelSnapshot(name, Counts._make(totals[name])) for name in sorted(totals)))
        return channels

    def month(self, month: TimeRange) -> Lines:
        """Return the sample lines of one month."""
        lines: Lines = {metric.name: {} for metric in CAMPAIGN_METRICS}
        for sample, at in enumerate(self._ends):
            if at in month:
                coming = [one for one in self.campaigns if one.first - 1 == sample]
                there = [one for one in self.campaigns if one.first <= sample <= one.last]
                self._add_lines(lines, sample, coming, (), _COUNTERS)
                self._add_lines(lines, sample, there, self._channels[sample], lines.keys())
        return lines

    def _add_lines(
        self,
        lines: Lines,
        sample: int,
        campaigns: Iterable[_Campaign],
        channels: tuple[ChannelSnapshot, ...],
        names: Collection[str],
    ) -> None:
        found = snapshot_lines(
            AccountSnapshot(
                self._account.name,
                self._account.currency,
                self._span.first,
                tuple(campaign.snapshot(sample) for campaign in campaigns),
                channels,
            ),
            per_message=self._per_message,
        )
        for metric in CAMPAIGN_METRICS:
            if metric.name in names:
                family = lines[metric.name]
                for line in found[metric.name].split("\n")[:-1]:
                    series, _, value = line.rpartition(" ")
                    family.setdefault(series, []).append(f" {value} {self._ends[sample]}\n")


def _course(
    answers: Sequence[tuple[int, Sequence[MessageStats]]], totals: Sequence[MessageStats], first: int
) -> _Course[Values]:
    """Return the counters of a campaign, or of one of its messages, from the rows as of each sample.

    No row means that nothing was sent yet: 0 for every count that there ever is.
    """
    answered = [(sample, len(rows), sums(rows)) for sample, rows in answers]
    columns = [sums(totals), *(values for _, _, values in answered)]
    known = [any(isinstance(values[index], int) for values in columns) for index in range(len(COUNTER_FIELDS))]
    nothing: Values = Counts._make([0 if is_known else None for is_known in known])
    points: list[tuple[int, Values]] = []
    now = NO_VALUES
    if first:
        now = nothing
        points.append((first - 1, now))
    for sample, rows, values in answered:
        if not rows and now == NO_VALUES:
            found = nothing
        else:
            found = Counts._make([_higher(old, new) for old, new in zip(now, values, strict=True)])
        if found != now:
            now = found
            points.append((sample, now))
    return _Course(points)


def _higher(old: int | None, new: int | Mark | None) -> int | None:
    if new is None or isinstance(new, Mark):
        return old
    return new if old is None else max(old, new)


def _gauge_course(
    answers: Sequence[tuple[int, Sequence[Conversion]]],
) -> _Course[tuple[ConversionSnapshot, ...]]:
    """Return the conversions of a campaign. A value that isn't there any more stays as it last was."""
    points: list[tuple[int, tuple[ConversionSnapshot, ...]]] = []
    now: dict[EventKey, ConversionSnapshot] = {}
    for sample, rows in answers:
        for key, new in gauges(rows).items():
            old = now.get(key, new)
            now[key] = replace(
                new,
                deposits=old.deposits if new.deposits is None else new.deposits,
                amount=old.amount if new.amount is None else new.amount,
                converted_users=old.converted_users if new.converted_users is None else new.converted_users,
            )
        points.append((sample, tuple(now.values())))
    return _Course(points)


def openmetrics(families: Lines) -> Iterator[bytes]:
    """Yield an exposition in which the samples of each series follow each other, as promtool needs it."""
    for metric in CAMPAIGN_METRICS:
        if families[metric.name]:
            yield metadata(metric, openmetrics=True)
            for series, tails in families[metric.name].items():
                yield "".join([series + tail for tail in tails]).encode()
    yield b"# EOF\n"
