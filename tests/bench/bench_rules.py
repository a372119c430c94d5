"""What the shipped rules cost a real Prometheus: ``python -m tests.bench.bench_rules``.

One account with 2,000, 5,000 and 20,000 campaigns in three channels, started evenly over the last two weeks;
the newest tenth still sends, and one in 500 is bad. Behind it lies the history that the rules read: of
channels what is recorded every minute of two weeks, of campaigns what is recorded at the times to which the
rules look back. Prometheus evaluates every group; then each rule is asked for again, alone, and its processor
time is measured: what else the machine does doesn't count.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from grafana.generator.recording import campaign as record_name
from grafana.generator.signals import LIMITED, RECURRING_KNOWN
from tests.rules.prometheus import Prometheus, import_openmetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RULES = Path(__file__).parents[2] / "grafana" / "rules"
CHANNELS = ("email", "sms", "push")
EVENTS = ('conversion_event="Delivered"', 'conversion_event="Clicked"')
DAY = 86_400
DEADLINE = 900
REPETITIONS = 5
"""The least of so many counts: garbage is collected in one of them, whose it is not."""
LOOKS = (6, 96)
"""How many hours before now the rules look at campaigns."""
RECURRING_LOOKS = sorted(
    {
        49.0,
        *(
            int(ago[:-1]) / {"m": 60, "h": 1}[ago[-1]]
            for ratio in LIMITED
            for recent in ratio.recent
            for ago in (recent.window, *dict(recent.carried))
        ),
    }
)
"""The same, of campaigns that recur."""
LATE = (0, 240, 480, 720, 960)
"""Seconds after it, as the evaluation takes place some minutes after the start."""
RECORDED = ("sent", "delivered", "bounced", "complaint")
"""Fields that are recorded of campaigns."""
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

    @property
    def recurs(self) -> bool:
        """Whether it still sends after more than two days."""
        return self._hourly > 0 and self._now - self.start > RECURRING_KNOWN

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


def _write_looks(
    out: TextIO, operation: str, *, campaigns: list[Campaign], looks: Iterable[float], now: int
) -> None:
    """Write what was recorded of campaigns under names that end in `operation`, at the times of `looks`."""
    times = sorted({min(now, int(now - hours * 3600) + late) for hours in looks for late in LATE})
    for field in RECORDED:
        name = record_name(field, operation)
        out.write(f"# TYPE {name} gauge\n")
        for campaign in campaigns:
            lines = ((campaign.count(field, at), at) for at in times if at >= campaign.start)
            out.writelines(f"{name}{{{campaign.labels}}} {value} {at}\n" for value, at in lines)


def write_history(path: Path, campaigns: list[Campaign], now: int) -> None:
    """Write what had been recorded until now, as OpenMetrics."""
    with path.open("w") as out:
        recurring = [campaign for campaign in campaigns if campaign.recurs]
        _write_looks(out, "max", campaigns=campaigns, looks=LOOKS, now=now)
        _write_looks(out, "recurring", campaigns=recurring, looks=RECURRING_LOOKS, now=now)
        for name, growth in PER_MINUTE.items():
            family, _, window = name.partition("{")
            for channel in CHANNELS:
                labels = f'account="a",channel="{channel}"' + (f",{window[:-1]}" if window else "")
                for minute in range(-14 * 1440, 0):
                    value = int(growth * (minute + 20 * 1440)) if growth else 40
                    out.write(f"{family}{{{labels}}} {value} {now + minute * 60}\n")
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
            text = re.sub(
                r"interval: (\d+)m", lambda m: f"interval: {int(m[1]) * interval}s", (RULES / file).read_text()
            )
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


def processor_seconds(prometheus: Prometheus) -> float:
    """Return the processor time that Prometheus has used."""
    fields = Path(f"/proc/{prometheus.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def evaluated(prometheus: Prometheus) -> tuple[list[dict[str, Any]], float]:
    """Wait until every group was evaluated over all data; return the groups and the time of the last one."""
    scraped = 0.0
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        time.sleep(1)
        if not scraped and prometheus.get("query", query="intarget_campaign_info")["result"]:
            scraped = time.time()
        groups = prometheus.get("rules")["groups"]
        times = [datetime.fromisoformat(group["lastEvaluation"]).timestamp() for group in groups]
        # Not shown before it has ended, so what began after the scrape is over.
        if scraped and min(times) > scraped:
            return groups, max(times)
    raise TimeoutError(f"the rules were not evaluated within {DEADLINE} s")


def costs(prometheus: Prometheus) -> dict[tuple[str, str, int], float]:
    """Return the processor time of every rule's expression by group, rule and place, nothing else going on."""
    groups, at = evaluated(prometheus)
    (prometheus.folder / "prometheus.yml").write_text("{}")
    os.kill(prometheus.pid, signal.SIGHUP)
    deadline = time.monotonic() + 60
    while prometheus.get("rules")["groups"] and time.monotonic() < deadline:
        time.sleep(0.1)
    found = {}
    for group in groups:
        for place, rule in enumerate(group["rules"]):
            spent = []
            for _ in range(REPETITIONS):
                before = processor_seconds(prometheus)
                prometheus.get("query", query=f"count({rule['query']})", time=at)
                spent.append(processor_seconds(prometheus) - before)
            found[group["name"], rule["name"], place] = min(spent)
    return found


def intervals() -> dict[str, int]:
    """Return how many seconds lie between two evaluations of each group, as shipped."""
    text = "".join((RULES / file).read_text() for file in ("limits.yaml", "recording.yaml", "alerts.yaml"))
    return {
        name: 60 * int(minutes) for name, minutes in re.findall(r"- name: (\S+)\n    interval: (\d+)m", text)
    }


def _memory(prometheus: Prometheus) -> float:
    """Return the most memory that it has had, in GB."""
    status = Path(f"/proc/{prometheus.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e6


def main() -> None:
    """Print a table of groups, the dearest rules, and how the cost grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--campaigns", default="2000,5000,20000")
    parser.add_argument("--interval", type=int, default=30, help="of scrapes and evaluation, in seconds")
    parser.add_argument("--top", type=int, default=10, help="how many of the dearest rules are listed")
    args = parser.parse_args()
    sizes = [int(size) for size in args.campaigns.split(",")]
    totals, seconds_between = {}, intervals()
    for size in sizes:
        with running(size, args.interval) as prometheus:
            found = costs(prometheus)
            memory = _memory(prometheus)
        groups: dict[str, float] = defaultdict(float)
        for (group, _, _), cost in found.items():
            groups[group] += cost
        totals[size] = sum(groups.values())
        a_minute = sum(cost * 60 / seconds_between[group] for group, cost in groups.items())
        print(
            f"{size} campaigns: {totals[size]:.2f} s of processor time, {a_minute:.2f} s a minute, "
            f"{memory:.1f} GB",
            flush=True,
        )
        for group, cost in groups.items():
            print(f"  {group:22} {cost:6.2f} s, every {seconds_between[group]} s")
        for key in sorted(found, key=lambda key: -found[key])[: args.top]:
            print(f"    {key[1]:48} {found[key]:6.2f} s")
    if len(sizes) > 1:
        exponent = math.log(totals[sizes[-1]] / totals[sizes[0]]) / math.log(sizes[-1] / sizes[0])
        print(f"the cost grows with campaigns ^ {exponent:.2f}")


if __name__ == "__main__":
    main()
