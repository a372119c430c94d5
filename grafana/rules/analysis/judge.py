"""What a perfect observer would have known, and how the alerts compare with him."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from grafana.generator import signals
from grafana.rules.analysis import notify
from grafana.rules.analysis.evaluate import (
    Evaluation,
    Firing,
    earlier,
    episodes,
    increase,
    lower_bound,
    naive,
    totals,
)
from grafana.rules.analysis.worlds import DAY, DELAYS, HOUR, KINDS, STEP, WARM_UP, Campaign, World, draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

Z: Final = signals.CERTAINTY.campaign
PREVIOUS_Z: Final = 3.5
"""What 0.1.0 wanted of a campaign."""
_HEAD: Final = (
    "| what happens | known to a perfect observer | found | 95 % | delay after him: median, worst (min) "
    "| notifications, 1st day / 4 days (median) | 0.1.0 found, median | naive found |"
)
_LEAST_UNDELIVERED: Final = 30
ONE_CAMPAIGN: Final = KINDS[:7]
"""Kinds in which one campaign is bad, and nothing else."""
COMPARED: Final = KINDS[:9]
"""Kinds of which the other rules that are replayed could know: those of bounces and complaints."""
_AFTER: Final = 36 * HOUR


def previous(world: World) -> list[Firing]:
    """Return 0.1.0's critical alerts on bounces and complaints: raw ratios, bounds over a campaign's life."""
    channel, found = totals(world), []
    for ratio in signals.LIMITED:
        for window in (DAY, 7 * DAY):
            events, messages = (
                increase(channel[ratio.events], window),
                increase(channel[ratio.messages], window),
            )
            over = events >= ratio.limit * np.maximum(messages, 1)
            held = over & (events >= signals.LEAST_EVENTS) & (messages >= ratio.least_messages)
            found += [Firing("account", "critical", ratio.signal, a, b) for a, b in episodes(held, 0, HOUR)]
        for c in world.campaigns:
            events, messages = (c.seen[f].astype(float) for f in (ratio.events, ratio.messages))
            sent = c.seen["sent"].astype(float)
            age = np.arange(c.first, c.first + len(sent)) - c.start
            idle = (age > 2 * DAY) & ~(sent > earlier(sent, DAY)) & ~(sent > earlier(sent, 2 * HOUR))
            held = (lower_bound(events, PREVIOUS_Z) >= ratio.limit * np.maximum(messages, 1)) & ~idle
            found += [
                Firing("campaign", "critical", ratio.signal, a + c.first, b + c.first, c.number)
                for a, b in episodes(held, 0, HOUR)
            ]
    return found


RULES: Final[dict[str, Callable[[World], list[Firing]]]] = {
    "shipped": lambda world: Evaluation(world).firings,
    "0.1.0": previous,
    "naive": lambda world: naive(world, least=False),
    "naive, from 100 or 1000 messages on": lambda world: naive(world, least=True),
}


def _first(held: NDArray[np.bool_]) -> int | None:
    return int(np.argmax(held)) if held.any() else None


def _bound_over(
    campaign: Campaign, events: NDArray[np.int64], messages: NDArray[np.int64], limit: float
) -> int | None:
    held = (lower_bound(events.astype(float), Z) >= limit * np.maximum(messages, 1)) & (messages > 0)
    at = _first(held)
    return None if at is None else at + campaign.first


def _at(world: World, name: str, step: int) -> int:
    """Return what all campaigns together have counted until a step."""
    return sum(int(c.seen[name][step - c.first]) for c in world.campaigns if c.first <= step)


def _decayed(world: World, window: int) -> int | None:
    """Return when the campaigns that started within a window are surely over the limit together."""
    events, messages = np.zeros(world.steps), np.zeros(world.steps)
    for campaign in world.bad:
        if campaign.suspect:
            seen = slice(campaign.first, campaign.first + window)
            for total, part in zip((events, messages), campaign.suspect, strict=True):
                total[seen] += part[:window]
    return _first((messages > 0) & (lower_bound(events, Z) >= signals.BOUNCE.limit * messages))


def known(world: World) -> int | None:
    """Return the step at which a perfect observer knows it, who can tell bad messages from the others.

    He sees what the exporter shows and knows which message caused which event; he needs the same certainty as
    the campaign alert. None if that is never reached.
    """
    kind = world.kind
    if kind.startswith("delivery"):
        sent = totals(world)["sent"]
        return _first(
            (np.arange(world.steps) >= world.onset + HOUR // 2)
            & (sent - sent[world.onset] >= _LEAST_UNDELIVERED)
        )
    if kind == "sending stops":
        return world.onset
    if kind == "all lists decay":
        return min(
            (at for at in (_decayed(world, DAY), _decayed(world, 7 * DAY)) if at is not None), default=None
        )
    (campaign,) = world.bad
    seen = campaign.seen
    result = None
    if kind == "unsubscribes":
        usual = _at(world, "unsubscribed", world.onset) / _at(world, "delivered", world.onset)
        limit = max(2.5 * usual, usual + 0.005)
        result = _bound_over(campaign, seen["unsubscribed"], seen["delivered"], limit)
    elif kind == "failures":
        result = _bound_over(campaign, seen["failed"], seen["sent"] + seen["failed"], 0.033)
    elif campaign.suspect is not None:
        result = _bound_over(campaign, *campaign.suspect, signals.LIMITS[world.signal].limit)
    return result


def hits(world: World, firings: Iterable[Firing]) -> list[Firing]:
    """Return the alerts that tell of what happened, loudly enough."""
    numbers = {campaign.number for campaign in world.bad}
    loud = {"unsubscribes", "failures", "sending stops"}
    one = world.kind in (*ONE_CAMPAIGN, "second bad campaign")
    return sorted(
        (
            f
            for f in firings
            if f.signal == world.signal
            and (f.severity == "critical" or world.kind in loud)
            and (f.campaign in numbers if one else True)
            and world.onset <= f.until
        ),
        key=lambda f: f.since,
    )


@dataclass(slots=True)
class Tally:
    """What was found of one kind, by one set of rules. Delays in minutes."""

    known: int = 0
    found: int = 0
    delays: list[float] = field(default_factory=list)
    first_day: list[int] = field(default_factory=list)
    four_days: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Calm:
    """What fired where nothing was wrong."""

    months: float = 0.0
    alerts: Counter[tuple[str, str]] = field(default_factory=Counter)
    notified: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """Everything that a run found."""

    kinds: dict[tuple[str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    calm: dict[tuple[str, str], Calm] = field(default_factory=lambda: defaultdict(Calm))
    still_on: Counter[str] = field(default_factory=Counter)
    taken_back: int = 0


def _sent(firings: Sequence[Firing], since: int, until: int) -> int:
    told = notify.of_firings(firings)
    return sum(n.receiver != "log" and since * STEP <= n.at < until * STEP for n in told)


def judge_calm(report: Report, world: World, delays: str, days: int) -> None:
    """Count what fires in a calm world, after the warm-up."""
    for name, rules in RULES.items():
        fired = [f for f in rules(world) if f.until > WARM_UP]
        calm = report.calm[name, delays]
        calm.months += days / 30
        calm.alerts.update((f.alert, f.severity) for f in fired if f.since >= WARM_UP)
        if name == "shipped":
            calm.notified.append(_sent(fired, WARM_UP, world.steps))


def judge_incident(report: Report, world: World, seed: int) -> None:
    """Compare what fires with what a perfect observer knows."""
    at = known(world)
    for name, rules in RULES.items():
        fired = [f for f in rules(world) if f.until > WARM_UP]
        told = hits(world, fired)
        if world.kind == "bounces taken back":
            if world.taken_back is None:
                raise ValueError(world.kind)
            back = world.bad[0].first + int(np.argmax(world.taken_back > 0)) + 2 * HOUR
            report.still_on[name] += any(f.since <= back < f.until for f in told)
            continue
        tally = report.kinds[world.kind, name]
        if at is not None:
            tally.known += 1
            first = next((f for f in told if f.since <= at + _AFTER and f.until > world.onset), None)
            if first is None:
                tally.missed.append(seed)
            else:
                tally.found += 1
                tally.delays.append(max(0, first.since - at) * STEP / 60 + 1)
        if name == "shipped":
            tally.first_day.append(_sent(fired, world.onset, world.onset + DAY))
            tally.four_days.append(_sent(fired, world.onset, world.onset + 4 * DAY))
    report.taken_back += world.kind == "bounces taken back"


def run(*, calm: int, incidents: int, seed: int, kinds: Sequence[str] = KINDS, days: int = 30) -> Report:
    """Judge `calm` worlds of `days` and `incidents` of each kind; half of them with each set of delays."""
    report = Report()
    sets = list(DELAYS.values())
    for i in range(calm):
        delays = sets[i % 2]
        judge_calm(report, draw(seed + i, "calm", delays, days), delays.name, days)
    for k, kind in enumerate(kinds):
        for i in range(incidents):
            number = seed + 10_000 * (k + 1) + i
            judge_incident(report, draw(number, kind, sets[i % 2], 7), number)
    return report


# Confidence intervals and the tables


def share_interval(found: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a proportion."""
    if not of:
        return 0.0, 1.0
    p, spread = found / of, z * math.sqrt(found * (of - found) / of + z * z / 4)
    low, high = (p * of + z * z / 2 - spread) / (of + z * z), (p * of + z * z / 2 + spread) / (of + z * z)
    return low, high


