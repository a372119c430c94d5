"""How the simulator's tests ask it: a clock to move, and questions by name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from exporter.simulator import DEMO_TOKEN, FIELDS, Campaign, FixedMessage, Simulator

if TYPE_CHECKING:
    from exporter.simulator import Answer

NOW = 1_795_440_000.0  # 2026-11-23 13:20:00 UTC
HOUR = 3600.0
DAY = 24 * HOUR
EVERYTHING = {"startFrom": 0.0, "startTo": NOW + DAY, "perPage": 100_000}


@dataclass
class Clock:
    """A clock that tests move."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


def date(seconds: float) -> str:
    """Write a time as the API's filters want it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def target(endpoint: str = "statistics", token: str | None = DEMO_TOKEN, **parameters: object) -> str:
    """Write the path and query of a question; numbers of date filters are seconds since the epoch."""
    path = {"statistics": "statistics", "conversions": "statistic-conversions"}[endpoint]
    pairs = []
    for name, value in parameters.items():
        if name == "ids":
            pairs += [f"campaignIds[]={number}" for number in value]
        else:
            pairs.append(f"{name}={quote(date(value) if isinstance(value, float) else str(value))}")
    if token is not None:
        pairs.append(f"access-token={token}")
    return f"/rest/campaign/{path}?{'&'.join(pairs)}"


def ask(simulator: Simulator, endpoint: str = "statistics", **parameters: object) -> Answer:
    """Ask without a socket."""
    return simulator.answer(target(endpoint, **parameters))


def rows(simulator: Simulator, endpoint: str = "statistics", **parameters: object) -> list[dict[str, Any]]:
    """Ask without a socket and return the rows of the answer, whatever its envelope."""
    answer = ask(simulator, endpoint, **parameters)
    assert answer.status == 200
    found = json.loads(answer.body)
    if isinstance(found, dict):
        found = found.get("data", found.get("items", [found]))
    return found


def fixed(campaign_id: int, start: float, channel: str = "Email", titles: str = "A", **kw: Any) -> Campaign:  # noqa: ANN401
    """Make a campaign with one message for each letter of `titles`; count i of message m is 1000m + i."""
    messages = [
        FixedMessage(title, {name: 1000 * m + i for i, name in enumerate(FIELDS)}, **kw)
        for m, title in enumerate(titles, 1)
    ]
    return Campaign(campaign_id, channel, start, list(messages), f"Campaign {campaign_id}")
