"""A Prometheus with history: made-up campaigns, the exporter's metrics, and the shipped rules over them.

History can't be waited for. So the samples of each scrape are written with their time and turned into blocks by
promtool; then the recording rules are evaluated over it in the order of their dependence, each level as blocks
again, and the alerts last. Every query asked at `World.end` sees what it would see in a Prometheus that had run
all the time.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from tests._tools import tool
from tests.rules import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

DEADLINE = 120.0
RULES = Path(__file__).parents[2] / "grafana" / "rules"
WINDOW = 14 * 86400
STALE_AFTER = {"statistics": 1800, "conversions": 7200}
BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, math.inf)
_RECORDED = re.compile(r"[a-z_]+:[a-z0-9_:]+")

Labels = dict[str, str]
Sample = tuple[str, Labels, float]

HEALTHY: Mapping[str, float] = {
    "skipped": 0.004, "sent": 1, "delivered": 0.985, "opened": 0.31, "clicked": 0.018, "bounced": 0.009,
    "softBounced": 0.004, "rejected": 0.001, "failed": 0.002, "temporaryFailed": 0.003, "complaint": 0.00012,
    "unsubscribed": 0.0014,
}  # fmt: skip
"""What comes of a message, by the API's field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What counts as a conversion of a campaign, and how many of those reached meet it."""

    event: str = "Deposit"
    period: str = "7 days"
    rate: float = 0.004
    amount: float = 37.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One campaign: it sends `messages` within half an hour, `age` hours before the world ends."""

    campaign_id: str
    account: str = "main"
    channel: str = "email"
    name: str = ""
    title: str = "Spring sale"
    age: float = 12.0
    messages: int = 20_000
    rates: Mapping[str, float] = field(default_factory=dict)
    goals: tuple[Goal, ...] = ()
    overcount: Mapping[str, int] = field(default_factory=dict)

    def counts(self, age: float) -> dict[str, int | None]:
        """Return the totals at an age in seconds, by the API's field; SMS has no opens."""
        sent = min(1.0, max(0.0, age / 1800))
        late = 1 - math.exp(-max(0.0, age - 600) / 7200)
        rates = {**HEALTHY, **self.rates}
        found: dict[str, int | None] = {}
        for name in CAMPAIGN_COUNTERS:
            come = late if name in ("opened", "clicked", "complaint", "unsubscribed") else sent
            found[name] = int(self.messages * rates[name] * come)
        return found if self.channel != "sms" else {**found, "opened": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What the world is made of. `currencies` has each account; `every` is the seconds between two scrapes.

    `failing` are accounts of which all polls fail after the first hour; `other_targets` have nothing to do with
    the exporter; `rules` are the shipped ones.
    """

    campaigns: Sequence[Campaign]
    currencies: Mapping[str, str] = field(default_factory=lambda: {"main": "EUR"})
    hours: float = 26.0
    every: int = 300
    replicas: int = 1
    per_message: bool = False
    failing: frozenset[str] = frozenset()
    other_targets: int = 0
    rules: bool = True

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts' names."""
        return tuple(self.currencies)


def scraped(setup: Setup, end: int, begin: int, now: int) -> Iterator[Sample]:
    """Yield what the exporter serves at a time."""
    tracked: dict[tuple[str, str], int] = {}
    totals: dict[tuple[str, str], dict[str, int]] = {}
    for campaign in setup.campaigns:
        start = end - campaign.age * 3600
        if start > now:
            continue
        key = (campaign.account, campaign.channel)
        tracked[key] = tracked.get(key, 0) + 1
        counts = campaign.counts(now - start)
        before = campaign.counts(begin - start) if start < begin else {}
        sums = totals.setdefault(key, dict.fromkeys(CHANNEL_COUNTERS, 0))
        for name, count in counts.items():
            sums[name] += (count or 0) - (before.get(name) or 0)
        yield from _campaign(campaign, counts, start, per_message=setup.per_message)
    for (account, channel), sums in totals.items():
        labels = {"account": account, "channel": channel}
        yield "intarget_tracked_campaigns", labels, tracked[account, channel]
        for name, metric in CHANNEL_COUNTERS.items():
            yield metric.name, labels, sums[name]
            over = sum(
                c.overcount.get(name, 0)
                for c in setup.campaigns
                if (c.account, c.channel) == (account, channel)
            )
            yield "intarget_channel_overcount", {**labels, "field": name}, over
    for account in setup.accounts:
        yield from _account(account, setup, begin, now)
    yield from _process(now - begin)


def _campaign(
    campaign: Campaign, counts: Mapping[str, int | None], start: float, *, per_message: bool
) -> Iterator[Sample]:
    key = {"account": campaign.account, "campaign_id": campaign.campaign_id, "channel": campaign.channel}
    titled = {"message_title": campaign.title} if per_message else {}
    for name, count in counts.items():
        if count is not None:
            yield CAMPAIGN_COUNTERS[name].name, {**key, **titled}, count
    for name, over in campaign.overcount.items():
        yield "intarget_campaign_overcount", {**key, "field": name}, over
    yield "intarget_campaign_start_timestamp_seconds", key, int(start)
    yield "intarget_campaign_info", {**key, "campaign_name": campaign.name, "message_title": campaign.title}, 1
    for goal in campaign.goals:
        yield "intarget_campaign_stop_timestamp_seconds", key, int(start) + 7200
        labels = {**key, "conversion_event": goal.event, "conversion_period": goal.period}
        users = int((counts["delivered"] or 0) * goal.rate)
        yield "intarget_campaign_converted_users", labels, users
        yield "intarget_campaign_deposits", labels, int(users * 1.2)
        yield "intarget_campaign_deposits_amount", labels, round(int(users * 1.2) * goal.amount, 2)


def _account(account: str, setup: Setup, begin: int, now: int) -> Iterator[Sample]:
    failing = account in setup.failing
    yield "intarget_up", {"account": account}, int(not failing)
    yield "intarget_account_info", {"account": account, "currency": setup.currencies[account]}, 1
    yield "intarget_dropped_campaigns", {"account": account}, 0
    yield "intarget_window_seconds", {"account": account}, WINDOW
    for resource, stale_after in STALE_AFTER.items():
        labels = {"account": account, "resource": resource}
        polls = (now - begin) // 300 + 1
        failed = max(0, polls - 12) if failing else polls // 40
        yield "intarget_polls_total", labels, polls
        for reason in ("timeout", "server_error"):
            yield (
                "intarget_poll_failures_total",
                {**labels, "reason": reason},
                failed if reason == "server_error" else 0,
            )
        yield "intarget_last_success_timestamp_seconds", labels, begin + 3600 if failing else now - 40
        yield "intarget_stale_after_seconds", labels, stale_after
        yield "intarget_results_incomplete", labels, int(failing)
        yield "intarget_api_unknown_fields", labels, 0
        yield "intarget_api_invalid_values_total", {**labels, "field": "sent"}, 0
        yield "intarget_api_requests_total", {**labels, "code": "200"}, 3 * polls
        yield "intarget_api_requests_total", {**labels, "code": "503"}, failed
        yield from _histogram("intarget_poll_duration_seconds", labels, polls)
        yield from _histogram("intarget_api_request_duration_seconds", labels, 3 * polls)


def _histogram(name: str, labels: Labels, count: int) -> Iterator[Sample]:
    """Yield a log-normal's buckets, around half a second."""
    for bound in BUCKETS:
        share = 1.0 if math.isinf(bound) else 0.5 * (1 + math.erf(math.log(bound / 0.5) / (0.8 * math.sqrt(2))))
        yield (
            f"{name}_bucket",
            {**labels, "le": "+Inf" if math.isinf(bound) else str(bound)},
            round(count * share),
        )
    yield f"{name}_count", labels, count
    yield f"{name}_sum", labels, 0.6 * count


def _process(uptime: int) -> Iterator[Sample]:
    yield "intarget_build_info", {"version": "1.0.0", "revision": "0123456", "python_version": "3.13.1"}, 1
    yield "intarget_config_last_reload_successful", {}, 1
    yield "intarget_state_save_failures_total", {}, 0
    yield "intarget_state_persistent", {}, 1
    yield "intarget_shard_ordinal", {}, 0
    yield "intarget_total_shards", {}, 1
    yield "process_cpu_seconds_total", {}, 0.02 * uptime
    yield "process_resident_memory_bytes", {}, 88e6
    yield "up", {}, 1
    yield "scrape_duration_seconds", {}, 0.004
    yield "scrape_samples_scraped", {}, 2400


def write_history(path: Path, setup: Setup, end: int) -> None:
    """Write the samples of every scrape until `end` as OpenMetrics with timestamps."""
    begin = _begin(setup, end)
    strangers = [
        f'process_resident_memory_bytes{{job="other",instance="other-{i}:9100"}} 1'
        for i in range(setup.other_targets)
    ]
    with path.open("w", encoding="utf-8") as file:
        for now in range(begin, end + 1, setup.every):
            samples = [(name, _pairs(labels), value) for name, labels, value in scraped(setup, end, begin, now)]
            for replica in range(1, setup.replicas + 1):
                target = f'job="intarget",instance="exporter-{replica}:10095"'
                file.write(
                    "".join(f"{name}{{{target}{pairs}}} {value} {now}\n" for name, pairs, value in samples)
                )
            file.write("".join(f"{stranger} {now}\n" for stranger in strangers))
        file.write("# EOF\n")


def _pairs(labels: Labels) -> str:
    """Return labels as the exposition has them, each after a comma."""
    pairs = []
    for label, value in labels.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        pairs.append(f',{label}="{escaped}"')
    return "".join(pairs)


class Prometheus(prometheus.Prometheus):
    """A Prometheus whose errors are told in its own words."""

    def __init__(self, folder: Path, every: int) -> None:
        tool("prometheus")
        lookback = max(300, every + 60)
        options = ("--storage.tsdb.retention.time=3650d", f"--query.lookback-delta={lookback}s")
        super().__init__(folder, config="scrape_configs: []\n", options=options)

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return self.ask("query", query=expr, time=at)["result"]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the result of a range query."""
        return self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]

    def ask(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401 - as Prometheus has it
        """Return the data of an API call; an error fails the test."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/{path}", urllib.parse.urlencode(parameters).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            message = json.load(error).get("error")
            raise AssertionError(f"{message}\n{parameters.get('query')}") from None


@dataclass(slots=True)
class World:
    """A running Prometheus with its history up to `end`."""

    prometheus: Prometheus
    begin: int
    end: int
    setup: Setup


@contextlib.contextmanager
def world(folder: Path, setup: Setup, end: int) -> Iterator[World]:
    """Make the history in an empty folder and serve it."""
    end = end // setup.every * setup.every
    begin = _begin(setup, end)
    history = folder / "history.txt"
    folder.mkdir(parents=True, exist_ok=True)
    write_history(history, setup, end)
    prometheus.import_openmetrics(history, folder / "data")
    for level in _levels() if setup.rules else ():
        with Prometheus(folder, setup.every) as running:
            lines = [line for rule in level for line in _evaluate(running, rule, begin, end, setup.every)]
        if lines:
            history.write_text("".join(lines) + "# EOF\n", encoding="utf-8")
            prometheus.import_openmetrics(history, folder / "data")
    history.unlink()
    with Prometheus(folder, setup.every) as running:
        yield World(running, begin, end, setup)


def _begin(setup: Setup, end: int) -> int:
    return end - int(setup.hours * 3600) // setup.every * setup.every


def rules() -> list[dict[str, Any]]:
    """Return every rule that is shipped."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(RULES.glob("*.yaml"))]
    return [rule for file in files for group in file.get("groups", ()) for rule in group["rules"]]


def _levels() -> list[list[dict[str, Any]]]:
    """Return the rules in levels: each needs only those of earlier ones. Alerts need all."""
    rest = [rule for rule in rules() if "record" in rule]
    levels = []
    while rest:
        waiting = {rule["record"] for rule in rest}
        # A rule of several parts may use another part of itself, as the warning uses the critical limit.
        ready = [r for r in rest if not ((set(_RECORDED.findall(r["expr"])) & waiting) - {r["record"]})]
        own = [r for r in ready if r["record"] in _RECORDED.findall(r["expr"])]
        first = [r for r in ready if r not in own] or own
        assert first, "the rules depend on each other"
        levels.append(first)
        rest = [rule for rule in rest if rule not in first]
    return [*levels, [rule for rule in rules() if "alert" in rule]]


def _evaluate(running: Prometheus, rule: dict[str, Any], begin: int, end: int, every: int) -> Iterator[str]:
    """Yield a rule's samples as OpenMetrics lines."""
    found: dict[str, dict[float, str]] = {}  # the parts of a union may differ in their name alone, which goes
    named = {"alertname": rule["alert"]} if "alert" in rule else {}
    for series in running.query_range(rule["expr"], begin, end, every):
        labels = {k: v for k, v in series["metric"].items() if k != "__name__"} | rule.get("labels", {}) | named
        found.setdefault(_pairs(labels)[1:], {}).update((at, value) for at, value in series["values"])
    for pairs, samples in found.items():
        if "record" in rule:
            yield from (f"{rule['record']}{{{pairs}}} {samples[at]} {at}\n" for at in sorted(samples))
        else:
            yield from _alert(pairs, sorted(samples), _seconds(rule.get("for", "0s")), every)


def _alert(pairs: str, times: Iterable[float], wait: int, every: int) -> Iterator[str]:
    since = before = -math.inf
    for now in times:
        since = since if now - before <= every else now
        before = now
        state = "firing" if now - since >= wait else "pending"
        yield f'ALERTS{{{pairs},alertstate="{state}"}} 1 {now}\n'
        yield f"ALERTS_FOR_STATE{{{pairs}}} {since} {now}\n"


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]
