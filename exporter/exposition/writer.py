"""Snapshots to sample lines, fast.

Label values, everywhere in the exposition: at most `MAX_LABEL_LENGTH` characters, a longer one is cut and ends
in an ellipsis; every kind of line end becomes a newline (which the formats escape); other control characters,
except the tab, and lone surrogates become U+FFFD. Prometheus takes control characters, but line-based tools and
terminals suffer from them. Campaigns, messages and channels that differ only in what gets lost so are summed:
no series stands there twice.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from operator import add
from typing import TYPE_CHECKING, Final, TypeAlias

from exporter.api.fields import COUNTER_FIELDS, Counts
from exporter.exposition.catalogue import (
    ACCOUNT_INFO,
    CAMPAIGN_COUNTERS,
    CAMPAIGN_INFO,
    CAMPAIGN_OVERCOUNT,
    CAMPAIGN_START,
    CAMPAIGN_STOP,
    CHANNEL_COUNTERS,
    CHANNEL_OVERCOUNT,
    CONVERTED_USERS,
    DEPOSITS,
    DEPOSITS_AMOUNT,
    TITLE_LABEL,
)
from exporter.tracking.model import ZEROS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from exporter.api.model import Values
    from exporter.exposition.catalogue import Metric
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot

MAX_LABEL_LENGTH: Final = 256
"""In characters (code points), the ellipsis included."""

_SPECIAL: Final = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\"]')
_LINE_END: Final = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNPRINTABLE: Final = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

Counters: TypeAlias = "dict[str, tuple[Values, float]]"
"""Counts and the time they count from, by the labels of their series."""


def clean(value: str) -> str:
    """Return `value` as it stands in a label, not yet escaped."""
    if len(value) > MAX_LABEL_LENGTH:
        value = value[: MAX_LABEL_LENGTH - 1] + "…"
    if _SPECIAL.search(value) is None:
        return value
    return _UNPRINTABLE.sub("\ufffd", _LINE_END.sub("\n", value))


def escape(value: str) -> str:
    """Return `value` as it is written between quotes, in either format."""
    if len(value) <= MAX_LABEL_LENGTH and _SPECIAL.search(value) is None:
        return value
    return clean(value).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def number(value: float) -> str:
    """Return a finite `value` so that it parses back to the same float; without an exponent below 2^53."""
    value = float(value)  # an int where a float is meant is a float
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def metadata(metric: Metric, *, openmetrics: bool) -> bytes:
    """Return the lines HELP and TYPE of a family."""
    name, kind = (metric.family, metric.type) if openmetrics else (metric.name, metric.type)
    if kind == "info" and not openmetrics:
        kind = "gauge"
    return f"# HELP {name} {metric.help}\n# TYPE {name} {kind}\n".encode()


@dataclass(frozen=True, slots=True)
class Lines:
    """Sample lines by the name of their metric; in OpenMetrics some are others, because of ``_created``."""

    text: Mapping[str, str]
    openmetrics: Mapping[str, str]


def account_label(account: str) -> str:
    """Return the label that every series of an account begins with."""
    return f'account="{escape(account)}"'


def campaign_labels(account: str, campaign: CampaignSnapshot) -> str:
    """Return the labels of a campaign in a channel, without braces; `account` is its `account_label`."""
    return f'{account},campaign_id="{campaign.campaign_id}",channel="{escape(campaign.channel)}"'


def campaign_lines(
    campaigns: Iterable[tuple[str, CampaignSnapshot]], *, per_message: bool = False, created: bool = False
) -> Lines:
    """Return the sample lines of campaigns with their labels; those with the same labels become one.

    With `per_message`, counters are by message title; with `created`, OpenMetrics has ``_created``.
    """
    by_labels: dict[str, CampaignSnapshot] = {}
    for labels, campaign in campaigns:
        known = by_labels.get(labels)
        by_labels[labels] = campaign if known is None else _merged(known, campaign)
    counters = _message_counters(by_labels) if per_message else _campaign_counters(by_labels)
    text = {**_gauges(by_labels), **_counters(CAMPAIGN_COUNTERS, counters)}
    text[CAMPAIGN_OVERCOUNT.name] = _campaign_overcounts(by_labels, per_message=per_message)
    return Lines(text, text | _counters_created(CAMPAIGN_COUNTERS, counters) if created else text)


def account_lines(snapshot: AccountSnapshot, *, created: bool = False) -> Lines:
    """Return the sample lines of what an account has besides campaigns: its channels and its info metric."""
    account = account_label(snapshot.account)
    channels: Counters = {}
    overcounts: dict[str, Counts[int]] = {}
    for channel in snapshot.channels:
        labels = f'{account},channel="{escape(channel.channel)}"'
        _add(channels, labels, channel.values, snapshot.since)
        overcounts[labels] = Counts._make(map(add, overcounts.get(labels, ZEROS), channel.overcount))
    text = {
        CHANNEL_OVERCOUNT.name: "".join(
            [
                _overcounts(CHANNEL_OVERCOUNT, labels, overcounts[labels], where=values)
                for labels, (values, _) in channels.items()
            ]
        ),
        ACCOUNT_INFO.name: f'{ACCOUNT_INFO.name}{{{account},currency="{escape(snapshot.currency or "")}"}} 1\n',
        **_counters(CHANNEL_COUNTERS, channels),
    }
    return Lines(text, text | _counters_created(CHANNEL_COUNTERS, channels) if created else text)


def snapshot_lines(snapshot: AccountSnapshot, *, per_message: bool = False) -> Mapping[str, str]:
    """Return all sample lines of an account by the name of their metric, without ``_created``."""
    account = account_label(snapshot.account)
    labelled = ((campaign_labels(account, campaign), campaign) for campaign in snapshot.campaigns)
    return {**campaign_lines(labelled, per_message=per_message).text, **account_lines(snapshot).text}


def _merged(one: CampaignSnapshot, other: CampaignSnapshot) -> CampaignSnapshot:
    """Return two campaigns with the same labels as one."""
    stops = [stop for stop in (one.stop, other.stop) if stop is not None]
    return replace(
        one,
        start=min(one.start, other.start),
        stop=max(stops, default=None),
        values=_sum(one.values, other.values),
        overcount=Counts._make(map(add, one.overcount, other.overcount)),
        messages=one.messages + other.messages,
        conversions=one.conversions + other.conversions,
    )


def _sum(one: Values, other: Values) -> Values:
    """Add field by field; None where neither has a value."""
    return Counts._make(
        [b if a is None else a if b is None else a + b for a, b in zip(one, other, strict=True)]
    )


def _add(counters: Counters, labels: str, values: Values, since: float) -> None:
    """Add a series to `counters`, or `values` to the series that has its labels already."""
    if labels in counters:
        known, known_since = counters[labels]
        values, since = _sum(known, values), min(known_since, since)
    counters[labels] = (values, since)


def _campaign_counters(campaigns: Mapping[str, CampaignSnapshot]) -> Counters:
    return {labels: (campaign.values, campaign.start) for labels, campaign in campaigns.items()}


def _message_counters(campaigns: Mapping[str, CampaignSnapshot]) -> Counters:
    counters: Counters = {}
    for labels, campaign in campaigns.items():
        for message in campaign.messages:
            titled = f'{labels},{TITLE_LABEL}="{escape(message.title)}"'
            _add(counters, titled, message.values, campaign.start)
    return counters


def _campaign_overcounts(campaigns: Mapping[str, CampaignSnapshot], *, per_message: bool) -> str:
    """Return the lines of what isn't 0; with `per_message` of the sums over messages, as they are exported."""
    lines = []
    for labels, campaign in campaigns.items():
        overcount = campaign.overcount
        if per_message and campaign.messages:
            columns = zip(*[message.overcount for message in campaign.messages], strict=True)
            overcount = Counts._make([sum(column) for column in columns])
        if any(overcount):
            where = [n or None for n in overcount]
            lines.append(_overcounts(CAMPAIGN_OVERCOUNT, labels, overcount, where=where))
    return "".join(lines)


