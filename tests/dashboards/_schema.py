"""Grafana's published dashboard schema as far as our dashboards use it, as a JSON Schema.

Source: `kinds/dashboard/dashboard_kind.cue` of grafana/grafana (schema version 42, Grafana 12), and the option
types of the panels in `packages/grafana-schema/src/raw/composable`. Stricter than those: what is not listed
here is refused, so that a misspelt option can't pass.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

STRING = {"type": "string"}
TEXT = {"type": "string", "minLength": 1}
BOOL = {"type": "boolean"}
INT = {"type": "integer"}
NUMBER = {"type": "number"}
STRINGS = {"type": "array", "items": STRING}


def closed(required: Json, optional: Json | None = None) -> Json:
    """Return the schema of an object with just these properties."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def array(items: Json) -> Json:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


def among(*values: object) -> Json:
    """Return the schema of a choice."""
    return {"enum": list(values)}


DATASOURCE = closed({"type": TEXT, "uid": TEXT})
COLOUR_MODES = among(
    "thresholds",
    "palette-classic",
    "palette-classic-by-name",
    "continuous-viridis",
    "continuous-cividis",
    "fixed",
    "shades",
)
COLOUR = closed({"mode": COLOUR_MODES}, {"fixedColor": TEXT, "seriesBy": among("min", "max", "last")})
THRESHOLDS = closed(
    {
        "mode": among("absolute", "percentage"),
        "steps": {
            **array(closed({"color": TEXT, "value": {"type": ["number", "null"]}})),
            "minItems": 1,
        },
    }
)
_RESULT = closed({}, {"text": STRING, "color": TEXT, "index": INT})
MAPPING = {
    "anyOf": [
        closed(
            {
                "type": among("value"),
                "options": {"type": "object", "additionalProperties": _RESULT},
            }
        ),
        closed(
            {
                "type": among("special"),
                "options": closed({"match": among("null", "null+nan", "empty"), "result": _RESULT}),
            }
        ),
    ]
}
DATA_LINK = closed({"title": TEXT, "url": TEXT, "targetBlank": BOOL})
DASHBOARD_LINK = closed(
    {
        "title": TEXT,
        "type": among("link", "dashboards"),
        "icon": STRING,
        "tooltip": STRING,
        "tags": STRINGS,
        "asDropdown": BOOL,
        "targetBlank": BOOL,
        "includeVars": BOOL,
        "keepTime": BOOL,
    },
    {"url": STRING},
)
GRID = closed(
    {
        "h": {"type": "integer", "minimum": 1},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
    }
)
TARGET = closed(
    {
        "datasource": DATASOURCE,
        "editorMode": among("code", "builder"),
        "exemplar": BOOL,
        "expr": TEXT,
        "format": among("time_series", "table", "heatmap"),
        "instant": BOOL,
        "legendFormat": TEXT,
        "range": BOOL,
        "refId": TEXT,
    }
)
CELL = {
    "anyOf": [
        closed({"type": among("auto", "color-text")}),
        closed({"type": among("color-background"), "mode": among("basic", "gradient")}, {"applyToRow": BOOL}),
        closed(
            {
                "type": among("gauge"),
                "mode": among("basic", "gradient", "lcd"),
                "valueDisplayMode": among("color", "text", "hidden"),
            }
        ),
    ]
}
LINE_STYLE = closed({"fill": among("solid", "dash", "dot", "square")}, {"dash": array(NUMBER)})
DRAW = among("line", "bars", "points")
CUSTOM = {
    "timeseries": closed(
        {
            "axisLabel": STRING,
            "axisSoftMin": NUMBER,
            "barAlignment": among(-1, 0, 1),
            "drawStyle": DRAW,
            "fillOpacity": {"type": "number", "minimum": 0, "maximum": 100},
            "lineInterpolation": among("linear", "smooth", "stepBefore", "stepAfter"),
            "lineWidth": {"type": "number", "minimum": 0, "maximum": 10},
            "pointSize": NUMBER,
            "showPoints": among("auto", "never", "always"),
            "spanNulls": {"type": ["boolean", "number"]},
            "stacking": closed({"group": TEXT, "mode": among("none", "normal", "percent")}),
            "thresholdsStyle": closed(
                {"mode": among("off", "line", "dashed", "area", "line+area", "dashed+area", "series")}
            ),
        },
        {"axisSoftMax": NUMBER},
    ),
    "table": closed(
        {
            "align": among("auto", "left", "right", "center"),
            "cellOptions": CELL,
            "filterable": BOOL,
            "inspect": BOOL,
            "minWidth": INT,
        }
    ),
    "stat": closed({}),
    "bargauge": closed({}),
}
REDUCE = closed({"calcs": STRINGS, "fields": STRING, "values": BOOL})
ORIENTATION = among("auto", "vertical", "horizontal")
OPTIONS = {
    "timeseries": closed(
        {
            "legend": closed(
                {
                    "calcs": array(among("lastNotNull", "max", "min", "mean", "sum")),
                    "displayMode": among("list", "table", "hidden"),
                    "placement": among("bottom", "right"),
                    "showLegend": BOOL,
                }
            ),
            "tooltip": closed(
                {
                    "hideZeros": BOOL,
                    "maxHeight": NUMBER,
                    "mode": among("single", "multi", "none"),
                    "sort": among("asc", "desc", "none"),
                }
            ),
        }
    ),
    "table": closed(
        {
            "cellHeight": among("sm", "md", "lg", "auto"),
            "footer": closed(
                {
                    "countRows": BOOL,
                    "enablePagination": BOOL,
                    "fields": STRINGS,
                    "reducer": STRINGS,
                    "show": BOOL,
                }
            ),
            "showHeader": BOOL,
            "sortBy": array(closed({"desc": BOOL, "displayName": TEXT})),
        }
    ),
    "stat": closed(
        {
            "colorMode": among("none", "value", "background", "background_solid"),
            "graphMode": among("none", "area", "line"),
            "justifyMode": among("auto", "center"),
            "orientation": ORIENTATION,
            "reduceOptions": REDUCE,
            "textMode": among("auto", "value", "value_and_name", "name", "none"),
            "wideLayout": BOOL,
        }
    ),
    "bargauge": closed(
        {
            "displayMode": among("basic", "lcd", "gradient"),
            "maxVizHeight": INT,
            "minVizHeight": INT,
            "minVizWidth": INT,
            "namePlacement": among("auto", "top", "left", "hidden"),
            "orientation": ORIENTATION,
            "reduceOptions": REDUCE,
            "showUnfilled": BOOL,
            "sizing": among("auto", "manual"),
            "valueMode": among("color", "text", "hidden"),
        }
    ),
}
PROPERTIES = {
    "color": COLOUR,
    "custom.align": among("auto", "left", "right", "center"),
    "custom.cellOptions": CELL,
    "custom.hidden": BOOL,
    "custom.minWidth": INT,
    "custom.hideFrom": closed({"legend": BOOL, "tooltip": BOOL, "viz": BOOL}),
    "custom.drawStyle": DRAW,
    "custom.fillOpacity": NUMBER,
    "custom.lineStyle": LINE_STYLE,
    "custom.width": INT,
    "decimals": INT,
    "fieldMinMax": BOOL,
    "links": array(DATA_LINK),
    "mappings": array(MAPPING),
    "max": NUMBER,
    "min": NUMBER,
    "noValue": STRING,
    "thresholds": THRESHOLDS,
    "unit": TEXT,
}
OVERRIDE = closed(
    {
        "matcher": closed({"id": among("byName", "byRegexp", "byType"), "options": TEXT}),
        "properties": array(
            {"anyOf": [closed({"id": {"const": name}, "value": value}) for name, value in PROPERTIES.items()]}
        ),
    }
)
TRANSFORMATION = {
    "anyOf": [
        closed({"id": {"const": "merge"}, "options": closed({})}),
        closed(
            {
                "id": {"const": "filterFieldsByName"},
                "options": closed({"include": closed({"names": STRINGS})}),
            }
        ),
        closed(
            {
                "id": {"const": "organize"},
                "options": closed(
                    {
                        "excludeByName": {"type": "object", "additionalProperties": BOOL},
                        "includeByName": {"type": "object", "additionalProperties": BOOL},
                        "indexByName": {"type": "object", "additionalProperties": INT},
                        "renameByName": {"type": "object", "additionalProperties": STRING},
                    }
                ),
            }
        ),
    ]
}


