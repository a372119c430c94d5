"""The frame of a dashboard: variables, annotations, links to the others, and the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from grafana.generator import promql
from grafana.generator.panels import BAD, DATASOURCE, PLAIN, Json, prose
from grafana.generator.promql import ACCOUNT, AT_END, CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION: Final = 39
COLUMNS: Final = 24
TAG: Final = "intarget"
STARTS: Final = 20
"""Campaigns whose starts are drawn."""
_EVERYTHING: Final = {"selected": True, "text": ["All"], "value": ["$__all"]}


@dataclass(frozen=True, slots=True)
class Row:
    """Panels side by side, each with its width; a row of the grid with a heading above, if it has a title."""

    height: int
    panels: Sequence[tuple[int, Json]]
    title: str = ""


def build(
    *,
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Json],
    annotations: Sequence[Json],
    rows: Sequence[Row],
    since: str,
) -> Json:
    """Return a dashboard's model. `since` is where its time range begins by default."""
    return {
        "annotations": {"list": [_built_in_annotations(), *annotations]},
        "description": prose(description),
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": _links(),
        "liveNow": False,
        "panels": _place(rows),
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": [datasource_variable(), *variables, *_addresses()]},
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
        "weekStart": "",
    }


def _place(rows: Sequence[Row]) -> list[Json]:
    placed: list[Json] = []
    y = 0
    for row in rows:
        if row.title:
            heading = {"collapsed": False, "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y}, "panels": []}
            placed.append({"type": "row", "title": row.title, **heading})
            y += 1
        x = 0
        for width, panel in row.panels:
            placed.append({**panel, "gridPos": {"h": row.height, "w": width, "x": x, "y": y}})
            x += width
        y += row.height
    return [{"id": number, **panel} for number, panel in enumerate(placed, 1)]


def _links() -> list[Json]:
    """Return links to the other dashboards, and to the programs behind them."""
    tooltip = "The other dashboards, with the same accounts, channels and time range"
    look = {"asDropdown": False, "icon": "external link", "tags": [], "tooltip": ""}
    others = {**look, "title": "InTarget", "type": "dashboards", "tags": [TAG], "tooltip": tooltip, "url": ""}
    pages = {
        "Exporter": "${exporter_url}/",
        "Alerts": "${prometheus_url}/alerts",
        "Alertmanager": "${alertmanager_url}/",
    }
    return [
        {**others, "includeVars": True, "keepTime": True, "targetBlank": False},
        *(
            {
                **look,
                "title": title,
                "type": "link",
                "url": url,
                "includeVars": False,
                "keepTime": False,
                "targetBlank": True,
            }
            for title, url in pages.items()
        ),
    ]


# Variables


def datasource_variable() -> Json:
    """Return the variable of the Prometheus that is asked."""
    return {
        "current": {"selected": False, "text": "default", "value": "default"},
        "hide": 0,
        "includeAll": False,
        "label": "Data source",
        "multi": False,
        "name": "datasource",
        "options": [],
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
        "type": "datasource",
    }


ADDRESSES: Final = {
    "prometheus_url": "http://localhost:9090",
    "alertmanager_url": "http://localhost:9093",
    "exporter_url": "http://localhost:10095",
}
"""Where links to other programs lead, as in compose.yaml; a dashboard's settings change them, or its URL."""


def _addresses() -> list[Json]:
    """Return hidden variables with the addresses of the programs around Grafana."""
    common = {
        "hide": 2,
        "includeAll": False,
        "label": "Address",
        "multi": False,
        "skipUrlSync": False,
        "type": "textbox",
    }
    return [
        {
            **common,
            "name": name,
            "query": url,
            "current": {"selected": True, "text": url, "value": url},
            "options": [],
        }
        for name, url in ADDRESSES.items()
    ]


def _query_variable(name: str, label: str, description: str, query: str, **rest: object) -> Json:
    return {
        "current": {},
        "datasource": DATASOURCE,
        "definition": query,
        "description": prose(description),
        "hide": 0,
        "includeAll": False,
        "label": label,
        "multi": False,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": f"Variable-{name}"},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
        **rest,
    }


def label_variable(name: str, label: str, description: str, selector: str) -> Json:
    """Return a variable of a label's values, of which several or all can be chosen.

    All means every series, even one without the label; `target_variable` is for labels that strangers have too.
    """
    return _query_variable(
        name,
        label,
        description,
        f"label_values({selector}, {name})",
        allValue=".*",
        current=_EVERYTHING,
        includeAll=True,
        multi=True,
    )


def target_variable(name: str, label: str, description: str, selector: str) -> Json:
    """Return a variable of a target's label, of which All means the values that are offered."""
    variable = label_variable(name, label, description, selector)
    del variable["allValue"]
    return variable


def account_variable() -> Json:
    """Return the variable of the accounts."""
    return label_variable("account", "Account", "Accounts by the names in the exporter's file.", "intarget_up")


def channel_variable() -> Json:
    """Return the variable of the chosen accounts' channels."""
    selector = promql.select("intarget_tracked_campaigns", ACCOUNT)
    return label_variable("channel", "Channel", "Channels of these accounts.", selector)


def _described() -> str:
    """Return 1 for each campaign and channel with the label `campaign`: its date of start, channel and name."""
    start = promql.started(CHANNELS)
    date = f"year({start}) * 10000 + month({start}) * 100 + day_of_month({start})"
    days = f'count_values by ({promql.CAMPAIGN_KEY}) ("day", {date})'
    dashes = f'label_replace({days}, "day", "$1-$2-$3", "day", "(....)(..)(..)")'
    return f'label_join({promql.with_name(dashes, CHANNELS)}, "campaign", " · ", "day", "channel", "campaign")'


_OFFERED: Final = '/^\\{campaign="(?<text>[\\s\\S]*)",campaign_id="(?<value>[^"]*)"\\} /'
"""Label values are written as they are, quotes too: the text comes first, and takes all up to the last id."""


def campaign_variable() -> Json:
    """Return the variable of the campaign that is shown: the one that sent most in the last day comes first."""
    start = promql.started(CHANNELS)
    sent = promql.brought("campaign:intarget_messages_sent:max", "1d", CHANNELS)
    rank = f"(({sent}) or 0 * {start}) * 1e10 + on ({promql.CAMPAIGN_KEY}) {start}"
    described = f"({rank}) * on ({promql.CAMPAIGN_KEY}) group_left (campaign) {_described()}"
    return _query_variable(
        "campaign",
        "Campaign",
        "Start, channel and title. Those that sent most within the last day come first, then the newest.",
        f"query_result(sort_desc(max by (campaign, campaign_id) (topk by (campaign_id) (1, {described}))))",
        regex=_OFFERED,
        sort=0,
    )


def campaigns_variable() -> Json:
    """Return the variable of several campaigns: shown by name, newest first, chosen by id."""
    named = promql.with_name(promql.started(CHANNELS), CHANNELS)
    return _query_variable(
        "campaigns",
        "Campaigns",
        "Campaigns that are tracked, newest first; the value is the campaign's id.",
        f"query_result(sort_desc(max by (campaign, campaign_id) ({named})))",
        regex=_OFFERED,
        sort=0,
        allValue=".*",
        current=_EVERYTHING,
        includeAll=True,
        multi=True,
    )


def window_variable() -> Json:
    """Return the variable of the window over which an account's rates are taken."""
    choices = ("24h", "7d")
    return {
        "current": {"selected": True, "text": choices[0], "value": choices[0]},
        "description": "Over which time the rates of accounts and channels are taken.",
        "hide": 0,
        "includeAll": False,
        "label": "Rates over",
        "multi": False,
        "name": "window",
        "options": [{"selected": choice == choices[0], "text": choice, "value": choice} for choice in choices],
        "query": ",".join(choices),
        "skipUrlSync": False,
        "type": "custom",
    }


# Annotations


def _built_in_annotations() -> Json:
    return {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _annotation(name: str, colour: str, expr: str, *, enable: bool, title: str, text: str, tags: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": enable,
        "expr": expr,
        "hide": False,
        "iconColor": colour,
        "name": name,
        "step": "1m",
        "tagKeys": tags,
        "textFormat": text,
        "titleFormat": title,
        "useValueForTime": True,
    }


def campaign_starts(*matchers: str, enable: bool = True) -> Json:
    """Return an annotation at the start of the largest campaigns of the time range.

    The value is the time in milliseconds. All of it is taken at the range's end, so that it costs one
    evaluation and is bounded however many campaigns there are.
    """
    key = promql.CAMPAIGN_KEY
    start = promql.started(*matchers, at=AT_END)
    largest = (
        f"topk({STARTS}, {promql.count('sent', *matchers, at=AT_END)} and on ({key}) {start} >= $__from / 1000)"
    )
    expr = f"1000 * {promql.with_name(f'{start} and on ({key}) {largest}', *matchers, at=AT_END)}"
    text = "{{channel}} of {{account}}, id {{campaign_id}}"
    name = "Campaign starts"
    return _annotation(
        name, PLAIN, expr, enable=enable, title="{{campaign}}", text=text, tags="account,channel"
    )


def alert_matchers(*labels: str) -> tuple[str, ...]:
    """Return matchers of our alerts; an alert without one of these labels is about all its values."""
    chosen = {"account": "${account:regex}", "channel": "${channel:regex}", "campaign_id": "${campaign:regex}"}
    return ('alertname=~"InTarget.+"', *(f"{label}=~`(?:{chosen[label]})|`" for label in labels))


ALERT_KEY: Final = "alertname, account, channel, campaign_id"


def firing_alerts(*labels: str) -> Json:
    """Return an annotation where a firing alert's condition began to hold.

    Taken from ALERTS_FOR_STATE, whose value is that time: the annotations' step, which Grafana widens with
    the time range, moves and loses none.
    """
    key = f"{ALERT_KEY}, severity"
    since = promql.select("ALERTS_FOR_STATE", *alert_matchers(*labels))
    firing = promql.select("ALERTS", 'alertstate="firing"', *alert_matchers(*labels))
    began = (
        f"1000 * max by ({key}) (last_over_time({since}[$__interval]))"
        f" and on ({key}) last_over_time({firing}[$__interval])"
    )
    # A label that an alert lacks would leave its own name in the text.
    expr = f'label_join({began}, "about", " ", "account", "channel", "campaign_id")'
    text = "{{severity}}: {{about}}"
    return _annotation(
        "Firing alerts", BAD, expr, enable=True, title="{{alertname}}", text=text, tags="severity"
    )
