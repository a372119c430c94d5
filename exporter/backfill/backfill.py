"""History as OpenMetrics files: what every campaign had at the end of each step of a span of time.

The API gives totals. Whether a send filter divides them isn't documented (vendor's page on the campaign
statistics API, sendFrom/sendTo), so that is found out first, on campaigns of the account. If it does, each step
asks what was sent *from the beginning* until its end, rather than within it: neighbouring steps then neither
count a message twice nor leave one out, whichever bounds are inclusive; a campaign that began long ago has its
true value from the first step on; and a step that is lost or asked again spoils no other. If it does not, there
is no history within a campaign: each stands at 0 before it started and at its total afterwards.

Everything that was answered goes into a journal in the output directory, record by record. Another run with the
same arguments reads it and asks only for the rest; the files are a function of the journal.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections import defaultdict
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TextIO

from tqdm import tqdm

from exporter.api import parse
from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, COUNTER_FIELDS, STATISTICS
from exporter.api.model import Conversion, Mark, MessageStats, Query, R, TimeRange
from exporter.backfill.history import (
    NO_VALUES,
    History,
    Meaning,
    Side,
    Span,
    by_channel,
    gauges,
    openmetrics,
    sums,
)
from exporter.backfill.journal import (
    FORMAT,
    Journal,
    Record,
    pack_conversion,
    pack_stats,
    unpack_conversion,
    unpack_stats,
    usage_error,
)
from exporter.collect.collector import NEVER, OLDEST, Collector
from exporter.collect.evidence import DOCUMENTED_DEFAULT
from exporter.collect.ranges import Ranges, intersect, subtract
from exporter.config.durations import format_duration, parse_duration
from exporter.errors import ConfigError, ExporterError, PollError, StoppedError
from exporter.logs import fields

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from exporter.api.model import Page
    from exporter.collect.model import Collected
    from exporter.config.model import AccountConfig, Config

log = logging.getLogger(__name__)

SHORTEST_STEP: Final = 60
"""Seconds."""
MOST_STEPS: Final = 100_000
"""More are a slip of the pen: each costs at least one request."""
SUFFIX: Final = ".om"
"""What the names of the files for promtool end with."""
CANDIDATES: Final = 5
"""With how many campaigns to try what a send filter does."""
_LOG_EVERY: Final = 30.0
_LONGEST_STEM: Final = 100
_NAMED: Final = 5  # campaigns that a message names before it says "and more"
_HOUR: Final = 3_600
_DAY: Final = 24 * _HOUR


# Arguments


def parse_time(text: str, *, end: bool) -> int:
    """Return the second of ``2026-01-31`` or ``2026-01-31T12:00:00Z``, in UTC; raises ValueError.

    Of a day alone it is the first second, or with `end` the last one.
    """
    try:
        if len(text) == len("2026-01-31"):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
            moment = day + timedelta(days=1, seconds=-1) if end else day
        else:
            moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a day such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z") from None
    return int(moment.timestamp())


def format_time(second: float) -> str:
    """Return the second as `parse_time` reads it."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Order:
    """What to make: the history of the seconds `first` to `last`, which may be to come, in `output`."""

    first: int
    last: int
    step: int
    output: Path


def order(start: str, end: str, step: str, output: Path) -> Order:
    """Read the arguments as they were typed. Raises ConfigError with a line for each fault."""
    faults: list[str] = []

    def read(flag: str, how: Callable[[], int]) -> int:
        try:
            return how()
        except ValueError as error:
            faults.append(f"{flag}: {error}")
        return 0

    first = read("--from", lambda: parse_time(start, end=False))
    last = read("--to", lambda: parse_time(end, end=True))
    seconds = read("--step", lambda: _parse_step(step))
    if not faults:
        if first >= last:
            faults.append("--from: must be earlier than --to")
        elif first < OLDEST:
            faults.append(f"--from: must not be before {format_time(OLDEST)[:10]}")
        elif Span(first, last, seconds).steps > MOST_STEPS:
            faults.append(f"--step: makes more than {MOST_STEPS} steps; choose a longer one")
    if faults:
        raise ConfigError([f"intarget-exporter: {fault}" for fault in faults])
    return Order(first, last, seconds, output)


