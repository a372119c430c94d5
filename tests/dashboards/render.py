"""Draw the dashboards for review: each one's grid with really queried data, as PNG.

    python tests/dashboards/render.py FOLDER [--light] [--only NAME] [--keep FOLDER]

These are no pictures of Grafana. They show what is asked and what comes back, where each panel stands, its
title, unit, decimals, thresholds, legend and colours; Chromium makes the picture.
"""

# ruff: noqa: E501, PLR0911, PLR0917 - markup reads best unbroken

from __future__ import annotations

import argparse
import html
import json
import math
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.dashboards._grafana import View, configured, legend, table  # noqa: E402
from tests.dashboards._world import Setup, tool, world  # noqa: E402

if TYPE_CHECKING:
    from tests.dashboards._world import Prometheus

Json = dict[str, Any]
Series = tuple[str, list[tuple[float, float]]]

WIDTH = 1600
CELL = 30
GAP = 8
PALETTE = ("#7EB26D", "#EAB839", "#6ED0E0", "#EF843C", "#E24D42", "#1F78C1", "#BA43A9", "#705DA0", "#508642")
DARK = {"page": "#111217", "panel": "#181b1f", "line": "#2c3235", "text": "#d8d9da", "dim": "#8e8e96"}
LIGHT = {"page": "#f4f5f5", "panel": "#ffffff", "line": "#dddfe1", "text": "#24292e", "dim": "#6c7075"}


def value_text(value: float | None, unit: str, decimals: int, now: float) -> str:
    """Return a number as Grafana writes it."""
    if value is None or math.isnan(value):
        return ""
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f}%"
    if unit == "locale":
        return f"{value:,.{decimals}f}"
    if unit == "s":
        return duration_text(value, decimals)
    if unit == "bytes":
        return scaled(value, 1024, ("B", "KiB", "MiB", "GiB"), decimals)
    if unit == "dateTimeFromNow":
        return f"{duration_text(now - value / 1000, 0)} ago"
    if unit == "dateTimeAsIso":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value / 1000))
    if unit == "short":
        return scaled(value, 1000, ("", " K", " Mil", " Bil"), decimals)
    return f"{value:.{decimals}f}"


def scaled(value: float, base: float, units: tuple[str, ...], decimals: int) -> str:
    """Return a number with a unit that suits it."""
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value /= base
        power += 1
    return f"{value:.{decimals if power or value != int(value) else 0}f}{units[power]}"


