"""The catalogue against the contract and against itself."""

from __future__ import annotations

import re

import pytest

from exporter.api.fields import COUNTER_FIELDS
from exporter.exposition.catalogue import (
    ALL_METRICS,
    CAMPAIGN_COUNTERS,
    CAMPAIGN_METRICS,
    CHANNEL_COUNTERS,
    SELF_METRICS,
    Metric,
)

COUNTERS = {
    "skipped": "intarget_campaign_messages_skipped_total",
    "sent": "intarget_campaign_messages_sent_total",
    "delivered": "intarget_campaign_messages_delivered_total",
    "opened": "intarget_campaign_messages_opened_total",
    "clicked": "intarget_campaign_messages_clicked_total",
    "bounced": "intarget_campaign_messages_bounced_total",
    "softBounced": "intarget_campaign_messages_soft_bounced_total",
    "rejected": "intarget_campaign_messages_rejected_total",
    "failed": "intarget_campaign_messages_failed_total",
    "temporaryFailed": "intarget_campaign_messages_temporarily_failed_total",
    "complaint": "intarget_campaign_complaints_total",
    "unsubscribed": "intarget_campaign_unsubscribes_total",
}
OTHERS = {
    "intarget_campaign_deposits": "account campaign_id channel conversion_event conversion_period",
    "intarget_campaign_deposits_amount": "account campaign_id channel conversion_event conversion_period",
    "intarget_campaign_converted_users": "account campaign_id channel conversion_event conversion_period",
    "intarget_campaign_start_timestamp_seconds": "account campaign_id channel",
    "intarget_campaign_stop_timestamp_seconds": "account campaign_id channel",
    "intarget_campaign_info": "account campaign_id channel campaign_name message_title",
    "intarget_account_info": "account currency",
    "intarget_up": "account",
    "intarget_last_success_timestamp_seconds": "account resource",
    "intarget_polls_total": "account resource",
    "intarget_poll_failures_total": "account resource reason",
    "intarget_poll_duration_seconds": "account resource",
    "intarget_api_requests_total": "account resource code",
    "intarget_api_request_duration_seconds": "account resource",
    "intarget_api_invalid_values_total": "account resource field",
    "intarget_api_unknown_fields": "account resource",
    "intarget_campaign_overcount": "account campaign_id channel field",
    "intarget_channel_overcount": "account channel field",
    "intarget_tracked_campaigns": "account channel",
    "intarget_dropped_campaigns": "account",
    "intarget_results_incomplete": "account resource",
    "intarget_state_save_failures_total": "",
    "intarget_config_last_reload_successful": "",
    "intarget_build_info": "version revision python_version",
    "intarget_shard_ordinal": "",
    "intarget_total_shards": "",
}


def test_counters() -> None:
    """Every field of the API that counts has its two counters, named as users rely on."""
    assert {field: metric.name for field, metric in CAMPAIGN_COUNTERS.items()} == COUNTERS
    assert {field: name.replace("_campaign_", "_channel_") for field, name in COUNTERS.items()} == {
        field: metric.name for field, metric in CHANNEL_COUNTERS.items()
    }
    assert COUNTER_FIELDS == tuple(CAMPAIGN_COUNTERS) == tuple(CHANNEL_COUNTERS)
    assert {("account", "campaign_id", "channel")} == {m.labels for m in CAMPAIGN_COUNTERS.values()}
    assert {("account", "channel")} == {m.labels for m in CHANNEL_COUNTERS.values()}


@pytest.mark.parametrize("name", OTHERS)
def test_other_metrics(name: str) -> None:
    """The other metrics are named and labelled as users rely on."""
    assert tuple(OTHERS[name].split()) == ALL_METRICS[name].labels


def test_all_metrics() -> None:
    """No metric is listed twice, and none is missing from the list of all."""
    assert len(ALL_METRICS) == len(CAMPAIGN_METRICS) + len(SELF_METRICS)


@pytest.mark.parametrize("metric", ALL_METRICS.values(), ids=lambda metric: metric.name)
def test_metric(metric: Metric) -> None:
    """Names and labels are valid, suffixes tell the type, and help is one sentence without escapes."""
    assert re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", metric.name)
    assert all(re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", label) for label in metric.labels)
    assert (metric.type == "counter") == metric.name.endswith("_total")
    assert (metric.type == "info") == metric.name.endswith("_info")
    assert re.fullmatch(r'[A-Z][^\n"\\]+\.', metric.help)


def test_openmetrics_names_do_not_clash() -> None:
    """No family's series is called as another family or its series."""
    names = [name for metric in ALL_METRICS.values() for name in {metric.family, *metric.sample_names}]
    assert len(set(names)) == len(names)
