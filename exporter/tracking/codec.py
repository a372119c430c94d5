"""Records to JSON and back, by name: a count stands under the name of its field in the API.

What is absent has its default, and what is unknown is left out, so that a field which is new, gone or in
another place changes no other. Values that could not be read are written as ``"?"``.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.api.fields import COUNTER_FIELDS, RESOURCES, Counts
from exporter.api.model import INVALID, Mark, TimeRange
from exporter.tracking.counters import NO_HOLDS, NONE_UNREAD, PENDING, Counters
from exporter.tracking.model import (
    AccountRecord,
    CampaignRecord,
    ChannelRecord,
    ConversionGroup,
    ConversionSnapshot,
    ConversionsRecord,
    Group,
    MessageRecord,
)

if TYPE_CHECKING:
    from exporter.api.model import Amount, Count, Values

Json: TypeAlias = Any
"""What `json.loads` returns."""

_INVALID: Final = "?"
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))  # `json.dumps` would make one each time


def dump(value: Json) -> str:
    """Return JSON, as short as it can be."""
    return _ENCODER.encode(value)


# Counts


def pack_counts(values: Counts[Count]) -> Json:
    """Return counts by field, without those that have no value."""
    pairs = zip(COUNTER_FIELDS, values, strict=True)
    return {name: _pack(value) for name, value in pairs if value is not None}


def unpack_counts(data: Json) -> Counts[Count]:
    """Undo `pack_counts`."""
    return Counts._make([_count(data.get(name)) for name in COUNTER_FIELDS])


def pack_counters(counters: Counters) -> Json:
    """Return counters by field: the value alone where that is all there is to say."""
    packed: dict[str, Json] = {}
    columns = (counters.top, counters.present, counters.held, counters.unread)
    for name, top, present, held, unread in zip(COUNTER_FIELDS, *columns, strict=True):
        if held is not None or unread or top != present:
            flags = {"held": True} if held is not None else {}
            flags |= {"unread": True} if unread else {}
            packed[name] = {"top": top, "present": present, **flags}
        elif top is not None:
            packed[name] = top
    return packed


def unpack_counters(data: Json) -> Counters:
    """Undo `pack_counters`; holds have no end yet."""
    items = [data.get(name) for name in COUNTER_FIELDS]
    if not any(isinstance(item, dict) for item in items):
        values: Values = Counts._make(items)
        return Counters(values, values)
    parts = [item if isinstance(item, dict) else {"top": item, "present": item} for item in items]
    top: Values = Counts._make([part.get("top") for part in parts])
    present: Values = Counts._make([part.get("present") for part in parts])
    held: Counts[float | None] = Counts._make([PENDING if part.get("held") else None for part in parts])
    unread: Counts[bool] = Counts._make([bool(part.get("unread")) for part in parts])
    return Counters(
        top,
        top if top == present else present,
        NO_HOLDS if held == NO_HOLDS else held,
        NONE_UNREAD if unread == NONE_UNREAD else unread,
    )


def _pack(value: object) -> Json:
    if isinstance(value, Mark):
        return _INVALID
    return str(value) if isinstance(value, Decimal) else value


def _count(value: Json) -> Count:
    return INVALID if value == _INVALID else value


def _amount(value: Json) -> Amount:
    if value is None:
        return None
    return INVALID if value == _INVALID else Decimal(value)


# Campaigns


def pack_campaign(record: CampaignRecord) -> Json:
    """Return a campaign without `evicted`."""
    packed = {
        "campaign_id": record.campaign_id,
        "channel": record.channel,
        "counters": pack_counters(record.counters),
        "groups": [_pack_group(group) for group in record.groups],
    }
    if record.past is not None:
        packed["past"] = _pack_group(record.past)
    if record.messages:
        packed["messages"] = [_pack_message(message) for message in record.messages]
    return packed


def unpack_campaign(data: Json, evicted: float | None) -> CampaignRecord:
    """Undo `pack_campaign`."""
    past = data.get("past")
    return CampaignRecord(
        data["campaign_id"],
        data["channel"],
        unpack_counters(data["counters"]),
        tuple([_unpack_group(group) for group in data["groups"]]),
        None if past is None else _unpack_group(past),
        tuple([_unpack_message(message) for message in data.get("messages", ())]),
        evicted,
    )


def _pack_group(group: Group) -> Json:
    packed = {
        "start": group.start,
        "rows": group.rows,
        "values": pack_counts(group.values),
        "titles": group.titles,
    }
    counted = {
        name: n
        for name, n, value in zip(COUNTER_FIELDS, group.counted, group.values, strict=True)
        if n != (0 if value is None else group.rows)
    }
    if counted:
        packed["counted"] = counted
    if group.messages:
        packed["messages"] = [[title, pack_counts(values)] for title, values in group.messages]
    return packed


def _unpack_group(data: Json) -> Group:
    rows, values = data["rows"], unpack_counts(data["values"])
    differing = data.get("counted", {})
    counted = [
        differing.get(name, 0 if value is None else rows)
        for name, value in zip(COUNTER_FIELDS, values, strict=True)
    ]
    messages = tuple([(title, unpack_counts(sums)) for title, sums in data.get("messages", ())])
    return Group(data["start"], rows, Counts._make(counted), values, tuple(data["titles"]), messages)


def _pack_message(message: MessageRecord) -> Json:
    packed = {"title": message.title, "counters": pack_counters(message.counters)}
    return packed | {"gone": True} if message.gone else packed


def _unpack_message(data: Json) -> MessageRecord:
    return MessageRecord(data["title"], unpack_counters(data["counters"]), bool(data.get("gone")))


# Channels, conversions, accounts


def pack_channel(record: ChannelRecord) -> Json:
    """Return a channel."""
    return {"channel": record.channel, "counters": pack_counters(record.counters)}


def unpack_channel(data: Json) -> ChannelRecord:
    """Undo `pack_channel`."""
    return ChannelRecord(data["channel"], unpack_counters(data["counters"]))


def pack_conversions(record: ConversionsRecord) -> Json:
    """Return the conversions of a campaign, amounts as text."""
    return {
        "campaign_id": record.campaign_id,
        "channel": record.channel,
        "campaign_name": record.campaign_name,
        "groups": [
            {
                "start": group.start,
                "event": group.event,
                "period": group.period,
                "rows": group.rows,
                "titles": group.titles,
                "stop": group.stop,
                "deposits": _pack(group.deposits),
                "amount": _pack(group.amount),
                "converted_users": _pack(group.converted_users),
            }
            for group in record.groups
        ],
        "gauges": [
            {
                "event": gauge.event,
                "period": gauge.period,
                "deposits": gauge.deposits,
                "amount": _pack(gauge.amount),
                "converted_users": gauge.converted_users,
            }
            for gauge in record.gauges
        ],
    }


def unpack_conversions(data: Json) -> ConversionsRecord:
    """Undo `pack_conversions`."""
    return ConversionsRecord(
        data["campaign_id"],
        data["channel"],
        data.get("campaign_name", ""),
        tuple([_unpack_conversion_group(group) for group in data["groups"]]),
        tuple([_unpack_gauge(gauge) for gauge in data["gauges"]]),
    )


def _unpack_conversion_group(data: Json) -> ConversionGroup:
    return ConversionGroup(
        data["start"],
        data["event"],
        data["period"],
        data["rows"],
        tuple(data.get("titles", ())),
        data.get("stop"),
        _count(data.get("deposits")),
        _amount(data.get("amount")),
        _count(data.get("converted_users")),
    )


def _unpack_gauge(data: Json) -> ConversionSnapshot:
    amount = data.get("amount")
    return ConversionSnapshot(
        data["event"],
        data["period"],
        data.get("deposits"),
        None if amount is None else Decimal(amount),
        data.get("converted_users"),
    )


def pack_account(record: AccountRecord) -> Json:
    """Return an account."""
    packed = {
        "since": record.since,
        "successes": dict(record.successes),
        "discovered": {str(campaign_id): time for campaign_id, time in record.discovered.items()},
        "proven": [[part.first, part.last] for part in record.proven],
    }
    return packed | {"overflowed": record.overflowed} if record.overflowed else packed


def unpack_account(data: Json) -> AccountRecord:
    """Undo `pack_account`; resources that aren't known any more are left out."""
    successes = data.get("successes", {})
    return AccountRecord(
        data["since"],
        {resource: successes[resource] for resource in RESOURCES if resource in successes},
        {int(campaign_id): time for campaign_id, time in data.get("discovered", {}).items()},
        tuple([TimeRange(first, last) for first, last in data.get("proven", ())]),
        tuple(data.get("overflowed", ())),
    )
