"""How many requests it takes to read 1,000 rows, by the server's cap and order.

Run it as ``python -m tests.bench.bench_paging``. Cold: the first poll, with the cap unknown. Steady: a later
poll of the same window. The ratio is to ceil(n/c), what an API with pages would take.
"""

from __future__ import annotations

import math
import random

from exporter.api.model import TimeRange
from exporter.collect.collector import Collector
from exporter.collect.evidence import Evidence, RowMap
from tests._cutapi import CutApi, stats

NOW = 1_763_000_000
WINDOW = 14 * 86400
ROWS = 1000
CAPS = (10, 50, 500)
ORDERS = ("start", "start_desc", "id", "shuffled")
SEEDS = 5


def measure(cap: int, order: str, seed: int, *, inclusive: bool) -> tuple[int, int]:
    """Return the requests of a cold poll, and of the third one after it."""
    rng = random.Random(seed)
    starts = sorted(rng.uniform(NOW - WINDOW + 10, NOW) for _ in range(ROWS))
    rows = [stats(1000 + index, math.floor(start)) for index, start in enumerate(starts)]
    api = CutApi(rows, cap=cap, order=order, from_inclusive=inclusive, to_inclusive=inclusive)
    evidence, known = Evidence(), RowMap()
    costs = []
    for _ in range(4):
        before = len(api.requests)
        collector = Collector(api, evidence, known, now=NOW, per_page=500)
        collector.by_start([TimeRange(NOW - WINDOW, NOW)])
        costs.append(len(api.requests) - before)
        collected = collector.collected
        if len(collected.rows) != ROWS and not collected.incomplete:
            raise SystemExit("rows are missing without a word")
    return costs[0], costs[-1]


def main() -> None:
    """Print one line for each cap and order: the worst of several layouts of rows."""
    print(f"{ROWS} rows, worst of {2 * SEEDS} layouts; requests (ratio to ceil(n/c))")
    print(f"{'cap':>4} {'order':>10} {'ceil':>5} {'cold':>12} {'limit':>6} {'steady':>12} {'limit':>6}")
    for cap in CAPS:
        pages = math.ceil(ROWS / cap)
        for order in ORDERS:
            costs = [
                measure(cap, order, seed, inclusive=inclusive)
                for seed in range(SEEDS)
                for inclusive in (True, False)
            ]
            cold, steady = max(cost[0] for cost in costs), max(cost[1] for cost in costs)
            print(
                f"{cap:>4} {order:>10} {pages:>5}"
                f" {cold:>5} ({cold / pages:>4.1f}) {5 * pages + 20:>6}"
                f" {steady:>5} ({steady / pages:>4.1f}) {2 * pages + 5:>6}"
            )


if __name__ == "__main__":
    main()