def _parse_step(text: str) -> int:
    seconds = parse_duration(text)
    if seconds < SHORTEST_STEP or seconds != int(seconds):
        raise ValueError(f"must be whole seconds, and at least {format_duration(SHORTEST_STEP)}")
    return int(seconds)


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


# What a send filter does


_RESOURCE_WORDS: Final = {STATISTICS: "counts", CONVERSIONS: "conversions"}
_BY_START: Final = (
    "so history within a campaign can't be known: figures are by start, as in InTarget's own report. A campaign"
    " has its present total from the end of the step in which it started; those that started before --from are"
    " left out"
)
_MEANING_WORDS: Final = {
    Meaning.DIVIDES: (
        "InTarget's send filter divides {what}: each step has those of the messages sent until its end"
    ),
    Meaning.SELECTS: (
        f"InTarget's send filter selects campaigns but doesn't divide their {{what}}, {_BY_START}"
    ),
    Meaning.IGNORED: f"InTarget ignores the send filter for {{what}}, {_BY_START}",
    Meaning.UNCLEAR: (
        "whether InTarget's send filter divides {what} can't be told (none of the campaigns that were tried has"
        f" some before and some after a moment), {_BY_START}"
    ),
}


# Asking


class _Account:
    """The backfill of one account: asks what its journal doesn't have yet, then writes the files."""

    def __init__(
        self, account: AccountConfig, config: Config, order: Order, around: Around, *, until: int
    ) -> None:
        """Open the journal. Raises ConfigError, OSError."""
        self.name = account.name
        self._account = account
        self._config = config
        self._around = around
        self._output = order.output
        self._asked: list[str] = []  # the resource of each question; several threads add to it
        with_conversions = config.poll.conversions_every is not None
        header = {
            "backfill": FORMAT,
            "account": account.name,
            "base_url": account.base_url,
            "from": format_time(order.first),
            "to": format_time(order.last),
            "step": format_duration(order.step),
            "conversions": with_conversions,
            "until": until,
        }
        self._stem = _file_stem(account.name)
        self._journal = Journal(order.output / f".{self._stem}.backfill.jsonl", header)
        self.span = Span(order.first, self._journal.header["until"], order.step)
        self.statistics: Side[MessageStats] = Side(
            STATISTICS, parse.statistics, (pack_stats, unpack_stats), _sent, _stats_reached
        )
        self.conversions: Side[Conversion] = Side(
            CONVERSIONS,
            parse.conversions,
            (pack_conversion, unpack_conversion),
            _deposits,
            _conversions_reached,
        )
        self._sides: dict[str, Side[Any]] = {STATISTICS: self.statistics}
        if with_conversions:
            self._sides[CONVERSIONS] = self.conversions
        self._senders: list[Record] = []
        self._checked: Record | None = None
        self._finished: Record | None = None
        self._faults: dict[str, None] = {}  # what is missing, in words, each once
        self._api: ApiClient | None = None
        for record in self._journal.records:
            self._apply(record)

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to ask."""
        return self._finished is not None

    @property
    def work(self) -> int:
        """How many steps of the progress bar it is, if the send filter divides."""
        return len(self._sides) * (len(self.span.months) + len(self.span.ends))

    def close(self) -> None:
        """Let go of journal and connections."""
        if self._api is not None:
            self._api.close()
        self._journal.close()

    # The journal

    def _note(self, record: Record) -> None:
        self._journal.add(record)
        self._apply(record)

    def _apply(self, record: Record) -> None:
        kind = record["kind"]
        if record.get("fault"):
            self._faults[record["fault"]] = None
        if kind == "senders":
            self._senders.append(record)
        elif kind == "checked":
            self._checked = record
        elif kind == "finished":
            self._finished = record
        else:
            self._sides[record["endpoint"]].apply(record)

    def _record(self, side: Side[R], kind: str, **more: object) -> Record:
        evidence = side.evidence
        learned = [evidence.since, evidence.most, evidence.cut]
        return {"kind": kind, "endpoint": side.name, "evidence": learned, **more}

    # Questions

    def _ask(self, side: Side[R], query: Query) -> Page[R]:
        if self._api is None:
            self._api = self._client()
        self._asked.append(side.name)
        # Each question has the time of a poll: how long all of them take together is nobody's concern
        deadline = self._around.monotonic() + self._config.api.deadline
        return side.read(self._api.get(side.name, query, deadline=deadline))

    def _client(self) -> ApiClient:
        return ApiClient(
            ApiSettings.of(self._account, self._config.api),
            token=self._account.read_token,
            stop=self._around.stop,
            monotonic=self._around.monotonic,
        )

    def _collector(self, side: Side[R], send: TimeRange | None = None) -> Collector[R]:
        """Return a collector; with `send`, its questions by campaign have a send filter."""

        def ask(query: Query) -> Page[R]:
            if send is not None and query.campaign_ids:
                query = replace(query, send_from=send.first, send_to=send.last)
            return self._ask(side, query)

        others = [other for other in self._sides.values() if other.name != side.name]
        return Collector(
            ask,
            side.evidence,
            side.map,
            now=self._around.wall(),
            per_page=self._config.api.per_page,
            concurrency=self._config.api.concurrency,
            shared_most=lambda: max((other.evidence.most for other in others), default=0),
        )

    def _read_ids(
        self,
        side: Side[R],
        ids: Collection[int],
        send: TimeRange | None,
        note: Callable[..., Record],
    ) -> None:
        """Read campaigns by their ids and note the answer; if that fails, as much of it as there is."""
        if not ids:
            return
        self._learn_cap(side, ids)
        collector = self._collector(side, send)
        answered, failure = set(ids), None
        try:
            collector.by_ids(ids)
        except ExporterError as error:
            answered, failure = set(collector.collected.ids), error
        got = collector.collected
        rows = [side.pack(row) for row in got.rows if row.campaign_id in answered]
        if answered:
            self._note(note(ids=sorted(answered), rows=rows, unproven=sorted(answered - got.ids)))
        if failure is not None:
            raise failure

    def _learn_cap(self, side: Side[R], ids: Collection[int]) -> None:
        """See how long an answer can be, where that isn't known (any more): it decides how many are needed."""
        side.evidence.expire(self._around.wall())
        known = sum(side.map.ids[number] for number in ids)
        if side.evidence.most < min(known, self._config.api.per_page) and side.learned != side.evidence.since:
            side.learned = side.evidence.since
            if known >= DOCUMENTED_DEFAULT:
                query = Query(
                    start_from=self.span.first, start_to=self.span.last, per_page=self._config.api.per_page
                )
                side.evidence.observe(self._ask(side, query).size)

    # The run

    def run(self) -> list[str]:
        """Ask for everything, write the files, and return what there is to say. Raises PollError and others."""
        asked = not self.finished
        if asked:
            for side in self._sides.values():
                self._read_starts(side)
            for side in self._sides.values():
                self._find_meaning(side)
            for side in self._sides.values():
                if side.meaning is Meaning.DIVIDES:
                    self._read_steps(side)
                else:
                    self._around.progress.expect(-len(self.span.ends))
            self._check()
        files = self._write() if asked else self._missing_files()
        if asked:
            self._note({"kind": "finished", "files": files})
        return self._words(asked=asked)

    @property
    def faults(self) -> tuple[str, ...]:
        """What is missing, in words."""
        divides = any(side.meaning is Meaning.DIVIDES for side in self._sides.values())
        lacking = {record["lacking"]: None for record in self._senders if record["lacking"] and divides}
        unproven = [
            f"{side.name} of {_campaigns(sorted(side.unproven))} may lack rows; raise api.per_page"
            for side in self._sides.values()
            if side.unproven
        ]
        return (*lacking, *unproven, *self._faults)

    def _read_starts(self, side: Side[R]) -> None:
        """Read the totals of what started in the span, month by month."""
        for month in self.span.months:
            todo = subtract([month], side.done)
            if todo:
                collector = self._collector(side)
                try:
                    collector.by_start(todo)
                except ExporterError:
                    proven = intersect(collector.collected.ranges, todo)
                    if proven:
                        self._note_starts(side, proven, collector.collected, "")
                    raise
                got = collector.collected
                lacking = subtract(todo, got.ranges)
                fault = (
                    f"{side.name}: {format_time(month.first)[:7]} may have more campaigns than could be read;"
                    " raise api.per_page"
                )
                self._note_starts(side, todo, got, fault if lacking else "")
            self._around.progress.advance(self.name)

    def _note_starts(self, side: Side[R], ranges: Ranges, got: Collected[R], fault: str) -> None:
        rows = [side.pack(row) for row in got.rows if any(row.start in part for part in ranges)]
        parts = [[part.first, part.last] for part in ranges]
        self._note(self._record(side, "starts", ranges=parts, rows=rows, fault=fault))

    # What a send filter does

    def _find_meaning(self, side: Side[R]) -> None:
        if side.meaning is None:
            meaning, sure = self._probe(side, set(side.totals) - side.older)
            # A campaign that began long ago and still sends tells more than one that is sent in a moment
            if not sure and (side.name == STATISTICS or self.statistics.meaning is Meaning.DIVIDES):
                self._read_older(side, thorough=False)
                other, sure = self._probe(side, side.older)
                meaning = other if sure or meaning is Meaning.UNCLEAR else meaning
            self._note(self._record(side, "meaning", meaning=meaning.value))
        if side.meaning is Meaning.DIVIDES:
            self._read_older(side, thorough=True)

    def _read_older(self, side: Side[R], *, thorough: bool) -> None:
        """Read the totals of the campaigns that started before the span and sent in it; or of some of them."""
        self._find_senders(thorough=thorough)
        found = {number for record in self._senders for number in record["ids"]}
        self._read_ids(
            side,
            found - side.older,
            None,
            partial(self._record, side, "older"),
        )

    def _find_senders(self, *, thorough: bool) -> None:
        """Find the campaigns that started before the span and sent in it: at once, or else part by part."""
        first, last = self.span.first, self.span.last
        whole = last - first + 1
        for size in (whole, _DAY, _HOUR) if thorough else (whole,):
            for low in range(first, last + 1, size):
                part = TimeRange(low, min(low + size - 1, last))
                tried = any(record["tried"] == [part.first, part.last] for record in self._senders)
                done = [TimeRange(*one) for record in self._senders for one in record["ranges"]]
                if not tried and subtract([part], done):
                    self._find_senders_in(part)

    def _find_senders_in(self, part: TimeRange) -> None:
        last_try = part.seconds <= _HOUR
        finder = self._collector(self.statistics)
        found = finder.senders(part, self.span.first)
        settled, lacking = last_try or not finder.collected.incomplete, ""
        if found is None:
            lacking = "InTarget doesn't select by send time, so campaigns older than --from can't be found"
        elif finder.collected.incomplete and last_try:
            lacking = "campaigns older than --from that sent in this time may be missing; raise api.per_page"
        tried = [part.first, part.last]
        self._note(
            {
                "kind": "senders",
                "tried": tried,
                "ranges": [tried] if settled else [],
                "ids": sorted(found or ()),
                "lacking": lacking,
            }
        )

    def _probe(self, side: Side[R], ids: Iterable[int]) -> tuple[Meaning, bool]:
        """Find out what a send filter does, on those that have most to count; and whether that is sure."""
        able = [number for number in ids if side.measure(side.totals.get(number, ())) > 1]
        able.sort(key=lambda number: (-side.measure(side.totals[number]), number))
        found = Meaning.UNCLEAR
        for number in able[:CANDIDATES]:
            meaning, sure = self._try(side, number, math.floor(side.start(number)))
            if sure:
                return meaning, True
            if meaning is not Meaning.UNCLEAR:
                found = meaning
        return found, False

    def _try(self, side: Side[R], number: int, start: int) -> tuple[Meaning, bool]:
        """Look for a moment with sends before and after it: there the counts of both sides tell.

        If the filter divides, they add up to the total; if it only selects, each is the total. So it is, too,
        within a day if the filter divides by whole days: only the end of a day proves that it doesn't divide.
        """
        if self._measured(side, number, NEVER):
            return Meaning.IGNORED, True
        end = math.floor(self._around.wall()) + _DAY
        low, high = start, max(start + 1, end)
        total = self._measured(side, number, None)
        while high - low > 1:
            moment, day_ends = _moment(start, low, high)
            before = self._measured(side, number, TimeRange(OLDEST, moment))
            after = self._measured(side, number, TimeRange(moment + 1, end))
            if before and after:
                total = max(total, self._measured(side, number, None))
                if 4 * (before + after) <= 5 * total:  # some growth in between is allowed for
                    return Meaning.DIVIDES, True
                if 5 * min(before, after) >= 4 * total:
                    return Meaning.SELECTS, day_ends
            if bool(before) == bool(after):
                break
            low, high = (low, moment) if before else (moment, high)
        return Meaning.UNCLEAR, False

    def _measured(self, side: Side[R], number: int, send: TimeRange | None) -> int:
        collector = self._collector(side, send)
        collector.by_ids([number])
        return side.measure(row for row in collector.collected.rows if row.campaign_id == number)

    # Steps

    def _read_steps(self, side: Side[R]) -> None:
        """Read what was sent until each sample, of the campaigns that still grew then.

        The last sample comes first: a campaign that has reached it needn't be asked for any more.
        """
        final = len(self.span.ends) - 1
        self._read_until(side, final, set(side.totals))
        now: dict[int, list[R]] = {}
        waiting = {number: self.span.step_of(side.start(number)) for number in side.totals}
        self._around.progress.advance(self.name)
        for sample in range(final):
            growing = {
                number
                for number, first in waiting.items()
                if first <= sample and not side.reached(now.get(number, ()), side.until[final].get(number, ()))
            }
            self._read_until(side, sample, growing)
            now.update(side.until[sample])
            self._around.progress.advance(self.name)

    def _read_until(self, side: Side[R], sample: int, ids: Collection[int]) -> None:
        sent = TimeRange(OLDEST, self.span.sent_until(sample))
        note = partial(self._record, side, "until", sample=sample)
        self._read_ids(side, set(ids) - side.until[sample].keys(), sent, note)

    # Checking

    def _check(self) -> None:
        """Compare what was sent until the end, and after it, with the totals; of what began in the span."""
        if self._checked is not None:
            return
        fault = ""
        side = self.statistics
        if side.meaning is Meaning.DIVIDES:
            final = side.until[len(self.span.ends) - 1]
            doubtful = {
                number
                for number, rows in side.totals.items()
                if number not in side.older and _differences(rows, final.get(number, []))
            }
            wrong = self._do_not_add_up(doubtful)
            if wrong:
                names = sorted({name for names in wrong.values() for name in names}, key=COUNTER_FIELDS.index)
                fault = (
                    f"the steps of {_campaigns(sorted(wrong))} don't add up to InTarget's totals in"
                    f" {', '.join(names)}; what is missing there has no send time, or was corrected meanwhile"
                )
        self._note({"kind": "checked", "fault": fault})

    def _do_not_add_up(self, ids: set[int]) -> dict[int, set[str]]:
        """Return the campaigns, and their fields, whose total isn't what was sent until the end and after it.

        Everything is asked anew between two readings of the totals, since counts go on growing meanwhile. Which
        bounds are inclusive isn't known: the seconds at the end may have to be counted from either side.
        """
        side, last = self.statistics, self.span.last
        wrong: dict[int, set[str]] = {number: set() for number in ids}
        for after in (last + 1, last, last - 1):
            if not wrong:
                break
            far = TimeRange(after, math.floor(self._around.wall()) + _DAY)
            until = TimeRange(OLDEST, last)
            low, one, other, high = (self._rows_now(side, wrong, send) for send in (None, until, far, None))
            wrong = {
                number: names
                for number in wrong
                if (names := _not_between(low[number], [*one[number], *other[number]], high[number]))
            }
        return wrong

    def _rows_now(
        self, side: Side[R], ids: Collection[int], send: TimeRange | None
    ) -> defaultdict[int, list[R]]:
        self._learn_cap(side, ids)
        collector = self._collector(side, send)
        collector.by_ids(ids)
        found: defaultdict[int, list[R]] = defaultdict(list)
        for row in collector.collected.rows:
            found[row.campaign_id].append(row)
        return found

    # Files

    def _path(self, month: TimeRange) -> Path:
        return self._output / f"{self._stem}-{format_time(month.first)[:7]}{SUFFIX}"

    def _write(self) -> dict[str, int]:
        """Write the files that don't exist yet, each at once; return how many samples each has."""
        history = self._history()
        if not history.campaigns:
            return {}
        files = {}
        for month in self.span.months:
            path = self._path(month)
            families = history.month(month)
            files[path.name] = sum(len(lines) for series in families.values() for lines in series.values())
            _write_atomically(path, openmetrics(families))
        return files

    def _missing_files(self) -> dict[str, int]:
        """Write files again that somebody removed."""
        assert self._finished is not None  # noqa: S101 - asked only then
        files: dict[str, int] = self._finished["files"]
        if any(not (self._output / name).exists() for name in files):
            return self._write()
        return files

    def _history(self) -> History:
        return History(
            self._account,
            self.span,
            self.statistics,
            self.conversions,
            window=self._config.poll.window,
            per_message=self._config.metrics.per_message,
        )

    def _words(self, *, asked: bool) -> list[str]:
        """Return what to tell the user."""
        assert self._finished is not None  # noqa: S101 - told only then
        files: dict[str, int] = self._finished["files"]
        told: defaultdict[Meaning, list[str]] = defaultdict(list)
        for side in self._sides.values():
            if side.meaning is not None and side.totals:
                told[side.meaning].append(_RESOURCE_WORDS[side.name])
        lines = [_MEANING_WORDS[meaning].format(what=" and ".join(what)) for meaning, what in told.items()]
        span = f"{format_time(self.span.first)} to {format_time(self.span.last)}"
        if asked:
            done = f"{span} done with {len(self._asked)} questions"
        else:
            done = f"{span} was finished before; nothing was asked"
        if files:
            lines.append(f"{done}: {len(files)} files with {sum(files.values())} samples in {self._output}")
        else:
            lines.append(
                f"{done}: no campaign, so no files; if there were some, the token is another account's"
            )
        return [f"account {self.name}: {line}" for line in lines]


