"""What every query of the dashboards costs a Prometheus with many campaigns.

Run: python tests/bench/bench_dashboards.py [campaigns]

Six hours of history, asked for in 400 steps, as many as a panel of a day's range asks for; all is chosen in
the variables. Exit code 1 if a query takes over two seconds, or the queries of one dashboard over ten together.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.dashboards._judge import MODELS, VERSIONS, Judge, bundle  # noqa: E402
from tests.dashboards._world import world  # noqa: E402
from tests.dashboards._worlds import MANY  # noqa: E402

LONGEST = 2.0
DASHBOARD = 10.0
SLOWEST = 8


def main() -> int:
    """Make the history, ask everything, and print the slowest of each dashboard."""
    campaigns = MANY.campaigns[: int(sys.argv[1]) if len(sys.argv) > 1 else None]
    setup = replace(MANY, campaigns=campaigns, hours=6)
    slow = False
    version = VERSIONS[-1]
    with tempfile.TemporaryDirectory() as name, world(Path(name) / "world", setup, int(time.time())) as there:
        print(f"{len(campaigns)} campaigns")
        with Judge(version, bundle(version, "judge", Path(name)), there.prometheus.url, setup.every) as judge:
            for uid in MODELS:
                asked = sorted(
                    judge.show(uid, there.begin, there.end).asked, key=lambda query: -query["seconds"]
                )
                total = sum(query["seconds"] for query in asked)
                print(f"\n{uid}: {len(asked)} queries, {total:.2f} s one after the other")
                for query in asked[:SLOWEST]:
                    print(f"  {query['seconds'] * 1000:7.0f} ms  {query['panel']} [{query['refId']}]")
                slow = slow or total > DASHBOARD or asked[0]["seconds"] > LONGEST
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
