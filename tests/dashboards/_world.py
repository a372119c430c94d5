"""A Prometheus with a day of history: the simulator's campaigns, the exporter's exposition, the shipped rules.

History can't be waited for. So the exposition is written with the time of each scrape and turned into blocks by
promtool; then the recording rules are evaluated over it in the order of their dependence, each level as blocks
again, and the alerts last. Every instant query asked at `World.end` sees what it would see in a Prometheus that
had run all day.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter.api.fields import CONVERSIONS, COUNTER_FIELDS, ENDPOINTS
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.simulator import FOREVER, SCENARIOS, Simulator
from exporter.tracking.model import (
    AccountSnapshot,
    CampaignSnapshot,
    ChannelSnapshot,
    ConversionSnapshot,
    MessageSnapshot,
    Snapshot,
)
from tests.rules import prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from exporter.simulator import Campaign, Scenario

DEADLINE = 120.0
POLL = 300
RULES = Path(__file__).parents[2] / "grafana" / "rules"
_WINDOW = 14 * 86400
_ZEROS = (0,) * len(COUNTER_FIELDS)
_RECORDED = re.compile(r"[a-z_]+:[a-z0-9_:]+")

Labels = dict[str, str]


def tool(name: str) -> str:
    """Return the path of a program; skip the test if it is missing, or fail in CI."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is missing")
        pytest.skip(f"{name} is missing")
    return path


@dataclass(frozen=True, slots=True)
class Setup:
    """What the world is made of. `accounts` maps an account's name to the scenario that it plays.

    `hours` is how long it has been watched, `every` the seconds between two scrapes, `replicas` how many
    exporters are scraped; `titles` replaces the names of campaigns and messages in turn, `channels` those of
    channels. Incidents come after the share `incident_after` of the time.
    """

    accounts: Mapping[str, str | Scenario]
    hours: float = 24.0
    every: int = 60
    replicas: int = 1
    per_message: bool = False
    titles: Sequence[str] = ()
    channels: Mapping[str, str] = field(default_factory=dict)
    seed: int = 1
    incident_after: float = 0.6


class Account:
    """One account of the simulator, as a perfect poller would publish it."""

    def __init__(self, name: str, scenario: str | Scenario, setup: Setup, begin: float) -> None:
        self.name = name
        self._setup = setup
        self._begin = begin
        self._now = begin
        played = SCENARIOS[scenario] if isinstance(scenario, str) else scenario
        shift = setup.hours * 3600 * setup.incident_after
        incidents = tuple(
            replace(incident, start=incident.start + shift, duration=max(incident.duration, 1800))
            for incident in played.incidents
        )
        self._simulator = Simulator(
            setup.seed + len(name), lambda: self._now, replace(played, incidents=incidents), origin=begin
        )
        self._before: dict[tuple[int, str], tuple[int | None, ...]] = {}
        self._totals: dict[str, list[int]] = {}

    def snapshot(self, now: float) -> AccountSnapshot:
        """Return what is exported at this time, which never goes back."""
        self._now = now
        found: list[CampaignSnapshot] = []
        for campaign in self._simulator.campaigns(now, first=now - _WINDOW):
            found += self._campaign(campaign, now)
        for campaign in found:
            key = (campaign.campaign_id, campaign.channel)
            total = self._totals.setdefault(campaign.channel, [0] * len(COUNTER_FIELDS))
            new = campaign.start >= self._begin
            before = self._before.get(key, _ZEROS if new else campaign.values)
            for i, (value, old) in enumerate(zip(campaign.values, before, strict=True)):
                total[i] += max(0, (value or 0) - (old or 0))
            self._before[key] = campaign.values
        found.sort(key=lambda campaign: -campaign.start)
        channels = tuple(ChannelSnapshot(name, tuple(total)) for name, total in sorted(self._totals.items()))
        return AccountSnapshot(self.name, "EUR", self._begin, tuple(found), channels)

    def _campaign(self, campaign: Campaign, now: float) -> Iterator[CampaignSnapshot]:
        age = self._simulator._age(campaign, now)
        by_channel: dict[str, list[int]] = {}
        for index, message in enumerate(campaign.messages):
            channel = (getattr(message, "channel", None) or campaign.channel).lower()
            by_channel.setdefault(self._setup.channels.get(channel, channel), []).append(index)
        for channel, indices in by_channel.items():
            messages = []
            for index in indices:
                counts: Mapping[str, Any] = campaign.messages[index].counts(age, FOREVER)
                title = self._title(campaign.campaign_id + index, campaign.messages[index].title)
                messages.append(MessageSnapshot(title, tuple(counts.get(name) for name in COUNTER_FIELDS)))
            values = tuple(
                sum(known) if (known := [m.values[i] for m in messages if m.values[i] is not None]) else None
                for i in range(len(COUNTER_FIELDS))
            )
            yield CampaignSnapshot(
                campaign_id=campaign.campaign_id,
                channel=channel,
                start=float(int(campaign.start)),
                stop=campaign.stop,
                campaign_name=self._title(campaign.campaign_id, campaign.name) if campaign.goals else "",
                message_title=messages[0].title,
                values=values,
                vendor=values,
                corrections=_ZEROS,
                messages=_distinct(messages) if self._setup.per_message else (),
                conversions=tuple(self._conversions(campaign, indices, age)),
            )

    def _conversions(self, campaign: Campaign, indices: list[int], age: float) -> Iterator[ConversionSnapshot]:
        for position, goal in enumerate(campaign.goals):
            got = [campaign.messages[index].conversions(age, FOREVER, position) for index in indices]
            yield ConversionSnapshot(
                goal.event,
                goal.period,
                sum(g.deposits for g in got),
                sum((Decimal(g.amount) for g in got), Decimal(0)),
                sum(g.users for g in got),
            )

    def _title(self, number: int, title: str) -> str:
        return self._setup.titles[number % len(self._setup.titles)] if self._setup.titles else title