def rate_interval(events: int, months: float, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a rate of which so many events were seen (Wilson and Hilferty)."""
    low = lower_bound(np.array([float(events)]), z)[0] if events else 0.0
    more = events + 1
    high = more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3
    return low / months, high / months


def table(report: Report) -> str:
    """Return the tables, as Markdown."""
    lines = [
        _HEAD,
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        tally = report.kinds.get((kind, "shipped"))
        if tally is None:
            continue
        old, plain = report.kinds[kind, "0.1.0"], report.kinds[kind, "naive"]
        low, high = share_interval(tally.found, tally.known)
        late = f"{median(tally.delays):.0f}, {max(tally.delays):.0f}" if tally.delays else "-"
        median_old = f"{median(old.delays):.0f}" if old.delays else "-"
        others = f"{old.found}, {median_old} | {plain.found}" if kind in COMPARED else "- | -"
        lines.append(
            f"| {kind} | {tally.known} of {len(tally.first_day)} | {tally.found} | {low:.0%} to "
            f"{high:.0%} | {late} "
            f"| {median(tally.first_day):.0f} / {median(tally.four_days):.0f} "
            f"| {others} |"
        )
    lines += [
        "",
        "| critical in calm accounts, per month | " + " | ".join(RULES) + " |",
        "|---|" + "---|" * len(RULES),
    ]
    for delays in DELAYS:
        cells = []
        for name in RULES:
            calm = report.calm[name, delays]
            count = sum(n for (_, severity), n in calm.alerts.items() if severity == "critical")
            low, high = rate_interval(count, calm.months)
            cells.append(f"{count / calm.months:.2f} ({low:.2f} to {high:.2f})")
        lines.append(
            f"| events {delays} ({report.calm['shipped', delays].months:.0f} months) | {' | '.join(cells)} |"
        )
    lines += ["", "| alert, shipped | severity | per calm month, prompt | late |", "|---|---|---|---|"]
    names = sorted({key for delays in DELAYS for key in report.calm["shipped", delays].alerts})
    for alert, severity in names:
        cells = [
            f"{report.calm['shipped', d].alerts[alert, severity] / report.calm['shipped', d].months:.2f}"
            for d in DELAYS
        ]
        lines.append(f"| {alert} | {severity} | {' | '.join(cells)} |")
    notified = [n for delays in DELAYS for n in report.calm["shipped", delays].notified]
    lines += [
        "",
        f"Notifications in a calm month: median {median(notified):.0f}, mean {np.mean(notified):.2f}, "
        f"worst {max(notified)}."
        if notified
        else "",
    ]
    lines.append(
        f"Critical two hours after InTarget took the bounces back: {report.still_on['shipped']} of "
        f"{report.taken_back}."
    )
    return "\n".join(lines)