def duration_text(seconds: float, decimals: int) -> str:
    """Return a duration in its largest unit."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "mins")):
        if abs(seconds) >= size:
            return f"{seconds / size:.{decimals}f} {name}"
    return f"{seconds * 1000:.0f} ms" if 0 < abs(seconds) < 0.1 else f"{seconds:.{decimals}f} s"


def threshold_colour(options: Json, value: float) -> str:
    """Return the colour of the threshold that a value has reached."""
    colour = ""
    for step in options["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return colour


class Drawing:
    """One dashboard's page."""

    def __init__(self, view: View, prometheus: Prometheus, theme: dict[str, str]) -> None:
        self.view = view
        self.prometheus = prometheus
        self.theme = theme

    def page(self) -> tuple[str, int]:
        """Return the page and its height in pixels."""
        height = 60
        drawn = []
        for panel in self.view.dashboard["panels"]:
            grid = panel["gridPos"]
            unit = (WIDTH - GAP) / 24
            left, top = GAP + grid["x"] * unit, 60 + grid["y"] * (CELL + GAP)
            width, tall = grid["w"] * unit - GAP, grid["h"] * (CELL + GAP) - GAP
            height = max(height, int(top + tall + GAP))
            box = f"left:{left:.0f}px;top:{top}px;width:{width:.0f}px;height:{tall}px"
            if panel["type"] == "row":
                drawn.append(f'<div class="row" style="{box}">⌄ {html.escape(panel["title"])}</div>')
                continue
            body = getattr(self, f"_{panel['type']}")(panel, int(width) - 16, tall - 38)
            drawn.append(f'<div class="panel" style="{box}"><h3>{html.escape(panel["title"])}</h3>{body}</div>')
        return self._frame("".join(drawn)), height

    def _frame(self, body: str) -> str:
        theme, view = self.theme, self.view
        choices = " ".join(
            f"<b>{html.escape(v.get('label', v['name']))}</b> {html.escape(str(view.chosen[v['name']]))}"
            for v in view.dashboard["templating"]["list"]
        )
        return f"""<!doctype html><meta charset="utf-8"><style>
        * {{box-sizing:border-box; margin:0}} body {{background:{theme["page"]}; color:{theme["text"]};
        font:12px Inter,Helvetica,Arial,sans-serif; width:{WIDTH}px}}
        header {{padding:10px 12px}} header h1 {{font-size:17px; display:inline; margin-right:16px}}
        .panel {{position:absolute; background:{theme["panel"]}; border:1px solid {theme["line"]}; border-radius:2px;
        padding:6px 8px; overflow:hidden}} .panel h3 {{font-size:13px; font-weight:500; margin-bottom:6px}}
        .row {{position:absolute; font-size:15px; font-weight:500}} table {{border-collapse:collapse; width:100%}}
        td,th {{padding:3px 6px; border-bottom:1px solid {theme["line"]}; white-space:nowrap; text-align:left;
        overflow:hidden; text-overflow:ellipsis; max-width:300px}} td.n,th.n {{text-align:right}}
        th {{color:#6e9fff; font-weight:500}} .legend {{font-size:11px}} .legend td,.legend th {{border:0; padding:0 6px}}
        .stats {{display:flex; height:100%; gap:10px; align-items:center; justify-content:space-around}}
        .none {{color:{theme["dim"]}; text-align:center; padding-top:12%}}
        </style><header><h1>{html.escape(view.dashboard["title"])}</h1>{choices}
        <span style="color:{theme["dim"]}">&nbsp; drawn for review, not by Grafana</span></header>{body}"""

    def _instant(self, panel: Json) -> dict[str, list[Json]]:
        step = self.view.step(panel)
        return {
            t["refId"]: self.prometheus.query(self.view.interpolate(t["expr"], step), self.view.end)
            for t in panel["targets"]
        }

    def _reduced(self, panel: Json) -> list[tuple[str, float]]:
        found = []
        for query in panel["targets"]:
            expr = self.view.interpolate(query["expr"], self.view.step(panel))
            found += [
                (legend(query, s["metric"]), float(s["value"][1]))
                for s in self.prometheus.query(expr, self.view.end)
            ]
        return found

    def _none(self, panel: Json) -> str:
        return f'<div class="none">{html.escape(panel["fieldConfig"]["defaults"]["noValue"])}</div>'

    def _text(self, options: Json, value: float | None) -> str:
        for mapping in options["mappings"]:
            key = "" if value is None else str(int(value)) if isinstance(value, float) else str(value)
            if key in mapping["options"]:
                return mapping["options"][key]["text"]
        if isinstance(value, str):
            return value
        return value_text(value, options["unit"], options["decimals"], self.view.end)

    def _stat(self, panel: Json, width: int, height: int) -> str:
        values = self._reduced(panel)
        if not values:
            return self._none(panel)
        cells = []
        size = max(12, min(34, int(width / len(values) / 5), height - 24))
        for name, value in values:
            options = configured(panel, name)
            colour = threshold_colour(options, value)
            named = len(values) > 1 or panel["options"]["textMode"] == "value_and_name"
            label = f"<div>{html.escape(name)}</div>" if named else ""
            back = panel["options"]["colorMode"] == "background"
            style = f"background:{colour};color:#fff;flex:1;padding:8px" if back else f"color:{colour}"
            cells.append(
                f'<div style="text-align:center;{style}">{label}'
                f'<span style="font-size:{size}px">{html.escape(self._text(options, value))}</span></div>'
            )
        return f'<div class="stats" style="height:{height}px">{"".join(cells)}</div>'

    def _gauge(self, panel: Json, width: int, height: int) -> str:
        values = self._reduced(panel)
        if not values:
            return self._none(panel)
        per_row = min(len(values), 3 if len(values) > 2 else len(values))
        rows = math.ceil(len(values) / per_row)
        radius = max(14, min(width / per_row / 2 - 8, (height / rows - 30) * 0.8))
        cells = []
        for name, value in values:
            options = configured(panel, name)
            low, high = options["min"], options["max"]
            share = min(1, max(0, (value - low) / (high - low)))
            rings = [(0.0, 1.0, self.theme["line"], radius - 5, 12)]
            steps = options["thresholds"]["steps"]
            for step, following in zip(steps, [*steps[1:], {"value": high}], strict=True):
                first = 0 if step["value"] is None else (step["value"] - low) / (high - low)
                rings.append(
                    (first, min(1, (following["value"] - low) / (high - low)), step["color"], radius + 4, 3)
                )
            rings.append((0.0, share, threshold_colour(options, value), radius - 5, 12))
            arcs = "".join(
                _arc(radius + 8, radius + 8, size, a, b, colour, w) for a, b, colour, size, w in rings
            )
            box = radius * 2 + 16
            cells.append(
                f'<div style="text-align:center;display:inline-block;width:{width // per_row - 6}px">'
                f'<svg width="{box:.0f}" height="{radius + 22:.0f}">{arcs}<text x="{radius + 8:.0f}" '
                f'y="{radius + 6:.0f}" text-anchor="middle" font-size="{max(11, radius / 2.6):.0f}" '
                f'fill="{threshold_colour(options, value)}">{self._text(options, value)}</text></svg>'
                f"<div>{html.escape(name)}</div></div>"
            )
        return "".join(cells)

    def _bargauge(self, panel: Json, width: int, height: int) -> str:
        values = self._reduced(panel)
        if not values:
            return self._none(panel)
        most = max(value for _, value in values) or 1
        tall = max(16, min(60, height // len(values) - 6))
        lines = []
        for name, value in values:
            options = configured(panel, name)
            colour = options["color"].get("fixedColor") or threshold_colour(options, value)
            bar = int((width - 300) * value / most)
            lines.append(
                f'<div style="display:flex;align-items:center;height:{tall}px;margin-bottom:6px">'
                f'<div style="width:200px;text-align:right;padding-right:8px">{html.escape(name)}</div>'
                f'<div style="width:{width - 300}px;background:{self.theme["page"]}">'
                f'<div style="height:{tall}px;width:{bar}px;background:{colour}"></div></div>'
                f'<div style="padding-left:8px;color:{colour}">{self._text(options, value)}</div></div>'
            )
        return "".join(lines)

    def _table(self, panel: Json, width: int, height: int) -> str:
        del width
        columns = table(panel, self._instant(panel))
        if not columns:
            return self._none(panel)
        rows = len(columns[0].cells)
        shown = max(1, min(rows, (height - 26) // 26))
        heads = "".join(
            f'<th class="{"n" if _numeric(c.cells) else ""}">{html.escape(c.heading)}</th>' for c in columns
        )
        lines = []
        for i in range(shown):
            cells = []
            for column in columns:
                options = configured(panel, column.heading)
                value = column.cells[i]
                text = self._text(options, value)
                style = ""
                kind = options.get("custom.cellOptions", {}).get("type", "auto")
                if kind == "color-background" and value is not None:
                    colour = _mapped(options, value) or (
                        threshold_colour(options, value) if isinstance(value, float) else ""
                    )
                    if colour and colour != "transparent":
                        style = f"background:{colour};color:#fff"
                if kind == "gauge" and value is not None:
                    most = max(v for v in column.cells if v is not None) or 1
                    share = 100 * value / most
                    style = f"background:linear-gradient(90deg,{options['color']['fixedColor']}88 {share:.0f}%,#0000 0)"
                if options.get("links"):
                    text, style = text or "", style + ";text-decoration:underline"
                number = "n" if _numeric(column.cells) else ""
                cells.append(f'<td class="{number}" style="{style}">{html.escape(text)}</td>')
            lines.append(f"<tr>{''.join(cells)}</tr>")
        more = f"<tr><td>… {rows - shown} more rows</td></tr>" if rows > shown else ""
        return f"<table><tr>{heads}</tr>{''.join(lines)}{more}</table>"

    def _timeseries(self, panel: Json, width: int, height: int) -> str:
        step = self.view.step(panel)
        series: list[Series] = []
        for query in panel["targets"]:
            expr = self.view.interpolate(query["expr"], step)
            series += [
                (legend(query, s["metric"]), [(t, float(v)) for t, v in s["values"]])
                for s in self.prometheus.query_range(expr, self.view.begin, self.view.end, step)
            ]
        if not series:
            return self._none(panel)
        series.sort(key=lambda one: one[0])
        columns = panel["options"]["legend"]["calcs"]
        tall = max(60, height - 16 * min(len(series) + bool(columns), 6) - 6)
        chart = _Chart(self, panel, series, width, tall, step)
        return chart.draw() + self._legend(panel, series, columns, chart)

    def _legend(self, panel: Json, series: list[Series], columns: list[str], chart: _Chart) -> str:
        reducers = {
            "lastNotNull": lambda values: values[-1],
            "max": max,
            "mean": lambda values: sum(values) / len(values),
            "sum": sum,
        }
        lines = []
        for position, (name, points) in enumerate(series[:5]):
            options = configured(panel, name)
            values = [value for _, value in points]
            cells = "".join(
                f'<td class="n">{value_text(reducers[c](values), options["unit"], options["decimals"], 0)}</td>'
                for c in columns
            )
            colour = chart.colour(position, options)
            lines.append(f'<tr><td><span style="color:{colour}">━</span> {html.escape(name)}</td>{cells}</tr>')
        heads = "".join(f'<th class="n">{c.replace("lastNotNull", "Last *")}</th>' for c in columns)
        return f'<table class="legend"><tr><th></th>{heads}</tr>{"".join(lines)}</table>'


class _Chart:
    """The lines of one panel."""

    def __init__(
        self, drawing: Drawing, panel: Json, series: list[Series], width: int, height: int, step: int
    ) -> None:
        self.drawing, self.panel, self.series = drawing, panel, series
        self.width, self.height, self.step = width, height, step
        custom = panel["fieldConfig"]["defaults"]["custom"]
        self.stacked = custom["stacking"]["mode"] == "normal"
        stacks: dict[float, float] = {}
        most = custom.get("axisSoftMax", 0)
        for _, points in series:
            for at, value in points:
                stacks[at] = stacks.get(at, 0) + value
                most = max(most, stacks[at] if self.stacked else value)
        self.most = max(most, panel["fieldConfig"]["defaults"].get("max", 0)) * 1.05 or 1
        self.left = 58

    def colour(self, position: int, options: Json) -> str:
        """Return a series' colour."""
        return options["color"].get("fixedColor") or PALETTE[position % len(PALETTE)]

    def draw(self) -> str:
        """Return the SVG."""
        theme, defaults = self.drawing.theme, self.panel["fieldConfig"]["defaults"]
        parts = []
        for i in range(5):
            y = self._y(self.most * i / 4)
            text = value_text(self.most * i / 4, defaults["unit"], defaults["decimals"], 0)
            parts.append(
                f'<line x1="{self.left}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{theme["line"]}"/>'
                f'<text x="{self.left - 5}" y="{y + 4:.1f}" text-anchor="end" font-size="10" fill="{theme["dim"]}">'
                f"{text}</text>"
            )
        view = self.drawing.view
        for i in range(7):
            at = view.begin + (view.end - view.begin) * i / 6
            parts.append(
                f'<text x="{self._x(at):.0f}" y="{self.height - 1}" text-anchor="{"end" if i == 6 else "middle"}" '
                f'font-size="10" fill="{theme["dim"]}">{time.strftime("%H:%M", time.gmtime(at))}</text>'
            )
        base: dict[float, float] = {}
        for position, (name, points) in enumerate(self.series):
            parts.append(self._one(position, name, points, base))
        if defaults["custom"]["thresholdsStyle"]["mode"] != "off":
            for step in defaults["thresholds"]["steps"]:
                if step["value"] is not None and step["value"] <= self.most:
                    y = self._y(step["value"])
                    parts.append(
                        f'<line x1="{self.left}" x2="{self.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="{step["color"]}" '
                        'stroke-width="1.5" stroke-dasharray="10 6"/>'
                    )
        label = html.escape(defaults["custom"]["axisLabel"])
        parts.append(
            f'<text transform="translate(9 {self.height / 2}) rotate(-90)" text-anchor="middle" font-size="10" '
            f'fill="{theme["dim"]}">{label}</text>'
        )
        return f'<svg width="{self.width}" height="{self.height}">{"".join(parts)}</svg>'

    def _one(
        self, position: int, name: str, points: list[tuple[float, float]], base: dict[float, float]
    ) -> str:
        options = configured(self.panel, name)
        colour = self.colour(position, options)
        if options["custom.drawStyle"] == "bars":
            wide = max(1.0, self._x(self.drawing.view.begin + self.step) - self._x(self.drawing.view.begin) - 1)
            bars = []
            for at, value in points:
                low = base.get(at, 0.0) if self.stacked else 0.0
                base[at] = low + value
                top, foot = self._y(low + value), self._y(low)
                bars.append(
                    f'<rect x="{self._x(at) - wide / 2:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                    f'height="{foot - top:.1f}" fill="{colour}" fill-opacity="0.75"/>'
                )
            return "".join(bars)
        dash = "6 5" if "custom.lineStyle" in options else "none"
        path, before = [], None
        for at, value in points:
            move = before is None or at - before > 3600
            path.append(f"{'M' if move else 'L'}{self._x(at):.1f} {self._y(value):.1f}")
            before = at
        return f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>'

    def _x(self, at: float) -> float:
        view = self.drawing.view
        return self.left + (self.width - self.left - 4) * (at - view.begin) / (view.end - view.begin)

    def _y(self, value: float) -> float:
        return 4 + (self.height - 22) * (1 - value / self.most)


def _arc(cx: float, cy: float, radius: float, first: float, last: float, colour: str, width: float) -> str:
    points = []
    for share in (first, last):
        angle = math.pi * (1 - share)
        points.append(f"{cx + radius * math.cos(angle):.1f} {cy - radius * math.sin(angle):.1f}")
    return (
        f'<path d="M{points[0]}A{radius:.1f} {radius:.1f} 0 0 1 {points[1]}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}"/>'
    )


def _numeric(cells: list[Any]) -> bool:
    return any(isinstance(cell, float) for cell in cells)


def _mapped(options: Json, value: Any) -> str:  # noqa: ANN401
    key = str(int(value)) if isinstance(value, float) else value
    return next((m["options"][key]["color"] for m in options["mappings"] if key in m["options"]), "")


def main() -> None:
    """Make a day of two accounts, and draw every dashboard of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--only", default="intarget-*", help="a pattern of uids")
    parser.add_argument("--keep", type=Path, help="where the history is kept for the next time")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    setup = Setup({"main": "bounce-spike", "second": "calm"}, hours=26, per_message=True)
    with (
        tempfile.TemporaryDirectory() as made,
        world(options.keep or Path(made), setup, int(time.time())) as there,
    ):
        for path in sorted((ROOT / "grafana" / "dashboards").glob(f"{options.only}.json")):
            dashboard = json.loads(path.read_text(encoding="utf-8"))
            view = View(dashboard, there.end - 86400, there.end)
            if dashboard["uid"] == "intarget-campaign":
                _worst_campaign(view, there.prometheus)
            view.choose_defaults(there.prometheus)
            page, height = Drawing(view, there.prometheus, LIGHT if options.light else DARK).page()
            source = options.folder / f"{path.stem}.html"
            source.write_text(page, encoding="utf-8")
            _picture(source, height)


def _worst_campaign(view: View, prometheus: Prometheus) -> None:
    found = prometheus.query("topk(1, campaign:intarget_bounce:wilson_lower)", view.end)[0]["metric"]
    view.chosen |= {name: found[label] for name, label in (("account", "account"), ("campaign", "campaign_id"))}
    started = prometheus.query(
        f'intarget_campaign_start_timestamp_seconds{{campaign_id="{found["campaign_id"]}"}}', view.end
    )
    view.begin = float(started[0]["value"][1])


def _picture(source: Path, height: int) -> None:
    subprocess.run(
        [
            tool("chromium"),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--screenshot={source.with_suffix('.png')}",
            f"--window-size={WIDTH},{height}",
            source.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
    )
    sys.stdout.write(f"{re.sub('html$', 'png', str(source))}\n")


if __name__ == "__main__":
    main()
