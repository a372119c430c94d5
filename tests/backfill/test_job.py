"""`backfill` against an API in memory: what it finds out, what it writes, how it goes on."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.api.fields import COUNTER_FIELDS, STATISTICS
from exporter.api.model import Reply
from exporter.backfill import job
from exporter.backfill.arguments import Order, format_time, order, parse_time
from exporter.backfill.forecast import forecast
from exporter.backfill.progress import Progress
from exporter.backfill.span import Span
from exporter.config.model import Config
from exporter.errors import ConfigError, PollError, RateLimitedError, StoppedError
from exporter.exposition.catalogue import ALL_METRICS, CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from tests._apiserver import conversion, row
from tests._examples import examples, some

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from exporter.api.model import Query

DAY: Final = 86_400
HOUR: Final = 3_600
FIRST: Final = parse_time("2026-01-30", end=False)
LAST: Final = parse_time("2026-02-03", end=True)
NOW: Final = LAST + 40 * DAY
TOKEN: Final = "canary-token-0123456789"
SENT: Final = "intarget_campaign_messages_sent_total"


# An API in memory


@dataclass
class Message:
    """One message: when it sent how many, and what share of these it was of each other count."""

    campaign_id: int
    start: float
    sends: list[tuple[int, int]]
    channel: str = "Email"
    title: str = "Hello"
    deposits: bool = False
    fixed: dict[str, object] = field(default_factory=dict)

    def sent(self, first: float, last: float) -> int:
        """Return how many were sent from `first` to `last`, both included."""
        return sum(count for at, count in self.sends if first <= at <= last)


class Killed(BaseException):
    """The process ends here, without a chance to save anything."""


@dataclass
class Api:
    """Answers like the real one, in each way that its page leaves open. `fail` may raise at each question."""

    messages: list[Message]
    meaning: str = "divides"
    cap: int | None = None
    from_inclusive: bool = True
    to_inclusive: bool = True
    send_wins: bool = False
    by_day: bool = False
    zero_rows: bool = False
    fail: Callable[[int], None] = lambda _number: None
    asked: list[tuple[str, Query]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, endpoint: str, query: Query, *, deadline: float) -> Reply:
        """Stand in for ApiClient.get."""
        assert query.filtered
        assert deadline > 0
        with self.lock:
            self.asked.append((endpoint, query))
            self.fail(len(self.asked) - 1)
            rows = [
                one
                for message in sorted(self.messages, key=lambda one: one.start)
                if self._selects(message, query)
                for one in self._rows(endpoint, message, query)
            ]
        page = rows[: min(query.per_page, self.cap or query.per_page)]
        return Reply(json.dumps(page).encode(), {}, 0.0)

    def close(self) -> None:
        """Stand in for ApiClient.close."""

    def _bounds(self, first: int, last: int) -> tuple[float, float]:
        return first + (0 if self.from_inclusive else 0.001), last - (0 if self.to_inclusive else 0.001)

    def _sent(self, message: Message, query: Query) -> int:
        first, last = query.send_from or 0, query.send_to or 0
        if self.by_day:
            first, last = first - first % DAY, last - last % DAY + DAY - 1
        return message.sent(*self._bounds(first, last))

    def _selects(self, message: Message, query: Query) -> bool:
        if query.campaign_ids and message.campaign_id not in query.campaign_ids:
            return False
        ignored = self.send_wins and query.send_from is not None
        if query.start_from is not None and query.start_to is not None and not ignored:
            low, high = self._bounds(query.start_from, query.start_to)
            if not low <= message.start <= high:
                return False
        if query.send_from is not None and query.send_to is not None and self.meaning != "ignored":
            return self.zero_rows or self._sent(message, query) > 0
        return True

    def _rows(self, endpoint: str, message: Message, query: Query) -> Iterator[dict[str, object]]:
        total = message.sent(0, NOW * 2)
        sent = total
        if query.send_from is not None and query.send_to is not None and self.meaning == "divides":
            sent = self._sent(message, query)
        about = message.campaign_id, message.start, message.channel
        if endpoint == STATISTICS:
            counts = {name: count(name, sent) for name in COUNTER_FIELDS}
            yield row(*about, message.title, **counts | message.fixed)
        elif message.deposits:
            yield conversion(
                *about,
                message_title=message.title,
                deposits_count=str(sent // 2),
                deposits_amount=f"{sent}.50",
                converted_users=str(sent // 3),
            )


def count(name: str, sent: int) -> int:
    """Return one of the counts that come with so many sent."""
    return sent if name == "sent" else sent * (2 + COUNTER_FIELDS.index(name))


# Running


def config(**sections: dict[str, object]) -> Config:
    """Return a configuration of one account."""
    account = {"name": "main", "access_token": TOKEN, "base_url": "http://127.0.0.1:9", "currency": "EUR"}
    api = {"requests_per_second": 1000, "concurrency": 1, **sections.pop("api", {})}
    return Config.model_validate({"accounts": [account], "api": api, **sections})


@dataclass
class Run:
    """What one run said: the lines of the result, and what is missing."""

    said: list[str]
    faults: tuple[str, ...]


def run(
    api: Api,
    output: Path,
    *,
    first: int = FIRST,
    last: int = LAST,
    step: int = DAY,
    now: float = NOW,
    settings: Config | None = None,
    labels: dict[str, str] | None = None,
) -> Run:
    """Run a backfill against `api`."""
    out = io.StringIO()
    progress = Progress(io.StringIO(), out, lambda: 1.0)
    faults = job.run(
        settings or config(),
        Order(first, last, step, output, labels or {}),
        stop=threading.Event(),
        wall=lambda: now,
        monotonic=lambda: 1.0,
        progress=progress,
        connect=lambda *_, **__: api,
    )
    assert faults or progress._done == progress._total, "the bar is full at the end"
    return Run(out.getvalue().splitlines(), faults)


def files(output: Path) -> dict[str, str]:
    """Return the files for promtool by name."""
    return {path.name: path.read_text() for path in sorted(output.glob("*.om"))}


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], dict[int, float]]


def samples(output: Path) -> Samples:
    """Return every sample of all files, by series and time; checks what promtool needs of each file."""
    found: Samples = defaultdict(dict)
    for text in files(output).values():
        assert text.endswith("\n# EOF\n")
        assert "_created" not in text
        closed: set[tuple[str, ...]] = set()
        current: tuple[str, ...] = ()
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                key = (one.name, *(f"{name}={value}" for name, value in sorted(one.labels.items())))
                at = int(str(one.timestamp).partition(".")[0])
                if key != current:
                    closed.add(current)
                    current = key
                    assert key not in closed, "the samples of a series stand together"
                series = found[one.name, tuple(sorted(one.labels.items()))]
                assert at > max(series, default=0), "times rise, from file to file too"
                series[at] = one.value
    return dict(found)


def series(found: Samples, name: str, **labels: object) -> dict[int, float]:
    """Return the one series with these labels, besides its account; {}: there is none."""
    wanted = {"account": "main", **{name: str(value) for name, value in labels.items()}}
    matching = [
        values for (one, has), values in found.items() if one == name and wanted.items() <= dict(has).items()
    ]
    assert len(matching) <= 1
    return matching[0] if matching else {}


def at(span: Span, sample: int) -> int:
    """Return the time of a sample."""
    return span.ends[sample]


SPAN: Final = Span(FIRST, LAST, DAY)


def burst(number: int, start: float, total: int = 100, **more: Any) -> Message:  # noqa: ANN401 - fields of Message
    """Return a message sent within an hour of its start."""
    first = int(start)
    return Message(number, start, [(first, total // 2), (first + HOUR, total - total // 2)], **more)


def daily(number: int, start: float, days: int, each: int = 10, **more: Any) -> Message:  # noqa: ANN401 - fields of Message
    """Return a message that is sent every day at noon of its start."""
    return Message(number, start, [(int(start) + day * DAY, each) for day in range(days)], **more)


# Arguments


def test_times() -> None:
    """A day is its first second or its last one; a time is itself; both are UTC."""
    assert 1_767_225_600 == parse_time("2026-01-01", end=False)
    assert 1_767_225_600 + DAY - 1 == parse_time("2026-01-01", end=True)
    assert 1_767_225_600 + 12 * HOUR == parse_time("2026-01-01T12:00:00Z", end=True)
    assert "2026-01-01T12:00:00Z" == format_time(1_767_225_600 + 12 * HOUR)


@pytest.mark.parametrize(
    "text",
    ["", "2026-1-1", "2026-02-30", "01.02.2026", "2026-01-01T12:00", "2026-01-01T12:00:00", "9999-12-31 "],
)
def test_times_that_are_none(text: str) -> None:
    """Whatever isn't one of both forms is refused, and the forms are told."""
    with pytest.raises(ValueError, match="2026-01-31T12:00:00Z"):
        parse_time(text, end=True)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("x", "2026-01-02", "1d"), ["--from"]),
        (("2026-01-03", "2026-01-02", "1d"), ["--from"]),
        (("2026-01-03T10:00:00Z", "2026-01-03T10:00:00Z", "1d"), ["--from"]),
        (("1999-01-03", "2026-01-02", "1d"), ["--from"]),
        (("2026-01-01", "y", "1"), ["--to", "--step"]),
        (("2026-01-01", "2026-01-02", "0s"), ["--step"]),
        (("2026-01-01", "2026-01-02", "59s"), ["--step"]),
        (("2026-01-01", "2026-01-02", "90500ms"), ["--step"]),
        (("2001-01-01", "2026-01-02", "1m"), ["--step"]),
    ],
)
def test_wrong_arguments(given: tuple[str, str, str], named: list[str], tmp_path: Path) -> None:
    """Each fault is one line that names its flag."""
    with pytest.raises(ConfigError) as caught:
        order(*given, tmp_path)
    assert named == [line.split(": ")[1] for line in caught.value.faults]


