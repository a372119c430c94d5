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

ACCOUNT = "account=~`${account:regex}`"
CHANNEL = "channel=~`${channel:regex}`"
CHANNELS = f"{ACCOUNT}, {CHANNEL}"
ONE = f'{CHANNELS}, campaign_id="$campaign"'
"""The campaign that is shown; the variable holds one id, so nothing has to be escaped."""
CAMPAIGN_KEY = ", ".join(CAMPAIGN_LABELS)
CHANNEL_KEY = ", ".join(CHANNEL_LABELS)
TOP = 50
"""Rows of the longest tables."""


def select(metric: str, *matchers: str) -> str:
    """Return a selector."""
    return f"{metric}{{{', '.join(matchers)}}}"


def newest(key: str, expression: str) -> str:
    """Return the maximum over replicas, with the labels of `key`."""
    return f"max by ({key}) ({expression})"


def count(field: str, *matchers: str) -> str:
    """Return the cumulative count of campaigns by the API's field; tracked titles are added up."""
    series = select(CAMPAIGN_COUNTERS[field].name, *matchers)
    return newest(CAMPAIGN_KEY, f"sum without (message_title) ({series})")


def started(*matchers: str) -> str:
    """Return when campaigns started, in seconds."""
    return newest(CAMPAIGN_KEY, select(CAMPAIGN_START.name, *matchers))


def names(*matchers: str, length: int = 60) -> str:
    """Return 1 for each campaign and channel with the label `campaign`: what to call it.

    That is its name (known from its conversions only), else the title of its message, else its id. Replicas
    may differ for a moment after a rename: one is taken, or joins would be many-to-many.
    """
    info = newest(f"{CAMPAIGN_KEY}, campaign_name, message_title", select(CAMPAIGN_INFO.name, *matchers))
    short = f"(?s:(.{{1,{length}}}).*)"
    for label, pattern in (("campaign_id", "(.*)"), ("message_title", short), ("campaign_name", short)):
        info = f'label_replace({info}, "campaign", "$1", "{label}", "{pattern}")'
    return f"topk by ({CAMPAIGN_KEY}) (1, {info})"


def with_name(expression: str, *matchers: str) -> str:
    """Return `expression`, by campaign and channel, with the label `campaign`."""
    return f"({expression}) * on ({CAMPAIGN_KEY}) group_left (campaign) {names(*matchers)}"


def limit(signal: str, *matchers: str, severity: str = "critical") -> str:
    """Return the limit of each account and channel."""
    return select("intarget:limit:ratio", f'signal="{signal}"', f'severity="{severity}"', *matchers)


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


def currency() -> str:
    """Return 1 for each account with its currency; one of them while replicas differ."""
    return f"topk by (account) (1, max by (account, currency) ({select('intarget_account_info', ACCOUNT)}))"
