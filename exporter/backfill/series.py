"""What every campaign of an account had at each sample, as the live exposition would have shown it.

Everything here is a function of the answers: no I/O, no clock. Times are seconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from exporter.api.fields import Counts
from exporter.api.model import Conversion, Mark, MessageStats, R, TimeRange
from exporter.backfill.resource_history import gauges, sums
from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CAMPAIGN_METRICS
from exporter.exposition.writer import escape, metadata, snapshot_lines
from exporter.tracking.model import (
    NO_VALUES,
    AccountSnapshot,
    CampaignSnapshot,
    ChannelSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.api.model import Values
    from exporter.backfill.resource_history import EventKey, ResourceHistory
    from exporter.backfill.span import Span
    from exporter.config.model import AccountConfig

T = TypeVar("T")
_COUNTER_NAMES: Final = frozenset(metric.name for metric in CAMPAIGN_COUNTERS.values())

Lines: TypeAlias = dict[str, dict[str, list[str]]]
"""Values and times, as they are written, by the name of their metric and by series, in the order of time."""


class StepSeries(Generic[T]):
    """A value that changes at samples: `points` has each change, by the number of its sample."""

    def __init__(self, points: Sequence[tuple[int, T]]) -> None:
        self.points = points
        self._numbers = [number for number, _ in points]

    def at(self, sample: int) -> T | None:
        """Return the value as of a sample; None before the first one."""
        index = bisect_right(self._numbers, sample) - 1
        return self.points[index][1] if index >= 0 else None


@dataclass(frozen=True, slots=True)
class CampaignSeries:
    """One campaign in one channel. `first` is its first sample, `last` the last one that it is written at."""

    shape: CampaignSnapshot
    first: int
    last: int
    counts: StepSeries[Values]
    messages: Mapping[str, StepSeries[Values]]
    conversions: StepSeries[tuple[ConversionSnapshot, ...]]

    def snapshot(self, sample: int) -> CampaignSnapshot:
        """Return it as of a sample."""
        return replace(
            self.shape,
            values=self.counts.at(sample) or NO_VALUES,
            messages=tuple(
                MessageSnapshot(title, series.at(sample) or NO_VALUES)
                for title, series in self.messages.items()
            ),
            conversions=self.conversions.at(sample) or (),
        )


class AccountSeries:
    """All campaigns and channels of one account.

    A campaign is written from the sample before it started, where its counters stand at 0, until `window`
    seconds after it last grew, as the exporter would have shown it. Counters never go down. Those of a channel
    begin at 0 with the span and add what its campaigns grow by. `labels` stand on every series, too.
    """

    def __init__(
        self,
        account: AccountConfig,
        span: Span,
        *,
        statistics: ResourceHistory[MessageStats],
        conversions: ResourceHistory[Conversion] | None,
        window: float,
        per_message: bool,
        labels: Mapping[str, str],
    ) -> None:
        self._account = account
        self._span = span
        self._ends = span.ends
        self._statistics = statistics
        self._conversions = conversions
        self._window = window
        self._per_message = per_message
        self._labels = "".join(f'{name}="{escape(value)}",' for name, value in labels.items())
        keys = _campaign_keys(statistics) | (set() if conversions is None else _campaign_keys(conversions))
        self.campaigns = [self._campaign(number, channel) for number, channel in sorted(keys)]
        self._channels = _channel_totals(self.campaigns, len(self._ends))

    def _campaign(self, number: int, channel: str) -> CampaignSeries:
        rows = _rows_of(self._statistics, number, channel)
        conversion_rows = _rows_of(self._conversions, number, channel)
        start = min(row.start for row in (rows or conversion_rows))
        first = self._span.step_of(start)
        answers = _answers(self._statistics, number, channel, rows, first)
        counts = _count_series(answers, rows, first)
        titles = sorted({row.title for row in rows}) or sorted({row.title for row in conversion_rows})
        grown = max((sample for sample, _ in counts.points), default=first)
        gone = self._ends[max(grown, first)] + self._window
        return CampaignSeries(
            CampaignSnapshot(
                campaign_id=number,
                channel=channel,
                start=start,
                stop=max((row.stop for row in conversion_rows if row.stop is not None), default=None),
                campaign_name=conversion_rows[0].campaign_name if conversion_rows else "",
                message_title=" | ".join(titles),
                values=NO_VALUES,
                vendor=NO_VALUES,
            ),
            first,
            bisect_right(self._ends, gone) - 1,
            counts,
            _message_series(answers, rows, first, titles) if self._per_message else {},
            _gauge_series(_answers(self._conversions, number, channel, conversion_rows, first)),
        )

    def month(self, month: TimeRange) -> Lines:
        """Return the sample lines of one month."""
        lines: Lines = {metric.name: {} for metric in CAMPAIGN_METRICS}
        for sample, at in enumerate(self._ends):
            if at in month:
                coming = [one for one in self.campaigns if one.first - 1 == sample]
                there = [one for one in self.campaigns if one.first <= sample <= one.last]
                self._add_lines(lines, sample, coming, (), _COUNTER_NAMES)
                self._add_lines(lines, sample, there, self._channels[sample], lines.keys())
        return lines

    def _add_lines(
        self,
        lines: Lines,
        sample: int,
        campaigns: Iterable[CampaignSeries],
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
                    series = series.replace("{", "{" + self._labels, 1)
                    family.setdefault(series, []).append(f" {value} {self._ends[sample]}\n")


def _campaign_keys(history: ResourceHistory[R]) -> set[tuple[int, str]]:
    """Return the campaigns and channels that have a history."""
    return {
        (number, row.channel)
        for number, rows in history.totals.items()
        if history.divides or number not in history.older
        for row in rows
    }


def _rows_of(history: ResourceHistory[R] | None, number: int, channel: str) -> list[R]:
    totals = () if history is None else history.totals.get(number, ())
    return [row for row in totals if row.channel == channel]


def _answers(
    history: ResourceHistory[R] | None, number: int, channel: str, totals: Sequence[R], first: int
) -> list[tuple[int, Sequence[R]]]:
    """Return the rows of a campaign and channel as of each sample that was asked for."""
    if history is None:
        return []
    if not history.divides:
        return [(first, totals)] if number not in history.older else []
    return [
        (sample, [row for row in history.until[sample][number] if row.channel == channel])
        for sample in sorted(history.samples[number])
    ]


def _channel_totals(campaigns: Iterable[CampaignSeries], samples: int) -> list[tuple[ChannelSnapshot, ...]]:
    """Return the channels at each sample: all that their campaigns grew by since the span began."""
    totals: dict[str, Values] = {}
    growth: defaultdict[int, list[tuple[str, Values]]] = defaultdict(list)
    for campaign in campaigns:
        channel, before = campaign.shape.channel, NO_VALUES
        for sample, values in campaign.counts.points:
            growth[sample].append((channel, _map(_growth, before, values)))
            before = values
        totals[channel] = _map(_begin, totals.get(channel, NO_VALUES), before)
    channels = []
    for sample in range(samples):
        for channel, steps in growth[sample]:
            totals[channel] = _map(_plus, totals[channel], steps)
        channels.append(tuple(ChannelSnapshot(name, totals[name]) for name in sorted(totals)))
    return channels


def _map(combine: Callable[[int | None, int | None], int | None], one: Values, other: Values) -> Values:
    return Counts._make(map(combine, one, other))


def _growth(before: int | None, after: int | None) -> int | None:
    return 0 if before is None or after is None else after - before


def _begin(total: int | None, value: int | None) -> int | None:
    """Return 0 for a count that some campaign of the channel has."""
    return total if value is None else 0


def _plus(total: int | None, step: int | None) -> int | None:
    return None if total is None else total + (step or 0)


def _message_series(
    answers: Sequence[tuple[int, Sequence[MessageStats]]],
    totals: Sequence[MessageStats],
    first: int,
    titles: Iterable[str],
) -> dict[str, StepSeries[Values]]:
    series = {}
    for title in sorted({row.title for _, rows in answers for row in rows} | set(titles)):
        of_title = [(sample, [row for row in rows if row.title == title]) for sample, rows in answers]
        series[title] = _count_series(of_title, [row for row in totals if row.title == title], first)
    return series


def _count_series(
    answers: Sequence[tuple[int, Sequence[MessageStats]]], totals: Sequence[MessageStats], first: int
) -> StepSeries[Values]:
    """Return the counters of a campaign, or of one of its messages, from the rows as of each sample.

    No row means that nothing was sent yet: 0 for every count that there ever is.
    """
    answered = [(sample, len(rows), sums(rows)) for sample, rows in answers]
    columns = [sums(totals), *(values for _, _, values in answered)]
    nothing: Values = Counts._make(
        [
            0 if any(isinstance(value, int) for value in column) else None
            for column in zip(*columns, strict=True)
        ]
    )
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
    return StepSeries(points)


def _higher(old: int | None, new: int | Mark | None) -> int | None:
    if new is None or isinstance(new, Mark):
        return old
    return new if old is None else max(old, new)


def _gauge_series(
    answers: Sequence[tuple[int, Sequence[Conversion]]],
) -> StepSeries[tuple[ConversionSnapshot, ...]]:
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
    return StepSeries(points)


def openmetrics(families: Lines) -> Iterator[bytes]:
    """Yield an exposition in which the samples of each series follow each other, as promtool needs it."""
    for metric in CAMPAIGN_METRICS:
        if families[metric.name]:
            yield metadata(metric, openmetrics=True)
            for series, tails in families[metric.name].items():
                yield "".join([series + tail for tail in tails]).encode()
    yield b"# EOF\n"
