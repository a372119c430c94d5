"""The exposition, read back by the parsers of prometheus-client and by Prometheus itself."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import is_
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import Phase, example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.api.fields import COUNTER_FIELDS, COUNTERS, FIELDS
from exporter.errors import REASONS
from exporter.exposition import rendering, self_metrics
from exporter.exposition.catalogue import (
    ALL_METRICS,
    CAMPAIGN_METRICS,
    LIBRARY_PREFIXES,
    SELF_METRICS,
)
from exporter.exposition.exposition import Exposition, Response
from exporter.exposition.self_metrics import RenderedMetrics, SelfMetrics
from exporter.tracking.model import ChannelSnapshot, ConversionSnapshot, MessageSnapshot, Snapshot
from tests._examples import examples
from tests._snapshots import HOSTILE_TITLES, VALUES, ZEROS, account, campaign, golden, snapshots
from tests._tools import tool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.fields import Counts
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=0.0.4"
GOLDEN = Path(__file__).parents[1] / "golden"
UNITS = tuple(counter.metric for counter in COUNTERS)
CAMPAIGN_NAMES = re.compile(r"intarget_(campaign|channel|account)_")

Series = tuple[str, frozenset[tuple[str, str]]]


def parse(response: Response) -> dict[Series, float]:
    """Return every sample of `response`, each of which must stand there once."""
    read = parse_openmetrics if "openmetrics" in response.content_type else parse_text
    body = response.body if response.content_encoding is None else gzip.decompress(response.body)
    text = body.decode()
    samples = [sample for family in read(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    assert len(lines) == len(samples) == len(found)
    return found


def of_campaigns(samples: dict[Series, float]) -> dict[Series, float]:
    """Return only the samples made from a snapshot."""
    return {key: value for key, value in samples.items() if CAMPAIGN_NAMES.match(key[0])}


def series(name: str, **labels: str) -> Series:
    """Return the key of one series."""
    return name, frozenset(labels.items())


class Still(SelfMetrics):
    """Metrics that are the same at every scrape."""

    rendered = RenderedMetrics(0, (b"still 1\n",))

    def render(self, *, openmetrics: bool) -> RenderedMetrics:  # noqa: ARG002 - as it is called
        """Return one line."""
        return self.rendered

    def render_process(self, *, openmetrics: bool) -> bytes:  # noqa: ARG002 - as it is called
        """Return nothing."""
        return b""


class Oracle:
    """The samples a snapshot should give, worked out in the plainest way."""

    def __init__(self, *, per_message: bool, created: bool) -> None:
        self.per_message = per_message
        self.created = created
        self.sums: dict[Series, Any] = {}
        self.firsts: dict[Series, float] = {}
        self.lasts: dict[Series, float] = {}
        self.infos: dict[str, Series] = {}
        self.created_of: dict[Series, tuple[Series, float]] = {}
        self.overcounts: dict[Series, int] = {}

    @staticmethod
    def label(value: str) -> str:
        """Clean a label value character by character."""
        value = value if len(value) <= 256 else value[:255] + "…"
        value = value.replace("\r\n", "\n")
        out = ""
        for char in value:
            if char in "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
                out += "\n"
            elif char not in "\t\n" and (
                ord(char) < 32 or 127 <= ord(char) < 160 or 0xD800 <= ord(char) < 0xE000
            ):
                out += "\ufffd"
            else:
                out += char
        return out

    def add(self, name: str, labels: dict[str, str], value: float | Decimal | None) -> None:
        """Add to a series."""
        if value is not None:
            key = series(name, **{k: self.label(v) for k, v in labels.items()})
            self.sums[key] = self.sums.get(key, 0) + value

    def count(self, level: str, labels: dict[str, str], values: Iterable[int | None], since: float) -> None:
        """Add twelve counters."""
        for unit, value in zip(UNITS, values, strict=True):
            self.add(f"intarget_{level}_{unit}_total", labels, value)
            if self.created and value is not None:
                # Merged campaigns began with the first of them.
                cleaned = {k: self.label(v) for k, v in labels.items()}
                of_start = {k: v for k, v in cleaned.items() if k != "message_title"}
                start = series("intarget_campaign_start_timestamp_seconds", **of_start)
                self.created_of[series(f"intarget_{level}_{unit}_created", **cleaned)] = (start, since)

    def overcount(self, level: str, labels: dict[str, str], overcount: Counts[int]) -> None:
        """Add overcounts of twelve counters."""
        cleaned = {k: self.label(v) for k, v in labels.items()}
        for field, n in zip(COUNTER_FIELDS, overcount, strict=True):
            key = series(f"intarget_{level}_overcount", **cleaned, field=field)
            self.overcounts[key] = self.overcounts.get(key, 0) + n

    def account(self, account: AccountSnapshot) -> None:
        """Add everything of an account."""
        of_account = {"account": account.account}
        key = self.label(account.account)
        info = {"account": key, "currency": self.label(account.currency or "")}
        self.infos.setdefault(f"account {key}", series("intarget_account_info", **info))
        for channel in account.channels:
            of_channel = {**of_account, "channel": channel.channel}
            self.count("channel", of_channel, channel.values, account.since)
            self.overcount("channel", of_channel, channel.overcount)
        for c in account.campaigns:
            labels = {**of_account, "campaign_id": str(c.campaign_id), "channel": c.channel}
            cleaned = {k: self.label(v) for k, v in labels.items()}
            if self.per_message:
                for message in c.messages:
                    self.count("campaign", {**labels, "message_title": message.title}, message.values, c.start)
                    self.overcount("campaign", labels, message.overcount)
            else:
                self.count("campaign", labels, c.values, c.start)
                self.overcount("campaign", labels, c.overcount)
            start = series("intarget_campaign_start_timestamp_seconds", **cleaned)
            self.firsts[start] = min(self.firsts.get(start, c.start), c.start)
            if c.stop is not None:
                stop = series("intarget_campaign_stop_timestamp_seconds", **cleaned)
                self.lasts[stop] = max(self.lasts.get(stop, c.stop), c.stop)
            names = {"campaign_name": self.label(c.campaign_name), "message_title": self.label(c.message_title)}
            self.infos.setdefault(
                str(sorted(cleaned.items())), series("intarget_campaign_info", **cleaned, **names)
            )
            for conversion in c.conversions:
                by = {**labels, "conversion_event": conversion.event, "conversion_period": conversion.period}
                self.add("intarget_campaign_deposits", by, conversion.deposits)
                self.add("intarget_campaign_deposits_amount", by, conversion.amount)
                self.add("intarget_campaign_converted_users", by, conversion.converted_users)

    def samples(self) -> dict[Series, float]:
        """Return what it comes to."""
        samples = {key: float(value) for key, value in self.sums.items()}
        units = dict(zip(COUNTER_FIELDS, UNITS, strict=True))
        for (name, labels), n in self.overcounts.items():
            of = dict(labels)
            counter = f"intarget_channel_{units[of.pop('field')]}_total"
            is_channel = name == "intarget_channel_overcount"
            if series(counter, **of) in self.sums if is_channel else n:
                samples[name, labels] = float(n)
        times = {**self.firsts, **self.lasts}
        for key, (start, since) in self.created_of.items():
            times[key] = self.firsts.get(start, since)
        samples |= {key: float(f"{value:.3f}") for key, value in times.items()}
        return samples | dict.fromkeys(self.infos.values(), 1.0)


def merged_since(snapshot: Snapshot) -> Snapshot:
    """Give accounts that are one account in labels one beginning: the first's counts."""
    first: dict[str, float] = {}
    return Snapshot(
        tuple(replace(a, since=first.setdefault(Oracle.label(a.account), a.since)) for a in snapshot.accounts)
    )


