"""A statistics API that answers fast, in a process of its own: ``python -m bench.fake_api CAMPAIGNS``.

Rows are made once, and an answer is a slice of them. ``POST /change?share=0.01`` lets that share of the
campaigns grow, evenly spread. It prints the port that it listens on.
"""

from __future__ import annotations

import json
import sys
import time
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

STATISTICS = "/rest/campaign/statistics"
CONVERSIONS = "/rest/campaign/statistic-conversions"
WINDOW = 13.5 * 86400.0
COUNTS = (
    *("skipped", "sent", "delivered", "opened", "clicked", "bounced"),
    *("softBounced", "rejected", "failed", "temporaryFailed", "complaint", "unsubscribed"),
)


class Rows:
    """The rows of both endpoints, by start."""

    def __init__(self, campaigns: int) -> None:
        now = time.time()
        self.starts = [float(int(now - WINDOW + index * WINDOW / campaigns)) for index in range(campaigns)]
        self._sent = [1000 + 7 * (index % 1000) for index in range(campaigns)]
        self.encoded = {path: [b""] * campaigns for path in (STATISTICS, CONVERSIONS)}
        for index in range(campaigns):
            self._encode(index)

    def change(self, share: float) -> int:
        """Let some campaigns grow; return how many."""
        changed = range(0, len(self.starts), max(1, round(1 / share))) if share else range(0)
        for index in changed:
            self._sent[index] += 1 + index % 5
            self._encode(index)
        return len(changed)

    def _encode(self, index: int) -> None:
        sent = self._sent[index]
        row = {
            "campaign_id": 100_000 + index,
            "message_title": f"Title of {index}, 25 % Discount 🎉",
            "type": ("Email", "SMS", "Push")[index % 3],
            "campaign_start_at": datetime.fromtimestamp(self.starts[index], UTC).strftime(
                "%Y-%m-%d %H:%M:%S+00"
            ),
        }
        counts = {name: sent // (position + 1) for position, name in enumerate(COUNTS)}
        self.encoded[STATISTICS][index] = json.dumps(row | counts).encode()
        conversion = {
            "campaign_stop_at": None,
            "campaign_name": f"Campaign {index}",
            "conversion_event": "Opened",
            "conversion_period": "1 day",
            "deposits_count": str(sent // 10),
            "deposits_amount": f"{sent / 4:.2f}",
            "converted_users": str(sent // 20),
        }
        self.encoded[CONVERSIONS][index] = json.dumps(row | conversion).encode()

    def answer(self, path: str, asked: dict[str, list[str]]) -> bytes:
        """Return the rows that are asked for, at most perPage."""
        most = int(asked.get("perPage", ["10"])[0])
        encoded = self.encoded[path]
        if "campaignIds[]" in asked:
            indices = [int(number) - 100_000 for number in asked["campaignIds[]"]]
            rows = [encoded[index] for index in indices if 0 <= index < len(encoded)]
        elif "sendFrom" in asked:  # nothing is sent any more
            rows = []
        else:
            first = bisect_left(self.starts, _seconds(asked["startFrom"][0]))
            last = bisect_right(self.starts, _seconds(asked["startTo"][0]))
            rows = encoded[first:last]
        return b"[" + b",".join(rows[:most]) + b"]"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def serve(rows: Rows) -> None:
    """Print the port and answer for ever."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body leave together
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            target = urlsplit(self.path)
            self._reply(rows.answer(target.path, parse_qs(target.query)))

        def do_POST(self) -> None:
            share = float(parse_qs(urlsplit(self.path).query)["share"][0])
            self._reply(str(rows.change(share)).encode())

        def _reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve(Rows(int(sys.argv[1])))
