"""Runs a month in half an hour, to see whether anything grows that should not.

``python -m bench.soak [--days=30] [--day=60] [--campaigns=20000]`` runs the exporter against an API whose
campaigns come, grow and leave, with the configuration's times cut so that one day takes `--day` seconds. On the
way the API fails in several ways, the configuration is reloaded, token and certificate are replaced, and a
scraper and a page reader come by. Memory, descriptors, threads, tasks of the state file are sampled; after the
first window has passed, their slope per day is fitted by least squares and printed with its standard error.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

WINDOW_DAYS = 14
COUNTS = (
    *("skipped", "sent", "delivered", "opened", "clicked", "bounced"),
    *("softBounced", "rejected", "failed", "temporaryFailed", "complaint", "unsubscribed"),
)
FAULTS = ("none", "none", "none", "none", "500", "429", "garbage", "hang", "drop", "empty")
"""What happens to the answers, changed a few times a day."""


class Api:
    """Campaigns of a rolling window: each starts at its time, grows for half a day, and is kept for ever."""

    def __init__(self, campaigns: int, day: float) -> None:
        self.every = day * WINDOW_DAYS / campaigns
        self.day = day
        self.begun = time.time() - day * WINDOW_DAYS
        self.fault = "none"
        self.tokens = {"soak-token-0"}

    def row(self, number: int, path: str) -> dict[str, Any]:
        """Return a campaign as it is now."""
        start = self.begun + number * self.every
        sent = int(5000 * min(1.0, (time.time() - start) / (self.day / 2)))
        row: dict[str, Any] = {
            "campaign_id": number,
            "message_title": f"Message {number}",
            "type": ("Email", "SMS", "Push")[number % 3],
            "campaign_start_at": datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M:%S+00"),
        }
        if path.endswith("statistics"):
            return row | {name: sent // (position + 1) for position, name in enumerate(COUNTS)}
        return row | {
            "campaign_stop_at": None,
            "campaign_name": f"Campaign {number}",
            "conversion_event": "Opened",
            "conversion_period": "1 day",
            "deposits_count": str(sent // 100),
            "deposits_amount": f"{sent / 4:.2f}",
            "converted_users": str(sent // 200),
        }

    def answer(self, path: str, asked: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Return the rows that are asked for, at most perPage."""
        newest = int((time.time() - self.begun) / self.every)
        if "campaignIds[]" in asked:
            numbers = [int(one) for one in asked["campaignIds[]"] if int(one) <= newest]
        elif "startFrom" in asked:
            whole = range(newest + 1)
            first = bisect_left(whole, _seconds(asked["startFrom"][0]), key=self._start)
            numbers = list(whole[first : bisect_right(whole, _seconds(asked["startTo"][0]), key=self._start)])
        else:
            numbers = []
        return [self.row(number, path) for number in numbers[: int(asked.get("perPage", ["10"])[0])]]

    def _start(self, number: int) -> float:
        return float(math.floor(self.begun + number * self.every))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def serve(api: Api) -> ThreadingHTTPServer:
    """Answer in threads of this process."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            asked = parse_qs(target.query)
            fault = api.fault
            if fault == "hang":
                time.sleep(1.5)
            if fault == "drop":
                self.close_connection = True
                return
            if asked.get("access-token", [""])[0] not in api.tokens:
                self._reply(403, b'{"message": "no"}')
            elif fault in {"500", "429"}:
                self._reply(int(fault), b"{}")
            elif fault == "garbage":
                self._reply(200, b'{"data": [{')
            else:
                rows = [] if fault == "empty" else api.answer(target.path, asked)
                self._reply(200, json.dumps(rows).encode())

        def _reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Say nothing: clients leave in the middle."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def configuration(folder: Path, api_port: int, day: float, campaigns: int) -> None:
    """Write configuration, token, certificate and web configuration."""
    scaled = {"window": WINDOW_DAYS, "young": 2, "poll": 5 / 1440, "old": 1 / 24, "stale": 0.5}
    times = {name: f"{max(100, round(days * day * 1000))}ms" for name, days in scaled.items()}
    (folder / "token").write_text("soak-token-0")
    (folder / "token").chmod(0o600)
    (folder / "config.yaml").write_text(
        f"""