@examples(40, phases=(Phase.explicit, Phase.generate))
@given(snapshot=snapshots, per_message=st.booleans(), created=st.booleans())
@example(snapshot=golden(), per_message=False, created=False)
@example(snapshot=golden(), per_message=True, created=True)
def test_round_trip(snapshot: Snapshot, per_message: bool, created: bool) -> None:  # noqa: FBT001
    """Both parsers read back exactly the samples that a snapshot has; gzip holds the same bytes."""
    snapshot = merged_since(snapshot)
    target = Exposition(Still(), per_message=per_message, created_timestamps=created)
    target.publish(snapshot)
    for accept in (TEXT, OPENMETRICS):
        oracle = Oracle(per_message=per_message, created=created and accept == OPENMETRICS)
        for each in snapshot.accounts:
            oracle.account(each)
        plain = of_campaigns(parse(target.respond(accept, None)))
        assert oracle.samples() == plain
        assert plain == of_campaigns(parse(target.respond(accept, "gzip")))
        if not (created and accept == OPENMETRICS):
            counted = Counter(dict(key[1])["account"] for key in plain if key[0] != "intarget_account_info")
            assert dict(counted) == {Oracle.label(a): n for a, n in target.series().items() if n}


@pytest.mark.parametrize("accept", [TEXT, OPENMETRICS])
@pytest.mark.parametrize("snapshot", [Snapshot(), golden()], ids=["empty", "golden"])
def test_gzip_is_the_same(accept: str, snapshot: Snapshot) -> None:
    """The gzip body is one member that holds the plain body, at every scrape."""
    target = Exposition(Still())
    target.publish(snapshot)
    plain = target.respond(accept, None)
    assert plain.content_encoding is None
    for _ in range(3):
        response = target.respond(accept, "gzip")
        assert response.content_encoding == "gzip"
        assert plain.content_type == response.content_type
        member = zlib.decompressobj(wbits=31)
        assert plain.body == member.decompress(response.body)
        assert member.eof
        assert member.unused_data == b""


