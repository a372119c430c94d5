"""Counters against the truth: everything happens to the exporter at once, and real Prometheus looks on.

For a longer run than the test's::

    python -m tests.e2e._exactness --minutes 5 --kills 60
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.e2e._running import Exporter, Series, raw, scraping, until
from tests.e2e._scripted import FAULTS, METRICS, Campaign, ScriptedApi, random_counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.rules.prometheus import Prometheus

    Steps = Iterator[float | Callable[[], bool]]

WINDOW: Final = 14 * 86400
STALE_AFTER: Final = 6
FROM_START: Final = ("email", "sms", "push")
LATE: Final = ("unsubscribed", "complaint", "clicked")
CONFIG: Final = """
accounts: [{{name: main, access_token: made-up, base_url: "{url}"}}]
poll:
  refresh: [{{younger_than: 14d, every: 1s}}]
  still_sending: {{lookback: 1d, every: 2s}}
  conversions_every: 5s
  stale_after: {stale_after}s
api: {{timeout: 1s, deadline: 4s, retries: 1, requests_per_second: 1000}}
metrics: {{zero_hold: 3s}}
state: {{path: state.db}}
"""


@dataclass
class Report:
    """What a run has shown. `faults` is empty if everything was exact.

    Totals by channel and field: `truth`, `raw` from the differences of the raw samples of channel counters,
    `increase` as Prometheus extrapolates it.
    """

    seconds: float = 0.0
    kills: int = 0
    scrapes: int = 0
    failed_scrapes: int = 0
    campaigns: int = 0
    falls: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    truth: dict[tuple[str, str], int] = field(default_factory=dict)
    raw: dict[tuple[str, str], int] = field(default_factory=dict)
    increase: dict[tuple[str, str], float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def deviation(self, *channels: str) -> float:
        """Return the largest relative deviation of `increase` from `truth` in some channels."""
        return max(
            abs(self.increase.get(key, 0.0) / value - 1)
            for key, value in self.truth.items()
            if value and key[0] in channels
        )

    def text(self) -> str:
        """Return it for people to read."""
        lines = [
            f"{self.seconds:.0f} s, {self.kills} kills, {self.scrapes} scrapes ({self.failed_scrapes} failed)",
            f"{self.campaigns} campaigns, {self.falls} falls; {dict(sorted(self.happened.items()))}",
            f"{'channel':10} {'field':16} {'truth':>9} {'raw':>9} {'increase()':>12}",
        ]
        lines += [
            f"{channel:10} {name:16} {value:9} {self.raw.get((channel, name), 0):9} "
            f"{self.increase.get((channel, name), 0.0):12.1f}"
            for (channel, name), value in sorted(self.truth.items())
        ]
        lines += [
            f"largest deviation of increase(): {self.deviation(*(key[0] for key in self.truth)):.2%}",
            f"in channels that were there from the start: {self.deviation(*FROM_START):.2%}",
            *(self.faults or ["raw differences equal the truth in every series"]),
        ]
        return "\n".join(lines)


class Run:
    """One run of about so many seconds, with at least so many kills."""

    def __init__(self, folder: Path, *, seconds: float, kills: int, seed: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.kills = kills
        self.rng = random.Random(seed)
        self.began = time.time()
        self.ending = False
        self.report = Report()
        self.api = ScriptedApi()
        self.seen: dict[tuple[str, str, str], int] = {}
        self.steps: list[tuple[Steps, float | Callable[[], bool]]] = []
        self.numbers = iter(range(1000, 100_000))

    def __call__(self) -> Report:
        """Run, and compare."""
        with self.api:
            config = CONFIG.format(url=self.api.url, stale_after=STALE_AFTER)
            self._open()
            with (
                Exporter(self.folder / "exporter", config) as exporter,
                scraping(self.folder / "prometheus", exporter) as prometheus,
            ):
                exporter.serve()
                # What is there at the start is no increase: it must have been seen before anything grows.
                until(lambda: self._look(prometheus) or self._all_seen(), "Prometheus has seen the first poll")
                killer = threading.Thread(target=self._kill, args=[exporter])
                killer.start()
                self._act(prometheus)
                killer.join()
                assert exporter.running, exporter.log[-2000:]
                try:
                    until(lambda: self._look(prometheus) or self._all_seen(), "Prometheus has seen everything")
                except AssertionError as error:
                    self.report.faults.append(str(error))
                self._compare(prometheus)
                self.report.faults += [
                    line for line in exporter.log.splitlines() if "level=error" in line or "Traceback" in line
                ]
        return self.report

    # What happens to the exporter

    def _kill(self, exporter: Exporter) -> None:
        """Kill it at random moments: while it starts, at any time, or just after an answer of the API."""
        rng = random.Random(self.rng.random())
        answered = threading.Event()
        self.api.listeners.append(answered.set)
        while self.report.kills < self.kills or not self.ending:
            begun = rng.random() < 0.1
            if begun:
                time.sleep(rng.uniform(0, 1))
            else:
                until(lambda: exporter.serves() or not exporter.running, "the exporter serves")
                # A hold needs three seconds of one life
                time.sleep(rng.uniform(3.5, 6) if rng.random() < self._share_of_long_lives() else rng.random())
            if rng.random() < 0.6:
                answered.clear()
                answered.wait(2)
                time.sleep(rng.uniform(0, 0.06))
            if not exporter.running:
                self.report.faults.append("the exporter ended by itself")
            exporter.kill()
            self.report.kills += 1
            time.sleep(rng.choice((0, 0, rng.random())))
            exporter.start()
        until(exporter.serves, "the exporter serves")

    def _share_of_long_lives(self) -> float:
        """Return a share that makes the kills last for the whole run; a short cycle takes 2 s, a long one 6."""
        left = self.seconds - (time.time() - self.began)
        return min(1.0, max(0.25, (left / max(1, self.kills - self.report.kills) - 2) / 4))

    def _faults(self) -> Steps:
        """Let the API fail in every way, once for longer than `stale_after`."""
        kinds = list(FAULTS)
        self.rng.shuffle(kinds)
        kinds.insert(len(kinds) // 2, "outage")
        while not self.ending:
            for kind in kinds:
                yield self.rng.uniform(0.02, 0.06) * min(self.seconds, 120)
                if self.ending:
                    break
                self.report.happened[f"api: {kind}"] += 1
                self.api.fault = "500" if kind == "outage" else kind
                yield STALE_AFTER + 3 if kind == "outage" else self.rng.uniform(0.5, 2.5)
                self.api.fault = None

    # What happens to campaigns

    def _open(self) -> None:
        """Add what is there from the start, and everything that will happen."""
        now = int(self.began)
        for index in range(36):
            channel = self.rng.choice(["Email", "Email", "SMS", "Push"])
            start = now - self.rng.randint(7200, WINDOW - 3600)
            campaign = self._add(channel, start, known=True, messages=1 + index % 3 // 2)
            if index < 4:
                campaign.lose(LATE)
                self._begin(self._late_field(campaign))
            elif index < 8:
                self._begin(self._fall(campaign))
            elif index < 12:
                self._begin(self._fall_for_a_moment(campaign))
            elif index < 26:
                self._begin(self._go_on(campaign))
            elif index < 28:
                self._begin(self._move(campaign))
            elif index < 30:
                self._begin(self._join(campaign))
        for index, back in enumerate((self._send_again, self._start_again, self._send_again)):
            leaves = 25 + round(self.seconds * index * 0.1)
            self._begin(back(self._add("Email", now - WINDOW + leaves, known=True), now + leaves))
        self._begin(self._launch())
        self._begin(self._new_channels())
        self._begin(self._faults())

    def _add(self, channel: str, start: int, *, known: bool, messages: int = 1, scale: float = 1.0) -> Campaign:
        counts = random_counts(self.rng, channel, messages, scale)
        campaign = Campaign(next(self.numbers), channel, start, counts, known=known)
        self.api.campaigns.append(campaign)
        return campaign

    def _begin(self, steps: Steps) -> None:
        self.steps.append((steps, 0.0))

    def _launch(self) -> Steps:
        """Start campaigns that have sent everything before the next poll; some go on."""
        while not self.ending:
            yield self.rng.uniform(0.01, 0.05) * min(self.seconds, 120)
            self.report.happened["launch"] += 1
            channel = self.rng.choice(["Email", "SMS", "Push"])
            start = int(time.time()) - self.rng.choice((0, 1, 60, 600, 4 * 3600, 5 * 86400))
            campaign = self._add(channel, start, known=False, messages=self.rng.randint(1, 2), scale=3)
            campaign.sent_at = int(time.time())
            if self.rng.random() < 0.4:
                self._begin(self._go_on(campaign))

    def _new_channels(self) -> Steps:
        for channel in ("Viber", "WhatsApp"):
            yield self.seconds * 0.3
            self.report.happened["new channel"] += 1
            self._begin(self._go_on(self._add(channel, int(time.time()), known=False)))

    def _join(self, campaign: Campaign) -> Steps:
        """Begin to send in other channels, too."""
        for channel in sorted({"Email", "Push", "Telegram"} - {campaign.channel}):
            yield self.seconds * self.rng.uniform(0.1, 0.4)
            self.report.happened["new channel of a campaign"] += 1
            counts = random_counts(self.rng, channel)
            other = Campaign(campaign.number, channel, campaign.start, counts, known=False)
            self.api.campaigns.append(other)
            self._begin(self._go_on(other))

    def _go_on(self, campaign: Campaign) -> Steps:
        """Grow, be renamed, be corrected a little."""
        while not self.ending:
            yield self.rng.uniform(0.2, 3)
            what = self.rng.random()
            if what < 0.7:
                self._grow(campaign)
            elif what < 0.85:
                self.report.happened["rename"] += 1
                campaign.titles[-1] = f"Renamed {self.rng.random()}"
            else:
                yield self._sees(campaign)
                self.report.happened["correction"] += 1
                for name, line in campaign.lines.items():
                    if line.value and self.rng.random() < 0.5:
                        campaign.set(name, line.value - self.rng.randint(1, min(line.value, 20)))
                yield self.rng.uniform(0, 4)

    def _fall(self, campaign: Campaign) -> Steps:
        """Grow, and fall for good to less than half."""
        while not self.ending:
            self._grow(campaign, 3)
            yield self.rng.uniform(1, 4)
            self._grow(campaign)
            yield self._sees(campaign)
            for name, line in campaign.lines.items():
                campaign.set(name, line.value * self.rng.randint(0, 40) // 100)
            self.report.falls += len(campaign.lines)
            self.report.happened["fall"] += 1
            yield self.rng.uniform(1, 8)

    def _fall_for_a_moment(self, campaign: Campaign) -> Steps:
        """Grow, and fall in one answer or two."""
        while not self.ending:
            self._grow(campaign)
            # Only then is the last fall over in the exporter's eyes
            yield self._sees(campaign)
            self.report.happened["fall for a moment"] += 1
            self.api.low[campaign] = self.rng.randint(1, 2)
            yield lambda: campaign not in self.api.low
            yield self.rng.uniform(0.5, 3)

    def _late_field(self, campaign: Campaign) -> Steps:
        """Begin to have a value of some fields."""
        for name in LATE:
            yield self.seconds * self.rng.uniform(0.1, 0.3)
            self.report.happened["new field"] += 1
            campaign.add(name, self.rng.randint(1, 500), self.rng.randrange(len(campaign.counts)))
        yield from self._go_on(campaign)

    def _move(self, campaign: Campaign) -> Steps:
        """Be given another start, within the window."""
        while not self.ending:
            yield self.rng.uniform(3, 9)
            self.report.happened["another start"] += 1
            campaign.start += self.rng.choice((-3600, -1, 1, 3600))
            self._grow(campaign)

    def _send_again(self, campaign: Campaign, leaves: int) -> Steps:
        """Leave the window, and be found again as still sending."""
        yield from self._leave(campaign, leaves)
        campaign.sent_at = int(time.time())
        self.report.happened["left and sent again"] += 1
        yield from self._go_on(campaign)

    def _start_again(self, campaign: Campaign, leaves: int) -> Steps:
        """Leave the window, and come back with a later start."""
        yield from self._leave(campaign, leaves)
        campaign.start = int(time.time())
        self.report.happened["left and started again"] += 1
        yield from self._go_on(campaign)

    def _leave(self, campaign: Campaign, leaves: int) -> Steps:
        while time.time() < leaves - 2:
            self._grow(campaign)
            yield 1.0
        yield leaves + 3 - time.time()
        self._grow(campaign)
        yield 2.0

    def _grow(self, campaign: Campaign, scale: float = 1.0) -> None:
        index = self.rng.randrange(len(campaign.counts))
        (more,) = random_counts(self.rng, campaign.channel, 1, scale)
        for name in self.rng.sample(list(campaign.lines), k=self.rng.randint(1, len(campaign.lines))):
            campaign.add(name, more[name], index)

    # What Prometheus sees

    def _look(self, prometheus: Prometheus) -> None:
        """Find out what Prometheus has seen last of each campaign counter."""
        names = '{__name__=~"intarget_campaign_.+_total"}'
        result = prometheus.get("query", query=f"last_over_time({names}[10s])")["result"]
        self.seen = {_key(one["metric"]): int(float(one["value"][1])) for one in result}

    def _sees(self, campaign: Campaign) -> Callable[[], bool]:
        """Return whether Prometheus has seen all of a campaign that it should."""
        return lambda: all(self.seen.get(key) == value for key, value in campaign.expected().items())

    def _all_seen(self) -> bool:
        with self.api.lock:
            return all(self._sees(campaign)() for campaign in self.api.campaigns)

    def _act(self, prometheus: Prometheus) -> None:
        """Take every step when its time has come, until the time is over and every step has ended."""
        end = time.monotonic() + self.seconds
        waiting = [(steps, time.monotonic(), None) for steps, _ in self.steps]
        self.steps.clear()
        last = end + 60
        while waiting:
            now = time.monotonic()
            self.ending = now >= end
            if now >= last:
                self.report.faults.append(f"still waiting: {[steps.__name__ for steps, _, _ in waiting]}")
                self.report.kills = max(self.report.kills, self.kills)
                return
            self._look(prometheus)
            remaining = []
            for steps, at, condition in waiting:
                with self.api.lock:
                    due = condition() if condition is not None else now >= at or self.ending
                    step = next(steps, None) if due else (condition or at - now)
                if step is not None:
                    remaining.append((steps, 0.0, step) if callable(step) else (steps, now + step, None))
            waiting = remaining + [(steps, now, None) for steps, _ in self.steps]
            self.steps.clear()
            time.sleep(0.1)

    # Comparing

    def _compare(self, prometheus: Prometheus) -> None:
        report = self.report
        report.seconds = time.time() - self.began
        report.campaigns = len(self.api.campaigns)
        span = int(report.seconds) + 60
        (up,) = raw(prometheus, "up", span)
        report.scrapes = len(up[1])
        report.failed_scrapes = sum(value == 0 for _, value in up[1])
        self._compare_campaigns(raw(prometheus, "intarget_campaign_.+_total", span))
        self._compare_channels(raw(prometheus, "intarget_channel_.+_total", span))
        self._compare_overcounts(prometheus)
        for name in METRICS:
            metric = _name("channel", name)
            for one in prometheus.get("query", query=f"increase({metric}[{span}s])")["result"]:
                report.increase[one["metric"]["channel"], name] = float(one["value"][1])

    def _compare_campaigns(self, found: list[tuple[Series, list[tuple[float, int]]]]) -> None:
        samples = {_key(labels): [value for _, value in values] for labels, values in found}
        for campaign in self.api.campaigns:
            for name, line in campaign.lines.items():
                key = (_name("campaign", name), str(campaign.number), campaign.channel.lower())
                values = samples.pop(key, [])
                actual = (values[:1], increase(values), steps_down(values))
                expected = ([line.first], line.counted, [])
                if expected != actual:
                    self.report.faults.append(f"{key}: first, increase and steps down {actual}, not {expected}")
        self.report.faults += [f"{key}: there should be no such series" for key in samples]

    def _compare_channels(self, found: list[tuple[Series, list[tuple[float, int]]]]) -> None:
        truth: dict[tuple[str, str], int] = defaultdict(int)
        for campaign in self.api.campaigns:
            for name, line in campaign.lines.items():
                truth[campaign.channel.lower(), name] += line.counted
        samples = {
            (labels["channel"], labels["__name__"]): [value for _, value in values] for labels, values in found
        }
        self.report.truth = dict(truth)
        for (channel, name), total in truth.items():
            values = samples.pop((channel, _name("channel", name)), [])
            self.report.raw[channel, name] = increase(values)
            actual = (values[:1], increase(values), values[-1:], steps_down(values))
            expected = ([0], total, [total], [])
            if expected != actual:
                self.report.faults.append(
                    f"{channel} {name}: first, increase, last and resets {actual}, not {expected}"
                )
        self.report.faults += [f"{key}: there should be no such series" for key in samples]

    def _compare_overcounts(self, prometheus: Prometheus) -> None:
        """Compare how far counters stand above the vendor's values now; campaigns that left count, too."""
        expected: dict[tuple[str, ...], int] = defaultdict(int)
        exported = {(number, channel) for _, number, channel in self.seen}
        for campaign in self.api.campaigns:
            channel = campaign.channel.lower()
            for name, line in campaign.lines.items():
                expected["", channel, name] += line.top - line.value
                if line.top > line.value and (str(campaign.number), channel) in exported:
                    expected[str(campaign.number), channel, name] = line.top - line.value
        actual: dict[tuple[str, ...], int] = {}

        def agrees() -> bool:
            found = prometheus.get("query", query='{__name__=~"intarget_.+_overcount"}')["result"]
            actual.clear()
            for one in found:
                labels = one["metric"]
                key = (labels.get("campaign_id", ""), labels["channel"], labels["field"])
                actual[key] = int(float(one["value"][1]))
            return expected == actual

        try:
            until(agrees, "overcounts are seen", deadline=20)
        except AssertionError:
            self.report.faults += [
                f"overcount of {key}: {actual.get(key)}, not {expected.get(key)}"
                for key in sorted(expected.keys() | actual.keys())
                if actual.get(key) != expected.get(key)
            ]


def increase(values: list[int]) -> int:
    """Return what a series has grown by, as Prometheus sees it: a step down is a reset to 0."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def steps_down(values: list[int]) -> list[tuple[int, int]]:
    """Return the values before and after each step down."""
    return [(before, after) for before, after in pairwise(values) if after < before]


def _name(kind: str, name: str) -> str:
    return f"intarget_{kind}_{METRICS[name]}"


def _key(labels: dict[str, Any]) -> tuple[str, str, str]:
    return labels["__name__"], labels["campaign_id"], labels["channel"]


def main() -> None:
    """Run as long as the arguments say, and print the report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="exactness-"))
    print(f"seed {arguments.seed}, in {folder}")
    report = Run(folder, seconds=arguments.minutes * 60, kills=arguments.kills, seed=arguments.seed)()
    print(report.text())
    if report.faults:
        raise SystemExit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
