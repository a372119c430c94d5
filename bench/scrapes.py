"""The scrape side: how long scrapes take, beside programs that serve the same samples."""

from __future__ import annotations

import http.client
import json
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from bench.processes import (
    answers,
    change,
    cpu_seconds,
    free_port,
    insecure,
    program,
    running,
    until,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.peers import Server

SCRAPERS = 8
_SLOW = {"node_exporter textfile", "prometheus-client"}
"""Those that would keep a core busy if they were scraped as often as the others."""
_OURS = re.compile(rb"^intarget_(?:campaign|channel)_.*$", re.MULTILINE)
_REQUESTS = re.compile(r"Requests/sec:\s+([\d.]+)")


class Scraper:
    """One kept-alive connection to a server."""

    def __init__(self, server: Server, *, packed: bool, tls: bool = False) -> None:
        url = urllib.parse.urlsplit((server.tls_url if tls else None) or server.url)
        host, port = url.hostname or "", url.port
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=120, context=insecure())
            if url.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=120)
        )
        self._headers = {
            "Accept": "text/plain;version=0.0.4",
            "Accept-Encoding": "gzip" if packed else "identity",
        }

    def scrape(self) -> bytes:
        """Return one answer's body as it came."""
        self._connection.request("GET", "/metrics", headers=self._headers)
        return self._connection.getresponse().read()

    def seconds(self) -> float:
        """Return how long one scrape takes."""
        began = time.perf_counter()
        self.scrape()
        return time.perf_counter() - began

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds of one kind of scrape."""

    median: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Sum measurements up."""
        return cls(statistics.median(seconds), sorted(seconds)[max(0, int(0.95 * len(seconds)) - 1)])


def campaign_samples(server: Server) -> frozenset[bytes]:
    """Return the lines of the campaigns' samples that a server has, in one spelling of labels and values."""
    scraper = Scraper(server, packed=False)
    lines = frozenset(map(_normal, _OURS.findall(scraper.scrape())))
    scraper.close()
    return lines


def _normal(line: bytes) -> bytes:
    """Return a line with its labels sorted, without those that a peer adds, and with its value as a float."""
    series, _, value = line.rpartition(b" ")
    name, _, labels = series.partition(b"{")
    found = re.findall(rb'([a-z_]+)="((?:[^"\\]|\\.)*)"', labels)
    kept = sorted(label for label in found if label[0] not in (b"instance", b"job"))
    return b"%s%r %r" % (name, kept, float(value))


def latencies(servers: Sequence[Server], rounds: int) -> dict[str, dict[str, Latency]]:
    """Return latencies by kind of scrape and server, measured by turns."""
    kinds = {
        "plain": (False, False),
        "gzip": (True, False),
        "TLS": (False, True),
        "gzip over TLS": (True, True),
    }
    found: dict[str, dict[str, Latency]] = {}
    for kind, (packed, tls) in kinds.items():
        able = [server for server in servers if not tls or server.tls_url]
        scrapers = {server.name: Scraper(server, packed=packed, tls=tls) for server in able}
        seconds: dict[str, list[float]] = {name: [] for name in scrapers}
        for _ in range(rounds):
            for name, scraper in scrapers.items():
                seconds[name].append(scraper.seconds())
        for scraper in scrapers.values():
            scraper.close()
        found[kind] = {name: Latency.of(times) for name, times in seconds.items()}
    return found


def throughput(servers: Sequence[Server], seconds: int) -> dict[str, float]:
    """Return requests per second of gzip scrapers at once, by server."""
    found = {}
    for server in servers:
        command = [program("wrk"), f"-c{SCRAPERS}", "-t2", f"-d{seconds}s", "--timeout", "30s"]
        command += ["-H", "Accept-Encoding: gzip", server.url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        match = _REQUESTS.search(done.stdout)
        assert match is not None
        found[server.name] = float(match[1])
    return found


def while_publishing(server: Server, api: str, seconds: float) -> Latency:
    """Return the latency of gzip scrapes while 1 % of the campaigns changes before each of many polls."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            change(api, 0.01)
            stop.wait(0.2)

    scraper = Scraper(server, packed=True)
    thread = threading.Thread(target=churn)
    thread.start()
    taken = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        taken.append(scraper.seconds())
        stop.wait(0.01)
    stop.set()
    thread.join()
    scraper.close()
    return Latency.of(taken)


def scrape_durations(targets: dict[str, str], folder: Path, seconds: float) -> dict[str, float]:
    """Return the medians of ``scrape_duration_seconds`` of a Prometheus that scrapes all targets."""
    port = free_port()
    # Intervals that are no multiples of each other: nobody's scrapes always fall on those of a slow one.
    intervals = {
        name: f"{(20_000 if name in _SLOW else 5_000) + 170 * index}ms" for index, name in enumerate(targets)
    }
    jobs = [
        {
            "job_name": name,
            "scrape_interval": intervals[name],
            "scrape_timeout": intervals[name],
            "scheme": urllib.parse.urlsplit(url).scheme,
            "tls_config": {"insecure_skip_verify": True},
            "static_configs": [{"targets": [urllib.parse.urlsplit(url).netloc]}],
        }
        for name, url in targets.items()
    ]
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with running(command):
        until(lambda: answers(f"http://127.0.0.1:{port}/-/ready"), "Prometheus is ready")
        time.sleep(seconds + 10)
        query = f"quantile_over_time(0.5, scrape_duration_seconds[{int(seconds)}s]) and on(job) up == 1"
        url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
    return {one["metric"]["job"]: float(one["value"][1]) for one in result}


def start_seconds(folder: Path) -> float:
    """Return how long the exporter takes until it serves the campaigns of its state file."""
    port = free_port()
    flags = ["--config.file=config.yaml", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    url = f"http://127.0.0.1:{port}/metrics"
    began = time.monotonic()
    with running([sys.executable, "-m", "exporter", *flags], cwd=folder):
        until(lambda: answers(url), "the exporter answers")
        seconds = time.monotonic() - began
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert b"intarget_campaign_" in answer.read()
    return seconds


def idle_cpu(server: Server, seconds: float) -> float:
    """Return the share of a core that a server uses while nobody asks it anything."""
    before = cpu_seconds(server.process.pid)
    time.sleep(seconds)
    return (cpu_seconds(server.process.pid) - before) / seconds