@pytest.mark.parametrize("title", HOSTILE_TITLES, ids=lambda title: ascii(title[:20]))
def test_hostile_titles(title: str) -> None:
    """A title is one label value, whatever it holds; it adds no line and hides none."""
    target = Exposition(SelfMetrics(), per_message=True)
    messages = (MessageSnapshot(title, VALUES), MessageSnapshot("other", VALUES))
    target.publish(Snapshot((account(campaign(message_title=title, campaign_name=title, messages=messages)),)))
    for accept in (TEXT, OPENMETRICS):
        response = target.respond(accept, None)
        assert len(response.body.decode().splitlines()) == response.body.count(b"\n")
        samples = parse(response)
        labels = {
            "account": "main",
            "campaign_id": "111",
            "channel": "email",
            "message_title": Oracle.label(title),
        }
        assert samples[series("intarget_campaign_messages_sent_total", **labels)] == 12500
        assert samples[series("intarget_campaign_info", **labels, campaign_name=Oracle.label(title))] == 1


def full_metrics() -> SelfMetrics:
    """Return metrics of which each has a series, with values that don't change."""
    metrics = SelfMetrics(version="1.2.3", revision="4f0c", python_version="3.11.2", shard=1, total_shards=3)
    metrics.init_account("main", ["statistics", "conversions"])
    metrics.poll_started("main", "statistics")
    metrics.request("main", "statistics", 200, 0.2)
    metrics.request("main", "statistics", "timeout", 30.0)
    metrics.invalid_values("main", "statistics", {"sent": 2, "type": 1})
    metrics.unknown_fields("main", "statistics", 1)
    metrics.incomplete("main", "statistics", incomplete=True)
    metrics.poll_finished("main", "statistics", 1.5, "timeout")
    metrics.tracked("main", {"email": 1, "sms": 1})
    metrics.dropped("main", 3)
    metrics.up("main", up=True)
    metrics.last_success("main", "statistics", 1741944000.5)
    metrics.state_save_failed()
    metrics.state_usable(usable=False)
    metrics.state_began("main", 1741900000.0)
    metrics.settings("main", window=1209600.0, stale_after={"statistics": 1800.0, "conversions": 1800.0})
    metrics.config_reloaded(ok=True, at=1741944001.0)
    return metrics


def without_library(body: bytes) -> str:
    """Return `body` without the metrics of the process, which differ from run to run."""
    lines = body.decode().split("\n")
    prefixes = tuple(f"{start}{name}" for start in ("", "# HELP ", "# TYPE ") for name in LIBRARY_PREFIXES)
    return "\n".join(line for line in lines if not line.startswith(prefixes))


