"""Panels: what each of them has, and the looks that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Json = dict[str, Any]

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/): distinct to all common kinds of colour vision.
CHANNEL_COLOURS: Final[Mapping[str, str]] = {
    "email": "#56B4E9",
    "sms": "#E69F00",
    "push": "#009E73",
    "whatsapp": "#F0E442",
    "viber": "#CC79A7",
}
# After Paul Tol's schemes "bright" and "light" (https://personal.sron.nl/~pault/), likewise.
OUTCOME_COLOURS: Final[Mapping[str, str]] = {
    "Sent": "#8E8E96",
    "Delivered": "#3F6FB5",
    "Opened": "#66CCEE",
    "Clicked": "#228833",
    "Bounced": "#EE6677",
    "Soft bounced": "#FFAABB",
    "Complaints": "#AA3377",
    "Unsubscribed": "#CCBB44",
    "Failed": "#EE8866",
    "Rejected": "#C2703D",
    "Failed temporarily": "#F2C6A0",
    "Skipped": "#77818C",
    "Converted": "#44BB99",
    "Deposits": "#AAAA00",
}
GOOD: Final = "#009E73"
WARN: Final = "#E69F00"
BAD: Final = "#D55E00"
PLAIN: Final = "#56B4E9"
MUTED: Final = "#9AA5B1"

BOUNCE_STEPS: Final = ((None, GOOD), (0.03, WARN), (0.05, BAD))
COMPLAINT_STEPS: Final = ((None, GOOD), (0.0003, WARN), (0.0005, BAD))
"""InTarget's limits and 60 % of them, as in grafana/rules/limits.yaml."""
LIMIT_STEPS: Final = ((None, GOOD), (0.6, WARN), (1.0, BAD))
NO_STEPS: Final = ((None, PLAIN),)

Steps = tuple[tuple[float | None, str], ...]


def target(
    expr: str,
    legend: str = "",
    ref: str = "A",
    *,
    instant: bool = False,
    table: bool = False,
) -> Json:
    """Return a query. Tables are instant; `ref` names its column there (``Value #ref``)."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": False,
        "expr": expr,
        "format": "table" if table else "time_series",
        "instant": instant or table,
        "legendFormat": legend or "__auto",
        "range": not (instant or table),
        "refId": ref,
    }


def override(matcher: str, options: str, **properties: object) -> Json:
    """Return a field override; property names have ``__`` for a dot."""
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


TEXTS: Final = override("byType", "string", unit="string", noValue="", mappings=[])
"""Text stays what it is: else "007" would get the panel's unit, in links too, and "" its `noValue`."""


def by_name(name: str, **properties: object) -> Json:
    """Return an override of the field of this name."""
    return override("byName", name, **properties)


def by_regex(pattern: str, **properties: object) -> Json:
    """Return an override of the fields whose name matches."""
    return override("byRegexp", f"/{pattern}/", **properties)


def fixed(colour: str) -> Json:
    """Return a colour option."""
    return {"mode": "fixed", "fixedColor": colour}


def channel_colours() -> list[Json]:
    """Return overrides that give each series whose name ends with a channel its colour."""
    return [by_regex(f"(^|· ){channel}$", color=fixed(colour)) for channel, colour in CHANNEL_COLOURS.items()]


def outcome_colours(*outcomes: str) -> list[Json]:
    """Return overrides that give each series whose name begins with an outcome its colour."""
    return [by_regex(f"^{outcome}(,|$)", color=fixed(OUTCOME_COLOURS[outcome])) for outcome in outcomes]