def test_right_arguments(tmp_path: Path) -> None:
    """The last day belongs to it with all its seconds."""
    assert Order(FIRST, LAST, HOUR, tmp_path) == order("2026-01-30", "2026-02-03", "1h", tmp_path)


# A send filter that divides


def test_a_campaign_goes_from_zero_to_its_total(tmp_path: Path) -> None:
    """It stands at 0 at the sample before its start, then at what was sent until each sample."""
    api = Api([daily(7, FIRST + DAY + 12 * HOUR, 3), burst(8, FIRST + HOUR)])
    done = run(api, tmp_path)
    assert () == done.faults
    assert "divides counts:" in done.said[0]
    found = samples(tmp_path)
    ends = SPAN.ends
    expected = {ends[1]: 0, ends[2]: 10, ends[3]: 20, ends[4]: 30, ends[5]: 30}
    assert expected == series(found, SENT, campaign_id=7, channel="email")
    expected = {ends[0]: 0, **dict.fromkeys(ends[1:], 100)}
    assert expected == series(found, SENT, campaign_id=8, channel="email")
    totals = series(found, "intarget_channel_messages_sent_total", channel="email")
    assert dict(zip(ends, [0, 100, 110, 120, 130, 130], strict=True)) == totals


def test_an_older_campaign_has_what_it_sent_before(tmp_path: Path) -> None:
    """It begins with its true value, which its channel doesn't add."""
    api = Api([daily(1, FIRST - 20 * DAY + HOUR, 23), daily(2, FIRST - 30 * DAY, 5)])
    assert () == run(api, tmp_path).faults
    found = samples(tmp_path)
    expected = dict(zip(SPAN.ends, [200, 210, 220, 230, 230, 230], strict=True))
    assert expected == series(found, SENT, campaign_id=1)
    assert {} == series(found, SENT, campaign_id=2), "it sent nothing in this time"
    totals = series(found, "intarget_channel_messages_sent_total")
    assert dict(zip(SPAN.ends, [0, 10, 20, 30, 30, 30], strict=True)) == totals