@pytest.mark.parametrize("name", ["text", "openmetrics", "openmetrics_per_message_created"])
def test_golden(name: str) -> None:
    """The exposition is, byte for byte, the one that was reviewed. UPDATE_GOLDEN=1 writes it anew."""
    every = name == "openmetrics_per_message_created"
    target = Exposition(full_metrics(), per_message=every, created_timestamps=every)
    target.publish(golden())
    found = without_library(target.respond(TEXT if name == "text" else OPENMETRICS, None).body)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(found, encoding="utf-8", newline="")
    assert path.read_bytes().decode() == found


def test_every_metric_is_exported_as_catalogued() -> None:
    """Families, types, help and label names are those of the catalogue, no more and no fewer."""
    target = Exposition(full_metrics())
    target.publish(golden())
    body = target.respond(OPENMETRICS, None).body.decode()
    families = {f.name: f for f in parse_openmetrics(body) if not f.name.startswith(LIBRARY_PREFIXES)}
    assert {metric.family for metric in ALL_METRICS.values()} == set(families)
    for metric in ALL_METRICS.values():
        family = families[metric.family]
        assert (metric.type, metric.help) == (family.type, family.documentation)
        assert set(metric.sample_names) == {sample.name for sample in family.samples}
        assert {frozenset(metric.labels)} == {frozenset(sample.labels) - {"le"} for sample in family.samples}


def test_no_family_without_samples() -> None:
    """A family that has no sample isn't mentioned."""
    target = Exposition(SelfMetrics())
    body = target.respond(TEXT, None).body.decode()
    assert {f.name for f in parse_text(body) if not f.samples} == set()
    names = {f.name for f in parse_text(body) if not f.name.startswith(LIBRARY_PREFIXES)}
    assert {
        "intarget_shard_ordinal",
        "intarget_total_shards",
        "intarget_build_info",
        "intarget_config_last_reload_successful",
        "intarget_state_save_failures",
    } == names


def test_amount_beyond_floats() -> None:
    """An amount that no float can hold has no sample, rather than an infinite one."""
    conversion = ConversionSnapshot("Opened", "1 day", 1, Decimal("1e400"), 1)
    target = Exposition(SelfMetrics())
    target.publish(Snapshot((account(campaign(conversions=(conversion,))),)))
    names = Counter(name for name, _ in parse(target.respond(TEXT, None)))
    assert (names["intarget_campaign_deposits"], names["intarget_campaign_deposits_amount"]) == (1, 0)


def test_info_has_one_series_per_campaign_and_channel() -> None:
    """Joins over the info metric are never many-to-many, even by message."""
    messages = tuple(MessageSnapshot(str(i), VALUES) for i in range(5))
    target = Exposition(SelfMetrics(), per_message=True)
    target.publish(
        Snapshot((account(campaign(messages=messages), campaign(channel="sms", messages=messages)),))
    )
    names = Counter(name for name, _ in parse(target.respond(TEXT, None)))
    assert (names["intarget_campaign_info"], names["intarget_campaign_messages_sent_total"]) == (2, 10)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the identifier of every campaign that is rendered."""
    found: list[int] = []
    real = rendering.campaign_lines

    def render(campaigns: Iterable[tuple[str, CampaignSnapshot]], **options: Any) -> object:  # noqa: ANN401
        given = list(campaigns)
        found.extend(campaign.campaign_id for _, campaign in given)
        return real(given, **options)

    monkeypatch.setattr(rendering, "campaign_lines", render)
    return found


def many(count: int, **changes: Any) -> tuple[CampaignSnapshot, ...]:  # noqa: ANN401
    """Return campaigns with identifiers from 1 on."""
    return tuple(campaign(campaign_id, **changes) for campaign_id in range(1, count + 1))


def test_scrapes_render_nothing(rendered: list[int]) -> None:
    """Publishing renders and compresses; scrapes share those bytes, whatever they ask for."""
    target = Exposition(Still())
    target.publish(Snapshot((account(*many(10)),)))
    assert 10 == len(rendered)
    for accept in (TEXT, OPENMETRICS):
        for encoding in (None, "gzip"):
            first, second = target.respond(accept, encoding), target.respond(accept, encoding)
            assert all(map(is_, first.parts[:-1], second.parts[:-1]))
    assert 10 == len(rendered)


def test_only_what_changed_is_rendered(rendered: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an account a changed campaign is, as it was and as it is; nothing of one that is the same object."""
    packed: list[bytes] = []
    real = rendering.pack
    monkeypatch.setattr(rendering, "pack", lambda plain: (packed.append(plain), real(plain))[1])
    campaigns = many(10 * rendering.CHUNK)
    one, two = account(*campaigns, name="one"), account(*campaigns, name="two")
    target = Exposition(SelfMetrics())
    target.publish(Snapshot((one, two)))
    assert 20 * rendering.CHUNK == len(rendered)
    rendered.clear()
    packed.clear()
    changed = replace(two, campaigns=(campaign(1, values=ZEROS), *campaigns[1:]))
    target.publish(Snapshot((one, changed)))
    assert [1, 1] == rendered
    names = {line.split(b"{")[0].decode() for plain in packed for line in plain.splitlines()}
    counters = {f"intarget_campaign_{unit}_total" for unit in UNITS}
    assert counters == names
    samples = parse(target.respond(TEXT, "gzip"))
    labels = {"campaign_id": "1", "channel": "email"}
    assert samples[series("intarget_campaign_messages_sent_total", account="one", **labels)] == 12500
    assert samples[series("intarget_campaign_messages_sent_total", account="two", **labels)] == 0
    rendered.clear()
    target.publish(Snapshot((changed,)))
    assert [] == rendered
    each = len(counters) + len(("info", "start"))
    assert target.series() == {"two": each * 10 * rendering.CHUNK}