def _moment(start: int, low: int, high: int) -> tuple[int, bool]:
    """Return a second between two others, and whether a day (UTC) ends with it, which it does where one can.

    It is looked for in proportion to the age: sends thin out.
    """
    between = start + math.isqrt((low - start + 1) * (high - start + 1))
    day_end = between - between % _DAY + _DAY - 1
    for moment in (day_end, day_end - _DAY):
        if low < moment < high:
            return moment, True
    return min(max(between, low + 1), high - 1), False


def _differences(one: Sequence[MessageStats], other: Sequence[MessageStats]) -> bool:
    have = {channel: sums(rows) for channel, rows in by_channel(other).items()}
    return any(
        isinstance(value, int) and value != (got if isinstance(got, int) else 0)
        for channel, rows in by_channel(one).items()
        for value, got in zip(sums(rows), have.get(channel, NO_VALUES), strict=True)
    )


def _not_between(
    low: Sequence[MessageStats], rows: Sequence[MessageStats], high: Sequence[MessageStats]
) -> set[str]:
    """Return the fields whose sum in `rows` isn't between those of `low` and `high`."""
    names = set()
    middle = {channel: sums(members) for channel, members in by_channel(rows).items()}
    least = {channel: sums(members) for channel, members in by_channel(low).items()}
    for channel, members in by_channel(high).items():
        columns = zip(
            COUNTER_FIELDS,
            least.get(channel, NO_VALUES),
            middle.get(channel, NO_VALUES),
            sums(members),
            strict=True,
        )
        for name, lowest, value, highest in columns:
            if not _between(lowest, value, highest):
                names.add(name)
    return names