def test_every_metric_is_the_live_one(tmp_path: Path) -> None:
    """Names, labels and types are the catalogue's; the month is in the file's name."""
    api = Api([burst(3, FIRST + HOUR, deposits=True), burst(4, FIRST + HOUR, channel="SMS")])
    assert () == run(api, tmp_path).faults
    assert ["main-2026-01.om", "main-2026-02.om"] == list(files(tmp_path))
    families = list(text_string_to_metric_families(files(tmp_path)["main-2026-01.om"]))
    for family in families:
        for one in family.samples:
            metric = ALL_METRICS[one.name]
            assert (metric.type, metric.family, metric.help) == (family.type, family.name, family.documentation)
            assert set(metric.labels) == set(one.labels)
    names = {one.name for family in families for one in family.samples}
    lacking = {"intarget_campaign_stop_timestamp_seconds", "intarget_campaign_overcount"}
    metrics = [*CAMPAIGN_COUNTERS.values(), *CHANNEL_COUNTERS.values()]
    assert {metric.name for metric in metrics} < names
    kinds = ("intarget_campaign_", "intarget_channel_", "intarget_account_")
    assert {name for name in ALL_METRICS if name.startswith(kinds)} == names | lacking
    found = samples(tmp_path)
    assert {} == series(found, "intarget_campaign_messages_opened_total", channel="sms")
    assert {} == series(found, "intarget_channel_messages_opened_total", channel="sms")
    info = series(found, "intarget_campaign_info", campaign_name="Campaign 3", message_title="Hello")
    assert set(SPAN.ends[1:]) == set(info), "not before it started"
    assert {FIRST + HOUR} == set(
        series(found, "intarget_campaign_start_timestamp_seconds", campaign_id=3).values()
    )
    assert set(SPAN.ends) == set(series(found, "intarget_account_info", currency="EUR"))


def test_conversions_are_of_what_was_sent_until_then(tmp_path: Path) -> None:
    """Gauges have no 0 before the start, and each sample its own value."""
    api = Api([daily(7, FIRST + DAY, 3, each=100, deposits=True)])
    done = run(api, tmp_path)
    assert "divides counts and conversions:" in done.said[0]
    found = samples(tmp_path)
    labels = {"campaign_id": 7, "conversion_event": "Opened", "conversion_period": "1 day"}
    expected = dict(zip(SPAN.ends[2:], [50, 100, 150, 150], strict=True))
    assert expected == series(found, "intarget_campaign_deposits", **labels)
    amounts = series(found, "intarget_campaign_deposits_amount", **labels)
    assert [100.5, 200.5, 300.5, 300.5] == list(amounts.values())


def test_conversions_can_be_left_out(tmp_path: Path) -> None:
    """Where they aren't polled they aren't asked for."""
    api = Api([burst(7, FIRST + DAY, deposits=True)])
    run(api, tmp_path, settings=config(poll={"conversions_every": None}))
    assert {STATISTICS} == {endpoint for endpoint, _ in api.asked}
    assert {} == series(samples(tmp_path), "intarget_campaign_deposits")


def test_several_messages_and_channels(tmp_path: Path) -> None:
    """A campaign's messages are summed by channel; what isn't a count leaves no sample."""
    api = Api(
        [
            burst(7, FIRST + DAY, 100, title="a"),
            burst(7, FIRST + DAY, 50, title="b", fixed={"skipped": None}),
            burst(7, FIRST + DAY, 30, title="c", channel="SMS", fixed={"clicked": -1, "bounced": None}),
        ]
    )
    run(api, tmp_path)
    found = samples(tmp_path)
    last = SPAN.ends[-1]
    assert 150 == series(found, SENT, campaign_id=7, channel="email")[last]
    skipped = series(found, "intarget_campaign_messages_skipped_total", channel="email")
    assert count("skipped", 100) == skipped[last]
    assert {} == series(found, "intarget_campaign_messages_clicked_total", channel="sms")
    assert {} == series(found, "intarget_campaign_messages_bounced_total", channel="sms")
    assert {} == series(found, "intarget_channel_messages_bounced_total", channel="sms")
    info = series(found, "intarget_campaign_info", channel="email", message_title="a | b")
    assert {1} == set(info.values())


