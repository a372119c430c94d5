"""How many requests it takes to read a window, by rows, page cap and how starts cluster.

Run it as ``python -m tests.bench.bench_paging``. Cold: the first polls, nothing known. Steady: a later poll of
the same window. Hour: an hour of polls by the default refresh tiers. The bounds are 5·ceil(n/c)+30 and
2·ceil(n/c)+10, where an API with pages would take ceil(n/c).
"""

from __future__ import annotations

import math
import random
import sys
from typing import TYPE_CHECKING

from exporter.collect.collector import Collector
from exporter.collect.refresh_plan import Rounds, Tier
from tests._cutapi import CutApi, stats

if TYPE_CHECKING:
    from exporter.api.model import MessageStats

NOW = 1_763_000_000
DAY = 86400
WINDOW = 14 * DAY
INTERVAL = 300
TIERS = [Tier(2 * DAY, INTERVAL), Tier(WINDOW, 3600)]
CAPS = (10, 50, 500)
SIZES = (60, 925, 19_800)
LAYOUTS = (
    "spread",
    "hourly",
    "clusters",
    "half caps",
    "daily",
    "sixty at ten",
    "one minute",
    "one second",
    "one campaign",
)
ORDERS = ("start", "start_desc", "id", "shuffled")


def layout(name: str, count: int, cap: int, rng: random.Random) -> list[MessageStats]:
    """Return `count` rows that start as marketers schedule them."""
    first, last = NOW - WINDOW + 60, NOW - 60
    if name == "one campaign":
        count -= 12
    starts = {
        "spread": lambda _: rng.randint(first, last),
        "hourly": lambda _: rng.randint(first // 3600 + 1, last // 3600) * 3600,
        "clusters": lambda index: (
            first + index // max(1, cap - 2) * ((last - first) // (count // max(1, cap - 2) + 1))
        ),
        "half caps": lambda index: (
            first + index // (cap // 2 + 1) * ((last - first) // (count // (cap // 2 + 1) + 1))
        ),
        "daily": lambda index: (first // DAY + 1 + index % 13) * DAY + 36000,
        "sixty at ten": lambda index: (
            (first // DAY + 1 + index // 60) * DAY + 36000 if index < 13 * 60 else rng.randint(first, last)
        ),
        "one minute": lambda index: NOW - 5 * DAY + index % 60,
        "one second": lambda _: NOW - 5 * DAY,
        "one campaign": lambda _: rng.randint(first, last),
    }[name]
    rows = [stats(1000 + index, float(start)) for index, start in enumerate(sorted(map(starts, range(count))))]
    return rows + [stats(7, NOW - 4.0 * DAY, f"m{index}") for index in range(12) if name == "one campaign"]


def measure(rows: list[MessageStats], cap: int, order: str) -> tuple[int, int, int, bool]:
    """Return the requests of the cold polls, of a later one, of an hour, and whether anything is flagged."""
    past = [stats(100_000 + i, NOW - WINDOW - 3600.0 * (i + 1)) for i in range(600)]
    api = CutApi(rows + past, cap=cap, order=order)

    def collector(tiers: list[Tier]) -> Collector[MessageStats]:
        return Collector(per_page=500, rounds=Rounds(tiers, WINDOW, INTERVAL))

    def poll(one: Collector[MessageStats], number: int) -> int:
        before = len(api.requests)
        window = one.poll(api, now=NOW, clock=float(number * INTERVAL)).window()
        if not one.incomplete and not one.rounds.unfinished and len(one.rounds._tiers) == 1:
            groups = {row.group for row in window.rows}
            if number > 4 and not groups >= {row.group for row in rows}:
                raise SystemExit("rows are missing without a word")
        return len(api.requests) - before

    whole = collector([Tier(WINDOW, INTERVAL)])
    cold = poll(whole, 0)
    number = 1
    while whole.rounds.unfinished:
        cold += poll(whole, number)
        number += 1
    steady = [poll(whole, number + index) for index in range(3)][-1]
    tiered = collector(TIERS)
    for number in range(12):
        poll(tiered, number)
    hour = sum(poll(tiered, 12 + index) for index in range(12))
    return cold, steady, hour, bool(whole.incomplete)


def main() -> None:
    """Print one line for each size, cap and layout: the worst of the orders in which a server may answer."""
    sizes = [int(size) for size in sys.argv[1:]] or SIZES
    print(
        f"{'rows':>6} {'cap':>4} {'layout':>12} {'cold':>6} {'bound':>6} {'steady':>6} {'bound':>6} {'hour':>6}"
    )
    for count in sizes:
        for cap in CAPS:
            for name in LAYOUTS:
                costs = [measure(layout(name, count, cap, random.Random(1)), cap, order) for order in ORDERS]
                cold, steady, hour = (max(cost[index] for cost in costs) for index in range(3))
                pages = math.ceil(count / cap)
                over = "OVER" if cold > 5 * pages + 30 or steady > 2 * pages + 10 else ""
                flag = "flagged" if any(cost[3] for cost in costs) else ""
                print(
                    f"{count:>6} {cap:>4} {name:>12} {cold:>6} {5 * pages + 30:>6} {steady:>6}"
                    f" {2 * pages + 10:>6} {hour:>6} {over} {flag}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