def test_what_is_published_stays_the_same_object(rendered: list[int]) -> None:
    """If nothing has changed, all scrapes get the bytes that they got before."""
    one = account(*many(3))
    target = Exposition(Still())
    target.publish(Snapshot((one,)))
    before = target._published
    target.publish(Snapshot((one,)))
    assert before is target._published
    assert 3 == len(rendered)


def test_an_answer_is_at_hand_for_a_moment() -> None:
    """Scrapers of one moment get the same answer, if they take the same form and nothing has changed."""
    metrics = SelfMetrics()
    metrics.init_account("main", ["statistics"])
    target = Exposition(metrics)
    target.publish(Snapshot((account(*many(3)),)))
    assert target.at_hand(TEXT, "gzip", 10.0) is None
    answer = target.respond(TEXT, "gzip", 10.0)
    assert answer is target.at_hand(TEXT, "gzip", 10.2)
    assert target.at_hand(TEXT, None, 10.2) is None
    assert target.at_hand(OPENMETRICS, "gzip", 10.2) is None
    assert target.at_hand(TEXT, "gzip", 10.3) is None

    target.respond(TEXT, "gzip", 20.0)
    target.publish(Snapshot((account(*many(4)),)))
    assert target.at_hand(TEXT, "gzip", 20.0) is None

    target.respond(TEXT, "gzip", 30.0)
    metrics.poll_started("main", "statistics")
    assert target.at_hand(TEXT, "gzip", 30.0) is None

    target.respond(TEXT, "gzip")  # no one knows when
    assert target.at_hand(TEXT, "gzip", 40.0) is None