def test_per_message(tmp_path: Path) -> None:
    """With metrics.per_message each title has its counters, from 0."""
    api = Api([burst(7, FIRST + DAY, 100, title="a"), daily(7, FIRST + DAY, 2, 30, title="b")])
    run(api, tmp_path, settings=config(metrics={"per_message": True}))
    found = samples(tmp_path)
    assert [0, 100, 100, 100, 100] == list(series(found, SENT, message_title="a").values())
    assert [0, 30, 60, 60, 60] == list(series(found, SENT, message_title="b").values())


def test_a_campaign_leaves_as_it_would_have_live(tmp_path: Path) -> None:
    """It is written until poll.window after it last grew; its channel keeps what it brought."""
    api = Api([burst(7, FIRST + HOUR), daily(8, FIRST + HOUR, 3)])
    run(
        api,
        tmp_path,
        settings=config(poll={"window": "2d", "refresh": [{"younger_than": "2d", "every": "5m"}]}),
    )
    found = samples(tmp_path)
    assert SPAN.ends[:4] == tuple(series(found, SENT, campaign_id=7))
    assert SPAN.ends == tuple(series(found, SENT, campaign_id=8))
    assert SPAN.ends[1:4] == tuple(series(found, "intarget_campaign_info", campaign_id=7))
    assert 130 == series(found, "intarget_channel_messages_sent_total")[SPAN.ends[-1]]


def test_rows_without_sends_are_zero(tmp_path: Path) -> None:
    """A filter that divides without selecting gives the same, but older campaigns can't be found: told."""
    messages = [daily(7, FIRST + DAY, 3), daily(1, FIRST - 9 * DAY, 12)]
    done = run(Api(messages, zero_rows=True), tmp_path)
    assert "divides counts" in done.said[0]
    assert ["older than --from can't be found" in fault for fault in done.faults] == [True]
    assert [0, 10, 20, 30, 30] == list(series(samples(tmp_path), SENT, campaign_id=7).values())


@pytest.mark.parametrize("inclusive", [(True, True), (True, False), (False, True), (False, False)])
def test_what_was_sent_after_the_end(inclusive: tuple[bool, bool], tmp_path: Path) -> None:
    """What was sent after the end adds up with the rest to the total, whichever bounds are inclusive."""
    at_the_end = Message(9, FIRST + DAY, [(second, 3) for second in range(LAST - 3, LAST + 4)])
    messages = [daily(7, FIRST + DAY, 30, 100), burst(8, FIRST + DAY), at_the_end]
    api = Api(messages, from_inclusive=inclusive[0], to_inclusive=inclusive[1])
    assert () == run(api, tmp_path).faults
    assert len(api.asked) < 80


def test_a_filter_by_whole_days(tmp_path: Path) -> None:
    """Within a day such a filter looks as if it didn't divide; a campaign of several days tells."""
    bursts = [burst(number, FIRST + number * HOUR, 1000) for number in range(10, 20)]
    older = daily(1, FIRST - 9 * DAY + HOUR, 12)
    done = run(Api([*bursts, daily(7, FIRST + DAY + HOUR, 3, 900), older], by_day=True), tmp_path / "a")
    assert () == done.faults
    assert "divides counts" in done.said[0]
    done = run(Api([*bursts, older], by_day=True), tmp_path / "b")
    assert "divides counts" in done.said[0]
    assert [90, 100, 110, 120, 120, 120] == list(series(samples(tmp_path / "b"), SENT, campaign_id=1).values())
    done = run(Api(bursts, by_day=True), tmp_path / "c")
    assert "doesn't divide their counts" in done.said[0]
    assert [0, 1000, 1000, 1000, 1000, 1000] == list(
        series(samples(tmp_path / "c"), SENT, campaign_id=10).values()
    )


def test_very_many_senders(tmp_path: Path) -> None:
    """Where send and start filters don't combine, older campaigns are searched part by part: all are found."""
    recent = [burst(number, FIRST + number * 600, 10) for number in range(100, 700)]
    messages = [daily(1, FIRST - 9 * DAY, 12), daily(2, FIRST - 9 * DAY + HOUR, 10), *recent]
    api = Api(messages, cap=10, send_wins=True)
    assert () == run(api, tmp_path, settings=config(poll={"conversions_every": None})).faults
    found = samples(tmp_path)
    assert [90, 100, 110, 120, 120, 120] == list(series(found, SENT, campaign_id=1).values())
    assert [90, 100, 100, 100, 100, 100] == list(series(found, SENT, campaign_id=2).values())
    by_start = Api(messages, cap=10, send_wins=True, meaning="selects")
    assert () == run(by_start, tmp_path / "b", settings=config(poll={"conversions_every": None})).faults
    assert len(by_start.asked) < 500, "the search isn't thorough where nothing comes of it"


@pytest.mark.parametrize("start", [FIRST - 2 * DAY, FIRST + HOUR], ids=["older", "younger"])
def test_a_crowded_second(start: int, tmp_path: Path) -> None:
    """More starts in a second than an answer may have cost some questions more, and no false word."""
    api = Api([Message(number, start, [(start, 5), (FIRST + 2 * DAY, 5)]) for number in range(25)], cap=10)
    done = run(api, tmp_path)
    assert ["raise api.per_page" in fault for fault in done.faults] == [True] * len(done.faults)
    assert len(api.asked) < 400
    for (name, _), values in samples(tmp_path).items():
        assert name != SENT or {0, 5, 10} >= set(values.values())


