"""A model of Alertmanager: which notifications the example configuration makes of alerts.

Grouping, waits, inhibition, repetition and `send_resolved` as Alertmanager 0.25 has them: a group is notified
when something fires that its last notification hadn't, when something has ended that is to be told, or when it
is time to repeat. A test holds it against a real one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from grafana.rules.analysis.worlds import STEP

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from grafana.rules.analysis.evaluate import Firing

CONFIG: Final = Path(__file__).parents[1] / "alertmanager.yml"
_MATCHER: Final = re.compile(r'(\w+)(=~|!=|=)"(.*)"')
_UNITS: Final = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Notification:
    """What was sent to whom, at which second; alerts are numbered as they were given."""

    at: int
    receiver: str
    firing: frozenset[int]
    resolved: frozenset[int]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert with its labels, from one second to another."""

    labels: Mapping[str, str]
    since: int
    until: int


def matches(labels: Mapping[str, str], matchers: Iterable[str]) -> bool:
    """Return whether labels satisfy all matchers; a label that isn't there is empty."""
    for matcher in matchers:
        parsed = _MATCHER.fullmatch(matcher)
        if parsed is None:
            raise ValueError(matcher)
        value = labels.get(parsed[1], "")
        found = re.fullmatch(parsed[3], value) is not None if parsed[2] == "=~" else value == parsed[3]
        if found == (parsed[2] == "!="):
            return False
    return True


@cache
def configuration() -> Any:  # noqa: ANN401 (what the YAML file holds)
    """Return the example configuration."""
    return yaml.safe_load(CONFIG.read_text())


def inhibits(source: Mapping[str, str], target: Mapping[str, str]) -> bool:
    """Decide as Alertmanager does whether the firing `source` inhibits `target`."""
    for rule in configuration()["inhibit_rules"]:
        both = [
            (matches(x, rule["source_matchers"]), matches(x, rule["target_matchers"])) for x in (source, target)
        ]
        if all(a and b for a, b in both):
            continue
        same = all(source.get(name, "") == target.get(name, "") for name in rule.get("equal", []))
        if both[0][0] and both[1][1] and same:
            return True
    return False


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * _UNITS[duration[-1]]


def route(labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the route of an alert, with what it inherits."""
    root = configuration()["route"]
    for index, child in enumerate(root["routes"]):
        if matches(labels, child["matchers"]):
            return {**root, **child, "index": index}
    return {**root, "index": -1}


@dataclass(slots=True)
class _Group:
    route: dict[str, Any]
    next_flush: int
    told: frozenset[int] = frozenset()
    told_resolved: frozenset[int] = frozenset()
    told_at: int = -(10**12)
    members: list[int] = field(default_factory=list)


def notifications(alerts: Sequence[Alert]) -> list[Notification]:
    """Return all notifications, in the order of time."""
    if not alerts:
        return []
    groups: dict[tuple[Any, ...], _Group] = {}
    for number, alert in enumerate(alerts):
        way = route(alert.labels)
        key = (way["index"], *(alert.labels.get(name, "") for name in way["group_by"]))
        groups.setdefault(key, _Group(way, 0)).members.append(number)
    inhibitors = [
        [a for a in alerts if a is not target and _inhibits(_key(a.labels), _key(target.labels))]
        for target in alerts
    ]
    result: list[Notification] = []
    for group in groups.values():
        result += _flushes(group, alerts, inhibitors)
    return sorted(result, key=lambda one: one.at)


def _resolving(receiver: str) -> bool:
    (found,) = (r for r in configuration()["receivers"] if r["name"] == receiver)
    (config,) = (c for kind, c in found.items() if kind != "name")
    return bool(config[0]["send_resolved"])


def _key(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


@cache
def _inhibits(source: tuple[tuple[str, str], ...], target: tuple[tuple[str, str], ...]) -> bool:
    return inhibits(dict(source), dict(target))


def _flushes(
    group: _Group, alerts: Sequence[Alert], inhibitors: Sequence[Sequence[Alert]]
) -> list[Notification]:
    def muted(number: int) -> bool:
        return any(a.since <= at < a.until for a in inhibitors[number])

    wait, interval, repeat = (
        _seconds(group.route[k]) for k in ("group_wait", "group_interval", "repeat_interval")
    )
    receiver = group.route["receiver"]
    resolving = _resolving(receiver)
    result: list[Notification] = []
    at, members = 0, sorted(group.members, key=lambda n: alerts[n].since)
    pending = set(members)
    held: set[int] = set()
    while pending or held:
        if not held:
            at = max(at, min(alerts[n].since for n in pending) + wait)
        held |= {n for n in pending if alerts[n].since <= at}
        pending -= held
        firing = frozenset(n for n in held if at < alerts[n].until and not muted(n))
        ended = {n for n in held if at >= alerts[n].until}
        resolved = frozenset(n for n in ended if not muted(n))
        news = not firing <= group.told if firing else bool(group.told)
        if not news and firing:
            news = resolving and not resolved <= group.told_resolved
            news = news or at - group.told_at >= repeat
        if news and (firing or (resolving and resolved & group.told)):
            result.append(Notification(at, receiver, firing, resolved if resolving else frozenset()))
        if news:
            group.told, group.told_resolved, group.told_at = firing, resolved, at
        held -= ended
        at += interval
    return result


def of_firings(firings: Sequence[Firing]) -> list[Notification]:
    """Return the notifications of what fired in one world; its account and channel are the same for all."""
    alerts = [
        Alert(
            {
                "alertname": f.alert,
                "severity": f.severity,
                "signal": f.signal,
                "account": "a",
                "channel": "email",
                **({"campaign_id": str(f.campaign)} if f.campaign else {}),
                **({"window": f.window} if f.window else {}),
            },
            f.since * STEP + 60,
            f.until * STEP + 60,
        )
        for f in firings
    ]
    return notifications(alerts)