def _overcounts(metric: Metric, labels: str, overcount: Counts[int], *, where: Iterable[object]) -> str:
    """Return a line for each field that has something `where`."""
    return "".join(
        [
            f'{metric.name}{{{labels},field="{name}"}} {value}\n'
            for name, value, known in zip(COUNTER_FIELDS, overcount, where, strict=True)
            if known is not None
        ]
    )


def _counters(metrics: Mapping[str, Metric], counters: Counters) -> dict[str, str]:
    """Return the lines of each metric by its name."""
    lines = {}
    for index, name in enumerate([metrics[api_field].name for api_field in COUNTER_FIELDS]):
        lines[name] = "".join(
            [
                f"{name}{{{labels}}} {values[index]}\n"
                for labels, (values, _) in counters.items()
                if values[index] is not None
            ]
        )
    return lines


def _counters_created(metrics: Mapping[str, Metric], counters: Counters) -> dict[str, str]:
    """Return the same with ``_created`` beside each sample, where OpenMetrics wants it."""
    since = {labels: number(round(start, 3)) for labels, (_, start) in counters.items()}
    lines = {}
    for index, metric in enumerate([metrics[api_field] for api_field in COUNTER_FIELDS]):
        name, family = metric.name, metric.family
        lines[name] = "".join(
            [
                f"{name}{{{labels}}} {values[index]}\n{family}_created{{{labels}}} {since[labels]}\n"
                for labels, (values, _) in counters.items()
                if values[index] is not None
            ]
        )
    return lines