def test_a_short_span(tmp_path: Path) -> None:
    """Of less than an hour, too, it is told if older campaigns may be missing."""
    sends = [(FIRST - 2 * DAY, 5), (FIRST + 60, 5)]
    api = Api([Message(number, FIRST - 2 * DAY, sends) for number in range(25)], cap=10)
    done = run(api, tmp_path, last=FIRST + 1799, step=600)
    assert ["campaigns older than --from that sent in this time may be missing" in done.faults[0]] == [True]


# A send filter that doesn't


@pytest.mark.parametrize(
    ("meaning", "told"),
    [
        ("selects", "selects campaigns but doesn't divide their counts"),
        ("ignored", "ignores the send filter for counts"),
    ],
)
def test_history_by_start(meaning: str, told: str, tmp_path: Path) -> None:
    """Where counts aren't divided a campaign has 0 before its start, then its total; no older ones."""
    api = Api([daily(7, FIRST + DAY, 3, deposits=True), daily(1, FIRST - 9 * DAY, 12)], meaning=meaning)
    done = run(api, tmp_path)
    assert () == done.faults
    assert [told in line for line in done.said] == [True, False]
    assert "left out" in done.said[0]
    found = samples(tmp_path)
    assert [0, 30, 30, 30, 30] == list(series(found, SENT, campaign_id=7).values())
    assert SPAN.ends[1:] == tuple(series(found, SENT, campaign_id=7))
    assert [15, 15, 15, 15] == list(series(found, "intarget_campaign_deposits").values())
    assert {} == series(found, SENT, campaign_id=1)
    totals = series(found, "intarget_channel_messages_sent_total")
    assert [0, 0, 30, 30, 30, 30] == list(totals.values())
    assert [] == [
        query for _, query in api.asked if query.send_from and query.send_to and not query.campaign_ids
    ], "the search for older campaigns is spared"


def test_a_moment_tells_nothing(tmp_path: Path) -> None:
    """Campaigns that send in one second look the same under both readings: by start, and it is said."""
    one = Message(7, FIRST + DAY, [(FIRST + DAY, 100)])
    done = run(Api([one]), tmp_path)
    assert () == done.faults
    assert "can't be told" in done.said[0]
    assert [0, 100, 100, 100, 100] == list(series(samples(tmp_path), SENT, campaign_id=7).values())


def test_selected_messages_are_no_divided_counts(tmp_path: Path) -> None:
    """A campaign whose one message was sent before, the other after a moment, tells nothing of its counts."""
    start = FIRST + DAY
    messages = [Message(7, start, [(start, 60)]), Message(7, start, [(start + 2 * DAY, 50)], title="later")]
    done = run(Api(messages, meaning="selects"), tmp_path)
    assert () == done.faults
    assert "can't be told" in done.said[0]
    assert [0, 110, 110, 110, 110] == list(series(samples(tmp_path), SENT, campaign_id=7).values())


def test_an_older_campaign_tells(tmp_path: Path) -> None:
    """If no campaign of the span can tell, one that began before and sent in it may."""
    done = run(Api([Message(7, FIRST + DAY, [(FIRST + DAY, 100)]), daily(1, FIRST - 9 * DAY, 12)]), tmp_path)
    assert "divides counts" in done.said[0]
    assert [90, 100, 110, 120, 120, 120] == list(series(samples(tmp_path), SENT, campaign_id=1).values())


def test_no_campaign(tmp_path: Path) -> None:
    """Without any campaign there is no file, and it is said what that may mean."""
    done = run(Api([]), tmp_path)
    assert () == done.faults
    assert ["no campaign, so no files" in line for line in done.said] == [True]
    assert {} == files(tmp_path)


# Every reading at once


def truth(api: Api, span: Span, number: int, channel: str, sample: int) -> int:
    """Return what a campaign had sent until a sample."""
    last = span.sent_until(sample) - (0 if api.to_inclusive else 0.001)
    mine = [one for one in api.messages if (one.campaign_id, one.channel.lower()) == (number, channel)]
    return sum(one.sent(0, last) for one in mine)


@st.composite
def apis(draw: st.DrawFn) -> Api:
    """Draw an account and how its API answers."""
    messages = []
    for number in range(draw(st.integers(0, 25))):
        start = FIRST + draw(st.integers(-4 * DAY, LAST - FIRST))
        channel = draw(st.sampled_from(["Email", "SMS"]))
        for title in "ab"[: draw(st.integers(1, 2))]:
            times = draw(st.lists(st.integers(0, 6 * DAY), max_size=4))
            sends = [
                (start, draw(st.integers(0, 50))),
                *((start + time, draw(st.integers(0, 50))) for time in times),
            ]
            messages.append(Message(number, start, sends, channel, title, deposits=draw(st.booleans())))
    return Api(
        messages,
        meaning=draw(st.sampled_from(["divides", "divides", "selects", "ignored"])),
        cap=draw(st.sampled_from([None, 10, 50])),
        from_inclusive=draw(st.booleans()),
        to_inclusive=draw(st.booleans()),
        send_wins=draw(st.booleans()),
    )


