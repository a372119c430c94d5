"""A statistics API whose every count a test sets, and the bookkeeping of what the counters should make of it.

It shares no code with the exporter, nor with the bundled simulator.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

METRICS: Final = {
    "skipped": "messages_skipped_total",
    "sent": "messages_sent_total",
    "delivered": "messages_delivered_total",
    "opened": "messages_opened_total",
    "clicked": "messages_clicked_total",
    "bounced": "messages_bounced_total",
    "softBounced": "messages_soft_bounced_total",
    "rejected": "messages_rejected_total",
    "failed": "messages_failed_total",
    "temporaryFailed": "messages_temporarily_failed_total",
    "complaint": "complaints_total",
    "unsubscribed": "unsubscribes_total",
}
"""The counters by API field, without their prefix."""

FAULTS: Final = ("500", "hang", "empty", "error object", "truncated", "html", "429", "cut off")

_TYPICAL: Final = {"sent": 900, "delivered": 860, "opened": 300, "clicked": 90, "skipped": 12}
"""About how much a field grows at a time; the others less."""


@dataclass
class Line:
    """One counter as it should be.

    `value` is the vendor's, `top` what is to be exported; `first` is the first sample, `counted` what has to be
    added since then.
    """

    value: int
    top: int
    first: int
    counted: int

    def move(self, value: int) -> None:
        """Let the vendor's value be another one; a lower one never shows."""
        self.counted += max(0, value - self.top)
        self.top = max(self.top, value)
        self.value = value


class Campaign:
    """A campaign in one channel: its messages, and its lines by field.

    With `known` it was there before the state began, so that its values are no increase. `sent_at` is when it
    last sent.
    """

    def __init__(
        self, number: int, channel: str, start: int, counts: list[dict[str, int]], *, known: bool
    ) -> None:
        self.number = number
        self.channel = channel
        self.start = start
        self.sent_at = start
        self.titles = [f"Message {index}" for index, _ in enumerate(counts)]
        self.counts = counts
        self.lines: dict[str, Line] = {}
        for name in METRICS:
            value = self.total(name)
            if value is not None:
                self.lines[name] = Line(value, value, value, 0) if known else Line(value, value, 0, value)

    def total(self, name: str) -> int | None:
        """Return the sum over the messages."""
        values = [one[name] for one in self.counts if name in one]
        return sum(values) if values else None

    def lose(self, names: Iterable[str]) -> None:
        """Have no value of these fields."""
        for name in names:
            for one in self.counts:
                one.pop(name, None)
            self.lines.pop(name, None)

    def add(self, name: str, amount: int, message: int = 0) -> None:
        """Let a message count more; a field may begin so."""
        counts = self.counts[message]
        counts[name] = counts.get(name, 0) + amount
        line = self.lines.setdefault(name, Line(0, 0, 0, 0))
        line.move(line.value + amount)

    def set(self, name: str, value: int) -> None:
        """Let the vendor say another total, all of it in the first message that has the field."""
        for one in self.counts:
            if name in one:
                one[name], value = value, 0
        self.lines[name].move(self.total(name) or 0)

    def expected(self) -> dict[tuple[str, str, str], int]:
        """Return what is to be exported, by metric, campaign and channel."""
        return {
            (f"intarget_campaign_{METRICS[name]}", str(self.number), self.channel.lower()): line.top
            for name, line in self.lines.items()
        }


def random_counts(
    rng: random.Random, channel: str, messages: int = 1, scale: float = 1.0
) -> list[dict[str, int]]:
    """Return counts of so many messages. Only Email and Push have openings."""
    return [
        {
            name: round(rng.randint(0, 2 * _TYPICAL.get(name, 8)) * scale)
            for name in METRICS
            if name != "opened" or channel in {"Email", "Push"}
        }
        for _ in range(messages)
    ]


