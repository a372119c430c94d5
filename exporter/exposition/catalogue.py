"""Every metric the exporter exports: name, type, labels and help, in this one place.

Names are spelled as PromQL has them: counters end in ``_total``, info metrics in ``_info``. Not listed are the
client library's metrics of the process and the interpreter (`LIBRARY_PREFIXES`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from exporter.api.fields import COUNTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

MetricType: TypeAlias = Literal["counter", "gauge", "histogram", "info"]

_SUFFIXES: Final[dict[MetricType, str]] = {"counter": "_total", "gauge": "", "histogram": "", "info": "_info"}

CAMPAIGN_LABELS: Final = ("account", "campaign_id", "channel")
CHANNEL_LABELS: Final = ("account", "channel")
RESOURCE_LABELS: Final = ("account", "resource")
TITLE_LABEL: Final = "message_title"
"""The label that `metrics.per_message` adds to the campaign counters."""

LIBRARY_PREFIXES: Final = ("process_", "python_")
"""What the names of the client library's own metrics begin with."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `help` is one line without quotes and backslashes, so that it needs no escaping."""

    name: str
    type: MetricType
    labels: tuple[str, ...]
    help: str

    @property
    def family(self) -> str:
        """Its name in OpenMetrics, where the suffixes ``_total`` and ``_info`` belong to the samples."""
        return self.name.removesuffix(_SUFFIXES[self.type])

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its series; those of a histogram differ from its own."""
        if self.type == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


CAMPAIGN_COUNTERS: Final[Mapping[str, Metric]] = {
    field.name: Metric(
        f"intarget_campaign_{field.metric}_total",
        "counter",
        CAMPAIGN_LABELS,
        f"{field.help}, by campaign, since the campaign started.",
    )
    for field in COUNTERS
}
"""Counters of a campaign in a channel, by the name of the API's field."""

CHANNEL_COUNTERS: Final[Mapping[str, Metric]] = {
    field.name: Metric(
        f"intarget_channel_{field.metric}_total",
        "counter",
        CHANNEL_LABELS,
        f"{field.help}, over all campaigns of the channel, since the state of the exporter began.",
    )
    for field in COUNTERS
}
"""Counters of a channel, by the name of the API's field."""

CAMPAIGN_OVERCOUNT: Final = Metric(
    "intarget_campaign_overcount",
    "gauge",
    (*CAMPAIGN_LABELS, "field"),
    "How far a counter of the campaign stands above the present figure of InTarget; absent where it is 0.",
)
CHANNEL_OVERCOUNT: Final = Metric(
    "intarget_channel_overcount",
    "gauge",
    (*CHANNEL_LABELS, "field"),
    "How far a counter of the channel stands above the present figures of InTarget.",
)

_CONVERSION_LABELS: Final = (*CAMPAIGN_LABELS, "conversion_event", "conversion_period")

DEPOSITS: Final = Metric(
    "intarget_campaign_deposits",
    "gauge",
    _CONVERSION_LABELS,
    "Deposits attributed to the campaign, by conversion event and period.",
)
DEPOSITS_AMOUNT: Final = Metric(
    "intarget_campaign_deposits_amount",
    "gauge",
    _CONVERSION_LABELS,
    "Sum of the deposits attributed to the campaign, in the currency of intarget_account_info.",
)
CONVERTED_USERS: Final = Metric(
    "intarget_campaign_converted_users",
    "gauge",
    _CONVERSION_LABELS,
    "Users who converted after a message of the campaign, by conversion event and period.",
)
CAMPAIGN_START: Final = Metric(
    "intarget_campaign_start_timestamp_seconds",
    "gauge",
    CAMPAIGN_LABELS,
    "When the campaign started, in seconds since the epoch.",
)
CAMPAIGN_STOP: Final = Metric(
    "intarget_campaign_stop_timestamp_seconds",
    "gauge",
    CAMPAIGN_LABELS,
    "When the campaign stopped or will stop, in seconds since the epoch; absent while unknown.",
)
CAMPAIGN_INFO: Final = Metric(
    "intarget_campaign_info",
    "info",
    (*CAMPAIGN_LABELS, "campaign_name", TITLE_LABEL),
    "Name of the campaign and title of its message; always 1.",
)
ACCOUNT_INFO: Final = Metric(
    "intarget_account_info",
    "info",
    ("account", "currency"),
    "Currency of the account, as configured (empty if it is not); always 1.",
)

