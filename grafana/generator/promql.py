"""Queries: small builders, so that no panel spells out selectors, replicas or names by itself.

Two replicas of the exporter give each series twice, so everything is taken as the maximum over replicas before
it is added up or divided. Variables stand in back quotes with the format `regex`: there Grafana escapes what
has a meaning in a regular expression, and PromQL reads quotes and backslashes as they are.
"""

from __future__ import annotations

from exporter.exposition.catalogue import (
    CAMPAIGN_COUNTERS,
    CAMPAIGN_INFO,
    CAMPAIGN_LABELS,
    CAMPAIGN_START,
    CHANNEL_LABELS,
)
from grafana.generator.signals import LIMITS

ACCOUNT = "account=~`${account:regex}`"
CHANNEL = "channel=~`${channel:regex}`"
CHANNELS = f"{ACCOUNT}, {CHANNEL}"
ONE = f"{CHANNELS}, campaign_id=${{campaign:doublequote}}"
"""The campaign that is shown."""
CAMPAIGN_KEY = ", ".join(CAMPAIGN_LABELS)
CHANNEL_KEY = ", ".join(CHANNEL_LABELS)
TOP = 50
"""Rows of the longest tables."""
LINES = 12
"""Series of charts that have one for each account."""
AT_END = " @ end()"
"""Behind a selector: its value at the end of the time range, wherever the query is evaluated."""


def select(metric: str, *matchers: str, at: str = "") -> str:
    """Return a selector."""
    return f"{metric}{{{', '.join(matchers)}}}{at}"


def newest(key: str, expression: str) -> str:
    """Return the maximum over replicas, with the labels of `key`."""
    return f"max by ({key}) ({expression})"


def count(field: str, *matchers: str, at: str = "") -> str:
    """Return the cumulative count of campaigns by the API's field; tracked titles are added up."""
    series = select(CAMPAIGN_COUNTERS[field].name, *matchers, at=at)
    return newest(CAMPAIGN_KEY, f"sum without (message_title) ({series})")


def started(*matchers: str, at: str = "") -> str:
    """Return when campaigns started, in seconds."""
    return newest(CAMPAIGN_KEY, select(CAMPAIGN_START.name, *matchers, at=at))


def names(*matchers: str, length: int = 60, at: str = "") -> str:
    """Return 1 for each campaign and channel with the label `campaign`: what to call it.

    That is its name (known from its conversions only), else the title of its message, else its id. Replicas
    may differ for a moment after a rename: one is taken, or joins would be many-to-many.
    """
    info = select(CAMPAIGN_INFO.name, *matchers, at=at)
    named = newest(f"{CAMPAIGN_KEY}, campaign_name, message_title", info)
    short = f"(?s:(.{{1,{length}}}).*)"
    for label, pattern in (("campaign_id", "(.*)"), ("message_title", short), ("campaign_name", short)):
        named = f'label_replace({named}, "campaign", "$1", "{label}", "{pattern}")'
    return f"topk by ({CAMPAIGN_KEY}) (1, {named})"


def with_name(expression: str, *matchers: str, at: str = "") -> str:
    """Return `expression`, by campaign and channel, with the label `campaign`."""
    return f"({expression}) * on ({CAMPAIGN_KEY}) group_left (campaign) {names(*matchers, at=at)}"


def limit(signal: str, *matchers: str, severity: str = "critical", at: str = "") -> str:
    """Return the limit of each account and channel that has one."""
    return select("intarget:limit:ratio", f'signal="{signal}"', f'severity="{severity}"', *matchers, at=at)


def channel_rate(record: str, at: str = "") -> str:
    """Return a ratio of the chosen channels over the chosen window, or what came within it."""
    return newest(CHANNEL_KEY, select(f"channel:intarget_{record}", CHANNELS, at=at))


def judged(signal: str, at: str = "") -> str:
    """Return a channel's ratio over the window, where there were as many messages as alerts need."""
    messages = "sent" if signal == "bounce" else "delivered"
    sent = channel_rate(f"messages_{messages}:increase$window", at)
    if signal in LIMITS:
        least = newest(CHANNEL_KEY, select("intarget:limit:messages", f'signal="{signal}"', CHANNELS, at=at))
        enough = f"{sent} >= on ({CHANNEL_KEY}) {least}"
    else:
        enough = f"{sent} >= {LIMITS['complaint'].least_messages}"
    return f"({channel_rate(f'{signal}:ratio_increase$window', at)} and {enough})"


def limit_used(signal: str, at: str = "") -> str:
    """Return which share of a limit the channels use."""
    return f"{judged(signal, at=at)} / on ({CHANNEL_KEY}) {newest(CHANNEL_KEY, limit(signal, CHANNELS, at=at))}"


def leading(number: int, key: str, expression: str, expression_at_end: str) -> str:
    """Return the series that are the largest at the end of the time range (`topk` alone: at each step)."""
    return f"({expression}) and on ({key}) topk({number}, {expression_at_end})"


def present(expression: str, metric: str, *matchers: str) -> str:
    """Return an expression if a metric is there at the end of the time range.

    A figure with a sparkline shows the range's last value: without this, that of data which are long gone.
    """
    return f"({expression}) and on () count({select(metric, *matchers, at=AT_END)})"


def marked(label: str, expressions: dict[str, str]) -> str:
    """Return the union of expressions, told apart by a label."""
    return "\nor\n".join(
        f'label_replace({expression}, "{label}", "{value}", "", "")'
        for value, expression in expressions.items()
    )


def risk(*matchers: str) -> str:
    """Return which share of a limit campaigns surely use: the larger one of bounces and complaints."""
    shares = {
        signal: f"{select(f'campaign:intarget_{signal}:wilson_lower', *matchers)}"
        f" / on ({CHANNEL_KEY}) group_left () {limit(signal, CHANNELS)}"
        for signal in ("bounce", "complaint")
    }
    return f"max by ({CAMPAIGN_KEY}) (\n{marked('signal', shares)}\n)"


def brought(record: str, window: str, *matchers: str) -> str:
    """Return what campaigns brought within a window.

    The recorded series may have missed a new campaign's zero, and `increase` guesses at its ends: what began
    within the window is counted as it is.
    """
    series = select(record, *matchers)
    new = f"{started(*matchers)} >= scalar(min_over_time(vector(time())[{window}:5m]))"
    return (
        f"(max by ({CAMPAIGN_KEY}) ({series} and on ({CAMPAIGN_KEY}) ({new}))"
        f" or max by ({CAMPAIGN_KEY}) (round(increase({series}[{window}]))))"
    )


def currency() -> str:
    """Return 1 for each account with its currency; one of them while replicas differ."""
    return f"topk by (account) (1, max by (account, currency) ({select('intarget_account_info', ACCOUNT)}))"