@examples(60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(apis(), st.sampled_from([DAY, 7 * HOUR]), st.integers(0, 3 * DAY))
def test_every_reading(tmp_path_factory: pytest.TempPathFactory, api: Api, step: int, ago: int) -> None:
    """Whatever the meaning, the bounds and the cap: what is written is true, and never goes down."""
    output = tmp_path_factory.mktemp("any")
    now = LAST + DAY - ago
    done = run(api, output, step=step, now=now)
    found = samples(output)
    span = Span(FIRST, min(LAST, now), step)
    divides = any("main: InTarget's send filter divides counts" in line for line in done.said)
    assert not divides or api.meaning == "divides"
    channels: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    campaigns = {(one.campaign_id, one.channel.lower()) for one in api.messages if one.start <= span.last}
    for number, channel in campaigns:
        start = min(one.start for one in api.messages if one.campaign_id == number)
        written = series(found, SENT, campaign_id=number, channel=channel)
        sent_in_it = truth(api, span, number, channel, span.steps) - truth(api, span, number, channel, 0)
        if start < FIRST and (not divides or not sent_in_it):
            continue  # left out, or not found: it may have sent in the last second only
        first = span.step_of(start)
        wanted = range(max(0, first - 1), len(span.ends))
        total = sum(one.sent(0, NOW * 2) for one in api.messages if one.campaign_id == number)
        expected = {
            span.ends[sample]: truth(api, span, number, channel, sample)
            if divides
            else total
            if sample >= first
            else 0
            for sample in wanted
        }
        assert expected == written
        for sample in wanted:
            base = expected[span.ends[0]] if first == 0 else 0
            channels[channel][span.ends[sample]] += expected[span.ends[sample]] - base
    for channel, values in channels.items():
        written = series(found, "intarget_channel_messages_sent_total", channel=channel)
        assert {end: values.get(end, 0) for end in span.ends} == written
    for (name, _), values in found.items():
        assert span.first <= min(values) <= max(values) <= span.last
        if name.endswith("_total"):
            assert sorted(values.values()) == list(values.values())


# Going on


def account_of_all_kinds(**how: Any) -> Api:  # noqa: ANN401 - fields of Api
    """Return an API with something of everything."""
    messages = [
        daily(1, FIRST - 9 * DAY, 12, deposits=True),
        daily(2, FIRST - 9 * DAY, 40, 5),
        *(burst(number, FIRST + number * HOUR, deposits=number % 2 == 0) for number in range(3, 30)),
        daily(31, FIRST + DAY, 3, deposits=True),
    ]
    return Api(messages, **how)


def failing(error: BaseException, when: Callable[[int], bool]) -> Callable[[int], None]:
    """Return what raises `error` at the questions of which `when` is true."""

    def fail(number: int) -> None:
        if when(number):
            raise error

    return fail


@pytest.mark.parametrize("meaning", ["divides", "selects"])
@pytest.mark.parametrize("error", [RateLimitedError("the API failed"), Killed()], ids=["failed", "killed"])
def test_goes_on_after_every_question(meaning: str, error: BaseException, tmp_path: Path) -> None:
    """Whichever question fails, or is the last of a process: the next run asks the rest, for the same files."""
    whole = account_of_all_kinds(meaning=meaning, cap=10)
    run(whole, tmp_path / "whole")
    expected, total = files(tmp_path / "whole"), len(whole.asked)
    assert {} != expected
    for last in some(range(total)):
        output = tmp_path / str(last)
        first = account_of_all_kinds(meaning=meaning, cap=10, fail=failing(error, last.__eq__))
        if isinstance(error, PollError):
            (fault,) = run(first, output).faults
            assert "account main: the API failed; the same command goes on from here" == fault
        else:
            with pytest.raises(Killed):
                run(first, output)
        assert {} == files(output), "nothing that isn't whole"
        second = account_of_all_kinds(meaning=meaning, cap=10)
        assert () == run(second, output).faults
        assert expected == files(output)
        assert len(first.asked) + len(second.asked) <= total + 45, (
            "at most one group of questions is asked twice"
        )


def test_goes_on_after_a_failure_at_every_step(tmp_path: Path) -> None:
    """A run that fails time and again gets through, as long as each answers something new."""
    output, runs = tmp_path / "out", 0
    while True:
        runs += 1
        api = account_of_all_kinds(fail=failing(RateLimitedError("no"), lambda number: number == 14))
        if not run(api, output).faults:
            break
        assert runs < 30
    assert runs > 2
    run(account_of_all_kinds(), tmp_path / "whole")
    assert files(tmp_path / "whole") == files(output)


@examples(20, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(0, 1))
def test_a_journal_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    """A crash may cut the journal off at any byte: the same files come out."""
    folder = tmp_path_factory.mktemp("cut")
    run(account_of_all_kinds(), folder)
    expected = files(folder)
    (journal,) = folder.glob(".*.jsonl")
    data = journal.read_bytes()
    journal.write_bytes(data[: int(share * len(data))])
    for path in folder.glob("*.om"):
        path.unlink()
    assert () == run(account_of_all_kinds(), folder).faults
    assert expected == files(folder)


def test_a_finished_one_asks_nothing(tmp_path: Path) -> None:
    """It says that it is finished, with all that was said before; files that were removed come back."""
    before = run(account_of_all_kinds(), tmp_path)
    expected = files(tmp_path)
    (tmp_path / "main-2026-01.om").unlink()
    api = account_of_all_kinds()
    after = run(api, tmp_path, now=NOW + 100 * DAY)
    assert [] == api.asked
    assert before.said[:-1] == after.said[:-1]
    assert "was finished before; nothing was asked" in after.said[-1]
    assert expected == files(tmp_path)


def test_what_is_missing_is_told_again(tmp_path: Path) -> None:
    """A finished result that lacks something is no complete one the next time either."""
    api = account_of_all_kinds(zero_rows=True)
    assert run(api, tmp_path).faults == run(api, tmp_path).faults != ()


def test_an_end_to_come(tmp_path: Path) -> None:
    """--to is cut at now, for good: the next run, though later, goes on with the same span."""
    now = FIRST + 2 * DAY + 5 * HOUR + 0.7
    api = account_of_all_kinds(fail=failing(RateLimitedError("no"), lambda number: number == 20))
    assert run(api, tmp_path, now=now).faults
    done = run(account_of_all_kinds(), tmp_path, now=now + 9 * DAY)
    assert "account main: --to was still to come; the history ends at 2026-02-01T05:00:00Z" == done.said[0]
    times = [time for values in samples(tmp_path).values() for time in values]
    assert int(now) == max(times)
    with pytest.raises(ConfigError, match="--from: is still to come"):
        run(api, tmp_path / "other", now=FIRST - 1)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"first": FIRST + DAY}, "--from was 2026-01-30T00:00:00Z"),
        ({"last": LAST - 1}, "--to was 2026-02-03T23:59:59Z"),
        ({"step": HOUR}, "--step was 1d"),
        ({"settings": config(poll={"conversions_every": None})}, "poll.conversions_every"),
        (
            {
                "settings": Config.model_validate(
                    {"accounts": [{"name": "main", "access_token": TOKEN, "base_url": "http://127.0.0.1:8"}]}
                )
            },
            "base_url was http://127.0.0.1:9",
        ),
    ],
)
def test_other_arguments_are_refused(other: dict[str, Any], named: str, tmp_path: Path) -> None:
    """A directory belongs to one order; the message says what was different."""
    run(account_of_all_kinds(), tmp_path)
    expected, api = files(tmp_path), account_of_all_kinds()
    with pytest.raises(ConfigError) as caught:
        run(api, tmp_path, **other)
    (line,) = caught.value.faults
    assert "--output: " in line
    assert named in line
    assert (expected, []) == (files(tmp_path), api.asked)


