"""State files of 0.1.0, in which counts stood by position, to records of this version."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.tracking import codec
from exporter.tracking.model import FOREVER

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

Record: TypeAlias = tuple[str, str, float | None, str]
"""Kind, key, when it left the window, data."""

FIELDS: Final = (
    *("skipped", "sent", "delivered", "opened", "clicked", "bounced", "softBounced", "rejected", "failed"),
    *("temporaryFailed", "complaint", "unsubscribed"),
)
"""Their order in these files."""

SLACK: Final = 3600
"""0.1.0 took a campaign for new that started up to so many seconds before the last successful poll."""

_TABLES: Final = ("account", "success", "campaign", "channel", "conversions", "discovered", "memory")


def read(db: sqlite3.Connection) -> tuple[tuple[str, list[Record]], ...]:
    """Return the records of each account."""
    accounts = db.execute("SELECT account, since FROM account ORDER BY account").fetchall()
    return tuple((account, list(_records(db, account, since))) for account, since in accounts)


def drop(db: sqlite3.Connection) -> None:
    """Remove the tables."""
    for table in _TABLES:
        db.execute(f"DROP TABLE {table}")


def _records(db: sqlite3.Connection, account: str, since: float) -> Iterator[Record]:
    overcounts: dict[tuple[str, str], int] = defaultdict(int)
    query = "SELECT campaign_id, channel, evicted, data FROM campaign WHERE account = ?"
    for campaign_id, channel, evicted, data in db.execute(query, (account,)).fetchall():
        campaign = _campaign(json.loads(data))
        for name, item in campaign["counters"].items():
            overcounts[campaign["channel"], name] += (item["top"] or 0) - (item["present"] or 0)
        yield "campaign", f"{campaign_id}/{channel}", evicted, codec.dump(campaign)
    query = "SELECT channel, data FROM channel WHERE account = ?"
    for channel, data in db.execute(query, (account,)).fetchall():
        yield "channel", channel, None, codec.dump(_channel(json.loads(data), overcounts))
    query = "SELECT campaign_id, channel, data FROM conversions WHERE account = ?"
    for campaign_id, channel, data in db.execute(query, (account,)).fetchall():
        yield "conversions", f"{campaign_id}/{channel}", None, codec.dump(_conversions(json.loads(data)))
    query = "SELECT key, value FROM memory WHERE account = ?"
    for key, value in db.execute(query, (account,)).fetchall():
        yield "note", key, None, value
    yield "account", "", None, codec.dump(_account(db, account, since))


def _account(db: sqlite3.Connection, account: str, since: float) -> dict[str, Any]:
    successes = dict(db.execute("SELECT endpoint, time FROM success WHERE account = ?", (account,)).fetchall())
    discovered = db.execute("SELECT campaign_id, time FROM discovered WHERE account = ?", (account,)).fetchall()
    last = successes.get("statistics")
    return {
        "since": since,
        "successes": successes,
        "discovered": dict(discovered),
        "proven": [] if last is None else [[int(last) - SLACK, FOREVER]],
    }


def _by_name(values: list[Any]) -> dict[str, Any]:
    return {name: value for name, value in zip(FIELDS, values, strict=True) if value is not None}


def _counters(values: list[Any]) -> dict[str, Any]:
    counters = {}
    for name, item in zip(FIELDS, values, strict=True):
        if item:
            top, vendor, _low, _corrections, held, as_is = item
            counters[name] = {"top": top, "present": vendor, "held": bool(held), "unread": bool(as_is)}
    return counters


def _campaign(data: list[Any]) -> dict[str, Any]:
    campaign_id, channel, counters, groups, messages = data
    return {
        "campaign_id": campaign_id,
        "channel": channel,
        "counters": _counters(counters),
        "groups": [
            {
                "start": start,
                "rows": rows,
                "values": _by_name(values),
                # At least one row had a value; how many did wasn't kept
                "counted": dict.fromkeys(_by_name(values), 1),
                "titles": titles,
                "messages": [[title, _by_name(sums)] for title, sums in by_title],
            }
            for start, rows, values, titles, by_title in groups
        ],
        "messages": [
            {"title": title, "counters": _counters(values), "gone": bool(gone)}
            for title, values, gone in messages
        ],
    }


def _channel(data: list[Any], overcounts: dict[tuple[str, str], int]) -> dict[str, Any]:
    channel, totals, holds = data
    counters = {}
    for name, total, held in zip(FIELDS, totals, holds, strict=True):
        if total is not None:
            present = total - overcounts[channel, name]
            counters[name] = {"top": total, "present": present, "held": bool(held)}
    return {"channel": channel, "counters": counters}


def _conversions(data: list[Any]) -> dict[str, Any]:
    campaign_id, channel, campaign_name, groups, gauges = data
    group = ("start", "event", "period", "rows", "titles", "stop", "deposits", "amount", "converted_users")
    gauge = ("event", "period", "deposits", "amount", "converted_users")
    return {
        "campaign_id": campaign_id,
        "channel": channel,
        "campaign_name": campaign_name,
        "groups": [dict(zip(group, values, strict=True)) for values in groups],
        "gauges": [dict(zip(gauge, values, strict=True)) for values in gauges],
    }
