"""A statistics API whose every count a test sets, and the bookkeeping of what the counters should make of it.

It shares no code with the exporter, nor with the bundled simulator.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests._apiserver import CONVERSIONS, Api, ApiServer, conversion, stamp

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable

    from tests._apiserver import Asked, Fault

TOKEN: Final = "made-up"
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
_BODIES: Final = {
    "empty": b"[]",
    "error object": b'{"error": "internal", "data": []}',
    "html": b"<html>Maintenance</html>",
}

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


class ScriptedApi(ApiServer):
    """Serves `campaigns`; a page never has more than `cap` rows, whatever was asked for.

    Change anything only while holding `lock`. `fault` is one of FAULTS, or None. `low` has, by campaign, in how
    many more answers it shows a tenth of its counts. `listeners` are called before each answer.
    """

    def __init__(self, cap: int = 25) -> None:
        self.lock = threading.RLock()
        self.campaigns: list[Campaign] = []
        self.fault: str | None = None
        self.low: dict[Campaign, int] = {}
        self.listeners: list[Callable[[], None]] = []
        self._closing = threading.Event()
        super().__init__(Api(cap=cap, tokens=frozenset({TOKEN}), find=self._find, fault=self._fail))

    def __exit__(self, *of: object) -> None:
        self._closing.set()
        super().__exit__(*of)

    def _fail(self, asked: Asked) -> Fault | None:
        for listener in self.listeners:
            listener()
        fault = self.fault
        if fault is None:
            return None
        if fault == "hang":
            self._closing.wait(20)
            return 200, {"Content-Length": "1"}, b""
        if fault in _BODIES:
            return 200, {}, _BODIES[fault]
        _, headers, body = self.api.page(asked)
        half = body[: len(body) // 2]
        return {
            "500": (500, headers, body),
            "429": (429, headers, body),
            "truncated": (200, headers, half),
            "cut off": (200, headers | {"Content-Length": str(len(body))}, half),
        }[fault]

    def _find(self, asked: Asked) -> list[dict[str, Any]]:
        with self.lock:
            self.api.sent = {one.number: [int(one.sent_at)] for one in self.campaigns}
            return [
                row
                for campaign in sorted(self.campaigns, key=lambda one: (one.start, one.number))
                if self.api.selects(_identity(campaign, ""), asked)
                for row in (_conversions(campaign) if asked.path == CONVERSIONS else self._rows(campaign))
            ]

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


def _identity(campaign: Campaign, title: str) -> dict[str, Any]:
    return {
        "campaign_id": campaign.number,
        "message_title": title,
        "type": campaign.channel,
        "campaign_start_at": stamp(campaign.start),
    }


def _conversions(campaign: Campaign) -> Iterable[dict[str, Any]]:
    clicked = campaign.total("clicked")
    if clicked is not None and campaign.channel == "Email":
        yield conversion(campaign.number, campaign.start) | {
            "message_title": campaign.titles[0],
            "conversion_event": "Clicked",
            "deposits_count": str(clicked // 10),
            "deposits_amount": f"{clicked * 1.5:.2f}",
            "converted_users": str(clicked // 12),
        }
