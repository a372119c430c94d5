"""What an exporter needs for so many accounts and campaigns; the figures of docs/capacity.md.

``python -m tests.bench.bench_capacity 100x20 10x200`` measures 100 accounts with 20 campaigns
each, then 10 with 200. The exporter is a process of its own that polls the simulator. Its schedule is the
default, 60 times faster, and so are the simulated campaigns: a minute uses what an hour would take.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from exporter import simulator
from tests._program import Program, until

if TYPE_CHECKING:
    from collections.abc import Sequence

FASTER = 60
SECONDS = 60.0
"""How long is measured: an hour of the default schedule."""
FIRST_POLLS = 900.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: CPU seconds, memory now and at most in MiB, requests sent."""

    cpu: float
    memory: float
    peak: float
    requests: float


def usage(program: Program) -> Usage:
    """Return what the exporter has used so far."""
    process = Path(f"/proc/{program.process.pid}")
    user, system = process.joinpath("stat").read_text().rpartition(")")[2].split()[11:13]
    status = dict(line.split(":", 1) for line in process.joinpath("status").read_text().splitlines())
    memory, peak = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    requests = program.value("intarget_api_requests_total") or 0.0
    return Usage((int(user) + int(system)) / _TICKS, memory, peak, requests)


def configuration(url: str, accounts: int) -> dict[str, Any]:
    """Return the default configuration, its schedule 60 times faster."""
    account = {"access_token": simulator.DEMO_TOKEN, "base_url": url, "currency": "EUR"}
    return {
        "accounts": [{"name": f"customer-{number}", **account} for number in range(accounts)],
        "poll": {
            "refresh": [
                {"younger_than": "2d", "every": f"{300 // FASTER}s"},
                {"younger_than": "14d", "every": f"{3600 // FASTER}s"},
            ],
            "still_sending": {"lookback": "1d", "every": f"{900 // FASTER}s"},
            "conversions_every": f"{900 // FASTER}s",
            "stale_after": "1h",
        },
        "api": {"requests_per_second": 2 * FASTER, "timeout": "5m", "deadline": "10m"},
        "state": {"path": "state.db"},
    }


def measure(accounts: int, campaigns: int, folder: Path) -> str:
    """Return one row of the table."""
    scenario = replace(
        simulator.SCENARIOS["calm"], per_day=campaigns / 14, history_days=20, recurring=0, volume=(50, 50_000)
    )
    world = simulator.Simulator(1, time.time, scenario, simulator.DEMO_TOKEN, speed=FASTER)
    with simulator.serve(world) as server:
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration(server.url, accounts)))
        flags = ("--config.file=config.yaml", "--web.listen-address=127.0.0.1:0")
        with Program(*flags, cwd=folder) as program:
            until(
                lambda: sum(program.samples().series("intarget_up").values()) == accounts,
                "every account is polled",
                FIRST_POLLS,
            )
            first = usage(program)
            time.sleep(SECONDS)
            last = usage(program)
            _, body, _ = program.fetch("/metrics")
            _, packed, _ = program.fetch("/metrics", Accept_Encoding="gzip")
            up = sum(program.samples().series("intarget_up").values())
            samples = sum(not line.startswith(b"#") for line in body.splitlines())
            state = sum(file.stat().st_size for file in folder.glob("state.db*")) / 2**20
    row = (
        *(accounts, campaigns, samples, f"{len(body) / 2**20:.1f}", f"{len(packed) / 2**10:.0f}"),
        *(f"{first.cpu:.1f}", f"{last.cpu - first.cpu:.1f}", f"{last.memory:.0f}", f"{last.peak:.0f}"),
        *(f"{(last.requests - first.requests) / accounts:.0f}", f"{state:.1f}", f"{up:.0f}"),
    )
    return "| " + " | ".join(map(str, row)) + " |"


def main(arguments: Sequence[str]) -> None:
    """Print a table with a row for each ACCOUNTSxCAMPAIGNS."""
    head = (
        *("accounts", "campaigns of each", "samples", "MiB", "KiB in gzip"),
        *("CPU s until all are polled", "CPU s per hour", "MiB memory", "MiB at most"),
        *("requests per account and hour", "MiB state", "accounts up"),
    )
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for argument in arguments or ("10x20", "100x20", "10x200"):
        accounts, campaigns = map(int, argument.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            print(measure(accounts, campaigns, Path(folder)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
