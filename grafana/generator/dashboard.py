"""The frame of a dashboard: variables, annotations, links to the others, and the grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter.exposition import catalogue
from grafana.generator import promql
from grafana.generator.panels import BAD, DATASOURCE, PLAIN, Json
from grafana.generator.promql import ACCOUNT, CHANNELS

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMA_VERSION: Final = 39
COLUMNS: Final = 24
TAG: Final = "intarget"
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
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_links()],
        "liveNow": False,
        "panels": _place(rows),
        "refresh": "1m",
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG],
        "templating": {"list": [datasource_variable(), *variables]},
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


def _links() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "InTarget",
        "tooltip": "The other dashboards, with the same accounts, channels and time range",
        "type": "dashboards",
        "url": "",
    }


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


def _query_variable(name: str, label: str, description: str, query: str, **rest: object) -> Json:
    return {
        "current": {},
        "datasource": DATASOURCE,
        "definition": query,
        "description": description,
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
    return label_variable(
        "account", "Account", "Accounts by the names in the exporter's file.", catalogue.UP.name
    )


def channel_variable() -> Json:
    """Return the variable of the chosen accounts' channels."""
    selector = promql.select(catalogue.TRACKED_CAMPAIGNS.name, ACCOUNT)
    return label_variable("channel", "Channel", "Channels of these accounts.", selector)


def campaign_variable(*, several: bool) -> Json:
    """Return the variable of the campaigns: shown by name, newest first, chosen by id.

    Grafana writes label values into its text as they are, quotes and all; so the name comes first in it, and
    the pattern takes everything up to the last id.
    """
    newest_first = (
        f"sort_desc(max by (campaign, campaign_id) ({promql.with_name(promql.started(CHANNELS), CHANNELS)}))"
    )
    choice: Json = {"allValue": ".*", "current": _EVERYTHING, "includeAll": True, "multi": True}
    # Two names: links between dashboards pass variables by name, and "All" is no campaign to be shown alone.
    return _query_variable(
        "campaigns" if several else "campaign",
        "Campaigns" if several else "Campaign",
        "Campaigns that are tracked, newest first; the value is the campaign's id.",
        f"query_result({newest_first})",
        regex='/^\\{campaign="(?<text>[\\s\\S]*)",campaign_id="(?<value>[^"]*)"\\} /',
        sort=0,
        **(choice if several else {}),
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


def _annotation(name: str, colour: str, expr: str, *, title: str, text: str, tags: str) -> Json:
    return {
        "datasource": DATASOURCE,
        "enable": True,
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


def campaign_starts(*matchers: str) -> Json:
    """Return an annotation at the start of each campaign, the fifty newest ones of the time range.

    The value is the time in milliseconds. All of it is taken at the range's end, so that it costs one
    evaluation and is bounded however many campaigns there are.
    """
    start = promql.newest(
        promql.CAMPAIGN_KEY, promql.select(catalogue.CAMPAIGN_START.name, *matchers) + " @ end()"
    )
    info = promql.select(catalogue.CAMPAIGN_INFO.name, *matchers)
    name = promql.names(*matchers).replace(info, f"{info} @ end()")
    expr = (
        f"1000 * (topk({promql.TOP}, {start} >= $__from / 1000))"
        f" * on ({promql.CAMPAIGN_KEY}) group_left (campaign) {name}"
    )
    return _annotation(
        "Campaign starts",
        PLAIN,
        expr,
        title="{{campaign}}",
        text="{{channel}} of {{account}}, campaign {{campaign_id}}",
        tags="account,channel",
    )


def alert_matchers(*labels: str) -> tuple[str, ...]:
    """Return matchers of our alerts; an alert without one of these labels is about all its values."""
    chosen = {"account": "${account:regex}", "channel": "${channel:regex}", "campaign_id": "$campaign"}
    return ('alertname=~"InTarget.+"', *(f"{label}=~`(?:{chosen[label]})|`" for label in labels))


ALERT_KEY: Final = "alertname, severity, account, channel, campaign_id"


def firing_alerts(*labels: str) -> Json:
    """Return an annotation where a firing alert's condition began to hold.

    Taken from ALERTS_FOR_STATE, whose value is that time: the annotations' step, which Grafana widens with
    the time range, moves and loses none.
    """
    matchers = alert_matchers(*labels)
    since = promql.select("ALERTS_FOR_STATE", *matchers)
    firing = promql.select("ALERTS", 'alertstate="firing"', *matchers)
    began = (
        f"1000 * max by ({ALERT_KEY}) (last_over_time({since}[$__interval]))"
        f" and on ({ALERT_KEY}) last_over_time({firing}[$__interval])"
    )
    # A label that an alert lacks would leave its own name in the text.
    expr = f'label_join({began}, "about", " ", "account", "channel", "campaign_id")'
    return _annotation(
        "Firing alerts",
        BAD,
        expr,
        title="{{alertname}}",
        text="{{severity}}: {{about}}",
        tags="severity,account,channel",
    )
