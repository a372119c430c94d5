"""What the shipped rules cost a real Prometheus: ``python -m tests.bench.bench_rules [--campaigns=20000]``.

Prints how long each rule group's evaluation took, of an exposition with that many campaigns, and a steady
history of the channel counters over 7 d behind it, so that the long ranges have something to read.
"""

from __future__ import annotations

import argparse
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
SLOWNESS = {"sent": 1, "delivered": 1, "complaint": 10_000}
"""Every how many seconds a channel has one, by field; 200 otherwise: 0.5 % bounces, 0.01 % complaints."""
RECORDED = (
    "campaign:intarget_messages_sent:max",
    "campaign:intarget_messages_delivered:max",
    "campaign:intarget_messages_bounced:max",
    "campaign:intarget_complaints:max",
)
LOOKS = (6, 24, 25, 30, 48, 73, 78, 96)
"""How many hours the rules on campaigns look back."""
EVENTS = ('conversion_event="Delivered"', 'conversion_event="Clicked"')


def exposition(campaigns: int, accounts: int) -> str:
    """Return campaigns spread over accounts and channels, a few of them bad."""
    now = int(time.time())
    lines = ['intarget_build_info{version="0"} 1']
    for account in range(accounts):
        lines.append(f'intarget_up{{account="a{account}"}} 1')
        for channel in CHANNELS:
            labels = f'account="a{account}",channel="{channel}"'
            lines += [
                f"{metric.name}{{{labels}}} {now - 1_700_000_000}" for metric in CHANNEL_COUNTERS.values()
            ]
    for number in range(campaigns):
        labels = f'account="a{number % accounts}",campaign_id="{number}",channel="{CHANNELS[number % 3]}"'
        bad = 10 if number % 500 == 0 else 1
        for field, metric in CAMPAIGN_COUNTERS.items():
            value = {"sent": 12_500, "delivered": 12_340, "bounced": 160 * bad, "complaint": 4 * bad}.get(
                field, 50
            )
            lines.append(f"{metric.name}{{{labels}}} {value}")
        lines.append(f"intarget_campaign_start_timestamp_seconds{{{labels}}} {now - number * 100}")
        lines.append(f'intarget_campaign_info{{{labels},campaign_name="{number}",message_title="Hello"}} 1')
        for event in EVENTS:
            more = f'{labels},{event},conversion_period="1 day"'
            lines += [
                f"intarget_campaign_deposits{{{more}}} 154",
                f"intarget_campaign_deposits_amount{{{more}}} 18752.4",
                f"intarget_campaign_converted_users{{{more}}} 140",
            ]
    return "\n".join(lines) + "\n"


def write_history(path: Path, accounts: int, campaigns: int, until: int) -> None:
    """Write 7 d of channel counters, one sample a minute, and of campaigns what the rules look back at."""
    with path.open("w") as out:
        for name in RECORDED:
            out.write(f"# TYPE {name} gauge\n")
            for number in range(campaigns):
                labels = (
                    f'account="a{number % accounts}",campaign_id="{number}",channel="{CHANNELS[number % 3]}"'
                )
                out.writelines(
                    f"{name}{{{labels}}} 40 {until + 7200 - hours * 3600 + minutes * 60}\n"
                    for hours in sorted(LOOKS, reverse=True)
                    for minutes in range(0, 16, 4)
                )
        for field, metric in CHANNEL_COUNTERS.items():
            out.write(f"# TYPE {metric.family} counter\n")
            for account in range(accounts):
                for channel in CHANNELS:
                    labels = f'account="a{account}",channel="{channel}",job="intarget",instance="bench"'
                    out.writelines(
                        f"{metric.name}{{{labels}}} {(at - 1_700_000_000) // SLOWNESS.get(field, 200)} {at}\n"
                        for at in range(until - 7 * 86_400, until, 60)
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


def main() -> None:
    """Print one line for each group, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--campaigns", type=int, default=20_000)
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--interval", default="30s", help="of scrapes and evaluation")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="intarget-bench-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        (folder / "rules").mkdir()
        for file in ("limits.yaml", "recording.yaml", "alerts.yaml"):
            text = (RULES / file).read_text()
            (folder / "rules" / file).write_text(text.replace("interval: 1m", f"interval: {args.interval}"))
        # Blocks may not reach into the head: Prometheus would not append what is older than they are.
        write_history(folder / "history.om", args.accounts, args.campaigns, int(time.time()) - 7200)
        import_openmetrics(folder / "history.om", folder / "data")
        body = exposition(args.campaigns, args.accounts).encode()
        with _serve(body) as target:
            config = f"""
global: {{scrape_interval: {args.interval}, scrape_timeout: {args.interval}}}
rule_files: ["{folder}/rules/*.yaml"]
scrape_configs:
  - job_name: intarget
    static_configs: [{{targets: ["{target}"], labels: {{instance: bench}}}}]
"""
            options = ("--storage.tsdb.retention.time=30d",)
            with Prometheus(folder, config=config, options=options) as prometheus:
                _report(prometheus, len(body), args.campaigns)


def _report(prometheus: Prometheus, size: int, campaigns: int) -> None:
    """Wait until every group was evaluated three times with data to read, then print the slowest of each."""
    slowest: dict[str, float] = {}
    seen: dict[str, set[str]] = {}
    deadline = time.monotonic() + 600
    while not seen or min(len(times) for times in seen.values()) < 3:
        if time.monotonic() > deadline:
            raise TimeoutError("the rules were not evaluated three times within 600 s")
        time.sleep(1)
        if not prometheus.get("query", query="campaign:intarget_bounce:ratio")["result"]:
            continue
        groups = prometheus.get("rules")["groups"]
        for group in groups:
            seen.setdefault(group["name"], set()).add(group["lastEvaluation"])
            slowest[group["name"]] = max(slowest.get(group["name"], 0.0), group["evaluationTime"])
    faults = [rule for group in groups for rule in group["rules"] if rule["health"] != "ok"]
    print(f"{campaigns} campaigns, exposition of {size / 1e6:.0f} MB; slowest of three evaluations:")
    for group in groups:
        print(f"{group['name']:22} {len(group['rules']):3} rules  {slowest[group['name']]:7.3f} s")
    rules = [rule for group in groups for rule in group["rules"]]
    for rule in sorted(rules, key=lambda rule: rule["evaluationTime"], reverse=True)[:8]:
        print(f"  {rule['name']:50} {rule['evaluationTime']:7.3f} s")
    print(f"{'all':22}            {sum(slowest.values()):7.3f} s of every 60 s; {len(faults)} rules failed")


if __name__ == "__main__":
    main()