@examples(60, phases=(Phase.explicit, Phase.generate), deadline=None)
@given(
    generations=st.lists(st.dictionaries(st.integers(1, 12), st.integers(0, 3)), min_size=2, max_size=6),
    created=st.booleans(),
)
def test_any_change_renders_as_if_from_scratch(generations: list[dict[int, int]], created: bool) -> None:  # noqa: FBT001
    """Campaigns that come, change, go and return in chunks of three: the samples are those of a new start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "CHUNK", 3)
        target = Exposition(Still(), created_timestamps=created)
        for generation in generations:
            campaigns = tuple(
                campaign(campaign_id, values=(value,) * len(COUNTER_FIELDS))
                for campaign_id, value in generation.items()
            )
            snapshot = Snapshot((account(*campaigns),))
            target.publish(snapshot)
            fresh = Exposition(Still(), created_timestamps=created)
            fresh.publish(snapshot)
            for accept in (TEXT, OPENMETRICS):
                expected = parse(fresh.respond(accept, None))
                assert expected == parse(target.respond(accept, None))
                assert expected == parse(target.respond(accept, "gzip"))
            assert fresh.series() == target.series()


def test_own_metrics_are_rendered_when_one_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two changes nothing is rendered, and then only what belongs to the account that changed."""
    generated: list[object] = []
    real = self_metrics._generate

    def generate(registry: object, *, openmetrics: bool) -> bytes:
        generated.append(registry)
        return real(registry, openmetrics=openmetrics)

    monkeypatch.setattr(self_metrics, "_generate", generate)
    metrics = full_metrics()
    metrics.init_account("other", ["statistics"])
    target = Exposition(metrics)
    target.respond(TEXT, "gzip")
    generated.clear()
    for _ in range(2):
        target.respond(TEXT, "gzip")
    assert 2 == len(generated)  # those of the process
    generated.clear()
    metrics.poll_started("main", "statistics")
    target.respond(TEXT, "gzip")
    assert 2 == len(generated)  # and those of one account
    assert (
        2
        == parse(target.respond(TEXT, None))[
            series("intarget_polls_total", account="main", resource="statistics")
        ]
    )


def test_publish_during_scrapes_never_tears() -> None:
    """Each scrape shows one snapshot whole, and never an older one than was there when it began."""
    target = Exposition(SelfMetrics())

    def generation(n: int) -> Snapshot:
        values = (n,) * len(COUNTER_FIELDS)
        channels = (ChannelSnapshot("email", values),)
        return Snapshot(
            tuple(
                account(*(campaign(i, values=values) for i in range(20)), name=name, channels=channels)
                for name in "abc"
            )
        )

    generations = [generation(n) for n in range(60)]
    target.publish(generations[0])
    seen: list[int] = []
    published = 0
    done = Event()
    value = re.compile(r"intarget_(?:campaign|channel)_[a-z_]+_total\{[^}]*\} (\d+)\n")

    def scrape(accept: str) -> None:
        finished = False
        while not finished:
            finished = done.is_set()  # one more after the last publish
            at_least = published
            body = gzip.decompress(target.respond(accept, "gzip").body).decode()
            (n,) = {int(found) for found in value.findall(body)}
            assert n >= at_least
            seen.append(n)

    with ThreadPoolExecutor(4) as pool:
        scrapes = [pool.submit(scrape, accept) for accept in (TEXT, OPENMETRICS) * 2]
        for n, each in enumerate(generations):
            target.publish(each)
            published = n
            if n % 10 == 0:  # let scrapes in between: they answer as soon as they are asked
                target.respond(TEXT, "gzip")
        done.set()
        for result in scrapes:
            result.result()
    assert max(seen) == 59


# The exporter's metrics about itself


def live(metrics: SelfMetrics) -> dict[Series, float]:
    """Return the samples of `metrics`, which must be the same in both formats."""
    both = [parse(Exposition(metrics).respond(accept, None)) for accept in (TEXT, OPENMETRICS)]
    texts = [{k: v for k, v in each.items() if not k[0].startswith(LIBRARY_PREFIXES)} for each in both]
    assert texts[0] == texts[1]
    return texts[0]


def test_failure_counters_start_at_zero() -> None:
    """Before the first poll every failure stands at 0 for each reason, and so do invalid values by field."""
    metrics = SelfMetrics()
    metrics.init_account("main", ["statistics"])
    samples = live(metrics)
    labels = {"account": "main", "resource": "statistics"}
    for reason in REASONS:
        assert samples[series("intarget_poll_failures_total", **labels, reason=reason)] == 0
    for field in FIELDS["statistics"]:
        assert samples[series("intarget_api_invalid_values_total", **labels, field=field)] == 0
    assert samples[series("intarget_polls_total", **labels)] == 0
    assert samples[series("intarget_poll_duration_seconds_count", **labels)] == 0
    assert samples[series("intarget_up", account="main")] == 0
    assert samples[series("intarget_state_save_failures_total")] == 0
    assert samples[series("intarget_config_last_reload_successful")] == 1
    assert not any(name == "intarget_last_success_timestamp_seconds" for name, _ in samples)