def thresholds(steps: Steps) -> Json:
    """Return the thresholds of a field, lowest first."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in steps]}


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    unit: str,
    decimals: int,
    no_value: str,
    options: Json,
    steps: Steps = NO_STEPS,
    colour: Json | None = None,
    custom: Json | None = None,
    overrides: Iterable[Json] = (),
    mappings: Sequence[Json] = (),
    links: Sequence[Json] = (),
    transformations: Sequence[Json] = (),
    lowest: float | None = None,
    highest: float | None = None,
    interval: str | None = None,
    points: int | None = None,
) -> Json:
    """Return a panel; nothing that a reader needs has a default.

    `interval` is the least step of a range query, `points` the most that are asked for: fewer than the panel
    has pixels where each of them costs a look at thousands of campaigns.
    """
    defaults: Json = {
        "color": colour or {"mode": "thresholds"},
        "custom": custom or {},
        "decimals": decimals,
        "links": list(links),
        "mappings": [*mappings, unknown(no_value)],
        "noValue": no_value,
        "thresholds": thresholds(steps),
        "unit": unit,
    }
    if lowest is not None:
        defaults["min"] = lowest
    if highest is not None:
        defaults["max"] = highest
    model: Json = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": list(targets),
        "transformations": list(transformations),
    }
    if interval is not None:
        model["interval"] = interval
    if points is not None:
        model["maxDataPoints"] = points
    return model


def _reduced() -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    text: Literal["auto", "value", "value_and_name", "name"] = "auto",
    background: bool = False,
    **rest: Any,  # noqa: ANN401 - the arguments of panel()
) -> Json:
    """Return a panel of single numbers."""
    options = {
        "colorMode": "background" if background else "value",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _reduced(),
        "textMode": text,
        "wideLayout": True,
    }
    return panel("stat", title, description, targets, options=options, **rest)


def gauge(title: str, description: str, targets: Sequence[Json], **rest: Any) -> Json:  # noqa: ANN401
    """Return a panel of gauges, one for each series."""
    options = {
        "minVizHeight": 75,
        "minVizWidth": 75,
        "orientation": "auto",
        "reduceOptions": _reduced(),
        "showThresholdLabels": False,
        "showThresholdMarkers": True,
        "sizing": "auto",
    }
    return panel("gauge", title, description, targets, options=options, **rest)


def bars(title: str, description: str, targets: Sequence[Json], **rest: Any) -> Json:  # noqa: ANN401
    """Return a panel of horizontal bars, one for each series, in the order of the queries."""
    options = {
        "displayMode": "basic",
        "maxVizHeight": 60,
        "minVizHeight": 16,
        "minVizWidth": 8,
        "namePlacement": "left",
        "orientation": "horizontal",
        "reduceOptions": _reduced(),
        "showUnfilled": True,
        "sizing": "auto",
        "valueMode": "text",
    }
    return panel("bargauge", title, description, targets, options=options, **rest)


def lines(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    limits: bool = False,
    soft_max: float | None = None,
    stacked_bars: bool = False,
    legend: tuple[str, ...] = ("lastNotNull", "max"),
    axis: str = "",
    custom: Json | None = None,
    **rest: Any,  # noqa: ANN401
) -> Json:
    """Return a chart over time. `limits` draws the thresholds as lines; `soft_max` keeps them in sight."""
    look: Json = {
        "axisLabel": axis,
        "axisSoftMin": 0,
        "barAlignment": 0,
        "drawStyle": "bars" if stacked_bars else "line",
        "fillOpacity": 60 if stacked_bars else 6,
        "lineInterpolation": "linear",
        "lineWidth": 1 if stacked_bars else 2,
        "pointSize": 4,
        "showPoints": "auto",
        "spanNulls": 3600000,
        "stacking": {"group": "A", "mode": "normal" if stacked_bars else "none"},
        "thresholdsStyle": {"mode": "dashed" if limits else "off"},
        **(custom or {}),
    }
    if soft_max is not None:
        look["axisSoftMax"] = soft_max
    options = {
        "legend": {
            "calcs": list(legend),
            "displayMode": "table" if legend else "list",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"hideZeros": False, "maxHeight": 400, "mode": "multi", "sort": "desc"},
    }
    rest.setdefault("colour", {"mode": "palette-classic-by-name"})
    return panel("timeseries", title, description, targets, options=options, custom=look, **rest)


def table(
    title: str,
    description: str,
    targets: Sequence[Json],
    columns: Mapping[str, str],
    *,
    sort: tuple[str, bool] | None = None,
    sum_of: Sequence[str] = (),
    transformations: Sequence[Json] = (),
    **rest: Any,  # noqa: ANN401
) -> Json:
    """Return a table. `columns` maps the fields, in their order, to headings; other fields are left out.

    `sort` is a heading and whether the largest come first; `sum_of` the headings with a total at the foot.
    """
    options = {
        "cellHeight": "sm",
        "footer": {
            "countRows": False,
            "enablePagination": True,
            "fields": list(sum_of),
            "reducer": ["sum"],
            "show": bool(sum_of),
        },
        "showHeader": True,
        "sortBy": [{"desc": sort[1], "displayName": sort[0]}] if sort else [],
    }
    shaping = [
        {"id": "merge", "options": {}},
        *transformations,
        {
            "id": "filterFieldsByName",
            "options": {"include": {"names": list(columns)}},
        },
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "includeByName": {},
                "indexByName": {field: position for position, field in enumerate(columns)},
                "renameByName": dict(columns),
            },
        },
    ]
    custom = {
        "align": "auto",
        "cellOptions": {"type": "auto"},
        "filterable": False,
        "inspect": False,
        "minWidth": 70,
    }
    overrides = [TEXTS, *rest.pop("overrides", ())]
    return panel(
        "table", title, description, targets,
        options=options, custom=custom, transformations=shaping, overrides=overrides, **rest,
    )  # fmt: skip


def shaded(steps: Steps) -> Json:
    """Return override properties that colour a table's cells by thresholds, unless they are good."""
    steps = tuple((value, "transparent" if colour == GOOD else colour) for value, colour in steps)
    return {
        "custom__cellOptions": {"type": "color-background", "mode": "basic", "applyToRow": False},
        "thresholds": thresholds(steps),
    }


def bar_cells(colour: str) -> Json:
    """Return override properties that draw a table's numbers as bars."""
    return {
        "custom__cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "color": fixed(colour),
        "min": 0,
    }


def value_names(names: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Return value mappings: what to show for a value, and its colour."""
    return [
        {
            "type": "value",
            "options": {
                value: {"color": colour, "index": index, "text": text}
                for index, (value, (text, colour)) in enumerate(names.items())
            },
        }
    ]


def unknown(text: str) -> Json:
    """Return a value mapping that shows what isn't known in grey: it is neither good nor bad."""
    return {
        "type": "special",
        "options": {"match": "null+nan", "result": {"color": MUTED, "index": 99, "text": text}},
    }


def link(title: str, url: str) -> Json:
    """Return a data link."""
    return {"title": title, "url": url, "targetBlank": False}


def campaign_link() -> Json:
    """Return a table row's link into the campaign's dashboard, with the time since that campaign's start.

    The row needs the fields account, channel, campaign_id and ``Value #started``, in milliseconds.
    """
    return link(
        "Show this campaign since its start",
        "/d/intarget-campaign?${datasource:queryparam}"
        "&var-account=${__data.fields.account:percentencode}"
        "&var-channel=${__data.fields.channel:percentencode}"
        "&var-campaign=${__data.fields.campaign_id:percentencode}"
        '&from=${__data.fields["Value #started"].numeric}&to=now',
    )
