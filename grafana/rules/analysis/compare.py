"""A world as a unit test for promtool: what the arrays say fires has to fire there, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CAMPAIGN_START, CHANNEL_COUNTERS
from grafana.rules.analysis.evaluate import Evaluation, Firing, totals
from grafana.rules.analysis.worlds import FIELDS, STEP, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GROUPS: Final = (
    "limits",
    "channels",
    "campaigns",
    "ratios",
    "conversions",
    "spikes",
    "account",
    "campaign",
    "spike",
    "delivery",
    "campaign-info",
    "exporter",
)
_CHANNEL: Final = 'account="a", channel="email"'
_FIRING: Final = 'ALERTS{alertstate="firing", signal!="exporter", alertname!="InTargetCampaignSendsNothing"}'
_TARGET: Final = 'instance="i", job="j"'


def _series(name: str, labels: str, values: Iterable[float], first: int = 0) -> dict[str, str]:
    absent = [f"_x{first - 1}"] if first else []
    shown = " ".join([*absent, *(f"{value:.0f}" for value in values)])
    return {"series": f"{name}{{{labels}, {_TARGET}}}", "values": shown}


def _inputs(world: World) -> list[dict[str, str]]:
    found = [_series("intarget_up", 'account="a"', [1] * world.steps)]
    for field, values in totals(world).items():
        found.append(_series(CHANNEL_COUNTERS[field].name, _CHANNEL, values.tolist()))
    for campaign in world.campaigns:
        labels = f'{_CHANNEL}, campaign_id="{campaign.number}"'
        for field in FIELDS:
            seen = campaign.seen[field].tolist()
            found.append(_series(CAMPAIGN_COUNTERS[field].name, labels, seen, campaign.first))
        started = [campaign.start * STEP] * len(campaign.seen["sent"])
        found.append(_series(CAMPAIGN_START.name, labels, started, campaign.first))
    return found


def _labels(firing: Firing) -> str:
    labels = {
        "account": "a",
        "alertname": firing.alert,
        "alertstate": "firing",
        "channel": "email",
        "severity": firing.severity,
        "signal": firing.signal,
        **({"campaign_id": str(firing.campaign)} if firing.campaign else {}),
        **({"window": firing.window} if firing.window else {}),
    }
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


def unit_test(world: World, rule_files: Sequence[str], *, every: int = 6) -> dict[str, Any]:
    """Return a file for ``promtool test rules`` that compares what fires at every so many steps."""
    firings = Evaluation(world, minutes=5).firings
    cases = []
    for at in range(every, world.steps, every):
        expected = sorted({_labels(f) for f in firings if f.since <= at < f.until})
        cases.append(
            {
                "expr": _FIRING,
                "eval_time": f"{at * STEP // 60}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
            }
        )
    return {
        "rule_files": list(rule_files),
        "evaluation_interval": "5m",
        "group_eval_order": [f"intarget-{name}" for name in GROUPS],
        "tests": [{"interval": "5m", "input_series": _inputs(world), "promql_expr_test": cases}],
    }