def test_accounts_are_kept_apart(tmp_path: Path) -> None:
    """Each has its own files and journal, also where names differ only in what no file name can have."""
    names = ["a/b", "a_b", "a b", "..", "ä" * 100]
    settings_ = Config.model_validate(
        {
            "accounts": [
                {"name": name, "access_token": TOKEN, "base_url": "http://127.0.0.1:9"} for name in names
            ]
        }
    )
    done = run(Api([burst(7, FIRST + HOUR)]), tmp_path, settings=settings_)
    assert () == done.faults
    assert 2 * len(names) == len(files(tmp_path))
    assert "a_b-2026-01.om" in files(tmp_path)
    assert [f'account="{name}"' in text for name in names for text in files(tmp_path).values()].count(
        True
    ) == 2 * len(names)


def test_one_account_fails(tmp_path: Path) -> None:
    """The others are done all the same."""
    accounts = [
        {"name": name, "access_token": TOKEN, "base_url": "http://127.0.0.1:9"} for name in ("bad", "good")
    ]
    api = Api([burst(7, FIRST + HOUR)], fail=failing(RateLimitedError("no"), lambda number: number == 0))
    done = run(api, tmp_path, settings=Config.model_validate({"accounts": accounts}))
    assert ("account bad: no; the same command goes on from here",) == done.faults
    assert ["good-2026-01.om", "good-2026-02.om"] == list(files(tmp_path))


def test_a_stop_ends_all(tmp_path: Path) -> None:
    """A stopped run says how to go on, and does not begin the next account."""
    accounts = [{"name": name, "access_token": TOKEN, "base_url": "http://127.0.0.1:9"} for name in "ab"]
    stop = threading.Event()

    def fail(number: int) -> None:
        if number == 3:
            stop.set()
            raise StoppedError("stopped")

    api = Api([burst(7, FIRST + HOUR)], fail=fail)
    out = io.StringIO()
    faults = job.run(
        Config.model_validate({"accounts": accounts}),
        Order(FIRST, LAST, DAY, tmp_path),
        stop=stop,
        wall=lambda: NOW,
        monotonic=lambda: 1.0,
        progress=Progress(io.StringIO(), out, lambda: 1.0),
        connect=lambda *_, **__: api,
    )
    assert ("account a: stopped; the same command goes on from here",) == faults
    assert 4 == len(api.asked)


# Files and faults


