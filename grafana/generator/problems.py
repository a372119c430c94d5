"""Firing alerts in words: one row for each problem, with its value, its limit, and where to read on."""

from __future__ import annotations

from typing import Final

from grafana.generator.dashboard import ALERT_KEY, alert_matchers
from grafana.generator.panels import (
    BAD,
    GOOD,
    PLAIN,
    WARN,
    Json,
    background,
    by_name,
    campaign_link,
    columns,
    link,
    stat,
    table,
    target,
    unknown,
    value_names,
    width,
)
from grafana.generator.promql import CAMPAIGN_KEY, CHANNEL_KEY, CHANNELS, TOP, limit, names, newest, select
from grafana.generator.signals import LINKS

SEVERITIES: Final = {"3": ("critical", BAD), "2": ("warning", WARN), "1": ("info", PLAIN)}
PROBLEMS: Final = {
    "InTargetAccountBounceRate": "Bounce rate of the channel is near or over the limit",
    "InTargetAccountComplaintRate": "Complaint rate of the channel is near or over the limit",
    "InTargetCampaignBounceRate": "Campaign surely bounces too much",
    "InTargetCampaignComplaintRate": "Campaign surely gets too many complaints",
    "InTargetBounceSpike": "Bounces have jumped",
    "InTargetComplaintSpike": "Complaints have jumped",
    "InTargetUnsubscribeSpike": "Unsubscribes have jumped",
    "InTargetFailureSpike": "Failures have jumped",
    "InTargetDeliveryCollapse": "Delivery has collapsed",
    "InTargetSendingStopped": "Sending has stopped",
    "InTargetCampaignSendsNothing": "Campaign sends nothing",
    "InTargetCampaignConversionsLow": "Campaign converts less than others",
    "InTargetExporterAbsent": "No exporter is scraped",
    "InTargetExporterDown": "Exporter is down",
    "InTargetExporterTargetDown": "One exporter of several is down",
    "InTargetShardMissing": "A shard of the exporter is missing",
    "InTargetTokenRejected": "Access token is refused",
    "InTargetPollsFailing": "Polls fail",
    "InTargetDataStale": "Data are stale",
    "InTargetResultsIncomplete": "Answers are incomplete",
    "InTargetSchemaDrift": "Answers have unknown fields",
    "InTargetInvalidValues": "Values can't be read",
    "InTargetCorrections": "InTarget has lowered numbers",
    "InTargetStateNotSaved": "State can't be saved",
    "InTargetCampaignsDropped": "Campaigns are left out",
    "InTargetConfigReloadFailed": "Configuration can't be loaded",
    "InTargetClockWrong": "Clock is wrong",
}
"""What each alert says, in a few words."""
_RATES: Final = {
    "InTargetAccountBounceRate": ("bounce", "channel:intarget_bounce:ratio_increase24h", CHANNEL_KEY),
    "InTargetAccountComplaintRate": ("complaint", "channel:intarget_complaint:ratio_increase24h", CHANNEL_KEY),
    "InTargetCampaignBounceRate": ("bounce", "campaign:intarget_bounce:ratio", CAMPAIGN_KEY),
    "InTargetCampaignComplaintRate": ("complaint", "campaign:intarget_complaint:ratio", CAMPAIGN_KEY),
}
"""The signal, the recorded rate and its labels, of each alert about a limit."""


def _firing(*matchers: str) -> str:
    return select("ALERTS", 'alertstate="firing"', *matchers, *alert_matchers("account", "channel"))


def alerts_firing() -> Json:
    """Return the number of problems; without the rules in this Prometheus it isn't known, and not 0."""
    urgent = _firing('severity=~"critical|warning"')
    evaluated = "0 * max(intarget:limit_default:warning_share)"
    return stat(
        "Alerts firing",
        """Critical alerts and warnings of this project's rules that fire now for the chosen accounts and
        channels, each problem counted once. Where these rules aren't loaded into Prometheus, nothing is
        known.""",
        [target(f"count(max by ({ALERT_KEY}) ({urgent})) or {evaluated}", "firing", instant=True)],
        unit="none",
        decimals=0,
        no_value="No rules loaded",
        steps=((None, GOOD), (1, BAD)),
        links=[link("Alerts in Prometheus", "${prometheus_url}/alerts", tab=True)],
    )


def _rate(alert: str) -> str:
    _, record, key = _RATES[alert]
    firing = f'ALERTS{{alertstate="firing", alertname="{alert}"}}'
    rate = newest(key, select(record, CHANNELS))
    return f'label_replace({rate}, "alertname", "{alert}", "", "") and on ({key}) {firing}'


def _limit(alert: str) -> str:
    signal, _, _ = _RATES[alert]
    return f'label_replace({newest(CHANNEL_KEY, limit(signal, CHANNELS))}, "alertname", "{alert}", "", "")'


def _queries() -> dict[str, str]:
    severities = " or ".join(
        f'{rank} * {_firing(f"""severity="{name}" """.strip())}' for rank, (name, _) in SEVERITIES.items()
    )
    severity = f"max by ({ALERT_KEY}) ({severities})"
    since = select("ALERTS_FOR_STATE", *alert_matchers("account", "channel"))
    key = f"alertname, {CHANNEL_KEY}"
    return {
        "severity": f"topk({TOP}, {severity})",
        "since": f"1000 * min by ({ALERT_KEY}) ({since} and on ({ALERT_KEY}) {_firing()})",
        "value": "\nor\n".join(map(_rate, _RATES)),
        "limit": "\nor\n".join(f"{_limit(alert)} and on ({key}) {_firing()}" for alert in _RATES),
        "name": f"{names(CHANNELS)} and on ({CAMPAIGN_KEY}) {_firing()}",
    }


def _links() -> list[Json]:
    search = link(
        "Value, summary and what to do, in Prometheus",
        "${prometheus_url}/alerts?search=${__value.raw}",
        tab=True,
    )
    if not LINKS.runbook.startswith("http"):
        return [search]
    return [search, link("Runbook", f"{LINKS.runbook}#${{__value.raw}}", tab=True)]


def _looks() -> list[Json]:
    words = {alert: (text, PLAIN) for alert, text in PROBLEMS.items()}
    return [
        by_name(
            "Severity",
            unit="none",
            **background(),
            **width(105),
            custom__align="left",
            mappings=value_names(SEVERITIES),
        ),
        by_name(
            "Problem",
            custom__minWidth=260,
            links=_links(),
            mappings=value_names(words),
        ),
        by_name("Campaign", links=[campaign_link("now-2d")]),
        by_name("Value", noValue="", mappings=[unknown("")], **width(80)),
        by_name("Limit", noValue="", mappings=[unknown("")], **width(80)),
        by_name("Since", unit="dateTimeFromNow", **width(130)),
    ]


def firing_table() -> Json:
    """Return the table of what fires now, the most severe first."""
    return table(
        "Firing alerts",
        """What this project's rules report now, each problem once with its highest severity; for rates, the
        value of the last 24 hours (of a campaign: over its life) and the limit. A problem leads to Prometheus,
        where its summary and runbook stand; a campaign leads to its dashboard. Nothing is shown where the rules
        aren't loaded.""",
        columns(_queries()),
        {
            "Value #severity": "Severity",
            "alertname": "Problem",
            "account": "Account",
            "channel": "Channel",
            "campaign": "Campaign",
            "Value #value": "Value",
            "Value #limit": "Limit",
            "Value #since": "Since",
            "campaign_id": "",
        },
        sort=("Severity", True),
        unit="percentunit",
        decimals=None,
        no_value="Nothing is firing, or no rules are loaded",
        overrides=_looks(),
    )