def _gauges(campaigns: Mapping[str, CampaignSnapshot]) -> dict[str, str]:
    """Return the lines of the gauges and the info metric of campaigns, by metric name."""
    deposits: dict[str, int] = {}
    amounts: dict[str, Decimal] = {}
    users: dict[str, int] = {}
    starts: list[str] = []
    stops: list[str] = []
    infos: list[str] = []
    for labels, campaign in campaigns.items():
        starts.append(f"{CAMPAIGN_START.name}{{{labels}}} {number(round(campaign.start, 3))}\n")
        if campaign.stop is not None:
            stops.append(f"{CAMPAIGN_STOP.name}{{{labels}}} {number(round(campaign.stop, 3))}\n")
        infos.append(
            f'{CAMPAIGN_INFO.name}{{{labels},campaign_name="{escape(campaign.campaign_name)}",'
            f'{TITLE_LABEL}="{escape(campaign.message_title)}"}} 1\n'
        )
        for conversion in campaign.conversions:
            key = (
                f'{labels},conversion_event="{escape(conversion.event)}",'
                f'conversion_period="{escape(conversion.period)}"'
            )
            if conversion.deposits is not None:
                deposits[key] = deposits.get(key, 0) + conversion.deposits
            if conversion.amount is not None:
                amounts[key] = amounts[key] + conversion.amount if key in amounts else conversion.amount
            if conversion.converted_users is not None:
                users[key] = users.get(key, 0) + conversion.converted_users
    # Digits that a float can't hold become infinite: no amount, so no sample.
    sums = [(key, value) for key, value in ((k, float(v)) for k, v in amounts.items()) if math.isfinite(value)]
    return {
        DEPOSITS.name: "".join([f"{DEPOSITS.name}{{{key}}} {value}\n" for key, value in deposits.items()]),
        DEPOSITS_AMOUNT.name: "".join(
            [f"{DEPOSITS_AMOUNT.name}{{{key}}} {number(value)}\n" for key, value in sums]
        ),
        CONVERTED_USERS.name: "".join(
            [f"{CONVERTED_USERS.name}{{{key}}} {value}\n" for key, value in users.items()]
        ),
        CAMPAIGN_START.name: "".join(starts),
        CAMPAIGN_STOP.name: "".join(stops),
        CAMPAIGN_INFO.name: "".join(infos),
    }