def test_a_damaged_journal(tmp_path: Path) -> None:
    """A line that can't be read, but isn't the last one, is no crash's work: it is left alone."""
    run(account_of_all_kinds(), tmp_path)
    (journal,) = tmp_path.glob(".*.jsonl")
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], b"{", *lines[1:]]))
    before = journal.read_bytes()
    with pytest.raises(ConfigError, match=r"line 2 of .* can't be read"):
        run(account_of_all_kinds(), tmp_path)
    assert before == journal.read_bytes()
    journal.write_bytes(b'{"backfill":99}\n')
    with pytest.raises(ConfigError, match="another version"):
        run(account_of_all_kinds(), tmp_path)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second one is refused while the first is at work."""

    def fail(_number: int) -> None:
        with pytest.raises(ConfigError, match="another backfill is at work"):
            run(account_of_all_kinds(), tmp_path)

    api = account_of_all_kinds()
    api.fail = lambda number: fail(number) if number == 5 else None
    assert () == run(api, tmp_path).faults


@pytest.mark.parametrize("path", ["file", "file/below"])
def test_an_output_that_can_not_be(path: str, tmp_path: Path) -> None:
    """It is one line that names the flag, before anything is asked."""
    (tmp_path / "file").write_text("")
    api = account_of_all_kinds()
    with pytest.raises(ConfigError, match=r"--output: .* can't be used"):
        run(api, tmp_path / path)
    assert [] == api.asked


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that can't be written is told; nothing half-written is left, and the next run goes on."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_fsync(10))
        (fault,) = run(account_of_all_kinds(), tmp_path).faults
    assert "can't be written (No space left on device)" in fault
    assert () == run(account_of_all_kinds(), tmp_path).faults
    run(account_of_all_kinds(), tmp_path / "whole")
    assert files(tmp_path / "whole") == files(tmp_path)


def failing_fsync(after: int) -> Callable[[int], None]:
    """Return an fsync for a disk that is full after so many calls."""
    calls = iter(range(10_000))

    def fsync(_descriptor: int) -> None:
        if next(calls) >= after:
            raise OSError(28, "No space left on device")

    return fsync


def test_an_unreadable_token(tmp_path: Path) -> None:
    """It is told at once, as everywhere."""
    account = {"name": "main", "access_token_env": "NOT_SET_ANYWHERE", "base_url": "http://127.0.0.1:9"}
    with pytest.raises(ConfigError, match="access_token_env"):
        run(Api([]), tmp_path, settings=Config.model_validate({"accounts": [account]}))
    assert [] == list(tmp_path.iterdir())


def test_no_secret_in_any_file(tmp_path: Path) -> None:
    """Neither journal nor result hold the token or the address with it."""
    done = run(account_of_all_kinds(), tmp_path)
    texts = ["\n".join(done.said), *(path.read_text() for path in tmp_path.iterdir())]
    assert 4 == len(texts)
    assert [] == [text for text in texts if TOKEN in text or "access-token" in text]


def test_incomplete_answers_are_reported(tmp_path: Path) -> None:
    """A second with more rows than can be proven, and a campaign likewise: exposed, and named."""
    crowd = [burst(7, FIRST + HOUR, title=str(title)) for title in range(30)]
    done = run(Api(crowd, cap=10), tmp_path)
    assert ["raise api.per_page" in fault for fault in done.faults] == [True] * len(done.faults)
    assert len(done.faults) >= 1
    assert {} != series(samples(tmp_path), SENT, campaign_id=7)


def test_the_cap_is_learned_again(tmp_path: Path) -> None:
    """A run that goes on after days, when what was learned is no longer believed, asks no more than it must."""
    messages = [daily(number, FIRST + HOUR + number, 30) for number in range(100)]
    first = Api(messages, cap=50, fail=failing(RateLimitedError("no"), lambda number: number == 40))
    assert run(first, tmp_path, settings=config(poll={"conversions_every": None})).faults
    second = Api(messages, cap=50)
    later = NOW + 9 * DAY
    assert () == run(second, tmp_path, now=later, settings=config(poll={"conversions_every": None})).faults
    assert len(second.asked) <= 3 * (SPAN.steps + 1) + 20


# Progress


class Terminal(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def test_progress_on_a_terminal() -> None:
    """A bar, with the account's name, that is taken away at the end."""
    screen, out = Terminal(), io.StringIO()
    progress = Progress(screen, out, lambda: 0.0)
    progress.expect(4)
    for _ in range(3):
        progress.advance("main")
    progress.expect(-1)
    progress.say("a line")
    progress.close()
    assert re.search(r"main: +\d+%", screen.getvalue())
    assert "a line\n" == out.getvalue()


def test_progress_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Elsewhere it is a log line now and then."""
    caplog.set_level("INFO")
    stream, now = io.StringIO(), [0.0]
    progress = Progress(stream, io.StringIO(), lambda: now[0])
    progress.expect(100)
    for _ in range(100):
        progress.advance("main")
        now[0] += 1
    progress.close()
    assert "" == stream.getvalue()
    told = [vars(record)["fields"] for record in caplog.records]
    assert [{"account": "main", "done": done, "of": 100} for done in (31, 61, 91)] == told


# Labels of a scrape, and what would be done


def test_series_have_the_labels_of_a_scrape(tmp_path: Path) -> None:
    """With job and instance every series is the one that a scrape goes on with."""
    run(Api([burst(7, FIRST + HOUR)]), tmp_path, labels={"job": "intarget", "instance": 'a"b:10095'})
    found = samples(tmp_path)
    assert found
    assert {("intarget", 'a"b:10095')} == {(dict(has)["job"], dict(has)["instance"]) for _, has in found}


def test_a_forecast_asks_and_writes_nothing(tmp_path: Path) -> None:
    """It tells the fewest requests, and each file that is there or would be written."""
    (tmp_path / "main-2026-01.om").touch()
    wanted = Order(FIRST, LAST, DAY, tmp_path)
    first, second, *paths = forecast(config(), wanted, now=NOW)
    assert "2026-01-30T00:00:00Z to 2026-02-03T23:59:59Z in 5 steps of 1d" in first
    assert "at least 16 requests" in second, "2 resources, 2 months, 6 samples"
    assert "4 if not" in second
    assert [
        f"account main: has {tmp_path}/main-2026-01.om",
        f"account main: would write {tmp_path}/main-2026-02.om",
    ] == paths
    assert ["main-2026-01.om"] == [path.name for path in tmp_path.iterdir()]


def test_a_forecast_of_the_future(tmp_path: Path) -> None:
    """A span that is still to come is refused, as by the backfill itself."""
    with pytest.raises(ConfigError, match="still to come"):
        list(forecast(config(), Order(FIRST, LAST, DAY, tmp_path), now=FIRST))