def test_the_state_is_persistent_if_all_accounts_are() -> None:
    """One account that can't be saved makes it 0; without a state file nothing is said."""
    metrics = SelfMetrics()
    key = series("intarget_state_persistent")
    assert key not in live(metrics)
    seen = []
    for usable, name in ((True, "one"), (False, "two"), (True, "one"), (False, ""), (True, "two"), (True, "")):
        metrics.state_usable(usable, name)
        seen.append(live(metrics)[key])
    assert [1, 0, 0, 0, 0, 1] == seen
    metrics.state_usable(False, "two")  # noqa: FBT003 - the metric's value
    metrics.remove_account("two")
    assert 1 == live(metrics)[key]


def test_init_again_keeps_counts() -> None:
    """Initialising an account once more resets nothing."""
    metrics = full_metrics()
    before = live(metrics)
    metrics.init_account("main", ["statistics", "conversions"])
    assert before == live(metrics)


def test_a_channel_without_campaigns_tracks_none() -> None:
    """A channel that had campaigns once stands at 0."""
    metrics = SelfMetrics()
    metrics.tracked("main", {"email": 2})
    metrics.tracked("main", {"sms": 1})
    samples = live(metrics)
    assert samples[series("intarget_tracked_campaigns", account="main", channel="email")] == 0
    assert samples[series("intarget_tracked_campaigns", account="main", channel="sms")] == 1


def test_overcounts() -> None:
    """Every counter of a channel has one, 0 included; a campaign only those that aren't 0."""
    target, by_title = Exposition(Still()), Exposition(Still(), per_message=True)
    for exposition in (target, by_title):
        exposition.publish(golden())
    samples, titled = parse(target.respond(TEXT, None)), parse(by_title.respond(TEXT, None))
    email, spring = {"account": "main", "channel": "email"}, {"campaign_id": "111"}
    name = "intarget_campaign_overcount"
    assert {series(name, **email, **spring, field="opened"): 1} == {
        key: value for key, value in samples.items() if key[0] == name
    }
    for field in COUNTER_FIELDS:
        expected = {"sent": 7, "opened": 1}.get(field, 0)
        assert expected == samples[series("intarget_channel_overcount", **email, field=field)]
    of_sms = series("intarget_channel_overcount", account="main", channel="sms", field="opened")
    assert of_sms not in samples
    assert 2 == titled[series(name, **email, **spring, field="opened")]


def test_labels_are_bounded() -> None:
    """Neither an undocumented field nor an unheard-of reason makes a label value of its own."""
    metrics = SelfMetrics()
    metrics.invalid_values("main", "statistics", {"sent": 1, "made up": 2, "other made up": 3})
    metrics.poll_finished("main", "statistics", 1, "made up")
    samples = live(metrics)
    labels = {"account": "main", "resource": "statistics"}
    assert samples[series("intarget_api_invalid_values_total", **labels, field="sent")] == 1
    assert samples[series("intarget_api_invalid_values_total", **labels, field="other")] == 5
    assert samples[series("intarget_poll_failures_total", **labels, reason="internal")] == 1


def test_remove_account() -> None:
    """A removed account has no series left, and a poll that ends later brings none back; others keep theirs."""
    metrics = full_metrics()
    everything = live(metrics)
    metrics.init_account("other", ["statistics"])
    metrics.remove_account("other")
    assert everything == live(metrics)
    metrics.poll_finished("other", "statistics", 1.0, "timeout")
    metrics.request("other", "statistics", 200, 1.0)
    metrics.tracked("other", {"email": 1})
    assert everything == live(metrics)
    metrics.init_account("other", ["statistics"])
    assert live(metrics)[series("intarget_polls_total", account="other", resource="statistics")] == 0


def test_reload() -> None:
    """A failed reload shows, and leaves the time of the last good one."""
    metrics = SelfMetrics()
    metrics.config_reloaded(ok=False, at=1.0)
    assert live(metrics)[series("intarget_config_last_reload_successful")] == 0
    metrics.config_reloaded(ok=True, at=2.0)
    metrics.config_reloaded(ok=False, at=3.0)
    samples = live(metrics)
    assert samples[series("intarget_config_last_reload_successful")] == 0
    assert samples[series("intarget_config_last_reload_success_timestamp_seconds")] == 2


