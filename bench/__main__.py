"""``python -m bench``: measures, prints one table, saves it, compares it, draws it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench import goals, peers, polls, scale, scrapes
from bench.processes import PACKAGES, MissingError, fake_api, memory, program


def measure_scrapes(campaigns: int, *, quick: bool) -> dict[str, float]:
    """Return the figures of the scrape side."""
    rounds, seconds = (3, 25.0) if quick else (20, 60.0)
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        api = stack.enter_context(fake_api(campaigns))
        with peers.exporter(api, folder / "exporter"):
            pass  # leaves a state file
        figures["start to first metrics, s"] = scrapes.start_seconds(folder / "exporter")
        server = stack.enter_context(peers.exporter(api, folder / "exporter"))
        body = scrapes.Scraper(server, packed=False).scrape()
        body = b"".join(
            line for line in body.splitlines(keepends=True) if b"intarget_" in line and b"_bucket" not in line
        )
        others = stack.enter_context(peers.all_peers(body, folder))
        ours = scrapes.campaign_samples(server)
        for other in others:
            missing = len(ours ^ scrapes.campaign_samples(other))
            if missing:
                raise SystemExit(f"{other.name} doesn't serve the same samples: {missing} differ")
        figures["samples"] = len(ours)
        figures["idle CPU, % of a core"] = 100 * scrapes.idle_cpu(server, 5 if quick else 20)
        tls = stack.enter_context(peers.exporter(api, folder / "exporter-tls", tls=True))
        pair = peers.Server(server.name, server.process, server.url, tls.url)
        for kind, by_server in scrapes.latencies([pair, *others], rounds).items():
            for name, latency in by_server.items():
                figures[f"{kind}, s, {name}"] = latency.median
            figures[f"{kind}, exporter / nginx"] = by_server["exporter"].median / by_server["nginx"].median
        found = scrapes.throughput([server, others[0]], 3 if quick else 10)
        for name, value in found.items():
            figures[f"8 gzip scrapers, requests/s, {name}"] = value
        figures["8 gzip scrapers, nginx / exporter"] = found["nginx"] / found["exporter"]
        targets = {one.name: one.url for one in (server, *others)}
        targets |= {"exporter over TLS": tls.url, "nginx over TLS": others[0].tls_url or ""}
        durations = scrapes.scrape_durations(targets, folder, seconds)
        for name, value in durations.items():
            figures[f"Prometheus, s, {name}"] = value
        figures["Prometheus, exporter / nginx"] = durations["exporter"] / durations["nginx"]
        figures["Prometheus over TLS, exporter / nginx"] = (
            durations["exporter over TLS"] / durations["nginx over TLS"]
        )
        churning = stack.enter_context(peers.exporter(api, folder / "churn", every="1s"))
        publishing = scrapes.while_publishing(churning, api, 5 if quick else 20)
        figures["gzip p50 while polls publish, s"] = publishing.median
        figures["gzip p95 while polls publish, s"] = publishing.p95
        for name, value in memory(churning.process.pid).items():
            figures["RSS, MB" if name == "VmRSS" else "RSS at most, MB"] = value
    return {f"scrapes: {name}": value for name, value in figures.items()}


def machine() -> str:
    """Return what the figures were measured on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"{os.cpu_count()} x {name}, Python {platform.python_version()}, Linux {platform.release()}"


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["polls", "scrapes", "scale", []], help="default: all")
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="beside figures that were saved")
    parser.add_argument("--plot", type=Path, metavar="FOLDER", help="write benchmarks.png and .svg")
    given = parser.parse_args()
    parts = given.parts or ["polls", "scrapes", "scale"]
    before = json.loads(given.compare.read_text())["figures"] if given.compare else None
    figures: dict[str, float] = {}
    try:
        if "scrapes" in parts:
            for name in PACKAGES:
                program(name)
            figures |= measure_scrapes(given.campaigns, quick=given.quick)
    except MissingError as error:
        sys.exit(str(error))
    if "polls" in parts:
        found = polls.measure(given.campaigns, 3 if given.quick else 7)
        figures |= {f"polls: {name}": value for name, value in found.items()}
    if "scale" in parts:
        found = scale.measure(scale.SIZES[:3] if given.quick else scale.SIZES, 1 if given.quick else 3)
        figures |= {f"scale: {name}": value for name, value in found.items()}
    command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
    caption = f"{command}, {datetime.now(UTC):%Y-%m-%d}, {machine()}"
    print(caption)
    print(goals.table(figures, before))
    if given.save:
        given.save.write_text(json.dumps({"run": caption, "figures": figures}, indent=2) + "\n")
    if given.plot:
        from bench.plot import draw  # noqa: PLC0415 - only this needs matplotlib

        draw(figures, caption, given.plot)


if __name__ == "__main__":
    main()