UP: Final = Metric(
    "intarget_up",
    "gauge",
    ("account",),
    "Whether the last poll of every enabled resource of the account succeeded (1); 0 before the first.",
)
LAST_SUCCESS: Final = Metric(
    "intarget_last_success_timestamp_seconds",
    "gauge",
    RESOURCE_LABELS,
    "When a poll of the resource last succeeded, in seconds since the epoch; absent before the first.",
)
POLLS: Final = Metric("intarget_polls_total", "counter", RESOURCE_LABELS, "Polls begun.")
POLL_FAILURES: Final = Metric(
    "intarget_poll_failures_total",
    "counter",
    (*RESOURCE_LABELS, "reason"),
    "Polls that failed, by reason.",
)
POLL_DURATION: Final = Metric(
    "intarget_poll_duration_seconds",
    "histogram",
    RESOURCE_LABELS,
    "How long one poll took, retries and waits included.",
)
API_REQUESTS: Final = Metric(
    "intarget_api_requests_total",
    "counter",
    (*RESOURCE_LABELS, "code"),
    "Requests sent to the API, by HTTP status code, or by what went wrong where there was none.",
)
API_REQUEST_DURATION: Final = Metric(
    "intarget_api_request_duration_seconds",
    "histogram",
    RESOURCE_LABELS,
    "How long one request to the API took, its body included.",
)
INVALID_VALUES: Final = Metric(
    "intarget_api_invalid_values_total",
    "counter",
    (*RESOURCE_LABELS, "field"),
    "Values in answers of the API that could not be used, by field.",
)
EXCESS_VALUES: Final = Metric(
    "intarget_api_excess_values_total",
    "counter",
    (*RESOURCE_LABELS, "field"),
    "Channels (counted as other), conversion events and periods (left out) in answers that were one too many.",
)
UNKNOWN_FIELDS: Final = Metric(
    "intarget_api_unknown_fields",
    "gauge",
    RESOURCE_LABELS,
    "Fields in the last answers of the API that its documentation does not have.",
)
TRACKED_CAMPAIGNS: Final = Metric(
    "intarget_tracked_campaigns",
    "gauge",
    CHANNEL_LABELS,
    "Campaigns that are exported now.",
)
DROPPED_CAMPAIGNS: Final = Metric(
    "intarget_dropped_campaigns",
    "gauge",
    ("account",),
    "Campaigns that are not exported because of metrics.max_campaigns.",
)
RESULTS_INCOMPLETE: Final = Metric(
    "intarget_results_incomplete",
    "gauge",
    RESOURCE_LABELS,
    "Whether the last poll may have missed rows (1) or was proven complete (0).",
)
STATE_SAVE_FAILURES: Final = Metric(
    "intarget_state_save_failures_total",
    "counter",
    (),
    "Times the state could not be saved.",
)
STATE_PERSISTENT: Final = Metric(
    "intarget_state_persistent",
    "gauge",
    (),
    "Whether what is exported survives a restart (1), or the state file can not be used now (0); absent without"
    " a state file.",
)
STATE_START: Final = Metric(
    "intarget_state_start_timestamp_seconds",
    "gauge",
    ("account",),
    "When the state of the account began, in seconds since the epoch: its channel counters count from then on.",
)
WINDOW: Final = Metric(
    "intarget_window_seconds",
    "gauge",
    ("account",),
    "How long after its start a campaign is tracked, as configured by poll.window.",
)
STALE_AFTER: Final = Metric(
    "intarget_stale_after_seconds",
    "gauge",
    RESOURCE_LABELS,
    "Without a successful poll for so long, the data of the resource are withdrawn.",
)
RELOAD_SUCCESSFUL: Final = Metric(
    "intarget_config_last_reload_successful",
    "gauge",
    (),
    "Whether the last load of the configuration succeeded (1) or not (0).",
)
RELOAD_SUCCESS_TIMESTAMP: Final = Metric(
    "intarget_config_last_reload_success_timestamp_seconds",
    "gauge",
    (),
    "When the configuration was last reloaded with success, in seconds since the epoch.",
)
BUILD_INFO: Final = Metric(
    "intarget_build_info",
    "info",
    ("version", "revision", "python_version"),
    "Version of the exporter, the commit it was built from, and its Python; always 1.",
)
SHARD_ORDINAL: Final = Metric(
    "intarget_shard_ordinal", "gauge", (), "Which share of the accounts this process polls, from 0."
)
TOTAL_SHARDS: Final = Metric(
    "intarget_total_shards", "gauge", (), "How many processes share the accounts of the configuration."
)

CONVERSION_GAUGES: Final = (DEPOSITS, DEPOSITS_AMOUNT, CONVERTED_USERS)
CAMPAIGN_METRICS: Final = (
    *CAMPAIGN_COUNTERS.values(),
    *CHANNEL_COUNTERS.values(),
    CAMPAIGN_OVERCOUNT,
    CHANNEL_OVERCOUNT,
    *CONVERSION_GAUGES,
    CAMPAIGN_START,
    CAMPAIGN_STOP,
    CAMPAIGN_INFO,
    ACCOUNT_INFO,
)
"""Metrics made from a snapshot, in the order of the exposition."""
SELF_METRICS: Final = (
    UP,
    LAST_SUCCESS,
    POLLS,
    POLL_FAILURES,
    POLL_DURATION,
    API_REQUESTS,
    API_REQUEST_DURATION,
    INVALID_VALUES,
    EXCESS_VALUES,
    UNKNOWN_FIELDS,
    TRACKED_CAMPAIGNS,
    DROPPED_CAMPAIGNS,
    RESULTS_INCOMPLETE,
    STATE_SAVE_FAILURES,
    STATE_PERSISTENT,
    STATE_START,
    WINDOW,
    STALE_AFTER,
    RELOAD_SUCCESSFUL,
    RELOAD_SUCCESS_TIMESTAMP,
    SHARD_ORDINAL,
    TOTAL_SHARDS,
    BUILD_INFO,
)
"""Metrics of the exporter about itself, in the order of the exposition."""
ALL_METRICS: Final[Mapping[str, Metric]] = {
    metric.name: metric for metric in (*CAMPAIGN_METRICS, *SELF_METRICS)
}
