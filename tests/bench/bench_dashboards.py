"""What every query of the dashboards costs a Prometheus with many campaigns.

Run: python tests/bench/bench_dashboards.py [campaigns [folder]]

Six hours of history, looked at in 400 steps, as many as a panel of a day's range asks for; all is chosen in
the variables. A folder keeps the history for the next time. Exit code 1 if a query takes over two seconds, or
the queries of one dashboard over ten together.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from exporter.simulator import SCENARIOS  # noqa: E402
from tests.dashboards._grafana import View, panels  # noqa: E402
from tests.dashboards._world import Setup, World, world  # noqa: E402

LONGEST = 2.0
DASHBOARD = 10.0
SLOWEST = 8


def _costs(there: World, view: View) -> list[tuple[float, int, str]]:
    """Return seconds, the most samples in memory at once, and what was asked, for each query."""
    view.choose_defaults(there.prometheus)
    found = []
    for panel in panels(view.dashboard):
        step = view.step(panel)
        for target in panel["targets"]:
            expr = view.interpolate(target["expr"], step)
            what = f"{panel['title']} [{target['refId']}]"
            found.append(_cost(there, view, expr, what, instant=target["instant"], step=step))
    for annotation in view.dashboard["annotations"]["list"][1:]:
        step = int((view.end - view.begin) / 100)
        expr = view.interpolate(annotation["expr"], step)
        found.append(_cost(there, view, expr, f"annotation {annotation['name']}", instant=False, step=step))
    for variable in view.dashboard["templating"]["list"]:
        if variable["type"] == "query":
            begun = time.perf_counter()
            view.options(there.prometheus, variable["name"])
            found.append((time.perf_counter() - begun, 0, f"variable {variable['name']}"))
    return found


def _cost(
    there: World, view: View, expr: str, what: str, *, instant: bool, step: int
) -> tuple[float, int, str]:
    begun = time.perf_counter()
    if instant:
        data = there.prometheus.ask("query", query=expr, time=view.end, stats="all")
    else:
        data = there.prometheus.ask(
            "query_range", query=expr, start=view.begin, end=view.end, step=step, stats="all"
        )
    return time.perf_counter() - begun, data["stats"]["samples"]["peakSamples"], what


def main() -> int:
    """Make the history, ask everything, and print the slowest of each dashboard."""
    campaigns = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    big = replace(SCENARIOS["big"], per_day=campaigns / 14)
    setup = Setup({"main": big}, hours=6, every=300)
    slow = False
    with (
        tempfile.TemporaryDirectory() as folder,
        world(Path(sys.argv[2] if len(sys.argv) > 2 else folder) / "world", setup, int(time.time())) as there,
    ):
        tracked = there.prometheus.query("count(intarget_campaign_info)", there.end)[0]["value"][1]
        print(f"{tracked} campaigns and channels")
        for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json")):
            view = View(json.loads(path.read_text(encoding="utf-8")), there.begin, there.end, scrape=54)
            costs = sorted(_costs(there, view), reverse=True)
            total = sum(seconds for seconds, _, _ in costs)
            print(f"\n{path.stem}: {len(costs)} queries, {total:.2f} s together")
            for seconds, peak, what in costs[:SLOWEST]:
                print(f"  {seconds * 1000:7.0f} ms  {peak:9,} samples at most  {what}")
            slow = slow or total > DASHBOARD or costs[0][0] > LONGEST
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