def _panel(kind: str) -> Json:
    return closed(
        {
            "id": {"type": "integer", "minimum": 1},
            "type": {"const": kind},
            "title": TEXT,
            "description": TEXT,
            "datasource": DATASOURCE,
            "fieldConfig": closed(
                {
                    "defaults": closed(
                        {
                            "color": COLOUR,
                            "custom": CUSTOM[kind],
                            "links": array(DATA_LINK),
                            "mappings": array(MAPPING),
                            "noValue": TEXT,
                            "thresholds": THRESHOLDS,
                            "unit": TEXT,
                        },
                        {"decimals": INT, "min": NUMBER, "max": NUMBER},
                    ),
                    "overrides": array(OVERRIDE),
                }
            ),
            "gridPos": GRID,
            "options": OPTIONS[kind],
            "targets": {**array(TARGET), "minItems": 1},
            "transformations": array(TRANSFORMATION),
        },
        {
            "maxDataPoints": {"type": "integer", "minimum": 50},
            "interval": {"type": "string", "pattern": r"^\d+[smhd]$"},
        },
    )


ROW = closed(
    {
        "id": INT,
        "type": {"const": "row"},
        "title": TEXT,
        "collapsed": BOOL,
        "gridPos": GRID,
        "panels": array(closed({})),
    }
)
OPTION_VALUE = {"type": ["string", "array"]}
OPTION = closed({"text": OPTION_VALUE, "value": OPTION_VALUE}, {"selected": BOOL})
_VARIABLE = {
    "name": {"type": "string", "pattern": r"^\w+$"},
    "label": TEXT,
    "hide": among(0, 1, 2, 3),
    "skipUrlSync": BOOL,
    "multi": BOOL,
    "includeAll": BOOL,
    "options": array(OPTION),
    "current": {"anyOf": [OPTION, closed({})]},
}
VARIABLE = {
    "anyOf": [
        closed(
            {
                **_VARIABLE,
                "type": {"const": "query"},
                "datasource": DATASOURCE,
                "query": closed({"query": TEXT, "refId": TEXT}),
                "definition": TEXT,
                "refresh": among(0, 1, 2),
                "regex": STRING,
                "sort": among(*range(9)),
                "description": TEXT,
            },
            {"allValue": TEXT},
        ),
        closed(
            {
                **_VARIABLE,
                "type": {"const": "datasource"},
                "query": TEXT,
                "refresh": among(0, 1, 2),
                "regex": STRING,
            }
        ),
        closed({**_VARIABLE, "type": {"const": "textbox"}, "query": TEXT}),
        closed({**_VARIABLE, "type": {"const": "custom"}, "query": TEXT, "description": TEXT}),
    ]
}
ANNOTATION = {
    "anyOf": [
        closed(
            {
                "builtIn": {"const": 1},
                "datasource": DATASOURCE,
                "enable": BOOL,
                "hide": BOOL,
                "iconColor": TEXT,
                "name": TEXT,
                "type": {"const": "dashboard"},
            }
        ),
        closed(
            {
                "datasource": DATASOURCE,
                "enable": BOOL,
                "expr": TEXT,
                "hide": BOOL,
                "iconColor": TEXT,
                "name": TEXT,
                "step": TEXT,
                "tagKeys": TEXT,
                "textFormat": TEXT,
                "titleFormat": TEXT,
                "useValueForTime": BOOL,
            }
        ),
    ]
}
DASHBOARD = closed(
    {
        "annotations": closed({"list": array(ANNOTATION)}),
        "description": TEXT,
        "editable": BOOL,
        "fiscalYearStartMonth": {"type": "integer", "minimum": 0, "maximum": 11},
        "graphTooltip": among(0, 1, 2),
        "links": array(DASHBOARD_LINK),
        "liveNow": BOOL,
        "panels": array({"anyOf": [ROW, *(_panel(kind) for kind in OPTIONS)]}),
        "refresh": TEXT,
        "schemaVersion": {"type": "integer", "minimum": 39, "maximum": 42},
        "tags": STRINGS,
        "templating": closed({"list": array(VARIABLE)}),
        "time": closed({"from": TEXT, "to": TEXT}),
        "timepicker": closed({}),
        "timezone": TEXT,
        "title": TEXT,
        "uid": {"type": "string", "minLength": 8, "maxLength": 40, "pattern": "^[a-zA-Z0-9_-]+$"},
        "version": INT,
        "weekStart": STRING,
    }
)