def _distinct(messages: list[MessageSnapshot]) -> tuple[MessageSnapshot, ...]:
    found: dict[str, MessageSnapshot] = {}
    for message in messages:
        found.setdefault(message.title, message)
    return tuple(found.values())


def write_history(path: Path, setup: Setup, end: int) -> None:
    """Write the exposition of every scrape until `end` as OpenMetrics with timestamps."""
    rng = random.Random(setup.seed)
    begin = _begin(setup, end)
    accounts = [Account(name, scenario, setup, begin) for name, scenario in setup.accounts.items()]
    metrics = SelfMetrics(version="1.0.0")
    exposition = Exposition(metrics, per_message=setup.per_message)
    for account in accounts:
        metrics.init_account(account.name, ENDPOINTS)
        for endpoint in ENDPOINTS:
            metrics.unknown_fields(account.name, endpoint, 0)
            metrics.incomplete(account.name, endpoint, incomplete=False)
        metrics.dropped(account.name, 0)
    with path.open("w", encoding="utf-8") as file:
        for polled in range(begin, end + 1, POLL):
            snapshot = Snapshot(tuple(account.snapshot(polled) for account in accounts))
            exposition.publish(snapshot)
            for account in snapshot.accounts:
                _poll(metrics, account, polled, rng)
            times = range(polled, min(end + 1, polled + POLL), setup.every)
            _append(file.write, exposition, times, setup.replicas)
        file.write("# EOF\n")


def _poll(metrics: SelfMetrics, account: AccountSnapshot, now: int, rng: random.Random) -> None:
    tracked: dict[str, int] = {}
    for campaign in account.campaigns:
        tracked[campaign.channel] = tracked.get(campaign.channel, 0) + 1
    metrics.tracked(account.account, tracked)
    for endpoint in ENDPOINTS:
        if endpoint == CONVERSIONS and now % 900:
            continue
        metrics.poll_started(account.account, endpoint)
        failed = rng.random() < 0.03
        for _ in range(rng.randint(1, 4)):
            metrics.request(account.account, endpoint, 200, rng.lognormvariate(-1.5, 0.5))
        if failed:
            metrics.request(account.account, endpoint, 503, 0.2)
            metrics.poll_finished(account.account, endpoint, 8.0, "server_error")
        else:
            metrics.poll_finished(account.account, endpoint, rng.lognormvariate(0, 0.4))
            metrics.last_success(account.account, endpoint, now)
        metrics.up(account.account, not failed)
    if tracked and rng.random() < 0.05:
        metrics.correction(account.account, min(tracked), "opened")


def _append(write: Any, exposition: Exposition, times: range, replicas: int) -> None:  # noqa: ANN401
    body = exposition.respond("application/openmetrics-text", None).body.decode()
    samples = [line.partition(" # ")[0] for line in body.splitlines() if not line.startswith("#")]
    split = [_split(line) for line in samples]
    split += [
        ("up", "", "1"),
        ("scrape_duration_seconds", "", "0.004"),
        ("scrape_samples_scraped", "", str(len(samples))),
    ]
    for now in times:
        for replica in range(1, replicas + 1):
            target = f'job="intarget",instance="exporter-{replica}:10095"'
            write("".join(f"{name}{{{target}{labels}}} {value} {now}\n" for name, labels, value in split))


