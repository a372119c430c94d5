"""What an exporter needs for so many accounts and campaigns; the figures of docs/capacity.md.

``python -m tests.bench.bench_capacity 100x20 10x200`` measures 100 accounts with 20 campaigns each, then
10 with 200. The exporter polls the simulator by its default schedule, but 60 times faster, and the simulated
campaigns run 60 times as fast: a minute of polls uses what an hour would take. Scrapes are measured after that,
one by one, and then a Prometheus. CPU time is the process's own, so other work on the machine hardly matters.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from exporter import simulator
from tests._program import Program, until
from tests.rules.prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Sequence

HOUR = 3600
SCRAPES, PAUSE = 20, 0.5
OK = 200
FIRST_POLLS = 900.0
COLUMNS = (
    "accounts",
    "campaigns of each",
    "samples",
    "MiB",
    "KiB in gzip",
    "CPU s until all are polled",
    "CPU s per hour of polls",
    "CPU ms per scrape",
    "MiB memory",
    "requests per account and hour",
    "MiB state",
    "Prometheus: KiB per series",
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds, MiB at most, and requests sent."""

    cpu: float
    memory: float
    requests: float


def usage(program: Program) -> Usage:
    """Return what the exporter has used so far."""
    process = Path(f"/proc/{program.process.pid}")
    user, system = process.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
    status = dict(line.split(":", 1) for line in process.joinpath("status").read_text().splitlines())
    requests = program.value("intarget_api_requests_total") or 0.0
    return Usage((int(user) + int(system)) / _TICKS, int(status["VmHWM"].split()[0]) / 1024, requests)


def configuration(url: str, accounts: int, faster: int) -> dict[str, Any]:
    """Return the default configuration, its schedule so many times faster."""
    account = {"access_token": simulator.DEMO_TOKEN, "base_url": url, "currency": "EUR"}

    def every(seconds: int) -> str:
        return f"{seconds * 1000 // faster}ms"

    return {
        "accounts": [{"name": f"customer-{number}", **account} for number in range(accounts)],
        "poll": {
            "refresh": [
                {"younger_than": "2d", "every": every(300)},
                {"younger_than": "14d", "every": every(3600)},
            ],
            "still_sending": {"lookback": "1d", "every": every(900)},
            "conversions_every": every(900),
            "stale_after": "1h",
        },
        "api": {"requests_per_second": 2 * faster, "timeout": "5m", "deadline": "10m"},
        "state": {"path": "state.db"},
    }


def scrape(program: Program) -> None:
    """Scrape as Prometheus does, after a pause in which polls go on."""
    time.sleep(PAUSE)
    program.fetch("/metrics", Accept_Encoding="gzip")


def prometheus(program: Program, folder: Path) -> Prometheus:
    """Return a Prometheus that scrapes the exporter."""
    target = {"targets": [program.url.removeprefix("http://")]}
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s"},
        "scrape_configs": [{"job_name": "intarget", "static_configs": [target]}],
    }
    return Prometheus(folder / "prometheus", config=yaml.safe_dump(config))


def kib_per_series(server: Prometheus) -> float:
    """Return by how much the memory of Prometheus grows for each series, over a minute of scrapes."""
    before = own_metric(server, "process_resident_memory_bytes")
    time.sleep(60)
    grown = own_metric(server, "process_resident_memory_bytes") - before
    return grown / own_metric(server, "prometheus_tsdb_head_series") / 1024


def own_metric(server: Prometheus, name: str) -> float:
    """Return a metric of Prometheus itself."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:
        found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found is not None
    return float(found[1])


def measure(accounts: int, campaigns: int, folder: Path, faster: int) -> Sequence[object]:
    """Return one row of the table."""
    scenario = replace(
        simulator.SCENARIOS["calm"], per_day=campaigns / 14, history_days=20, recurring=0, volume=(50, 50_000)
    )
    world = simulator.Simulator(1, time.time, scenario, simulator.DEMO_TOKEN, speed=faster)
    with simulator.serve(world) as api:
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration(api.url, accounts, faster)))
        with Program("--config.file=config.yaml", "--web.listen-address=127.0.0.1:0", cwd=folder) as program:
            until(lambda: program.get("/-/ready")[0] == OK, "every account is polled", FIRST_POLLS)
            first = usage(program)
            time.sleep(HOUR / faster)
            polled = usage(program)
            begun = time.monotonic()
            for _ in range(SCRAPES):
                scrape(program)
            scraped = usage(program)
            polling = (polled.cpu - first.cpu) / (HOUR / faster) * (time.monotonic() - begun)
            with prometheus(program, folder) as server:
                series = kib_per_series(server)
            _, body, _ = program.fetch("/metrics")
            _, packed, _ = program.fetch("/metrics", Accept_Encoding="gzip")
    return (
        accounts,
        campaigns,
        sum(not line.startswith(b"#") for line in body.splitlines()),
        f"{len(body) / 2**20:.1f}",
        f"{len(packed) / 2**10:.0f}",
        f"{first.cpu:.1f}",
        f"{polled.cpu - first.cpu:.1f}",
        f"{(scraped.cpu - polled.cpu - polling) / SCRAPES * 1000:.0f}",
        f"{scraped.memory:.0f}",
        f"{(polled.requests - first.requests) / accounts:.0f}",
        f"{sum(file.stat().st_size for file in folder.glob('state.db*')) / 2**20:.1f}",
        f"{series:.1f}",
    )


def main() -> None:
    """Print a table with a row for each size."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_capacity", description=__doc__)
    parser.add_argument("sizes", nargs="*", metavar="ACCOUNTSxCAMPAIGNS", default=["10x20", "100x20", "10x200"])
    parser.add_argument("--faster", type=int, default=60, help="than the default schedule (default: 60)")
    options = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for size in options.sizes:
        accounts, campaigns = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            row = measure(accounts, campaigns, Path(folder), options.faster)
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
