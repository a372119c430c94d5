"""Replay months of campaigns through the shipped rules in a real Prometheus: ``python -m tests.rules.replay``.

Accounts with campaigns of drawn volumes, rates, speeds and delays are written as OpenMetrics, as the exporter
would have shown them poll by poll, and turned into blocks. The recording rules are evaluated in the order of
their dependencies at the polls (nothing changes between them), the alert expressions at steps of a minute;
`for` and `keep_firing_for` are applied here. Some accounts are calm, the others have one bad campaign each.
Beside the shipped rules stand those that most people would write: ratio > limit, with and without a volume.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml

from tests.rules.false_alarms import LIMITS, boundary, power
from tests.rules.prometheus import Labels, Prometheus, import_openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = Path(__file__).parents[2] / "grafana" / "rules"
START = 1_788_220_800  # 2026-09-01 00:00:00 UTC
POLL = 300
MINUTE = 60
DAY = 86_400 // POLL
WINDOW = 4 * DAY
"""How long a campaign is tracked, in polls. Its alerts end within three days of the last message."""
HOURLY_AFTER = 2 * DAY
Z = 3.5
WARNING_SHARE = 0.6
MINIMUM = {"bounce": 100, "complaint": 1000}
EVENTS = 3
FIELDS = {
    "bounce": ("messages_sent", "messages_bounced"),
    "complaint": ("messages_delivered", "complaints"),
}
"""Denominator and numerator of the ratios."""
USUAL = {"bounce": 0.01, "complaint": 0.0001}
"""Where a bad campaign begins whose rate climbs."""
COUNTS = ("messages_sent", "messages_delivered", "messages_bounced", "complaints")
CHANNEL_COUNTS = (*COUNTS, "unsubscribes", "messages_failed", "messages_rejected")
NAIVE = {
    (
        "naive bounce > 5 %",
        "bounce",
    ): "campaign:intarget_messages_bounced:max / (campaign:intarget_messages_sent:max > 0) > 0.05",
    ("naive bounce > 5 % from 100 sent", "bounce"): "campaign:intarget_messages_bounced:max"
    " / (campaign:intarget_messages_sent:max >= 100) > 0.05",
    ("naive complaint > 0.05 %", "complaint"): "campaign:intarget_complaints:max"
    " / (campaign:intarget_messages_delivered:max > 0) > 0.0005",
    ("naive complaint > 0.05 % from 1000", "complaint"): "campaign:intarget_complaints:max"
    " / (campaign:intarget_messages_delivered:max >= 1000) > 0.0005",
}
"""What most people would write; with the waits of ours, and like ours until the campaign is finished."""


@dataclass
class Campaign:
    """One campaign: what the exporter shows of it at each poll, and what is true of it."""

    account: str
    channel: str
    number: int
    first: int
    messages: int
    rates: dict[str, float]
    bad: str | None = None
    mean: float = 0.0
    seen: dict[str, np.ndarray] = field(default_factory=dict)


class Firing(NamedTuple):
    """One alert, from its firing to its end; times in seconds."""

    alert: str
    severity: str
    labels: Labels
    since: int
    until: int


def _arrivals(rng: np.random.Generator, at: np.ndarray, mean: float, polls: int) -> np.ndarray:
    """Return the cumulative count of events by poll: `at` has how many start when, `mean` is their delay."""
    starts = np.repeat(np.arange(len(at)), at)
    came = starts + np.floor(rng.exponential(mean, len(starts))).astype(int)
    return np.cumsum(np.bincount(came[came < polls], minlength=polls))


def draw_campaign(
    rng: np.random.Generator, campaign: Campaign, polls: int, *, sending: int, ramp: bool
) -> None:
    """Fill `campaign.seen`: cumulative counts over the `polls` that it is tracked for."""
    sent = np.zeros(polls, dtype=int)
    sending = min(sending, polls)
    sent[:sending] = rng.multinomial(campaign.messages, np.full(sending, 1 / sending))
    climb = np.minimum(1, np.arange(polls) * 2 / sending) if ramp else np.ones(polls)

    def rate(signal: str, usual: float) -> np.ndarray:
        wanted = campaign.rates[signal]
        return usual + (wanted - usual) * climb if campaign.bad == signal else np.full(polls, wanted)

    if campaign.bad:
        campaign.mean = float(rate(campaign.bad, USUAL[campaign.bad])[:sending].mean())
    bounced = rng.binomial(sent, rate("bounce", USUAL["bounce"]))
    delivered = sent - bounced
    shown = {
        "messages_sent": np.cumsum(sent),
        "messages_bounced": _arrivals(rng, bounced, 1.0, polls),
        "complaints": _arrivals(
            rng, rng.binomial(delivered, rate("complaint", USUAL["complaint"])), 60.0, polls
        ),
        "unsubscribes": _arrivals(rng, rng.binomial(delivered, 0.003), 60.0, polls),
        "messages_failed": _arrivals(rng, rng.binomial(sent, 0.003), 1.0, polls),
        "messages_rejected": np.zeros(polls, dtype=int),
    }
    shown["messages_delivered"] = np.minimum(
        np.cumsum(delivered), shown["messages_sent"] - shown["messages_bounced"]
    )
    read = np.arange(polls)
    late = read >= HOURLY_AFTER
    read[late] -= (read[late] + campaign.first) % 12
    read = np.maximum.accumulate(read)
    campaign.seen = {name: values[read] for name, values in shown.items()}


def draw_account(
    rng: np.random.Generator, name: str, polls: int, *, incident: bool, number: int
) -> list[Campaign]:
    """Return an account's campaigns: calm ones, and a bad one if `incident`."""
    channels = ["email"] if rng.random() < 0.7 else ["email", rng.choice(["sms", "push"])]
    usual = {"bounce": 10 ** rng.uniform(-2.6, -1.8), "complaint": 10 ** rng.uniform(-4.2, -3.8)}
    scale = rng.uniform(2.5, 5.0)
    campaigns: list[Campaign] = []

    def add(first: int, bad: str | None) -> None:
        spread = np.exp(rng.normal(0, 0.2, 2))
        rates = {
            "bounce": float(np.clip(usual["bounce"] * spread[0], 0.002, 0.02)),
            "complaint": float(np.clip(usual["complaint"] * spread[1], 0.00005, 0.0002)),
        }
        exponent = rng.uniform(1.7, 5.7) if bad else np.clip(rng.normal(scale, 0.7), 1.7, 5.7)
        if bad == "bounce":
            rates[bad] = 10 ** rng.uniform(math.log10(0.06), math.log10(0.5))
        elif bad == "complaint":
            rates[bad] = 10 ** rng.uniform(math.log10(0.0008), -2)
        campaign = Campaign(
            name, str(rng.choice(channels)), number + len(campaigns), first, int(10**exponent), rates, bad
        )
        sending = int(rng.choice([2, 6, 24, 72, DAY]))
        tracked = min(WINDOW, polls - first)
        draw_campaign(rng, campaign, tracked, sending=sending, ramp=bool(bad) and rng.random() < 0.5)
        campaigns.append(campaign)

    for first in np.sort(rng.integers(0, polls - 2, int(polls / DAY * rng.uniform(0.3, 0.9)) + 1)):
        add(int(first), None)
    if incident:
        add(int(rng.integers(polls // 4, polls * 3 // 4)), str(rng.choice(["bounce", "complaint"])))
    return campaigns


def channel_totals(campaigns: list[Campaign], polls: int) -> dict[tuple[str, str], dict[str, np.ndarray]]:
    """Return the channel counters by account and channel: from 0, with every increase of every campaign."""
    totals: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for campaign in campaigns:
        mine = totals.setdefault(
            (campaign.account, campaign.channel), {name: np.zeros(polls, dtype=int) for name in CHANNEL_COUNTS}
        )
        for name in CHANNEL_COUNTS:
            seen = campaign.seen[name]
            mine[name][campaign.first : campaign.first + len(seen)] += seen
            mine[name][campaign.first + len(seen) :] += seen[-1]
    return totals


def write_openmetrics(path: Path, campaigns: list[Campaign], polls: int) -> None:
    """Write what the exporter would have shown, one sample of every series at every poll."""

    def lines(name: str, labels: str, values: np.ndarray, first: int) -> Iterator[str]:
        at = START + first * POLL
        return (f"{name}{{{labels}}} {value} {at + i * POLL}\n" for i, value in enumerate(values.tolist()))

    totals = channel_totals(campaigns, polls)
    with path.open("w") as out:
        for name in COUNTS:
            out.write(f"# TYPE intarget_campaign_{name} counter\n")
            for c in campaigns:
                labels = (
                    f'account="{c.account}",campaign_id="{c.number}",channel="{c.channel}",job="j",instance="i"'
                )
                out.writelines(lines(f"intarget_campaign_{name}_total", labels, c.seen[name], c.first))
        out.write("# TYPE intarget_campaign_start_timestamp_seconds gauge\n")
        for c in campaigns:
            labels = (
                f'account="{c.account}",campaign_id="{c.number}",channel="{c.channel}",job="j",instance="i"'
            )
            started = np.full(len(c.seen["messages_sent"]), START + c.first * POLL)
            out.writelines(lines("intarget_campaign_start_timestamp_seconds", labels, started, c.first))
        for name in CHANNEL_COUNTS:
            out.write(f"# TYPE intarget_channel_{name} counter\n")
            for (account, channel), counts in totals.items():
                labels = f'account="{account}",channel="{channel}",job="j",instance="i"'
                out.writelines(lines(f"intarget_channel_{name}_total", labels, counts[name], 0))
        out.write("# EOF\n")


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    files = ("limits.yaml", "recording.yaml", "alerts.yaml")
    groups = [group for file in files for group in yaml.safe_load((RULES / file).read_text())["groups"]]
    return tuple(rule for group in groups for rule in group["rules"])


def data_alerts() -> list[dict[str, Any]]:
    """Return the alert rules on sendings; the replay has neither exporter nor conversions."""
    return [r for r in _rules() if "alert" in r and r["labels"]["signal"] not in ("exporter", "conversion")]


def stages() -> list[list[dict[str, Any]]]:
    """Return the recording rules that the alerts need, so that each stage uses only stages before it."""
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for rule in _rules():
        if "record" in rule:
            by_name[rule["record"]].append(rule)

    def used(expr: str) -> set[str]:
        return set(re.findall(r"\w+:\w+:\w+", expr)) & set(by_name)

    needed: set[str] = set()
    todo = {name for rule in data_alerts() for name in used(rule["expr"])}
    while todo:
        needed |= todo
        todo = {other for name in todo for rule in by_name[name] for other in used(rule["expr"])} - needed
    result: list[list[dict[str, Any]]] = []
    done: set[tuple[str, str]] = set()
    rest = [rule for name in sorted(needed) for rule in by_name[name]]

    def key(rule: dict[str, Any]) -> tuple[str, str]:
        return (rule["record"], str(rule.get("labels")))

    while rest:
        # A rule may use another of its own name, as the warning limit follows the critical one.
        waiting = {rule["record"] for rule in rest}
        ready = [r for r in rest if not used(r["expr"]) & waiting]
        if not ready:
            ready = [r for r in rest if used(r["expr"]) & waiting == {r["record"]}]
        result.append(ready)
        done |= {key(r) for r in ready}
        rest = [r for r in rest if key(r) not in done]
    return result


def record(prometheus: Prometheus, end: int) -> None:
    """Evaluate the recording rules at every poll, stage by stage, into blocks of `prometheus`."""
    data = prometheus.folder / "data"
    for number, stage in enumerate(stages()):
        path = prometheus.folder / f"stage{number}.om"
        with path.open("w") as out:
            for name in sorted({rule["record"] for rule in stage}):
                out.write(f"# TYPE {name} gauge\n")
                for rule in (r for r in stage if r["record"] == name):
                    for labels, values in prometheus.series(rule["expr"], START, end, POLL):
                        kept = {**labels, **rule.get("labels", {})}
                        text = ",".join(f'{key}="{value}"' for key, value in kept.items())
                        out.writelines(f"{name}{{{text}}} {value!r} {at}\n" for at, value in values.items())
            out.write("# EOF\n")
        prometheus.stop()
        import_openmetrics(path, data)
        path.unlink()
        prometheus.start()


def _seconds(duration: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    return int(duration[:-1]) * units[duration[-1]]


def episodes(times: list[int], wait: int, keep: int) -> Iterator[tuple[int, int]]:
    """Apply `for` and `keep_firing_for` to the `times` at which an expression held: firing since, until."""
    firing: int | None = None
    pending: int | None = None
    last = 0
    for at in times:
        if firing is not None and at - last > keep + MINUTE:
            yield firing, last + keep
            firing = None
        if firing is None and (pending is None or at - last > MINUTE):
            pending = at
        if firing is None and pending is not None and at - pending >= wait:
            firing = at
        last = at
    if firing is not None:
        yield firing, last + keep


def evaluate(prometheus: Prometheus, end: int) -> list[Firing]:
    """Return everything that fires: the shipped alerts, and the naive ones."""
    rules = [
        (r["alert"], r["labels"]["severity"], r["expr"], r["for"], r.get("keep_firing_for", "0s"))
        for r in data_alerts()
    ]
    for (name, _), expr in NAIVE.items():
        rules.append((name, "critical", f"({expr}) unless campaign:intarget_finished:age_seconds", "1m", "1h"))
    found = []
    for alert, severity, expr, wait, keep in rules:
        for labels, values in prometheus.series(expr, START, end, MINUTE):
            for since, until in episodes(list(values), _seconds(wait), _seconds(keep)):
                found.append(Firing(alert, severity, labels, since, until))
    return found


def evidence(campaign: Campaign, signal: str, limit: float) -> int | None:
    """Return when the lower bound first was at the limit, in seconds; None if it never was."""
    of, events = FIELDS[signal]
    for poll, (n, k) in enumerate(zip(campaign.seen[of].tolist(), campaign.seen[events].tolist(), strict=True)):
        if n and k >= boundary(n, limit, Z):
            return START + (campaign.first + poll) * POLL
    return None


def over_limit(counts: dict[str, np.ndarray], signal: str, polls: int, limit: float) -> np.ndarray:
    """Return at which polls the raw ratio of a window of `polls` is at the limit, with the volume it takes."""
    of, events = FIELDS[signal]

    def window(values: np.ndarray) -> np.ndarray:
        before = np.concatenate([np.zeros(polls, dtype=int), values[:-polls]]) if polls < len(values) else 0
        return values - before

    n, k = window(counts[of]), window(counts[events])
    return np.asarray((k >= EVENTS) & (n >= MINIMUM[signal]) & (k / np.maximum(n, 1) >= limit))


def crossings(over: np.ndarray) -> list[int]:
    """Return the times at which `over` begins to hold."""
    return [START + int(i) * POLL for i in np.flatnonzero(over[1:] & ~over[:-1]) + 1]


@dataclass
class Report:
    """What a replay has found."""

    calm: float = 0.0
    incidents: int = 0
    calm_firings: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    sure: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    sure_found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    all_bad: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    found: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    proven: int = 0
    proven_found: int = 0
    delays: list[float] = field(default_factory=list)
    crossed: int = 0
    crossed_found: int = 0
    slow: int = 0
    warned: int = 0
    account_delays: list[float] = field(default_factory=list)
    unfounded: list[str] = field(default_factory=list)
    fired_in: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    missed: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the tables, as Markdown."""
        lines = [
            f"{self.calm:.1f} calm account-months, {self.incidents} incidents.",
            "",
            "| campaign alert (critical) | bad campaigns found | with power >= 99 % | false per calm month |",
            "|---|---|---|---|",
        ]
        names = [
            ("InTargetCampaignBounceRate", "bounce"),
            ("InTargetCampaignComplaintRate", "complaint"),
            *NAIVE,
        ]
        for name, signal in names:
            found = f"{self.found[name]} of {self.all_bad[signal]}"
            sure = f"{self.sure_found[name]} of {self.sure[signal]}"
            lines.append(f"| {name} | {found} | {sure} | {self._false(name, 'critical')} |")
        delays, late = self.delays or [0.0], self.account_delays or [0.0]
        lines += [
            "",
            f"Evidence over the bound: {self.proven_found} of {self.proven} found.",
            f"Delay after its poll: median {np.median(delays):.0f}, worst {max(delays):.0f} min.",
            f"Crossings of the account's raw limit: {self.crossed_found} of {self.crossed} found.",
            f"Delay after its poll: median {np.median(late):.0f}, worst {max(late):.0f} min.",
            f"Of the {self.slow} that took more than two polls, the warning came first in {self.warned}.",
            f"Critical account alerts without a raw ratio at the limit: {len(self.unfounded)}.",
            "",
            "| other alerts | severity | fired per calm month | incident accounts fired in |",
            "|---|---|---|---|",
        ]
        for rule in data_alerts():
            name, severity = rule["alert"], rule["labels"]["severity"]
            if severity != "critical" or not name.startswith("InTargetCampaign"):
                hit = self.fired_in[name, severity]
                lines.append(f"| {name} | {severity} | {self._false(name, severity)} | {hit} |")
        for title, details in (("Missed:", self.missed), ("Without a raw ratio:", self.unfounded)):
            lines += ["", title, *details] if details else []
        return "\n".join(lines)

    def _false(self, alert: str, severity: str) -> str:
        return f"{self.calm_firings[alert, severity] / self.calm:.3f}" if self.calm else "-"


def judge(report: Report, campaigns: list[Campaign], firings: list[Firing], polls: int) -> None:
    """Compare what fired with what was true."""
    incident = {c.account: c for c in campaigns if c.bad}
    report.calm += len({c.account for c in campaigns} - set(incident)) * polls / DAY / 30
    report.incidents += len(incident)
    by_account: dict[str, list[Firing]] = defaultdict(list)
    for firing in firings:
        by_account[firing.labels["account"]].append(firing)
        if firing.labels["account"] not in incident:
            report.calm_firings[firing.alert, firing.severity] += 1
    for account, bad in incident.items():
        for kind in {(f.alert, f.severity) for f in by_account[account]}:
            report.fired_in[kind] += 1
        _judge_campaign(report, bad, by_account[account])
    for (account, channel), counts in channel_totals(campaigns, polls).items():
        for signal in LIMITS:
            mine = [
                f
                for f in by_account[account]
                if f.alert == f"InTargetAccount{signal.title()}Rate" and f.labels["channel"] == channel
            ]
            for window, length in (("24h", DAY), ("7d", 7 * DAY)):
                here = [f for f in mine if f.labels["window"] == window]
                _judge_account(report, here, counts, signal, length)


def _judge_campaign(report: Report, bad: Campaign, firings: list[Firing]) -> None:
    signal = str(bad.bad)
    of, events = FIELDS[signal]
    total, seen = int(bad.seen[of][-1]), int(bad.seen[events][-1])
    sure = power(total, bad.mean, LIMITS[signal], Z) >= 0.99
    report.all_bad[signal] += 1
    report.sure[signal] += sure
    ours = f"InTargetCampaign{signal.title()}Rate"
    for name in (ours, *(naive for naive, kind in NAIVE if kind == signal)):
        hits = [
            f
            for f in firings
            if f.alert == name and f.severity == "critical" and f.labels["campaign_id"] == str(bad.number)
        ]
        report.found[name] += bool(hits)
        report.sure_found[name] += bool(hits) and sure
        if name == ours:
            proven = evidence(bad, signal, LIMITS[signal])
            if proven is not None:
                report.proven += 1
                report.proven_found += bool(hits)
                if hits:
                    report.delays.append((hits[0].since - proven) / 60)
            if (sure or proven is not None) and not hits:
                report.missed.append(f"- {ours}: {seen} of {total}, rate {bad.rates[signal]:.4f}")


def _judge_account(
    report: Report, firings: list[Firing], counts: dict[str, np.ndarray], signal: str, length: int
) -> None:
    over = over_limit(counts, signal, length, LIMITS[signal])
    warnings = crossings(over_limit(counts, signal, length, LIMITS[signal] * WARNING_SHARE))
    for firing in firings:
        poll = (firing.since - START) // POLL
        if firing.severity == "critical" and not over[max(0, poll - 1) : poll + 1].any():
            report.unfounded.append(f"- {signal}, window of {length} polls, {poll} polls after the start")
    for at in crossings(over):
        report.crossed += 1
        hits = [f for f in firings if f.severity == "critical" and f.since <= at + POLL and f.until >= at]
        report.crossed_found += bool(hits)
        if not hits:
            report.missed.append(f"- account, {signal}, window of {length} polls, crossed at {at}")
            continue
        report.account_delays.append(max(0.0, (hits[0].since - at) / 60))
        before = [t for t in warnings if t <= at]
        if before and at - before[-1] > 2 * POLL and hits[0].since >= at:
            report.slow += 1
            report.warned += any(f.severity == "warning" and f.since < hits[0].since for f in firings)


def replay(*, calm: int, incidents: int, days: int, seed: int, at_once: int = 20) -> Report:
    """Replay `calm` + `incidents` accounts over `days`; `at_once` of them in one Prometheus."""
    rng = np.random.default_rng(seed)
    report = Report()
    polls = days * DAY
    end = START + (polls - 1) * POLL
    kinds = [False] * calm + [True] * incidents
    for first in range(0, len(kinds), at_once):
        print(f"accounts {first} to {min(first + at_once, len(kinds)) - 1}", file=sys.stderr)
        campaigns: list[Campaign] = []
        for i, incident in enumerate(kinds[first : first + at_once]):
            campaigns += draw_account(rng, f"a{first + i}", polls, incident=incident, number=1 + len(campaigns))
        with tempfile.TemporaryDirectory(prefix="intarget-replay-") as name:
            folder = Path(name)
            (folder / "data").mkdir()
            write_openmetrics(folder / "exporter.om", campaigns, polls)
            import_openmetrics(folder / "exporter.om", folder / "data")
            (folder / "exporter.om").unlink()
            options = (
                "--storage.tsdb.retention.time=100y",
                "--query.lookback-delta=6m",  # the samples are 5 m apart
                "--query.max-samples=200000000",
            )
            with Prometheus(folder, options=options) as prometheus:
                record(prometheus, end)
                judge(report, campaigns, evaluate(prometheus, end), polls)
    return report


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calm", type=int, default=100, help="calm accounts")
    parser.add_argument("--incidents", type=int, default=60, help="accounts with one bad campaign")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=20, help="accounts in one Prometheus")
    args = parser.parse_args()
    print(
        replay(
            calm=args.calm, incidents=args.incidents, days=args.days, seed=args.seed, at_once=args.at_once
        ).text()
    )


if __name__ == "__main__":
    main()