@pytest.mark.parametrize("name", HOSTILE_TITLES, ids=lambda name: ascii(name[:20]))
def test_names_join(name: str) -> None:
    """Account and channel are spelled alike in both parts, whatever they hold."""
    metrics = SelfMetrics()
    metrics.init_account(name, ["statistics"])
    metrics.tracked(name, {name: 1})
    target = Exposition(metrics)
    target.publish(Snapshot((account(campaign(channel=name), name=name),)))
    samples = parse(target.respond(OPENMETRICS, None))
    labels = {"account": Oracle.label(name), "channel": Oracle.label(name)}
    assert samples[series("intarget_tracked_campaigns", **labels)] == 1
    assert samples[series("intarget_campaign_messages_sent_total", **labels, campaign_id="111")] == 12500


def test_order() -> None:
    """Families come in the catalogue's order, so that two scrapes can be compared by eye."""
    target = Exposition(full_metrics())
    target.publish(golden())
    names = re.findall(r"^# TYPE (\S+)", without_library(target.respond(TEXT, None).body), re.MULTILINE)
    assert [metric.name for metric in (*CAMPAIGN_METRICS, *SELF_METRICS)] == names


# Real programs


@pytest.mark.e2e
def test_promtool_has_nothing_to_say() -> None:
    """`promtool check metrics` has nothing to say."""
    target = Exposition(full_metrics())
    target.publish(golden())
    command = [tool("promtool"), "check", "metrics"]
    body = target.respond(TEXT, None).body
    checked = subprocess.run(command, input=body, capture_output=True, check=False)
    assert "" == (checked.stdout + checked.stderr).decode()


@pytest.mark.e2e
@pytest.mark.parametrize("protocol", ["openmetrics", "text"])
def test_prometheus_scrapes_it(protocol: str, tmp_path: Path) -> None:
    """Prometheus stores every sample, from what its own headers negotiate, with titles as they were cleaned."""
    titles = tuple(MessageSnapshot(title, VALUES) for title in HOSTILE_TITLES)
    target = Exposition(full_metrics(), per_message=True)
    target.publish(Snapshot((account(campaign(messages=titles)),)))
    answers: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            accept = self.headers["Accept"] if protocol == "openmetrics" else TEXT
            response = target.respond(accept, self.headers["Accept-Encoding"])
            answers.append((response.content_type, response.content_encoding))
            self.send_response(200)
            self.send_header("Content-Type", response.content_type)
            self.send_header("Content-Encoding", response.content_encoding or "identity")
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as free,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        port = free.server_port
        free.server_close()  # Prometheus does not tell the port it chose
        config = tmp_path / "prometheus.yml"
        scrape = {
            "job_name": "x",
            "scrape_interval": "1s",
            "static_configs": [{"targets": [f"127.0.0.1:{server.server_port}"]}],
        }
        config.write_text(json.dumps({"scrape_configs": [scrape]}))
        arguments = [
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        process = subprocess.Popen([tool("prometheus"), *arguments], stderr=subprocess.DEVNULL)
        try:
            expected = len(parse(target.respond(TEXT, None)))
            names = "intarget_campaign_messages_sent_total|scrape_samples_scraped|up"
            query = quote(f'{{__name__=~"{names}"}}')
            url = f"http://127.0.0.1:{port}/api/v1/query?query={query}"
            deadline = time.monotonic() + 60
            result: list[dict[str, Any]] = []
            while not result and time.monotonic() < deadline:
                try:
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        result = json.load(answer)["data"]["result"]
                except urllib.error.URLError:
                    Event().wait(0.1)
        finally:
            process.terminate()
            process.wait(30)
            server.shutdown()
    values = {each["metric"]["__name__"]: float(each["value"][1]) for each in result}
    assert values["up"] == 1
    assert expected == values["scrape_samples_scraped"]
    assert {Oracle.label(title) for title in HOSTILE_TITLES} == {
        each["metric"].get("message_title", "")
        for each in result
        if each["metric"]["__name__"] == "intarget_campaign_messages_sent_total"
    }
    content_type = f"{OPENMETRICS if protocol == 'openmetrics' else TEXT}; charset=utf-8"
    assert {(content_type, "gzip")} == set(answers)
