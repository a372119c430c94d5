"""What the shipped rules cost a real Prometheus: ``python -m tests.bench.bench_rules --campaigns=2000,5000,20000``.

One account with that many campaigns in three channels, started evenly over the last two weeks; the newest tenth
still sends, and one in 500 is bad. Behind it lies the history that the rules read: of channels what is recorded every
minute of two weeks, of campaigns what is recorded at the times to which the rules look back. Every group is
evaluated by Prometheus itself; its processor time is measured, so that it doesn't matter what else the machine does.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from tests.rules.prometheus import Prometheus, import_openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterator

RULES = Path(__file__).parents[2] / "grafana" / "rules"
CHANNELS = ("email", "sms", "push")
EVENTS = ('conversion_event="Delivered"', 'conversion_event="Clicked"')
DAY = 86_400
LOOKS = (1, 6, 24, 25, 30, 48, 73, 78, 96)
"""How many hours before now the rules look at campaigns."""
LATE = (0, 240, 480, 720, 960)
"""Seconds after it, as the evaluation takes place some minutes after the start."""
RECORDED = {
    "campaign:intarget_messages_sent:max": "sent",
    "campaign:intarget_messages_delivered:max": "delivered",
    "campaign:intarget_messages_bounced:max": "bounced",
    "campaign:intarget_complaints:max": "complaint",
}
PER_MINUTE = {
    "channel:intarget_messages_sent:max": 60,
    "channel:intarget_messages_sent:net": 60,
    "channel:intarget_messages_delivered:net": 59,
    "channel:intarget_messages_bounced:net": 0.6,
    "channel:intarget_messages_soft_bounced:net": 0.2,
    "channel:intarget_messages_opened:net": 12,
    "channel:intarget_messages_clicked:net": 2,
    "channel:intarget_complaints:net": 0.006,
    "channel:intarget_unsubscribes:net": 0.1,
    "channel:intarget_messages_failed:net": 0.1,
    "channel:intarget_messages_rejected:net": 0.1,
    **{f'channel:intarget_rhythm:messages{{window="{hours}h"}}': 0 for hours in (2, 4, 8, 12, 16, 24)},
}
"""What is recorded of channels, and how much it grows."""


class Campaign:
    """One of many: `number` of `of`, the higher the older."""

    def __init__(self, number: int, of: int, now: int) -> None:
        self.labels = f'account="a",campaign_id="{number}",channel="{CHANNELS[number % 3]}"'
        self.start = now - 3600 - number * 14 * DAY // of
        self._hourly = 10 if number < of // 10 or number % 20 == 0 else 0
        self._bad = 10 if number % 500 == 0 else 1
        self._now = now

    def count(self, field: str, at: int) -> int:
        """Return a counter of the campaign at a time."""
        sent = 12_500 - self._hourly * (self._now - at) // 3600
        per_mille = {"sent": 1000, "delivered": 990, "bounced": 10 * self._bad, "complaint": 0.1 * self._bad}
        return int(sent * per_mille.get(field, 5) / 1000)


def exposition(campaigns: list[Campaign], now: int) -> str:
    """Return what an exporter would serve."""
    lines = [
        'intarget_build_info{version="0"} 1',
        'intarget_up{account="a"} 1',
        f'intarget_window_seconds{{account="a"}} {14 * DAY}',
    ]
    for channel in CHANNELS:
        labels = f'account="a",channel="{channel}"'
        for field, metric in CHANNEL_COUNTERS.items():
            lines.append(f"{metric.name}{{{labels}}} {now // 60 * 60}")
            lines.append(f'intarget_channel_overcount{{{labels},field="{field}"}} 0')
    for campaign in campaigns:
        labels = campaign.labels
        lines += [f"{m.name}{{{labels}}} {campaign.count(f, now)}" for f, m in CAMPAIGN_COUNTERS.items()]
        lines.append(f"intarget_campaign_start_timestamp_seconds{{{labels}}} {campaign.start}")
        lines.append(f'intarget_campaign_info{{{labels},campaign_name="name",message_title="Hello"}} 1')
        for event in EVENTS:
            more = f'{labels},{event},conversion_period="1 day"'
            lines.append(f"intarget_campaign_converted_users{{{more}}} 140")
    return "\n".join(lines) + "\n"


def write_history(path: Path, campaigns: list[Campaign], now: int) -> None:
    """Write what had been recorded until now, as OpenMetrics."""
    with path.open("w") as out:
        for name, field in RECORDED.items():
            out.write(f"# TYPE {name} gauge\n")
            for campaign in campaigns:
                times = [now - hours * 3600 + late for hours in sorted(LOOKS, reverse=True) for late in LATE]
                out.writelines(
                    f"{name}{{{campaign.labels}}} {campaign.count(field, at)} {at}\n"
                    for at in times
                    if at >= campaign.start
                )
        for name, growth in PER_MINUTE.items():
            family, _, window = name.partition("{")
            for channel in CHANNELS:
                labels = f'account="a",channel="{channel}"' + (f",{window[:-1]}" if window else "")
                out.writelines(
                    f"{family}{{{labels}}} {int(growth * (minute + 20 * 1440)) if growth else 40} {now + minute * 60}\n"
                    for minute in range(-14 * 1440, 0)
                )
        out.write("# EOF\n")


@contextmanager
def _serve(body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@contextmanager
def running(count: int, interval: int) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped rules over so many campaigns."""
    with tempfile.TemporaryDirectory(prefix="intarget-bench-") as name:
        folder, now = Path(name), int(time.time())
        (folder / "data").mkdir()
        campaigns = [Campaign(number, count, now) for number in range(count)]
        write_history(folder / "history.om", campaigns, now)
        import_openmetrics(folder / "history.om", folder / "data")
        for file in ("limits.yaml", "recording.yaml", "alerts.yaml"):
            text = (RULES / file).read_text().replace("interval: 1m", f"interval: {interval}s")
            (folder / file).write_text(text)
        with _serve(exposition(campaigns, now).encode()) as target:
            config = f"""
global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}
rule_files: ["{folder}/*.yaml"]
scrape_configs:
  - job_name: intarget
    static_configs: [{{targets: ["{target}"], labels: {{instance: bench}}}}]
"""
            options = ("--storage.tsdb.retention.time=30d", "--query.timeout=10m")
            with Prometheus(folder, config=config, options=options) as prometheus:
                yield prometheus