def _between(low: int | Mark | None, value: int | Mark | None, high: int | Mark | None) -> bool:
    """Whether a value is between two others, in either order; what can't be read proves nothing."""
    if not isinstance(low, int) or not isinstance(high, int) or isinstance(value, Mark):
        return True
    return min(low, high) <= (value or 0) <= max(low, high)


def _campaigns(ids: Sequence[int]) -> str:
    """Name some campaigns."""
    named = ", ".join(str(number) for number in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f"{'campaign' if len(ids) == 1 else 'campaigns'} {named}{more}"


def _write_atomically(path: Path, blocks: Iterable[bytes]) -> None:
    """Write a file under another name and rename it: whoever sees it sees all of it. Raises OSError."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.writelines(blocks)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _file_stem(account: str) -> str:
    """Return what the names of an account's files begin with: its name, if that can be one of a file."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", account).lstrip(".-")[:_LONGEST_STEM]
    if stem == account:
        return stem
    return f"{stem or 'account'}-{hashlib.sha256(account.encode()).hexdigest()[:8]}"


# Progress


class Progress:
    """How far it is: a bar if `stream` is a terminal, else a log line now and then."""

    def __init__(self, stream: TextIO, out: TextIO, monotonic: Callable[[], float]) -> None:
        self._out = out
        self._monotonic = monotonic
        self._told = monotonic()
        self._done = self._total = 0
        self._bar = tqdm(total=0, file=stream, unit="step", leave=False) if stream.isatty() else None

    def expect(self, steps: int) -> None:
        """Tell of more steps to come, or of fewer."""
        self._total += steps
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.refresh()

    def advance(self, account: str, steps: int = 1) -> None:
        """Tell that steps of an account are done."""
        self._done += steps
        if self._bar is not None:
            self._bar.set_description(account, refresh=False)
            self._bar.update(steps)
        elif self._monotonic() >= self._told + _LOG_EVERY:
            self._told = self._monotonic()
            log.info("backfill", extra=fields(account=account, done=self._done, of=self._total))

    def say(self, line: str) -> None:
        """Print a line of the result."""
        with tqdm.external_write_mode(self._out) if self._bar is not None else nullcontext():
            self._out.write(line + "\n")
            self._out.flush()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


# The command


@dataclass(frozen=True, slots=True)
class Around:
    """What an account is handed: when to stop, the clocks, the progress."""

    stop: threading.Event
    wall: Callable[[], float]
    monotonic: Callable[[], float]
    progress: Progress


def run(config: Config, wanted: Order, around: Around) -> tuple[str, ...]:
    """Make the history of every account, one after another; return what is missing in it, in words.

    What is done is said on the way. Raises ConfigError before anything is asked: if the directory can't be
    used, or has a backfill with other arguments, or a token can't be read.
    """
    until = min(wanted.last, math.floor(around.wall()))
    if until <= wanted.first:
        raise usage_error("--from: is still to come")
    faults: list[str] = []
    with ExitStack() as stack:
        accounts = []
        for account in _open(config, wanted, around, until):
            stack.callback(account.close)
            accounts.append(account)
            around.progress.expect(0 if account.finished else account.work)
        stack.callback(around.progress.close)
        for account in accounts:
            if account.span.last < wanted.last:
                end = format_time(account.span.last)
                around.progress.say(
                    f"account {account.name}: --to was still to come; the history ends at {end}"
                )
            faults += _run_one(account, around)
            if around.stop.is_set():
                break
    return tuple(faults)


def _open(config: Config, wanted: Order, around: Around, until: int) -> list[_Account]:
    """Return the accounts with their journals open. Raises ConfigError."""
    config.check_tokens()
    accounts: list[_Account] = []
    try:
        wanted.output.mkdir(parents=True, exist_ok=True)
        for account in config.accounts:
            accounts.append(_Account(account, config, wanted, around, until=until))  # noqa: PERF401 - see except
    except OSError as error:
        problem: ExporterError = usage_error(f"--output: {wanted.output} can't be used ({error.strerror})")
    except ConfigError as error:
        problem = error
    else:
        return accounts
    for opened in accounts:
        opened.close()
    raise problem


def _run_one(account: _Account, around: Around) -> Sequence[str]:
    """Run one account; return what is missing."""
    try:
        lines = account.run()
    except StoppedError:
        return [f"account {account.name}: stopped; the same command goes on from here"]
    except PollError as error:
        return [f"account {account.name}: {error}; the same command goes on from here"]
    except OSError as error:
        problem = f"{error.filename or 'the journal'} can't be written ({error.strerror})"
        return [f"account {account.name}: {problem}; once that is mended, the same command goes on from here"]
    for line in lines:
        around.progress.say(line)
    return [f"account {account.name}: {fault}" for fault in account.faults]