class ScriptedApi:
    """Serves `campaigns`; a page never has more than `cap` rows, whatever was asked for.

    Change anything only while holding `lock`. `fault` is one of FAULTS, or None. `low` has, by campaign, in how
    many more answers it shows a tenth of its counts. `listeners` are called after each answer.
    """

    def __init__(self, cap: int = 25) -> None:
        self.cap = cap
        self.lock = threading.RLock()
        self.campaigns: list[Campaign] = []
        self.fault: str | None = None
        self.low: dict[Campaign, int] = {}
        self.answers = 0
        self.listeners: list[Callable[[], None]] = []
        self._closing = threading.Event()
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def hang(self) -> None:
        """Wait as a server does that has forgotten the client."""
        self._closing.wait(20)

    def answer(self, path: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Return the rows that a question is answered with."""
        with self.lock:
            self.answers += 1
            conversions = path.endswith("conversions")
            found: list[dict[str, Any]] = []
            for campaign in sorted(self.campaigns, key=lambda one: (one.start, one.number)):
                if _matches(campaign, query):
                    found += _conversions(campaign) if conversions else self._rows(campaign)
            return found[: min(self.cap, int(query.get("perPage", ["10"])[0]))]

    def _rows(self, campaign: Campaign) -> Iterable[dict[str, Any]]:
        part = 1
        if campaign in self.low:
            part = 10
            self.low[campaign] -= 1
            if not self.low[campaign]:
                del self.low[campaign]
        for title, counts in zip(campaign.titles, campaign.counts, strict=True):
            yield _identity(campaign, title) | {
                name: counts[name] // part if name in counts else None for name in METRICS
            }


def _matches(campaign: Campaign, query: dict[str, list[str]]) -> bool:
    numbers = query.get("campaignIds[]")
    if numbers is not None and str(campaign.number) not in numbers:
        return False
    for prefix, at in (("start", campaign.start), ("send", campaign.sent_at)):
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
        if not query.get(f"{prefix}From", [text])[0] <= text <= query.get(f"{prefix}To", [text])[0]:
            return False
    return True


def _identity(campaign: Campaign, title: str) -> dict[str, Any]:
    return {
        "campaign_id": campaign.number,
        "message_title": title,
        "type": campaign.channel,
        "campaign_start_at": time.strftime("%Y-%m-%d %H:%M:%S+00", time.gmtime(campaign.start)),
    }


def _conversions(campaign: Campaign) -> Iterable[dict[str, Any]]:
    clicked = campaign.total("clicked")
    if clicked is not None and campaign.channel == "Email":
        yield _identity(campaign, campaign.titles[0]) | {
            "campaign_stop_at": None,
            "campaign_name": f"Campaign {campaign.number}",
            "conversion_event": "Clicked",
            "conversion_period": "1 day",
            "deposits_count": str(clicked // 10),
            "deposits_amount": f"{clicked * 1.5:.2f}",
            "converted_users": str(clicked // 12),
        }


class _Handler(BaseHTTPRequestHandler):
    api: ScriptedApi
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Serve one connection, until its other end is killed maybe."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answer one question, or do what the fault says."""
        with contextlib.suppress(OSError):
            self._answer(self.api.fault)
        for listener in self.api.listeners:
            listener()

    def _answer(self, fault: str | None) -> None:
        if fault == "hang":
            self.api.hang()
            self.close_connection = True
            return
        status = int(fault) if fault in {"500", "429"} else 200
        target = urlsplit(self.path)
        body = {
            "empty": b"[]",
            "error object": b'{"error": "internal", "data": []}',
            "html": b"<html>Maintenance</html>",
        }.get(fault or "")
        if body is None:
            body = json.dumps(self.api.answer(target.path, parse_qs(target.query))).encode()
        length = len(body)
        if fault in {"truncated", "cut off"}:
            body = body[: length // 2]
            length = len(body) if fault == "truncated" else length
            self.close_connection = fault == "cut off"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