def seconds(prometheus: Prometheus) -> float:
    """Return the processor time that Prometheus has used."""
    fields = Path(f"/proc/{prometheus.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for_evaluations(prometheus: Prometheus) -> list[dict]:
    """Wait until every group was evaluated twice with data to read; return the groups."""
    seen: dict[str, set[str]] = {}
    deadline = time.monotonic() + 900
    while not seen or min(len(times) for times in seen.values()) < 1:
        if time.monotonic() > deadline:
            raise TimeoutError("the rules were not evaluated twice within 900 s")
        time.sleep(1)
        if not prometheus.get("query", query="intarget_campaign_info")["result"]:
            continue
        groups = prometheus.get("rules")["groups"]
        for group in groups:
            if not group["lastEvaluation"].startswith("0001"):
                seen.setdefault(group["name"], set()).add(group["lastEvaluation"])
            else:
                seen.setdefault(group["name"], set())
    return groups


def cost_by_rule(prometheus: Prometheus, groups: list[dict]) -> list[tuple[float, str, str, int]]:
    """Return the processor time of every rule's expression: seconds, group, rule, index."""
    found = []
    for group in groups:
        for index, rule in enumerate(group["rules"]):
            before = seconds(prometheus)
            prometheus.get("query", query=f"count({rule['query']})")
            found.append((seconds(prometheus) - before, group["name"], rule["name"], index))
    return found
