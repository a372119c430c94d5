"""Panels: what each of them has, and the looks that all of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from grafana.generator.signals import BOUNCE, COMPLAINT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from grafana.generator.signals import LimitedRatio

Json = dict[str, Any]
Steps = tuple[tuple[float | None, str], ...]

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
# Each can be read on the dark and the light page, and white text on each: contrasts of 3.5, 4.6, 4.6. They
# stay apart to all common kinds of colour vision.
GOOD: Final = "#008186"
WARN: Final = "#996B00"
BAD: Final = "#C43E3E"
PLAIN: Final = "#2F6FB7"
MUTED: Final = "#6B7480"

LIMIT_STEPS: Final = ((None, GOOD), (BOUNCE.warning / BOUNCE.limit, WARN), (1.0, BAD))
NO_STEPS: Final = ((None, PLAIN),)


def limit_steps(ratio: LimitedRatio) -> Steps:
    """Return colours of a ratio: from where alerts warn, and from InTarget's limit on."""
    return ((None, GOOD), (ratio.warning, WARN), (ratio.limit, BAD))


BOUNCE_STEPS: Final = limit_steps(BOUNCE)
COMPLAINT_STEPS: Final = limit_steps(COMPLAINT)


def prose(text: str) -> str:
    """Return a text that is wrapped in the source as one line."""
    return " ".join(text.split())


def target(expr: str, legend: str = "", ref: str = "A", *, instant: bool = False, table: bool = False) -> Json:
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


def columns(queries: Mapping[str, str]) -> list[Json]:
    """Return the queries of a table by the names of their columns."""
    return [target(expr, ref=ref, table=True) for ref, expr in queries.items()]


# Overrides


def override(matcher: str, options: str, **properties: object) -> Json:
    """Return a field override; property names have ``__`` for a dot."""
    return {
        "matcher": {"id": matcher, "options": options},
        "properties": [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()],
    }


def by_name(name: str, **properties: object) -> Json:
    """Return an override of the field of this name."""
    return override("byName", name, **properties)


def by_regex(pattern: str, **properties: object) -> Json:
    """Return an override of the fields whose name matches."""
    return override("byRegexp", f"/{pattern}/", **properties)


def unknown(text: str, colour: str = MUTED) -> Json:
    """Return a value mapping that shows what isn't known in grey: it is neither good nor bad."""
    result = {"color": colour, "index": 99, "text": text}
    return {"type": "special", "options": {"match": "null+nan", "result": result}}


TEXTS: Final = override("byType", "string", unit="string", noValue="", mappings=[unknown("")])
"""Text stays what it is: else "007" would get the panel's unit, in links too, and "" its `noValue`."""

WIDTHS: Final = {"Account": 105, "Channel": 80, "Campaign": 290, "Complaints": 105, "Started": 112}
"""Pixels of the columns that many tables have; the rest share what is left."""


def width(pixels: int) -> Json:
    """Return override properties of a column's width."""
    return {"custom__width": pixels}


def hidden(name: str) -> Json:
    """Return an override that keeps a field for links, and out of the table."""
    return by_name(name, custom__hideFrom={"legend": True, "tooltip": True, "viz": True}, custom__hidden=True)


def fixed(colour: str) -> Json:
    """Return a colour option."""
    return {"mode": "fixed", "fixedColor": colour}


def channel_colours() -> list[Json]:
    """Return overrides that give each series that is a channel its colour."""
    return [by_regex(f"^{channel}$", color=fixed(colour)) for channel, colour in CHANNEL_COLOURS.items()]


def outcome_colours(*outcomes: str) -> list[Json]:
    """Return overrides that give each series whose name begins with an outcome its colour."""
    return [by_regex(f"^{outcome}(,|$)", color=fixed(OUTCOME_COLOURS[outcome])) for outcome in outcomes]


def dashed(pattern: str, colour: str) -> Json:
    """Return an override that draws the series whose name matches as a dashed line."""
    style = {"dash": [10, 10], "fill": "dash"}
    return by_regex(pattern, color=fixed(colour), custom__lineStyle=style, custom__fillOpacity=0)


def thresholds(steps: Steps) -> Json:
    """Return the thresholds of a field, lowest first."""
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in steps]}


def shaded(steps: Steps) -> Json:
    """Return override properties that colour a table's cells by thresholds, unless they are good."""
    steps = tuple((value, "transparent" if colour == GOOD else colour) for value, colour in steps)
    return {**background(), "thresholds": thresholds(steps), "mappings": [unknown("-", "transparent")]}


def background() -> Json:
    """Return override properties that colour a table's cells."""
    return {"custom__cellOptions": {"type": "color-background", "mode": "basic", "applyToRow": False}}


def bar_cells(colour: str | None = None, steps: Steps = NO_STEPS, pixels: int = 170) -> Json:
    """Return override properties that draw a table's numbers as bars, of one colour or by thresholds."""
    return {
        "custom__cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "color": fixed(colour) if colour else {"mode": "thresholds"},
        "thresholds": thresholds(steps),
        "fieldMinMax": True,  # else the longest bar is that of the largest column
        "min": 0,
        **width(pixels),
    }