def _split(line: str) -> tuple[str, str, str]:
    """Return a sample's name, its labels with a comma before them, and its value."""
    head, _, value = line.rpartition(" ")
    name, brace, labels = head.partition("{")
    return name, f",{labels[:-1]}" if brace else "", value


class Prometheus(prometheus.Prometheus):
    """A Prometheus whose errors are told in its own words."""

    def __init__(self, folder: Path, config: str = "scrape_configs: []\n", *options: str) -> None:
        tool("prometheus")
        keep = ("--storage.tsdb.retention.time=3650d", *options)
        super().__init__(folder, config=config, options=keep)

    def query(self, expr: str, at: float) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        return self.ask("query", query=expr, time=at)["result"]

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the result of a range query."""
        return self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]

    def ask(self, path: str, **parameters: str | float | None) -> Any:  # noqa: ANN401
        """Return the data of an API call; an error fails the test."""
        data = urllib.parse.urlencode({k: v for k, v in parameters.items() if v is not None})
        url = f"{self.url}/api/v1/{path}"
        # Label values are only had by GET; queries may be longer than a URL can be.
        request = f"{url}?{data}" if path.startswith("label/") else urllib.request.Request(url, data.encode())
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            message = json.load(error).get("error")
            raise AssertionError(f"{message}\n{parameters.get('query')}") from None


def get(url: str) -> str | None:
    """Return the body of an answer with status 200, or None."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
    return None


def wait_for(condition: Any, what: str, *processes: subprocess.Popen[bytes]) -> None:  # noqa: ANN401
    """Poll until the condition is true; fail if it isn't in time, or one of the processes ended."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        for process in processes:
            assert process.poll() is None, f"{what}: it ended with {process.returncode}"
        time.sleep(0.1)


@dataclass(slots=True)
class World:
    """A running Prometheus with its history up to `end`."""

    prometheus: Prometheus
    begin: int
    end: int
    accounts: tuple[str, ...]


@contextlib.contextmanager
def world(folder: Path, setup: Setup, end: int) -> Iterator[World]:
    """Make the history in an empty folder and serve it; serve what is there if it was made before."""
    made = folder / "end"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(folder, setup, end // POLL * POLL)
        made.write_text(str(end // POLL * POLL), encoding="utf-8")
    end = int(made.read_text(encoding="utf-8"))
    with Prometheus(folder) as running:
        yield World(running, _begin(setup, end), end, tuple(setup.accounts))


def _begin(setup: Setup, end: int) -> int:
    return end - int(setup.hours * 3600) // POLL * POLL


def _make(folder: Path, setup: Setup, end: int) -> None:
    history = folder / "history.txt"
    write_history(history, setup, end)
    _blocks(folder, history)
    for level in _levels():
        with Prometheus(folder) as running:
            lines = [
                line
                for rule in level
                for line in _evaluate(running, rule, _begin(setup, end), end, setup.every)
            ]
        if lines:
            history.write_text("".join(lines) + "# EOF\n", encoding="utf-8")
            _blocks(folder, history)
    history.unlink()


def _blocks(folder: Path, history: Path) -> None:
    subprocess.run(
        [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", "--quiet", history, folder / "data"],
        check=True,
        capture_output=True,
    )


def rules() -> list[dict[str, Any]]:
    """Return every rule that is shipped."""
    found = []
    for path in sorted(RULES.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            found += group["rules"]
    return found


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
    for series in running.query_range(rule["expr"], begin, end, every):
        labels = {k: v for k, v in series["metric"].items() if k != "__name__"} | rule.get("labels", {})
        if "record" in rule:
            name = _series(rule["record"], labels)
            for at, value in series["values"]:
                yield f"{name} {value} {at}\n"
            continue
        labels |= {"alertname": rule["alert"]}
        yield from _alert(labels, [at for at, _ in series["values"]], _seconds(rule.get("for", "0s")), every)


def _alert(labels: Labels, times: list[float], wait: int, every: int) -> Iterator[str]:
    since = times[0]
    for before, now in zip([times[0], *times], times, strict=False):
        if now - before > every:
            since = now
        state = "firing" if now - since >= wait else "pending"
        yield f"{_series('ALERTS', labels | {'alertstate': state})} 1 {now}\n"
        yield f"{_series('ALERTS_FOR_STATE', labels)} {since} {now}\n"


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[duration[-1]]


def _series(name: str, labels: Labels) -> str:
    pairs = []
    for label, value in labels.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        pairs.append(f'{label}="{escaped}"')
    return f"{name}{{{','.join(pairs)}}}"