accounts: [{{name: main, access_token_file: token, base_url: "http://127.0.0.1:{api_port}"}}]
poll:
  window: {times["window"]}
  refresh:
    - {{younger_than: {times["young"]}, every: {times["poll"]}}}
    - {{younger_than: {times["window"]}, every: {times["old"]}}}
  still_sending: {{lookback: {times["young"]}, every: {times["old"]}}}
  conversions_every: {times["old"]}
  stale_after: {times["stale"]}
api: {{requests_per_second: 10000, per_page: 5000, timeout: 1s, deadline: 30s, retries: 1}}
metrics: {{zero_hold: 1s, max_campaigns: {campaigns * 2}}}
state: {{path: state.db}}
"""
    )
    certificate(folder)
    (folder / "web.yaml").write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")


def certificate(folder: Path) -> None:
    """Write a new certificate."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "key.new", "-out", "cert.new", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "key.new").replace(folder / "key.pem")
    (folder / "cert.new").replace(folder / "cert.pem")


def sample(pid: int, folder: Path) -> dict[str, float]:
    """Return what the process holds now."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    return {
        "RSS, MB": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir()))),
        "threads": float(status["Threads"]),
        "state file, MB": sum(path.stat().st_size for path in folder.glob("state.db*")) / 1e6,
    }


def fetch(url: str) -> int:
    """Ask the exporter, whose certificate nobody signed; return the bytes of its answer, 0 if there is none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=20, context=context) as answer:
            return len(answer.read())
    except (OSError, urllib.error.URLError):
        return 0


def disturb(api: Api, folder: Path, process: subprocess.Popen[bytes], step: int) -> None:
    """Do one of the things that happen: a fault, a reload, a new token, a new certificate."""
    api.fault = random.choice(FAULTS)
    if step % 4 == 1:
        process.send_signal(signal.SIGHUP)
    if step % 4 == 2:
        token = f"soak-token-{step}"
        api.tokens.add(token)
        (folder / "token").write_text(token)
    if step % 4 == 3:
        certificate(folder)


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return the slope of a line through points, and its standard error."""
    mean_x, mean_y = (statistics.fmean(column) for column in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    return slope, math.sqrt(rest / max(1, len(points) - 2) / spread)


def soak(days: float, day: float, campaigns: int) -> int:
    """Run it, print the slopes, and return an exit code."""
    api = Api(campaigns, day)
    server = serve(api)
    series: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configuration(folder, server.server_port, day, campaigns)
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "exporter", "--config.file=config.yaml"]
            command += ["--web.listen-address=127.0.0.1:0", "--web.config.file=web.yaml"]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        try:
            url = _address(folder / "log", process)
            begun = time.monotonic()
            for step in itertools.count():
                now = (time.monotonic() - begun) / day
                if now > days or process.poll() is not None:
                    break
                scraped = fetch(f"{url}/metrics")
                fetch(f"{url}/")
                if now > WINDOW_DAYS / 2 and scraped:
                    for metric, value in sample(process.pid, folder).items():
                        series.setdefault(metric, []).append((now, value))
                if step % 5 == 0:
                    disturb(api, folder, process, step // 5)
                time.sleep(day / 20)
            alive = process.poll() is None
            process.send_signal(signal.SIGTERM)
            ended = time.monotonic()
            code = process.wait(60)
            print(f"ended {time.monotonic() - ended:.1f} s after SIGTERM")
        finally:
            process.kill()
            server.shutdown()
    print(f"{days:g} days of {day:g} s, {campaigns} campaigns in the window; exit code {code}")
    print(f"{'':>16} {'begins':>10} {'ends':>10} {'slope a day':>12} {'± (2 s.e.)':>11}")
    for metric, points in series.items():
        slope, error = fit(points)
        print(f"{metric:>16} {points[0][1]:10.1f} {points[-1][1]:10.1f} {slope:12.4f} {2 * error:11.4f}")
    return 0 if alive and code == 0 else 1


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Return where the exporter listens, once it has said so."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text().splitlines():
            if "listening on http" in line:
                return line[line.index("http") :].split('"')[0].split()[0]
        time.sleep(0.1)
    raise RuntimeError(log.read_text()[-2000:])


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--day", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--campaigns", type=int, default=20_000)
    arguments = parser.parse_args()
    return soak(arguments.days, arguments.day, arguments.campaigns)


if __name__ == "__main__":
    sys.exit(main())