def value_names(names: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Return value mappings: what to show for a value, and its colour."""
    options = {
        value: {"color": colour, "index": index, "text": text}
        for index, (value, (text, colour)) in enumerate(names.items())
    }
    return [{"type": "value", "options": options}]


# Panels


def panel(
    kind: str,
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    options: Json,
    custom: Json | None = None,
    overrides: Iterable[Json] = (),
    transformations: Sequence[Json] = (),
    interval: str | None = None,
    points: int | None = None,
    **field: Any,  # noqa: ANN401 - the arguments of _defaults()
) -> Json:
    """Return a panel; nothing that a reader needs has a default.

    `interval` is the least step of a range query, `points` the most that are asked for: fewer than the panel
    has pixels where each of them costs a look at thousands of campaigns.
    """
    defaults = {**_defaults(**field), "custom": custom or {}}
    return {
        "type": kind,
        "title": title,
        "description": prose(description),
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
        "targets": list(targets),
        "transformations": list(transformations),
        **({} if interval is None else {"interval": interval}),
        **({} if points is None else {"maxDataPoints": points}),
    }


def _defaults(
    *,
    unit: str,
    decimals: int | None,
    no_value: str,
    steps: Steps = NO_STEPS,
    colour: Json | None = None,
    mappings: Sequence[Json] = (),
    links: Sequence[Json] = (),
    **limits: float,
) -> Json:
    """Return what holds for all fields of a panel. `decimals` of None are as many as the value needs.

    `limits` are the field's ``min`` and ``max``.
    """
    return {
        "color": colour or {"mode": "thresholds"},
        "links": list(links),
        "mappings": [*mappings, unknown(no_value)],
        "noValue": no_value,
        "thresholds": thresholds(steps),
        "unit": unit,
        **({} if decimals is None else {"decimals": decimals}),
        **limits,
    }


def _reduced() -> Json:
    return {"calcs": ["lastNotNull"], "fields": "", "values": False}


def stat(
    title: str,
    description: str,
    targets: Sequence[Json],
    *,
    text: Literal["auto", "value", "value_and_name", "name"] = "auto",
    background: bool = False,
    sparkline: bool = False,
    **rest: Any,  # noqa: ANN401 - the arguments of panel()
) -> Json:
    """Return a panel of single numbers; `sparkline` draws their past, of queries over the time range."""
    options = {
        "colorMode": "background_solid" if background else "value",
        "graphMode": "area" if sparkline else "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": _reduced(),
        "textMode": text,
        "wideLayout": True,
    }
    return panel("stat", title, description, targets, options=options, **rest)


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
    legend: tuple[str, ...] = (),
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
        **({} if soft_max is None else {"axisSoftMax": soft_max}),
    }
    mode = "table" if legend else "list"
    options = {
        "legend": {"calcs": list(legend), "displayMode": mode, "placement": "bottom", "showLegend": True},
        "tooltip": {"hideZeros": False, "maxHeight": 400, "mode": "multi", "sort": "desc"},
    }
    rest.setdefault("colour", {"mode": "palette-classic"})
    return panel("timeseries", title, description, targets, options=options, custom=look, **rest)


def table(
    title: str,
    description: str,
    targets: Sequence[Json],
    headings: Mapping[str, str],
    *,
    sort: tuple[str, bool] | None = None,
    overrides: Iterable[Json] = (),
    **rest: Any,  # noqa: ANN401
) -> Json:
    """Return a table. `headings` maps the fields, in their order, to headings; other fields are left out.

    A field without a heading is there for links only. `sort` is a heading and whether the largest come first.
    """
    footer = {"countRows": False, "enablePagination": False, "fields": [], "reducer": ["sum"], "show": False}
    sorted_by = [{"desc": sort[1], "displayName": sort[0]}] if sort else []
    own = [
        TEXTS,
        *(by_name(heading, **width(WIDTHS[heading])) for heading in headings.values() if heading in WIDTHS),
        *(hidden(field) for field, heading in headings.items() if not heading),
        *overrides,
    ]
    return panel(
        "table",
        title,
        description,
        targets,
        options={"cellHeight": "sm", "footer": footer, "showHeader": True, "sortBy": sorted_by},
        custom=CELLS,
        transformations=_joined(headings),
        overrides=own,
        **rest,
    )


CELLS: Final = {
    "align": "auto",
    "cellOptions": {"type": "auto"},
    "filterable": False,
    "inspect": False,
    "minWidth": 60,
}


def _joined(headings: Mapping[str, str]) -> list[Json]:
    """Return transformations that join a table's queries, and order and name its columns."""
    shaped = {
        "excludeByName": {},
        "includeByName": {},
        "indexByName": {field: position for position, field in enumerate(headings)},
        "renameByName": {field: heading for field, heading in headings.items() if heading},
    }
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": list(headings)}}},
        {"id": "organize", "options": shaped},
    ]


# Links


def link(title: str, url: str, *, tab: bool = False) -> Json:
    """Return a data link."""
    return {"title": title, "url": url, "targetBlank": tab}


def campaign_link(since: str = '${__data.fields["Value #started"].numeric}') -> Json:
    """Return a table row's link into the campaign's dashboard, with the time since that campaign's start.

    The row needs the fields account, channel, campaign_id and ``Value #started``, in milliseconds.
    """
    return link(
        "Show this campaign since its start",
        "/d/intarget-campaign?${datasource:queryparam}"
        "&var-account=${__data.fields.account:percentencode}"
        "&var-channel=${__data.fields.channel:percentencode}"
        "&var-campaign=${__data.fields.campaign_id:percentencode}"
        f"&from={since}&to=now",
    )
