"""The exporter: whether the numbers can be believed."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    API_REQUEST_DURATION,
    API_REQUESTS,
    BUILD_INFO,
    CHANNEL_OVERCOUNT,
    DROPPED_CAMPAIGNS,
    INVALID_VALUES,
    LAST_SUCCESS,
    POLL_DURATION,
    POLL_FAILURES,
    POLLS,
    RELOAD_SUCCESSFUL,
    RESULTS_INCOMPLETE,
    STATE_SAVE_FAILURES,
    TRACKED_CAMPAIGNS,
    UNKNOWN_FIELDS,
    UP,
)
from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    BAD,
    GOOD,
    WARN,
    Json,
    by_name,
    by_regex,
    channel_colours,
    fixed,
    lines,
    shaded,
    stat,
    table,
    target,
    value_names,
)
from grafana.generator.promql import ACCOUNT, newest, select

PROCESS = "job=~`${job:regex}`, instance=~`${instance:regex}`"
OURS = f"{PROCESS}, {ACCOUNT}"
_REASON_COLOURS = {
    "timeout": "#4477AA",
    "connection": "#66CCEE",
    "auth": "#EE6677",
    "rate_limited": "#CCBB44",
    "server_error": "#AA3377",
    "client_error": "#EE8866",
    "bad_response": "#228833",
    "too_large": "#BBCC33",
    "deadline": "#AAAA00",
    "internal": "#9AA5B1",
}
_ENDPOINT = "account, resource"
_REPLICAS = "Of several replicas the maximum is shown."


def _hourly(metric: str, key: str) -> str:
    return newest(key, f"3600 * rate({select(metric, OURS)}[$__rate_interval])")


def _increase(metric: str, key: str) -> str:
    return newest(key, f"increase({select(metric, OURS)}[$__rate_interval])")


def _headline() -> Row:
    statistics = 'resource="statistics"'
    conversions = 'resource="conversions"'
    up = {"0": ("failing", BAD), "1": ("up", GOOD)}
    flag = {"0": ("complete", GOOD), "1": ("incomplete", BAD)}

    def age(title: str, endpoint: str, warn: float, bad: float, note: str) -> Json:
        # With the exporter gone, its last word goes on getting older for an hour.
        read = select(LAST_SUCCESS.name, OURS, endpoint)
        return stat(
            title,
            f"Time since the {title.removeprefix('Age of ')} of each account were last read with success, "
            "by the replica that "
            f"is ahead. {note}",
            [
                target(
                    f"topk(8, time() - {newest('account', f'last_over_time({read}[1h])')})",
                    "{{account}}",
                    instant=True,
                )
            ],
            unit="s",
            decimals=0,
            no_value="Not read for 1 h",
            steps=((None, GOOD), (warn, WARN), (bad, BAD)),
        )

    return Row(
        5,
        (
            (
                4,
                stat(
                    "Polls",
                    "Whether the last poll of every endpoint of the account succeeded. One replica that "
                    "succeeds is enough.",
                    [
                        target(
                            f"bottomk(8, {newest('account', select(UP.name, OURS))})",
                            "{{account}}",
                            instant=True,
                        )
                    ],
                    unit="none",
                    decimals=0,
                    no_value="No exporter",
                    steps=((None, BAD), (1, GOOD)),
                    mappings=value_names(up),
                    background=True,
                    text="value_and_name",
                ),
            ),
            (
                5,
                age(
                    "Age of statistics",
                    statistics,
                    900,
                    1800,
                    "After `poll.stale_after` (30 m) the account's campaign series are withdrawn.",
                ),
            ),
            (
                5,
                age(
                    "Age of conversions",
                    conversions,
                    3600,
                    7200,
                    "They are read every `poll.conversions_every` (15 m).",
                ),
            ),
            (
                5,
                stat(
                    "Answers complete",
                    "Whether everything was read that the API has, or the page cap may have cut answers "
                    "off. Rows that are shown "
                    "are right all the same. One complete replica is enough; `intarget-exporter doctor` and "
                    "the status page "
                    "show the cap that was found.",
                    [
                        target(
                            f"topk(8, min by ({_ENDPOINT}) ({select(RESULTS_INCOMPLETE.name, OURS)}))",
                            "{{account}} {{resource}}",
                            instant=True,
                        )
                    ],
                    unit="none",
                    decimals=0,
                    no_value="Not known yet",
                    steps=((None, GOOD), (1, BAD)),
                    mappings=value_names(flag),
                    text="value_and_name",
                ),
            ),
            (
                5,
                table(
                    "Exporters",
                    "The exporter processes that are scraped: version, whether the last load of the "
                    "configuration succeeded, and "
                    "times the state could not be saved within the last day.",
                    [
                        target(
                            newest("instance, version", select(BUILD_INFO.name, PROCESS)),
                            ref="version",
                            table=True,
                        ),
                        target(
                            newest("instance", select(RELOAD_SUCCESSFUL.name, PROCESS)),
                            ref="reload",
                            table=True,
                        ),
                        target(
                            newest("instance", f"increase({select(STATE_SAVE_FAILURES.name, PROCESS)}[1d])"),
                            ref="unsaved",
                            table=True,
                        ),
                    ],
                    {
                        "instance": "Instance",
                        "version": "Version",
                        "Value #reload": "Config",
                        "Value #unsaved": "Not saved",
                    },
                    unit="none",
                    decimals=0,
                    no_value="No exporter",
                    overrides=[
                        by_name(
                            "Config",
                            mappings=value_names({"0": ("reload failed", BAD), "1": ("loaded", GOOD)}),
                        ),
                        by_name("Not saved", **shaded(((None, GOOD), (0.5, BAD)))),
                    ],
                ),
            ),
        ),
        "Can I believe these numbers?",
    )


def _polls() -> Row:
    def percentile(metric: str, share: float) -> str:
        buckets = f"sum by (le, resource) (rate({select(f'{metric}_bucket', OURS)}[$__rate_interval]))"
        return f"histogram_quantile({share}, {buckets}) >= 0"

    failures = _hourly(POLL_FAILURES.name, f"{_ENDPOINT}, reason")
    return Row(
        8,
        (
            (
                8,
                lines(
                    "Polls and failures by reason",
                    "Polls begun, and below them those that failed, by reason, in an hour. "
                    "`auth`: the token was "
                    "refused; `deadline`: the poll took longer than `api.deadline`, and the next one goes "
                    "on from there. "
                    f"{_REPLICAS}",
                    [
                        target(f"sum({_hourly(POLLS.name, _ENDPOINT)})", "begun"),
                        target(f"sum by (reason) ({failures}) > 0", "failed: {{reason}}", "failed"),
                    ],
                    unit="short",
                    decimals=1,
                    no_value="No polls",
                    axis="per hour",
                    legend=("mean", "max"),
                    lowest=0,
                    interval="5m",
                    overrides=[
                        by_name("begun", color=fixed("#BBBBBB")),
                        *(
                            by_regex(
                                f"^failed: {reason}$",
                                color=fixed(colour),
                                custom__drawStyle="bars",
                                custom__fillOpacity=60,
                            )
                            for reason, colour in _REASON_COLOURS.items()
                        ),
                    ],
                ),
            ),
            (
                8,
                lines(
                    "Duration of polls",
                    "Half of the polls took less than the lower line, 95 % less than the upper one; retries "
                    "and waits included. "
                    "From `api.deadline` (4 m) on a poll is given up. Over all accounts and replicas.",
                    [
                        target(percentile(POLL_DURATION.name, 0.5), "half · {{resource}}"),
                        target(percentile(POLL_DURATION.name, 0.95), "95 % · {{resource}}", "high"),
                    ],
                    unit="s",
                    decimals=2,
                    no_value="No polls",
                    lowest=0,
                    interval="5m",
                ),
            ),
            (
                8,
                lines(
                    "Age of the data",
                    "Time since each endpoint was last read with success; a sawtooth as high as the polling "
                    "interval is as it "
                    "should be. Dashed line: where the statistics are withdrawn (30 m).",
                    [
                        target(
                            f"time() - {newest(_ENDPOINT, select(LAST_SUCCESS.name, OURS))}",
                            "{{account}} {{resource}}",
                        )
                    ],
                    unit="s",
                    decimals=0,
                    no_value="Never read",
                    lowest=0,
                    limits=True,
                    soft_max=2000,
                    steps=((None, GOOD), (1800, BAD)),
                ),
            ),
        ),
        "Polls",
    )


def _api() -> Row:
    def percentile(share: float) -> str:
        buckets = select(f"{API_REQUEST_DURATION.name}_bucket", OURS)
        return f"histogram_quantile({share}, sum by (le, resource) (rate({buckets}[$__rate_interval]))) >= 0"

    requests = f"rate({select(API_REQUESTS.name, OURS)}[$__rate_interval])"
    return Row(
        8,
        (
            (
                8,
                lines(
                    "Requests to the API by answer",
                    "Requests in a minute by HTTP status code, or by what went wrong where there was no "
                    "answer. Over all "
                    "replicas, since each of them burdens the API.",
                    [target(f"60 * sum by (code) ({requests})", "{{code}}")],
                    unit="short",
                    decimals=1,
                    no_value="No requests",
                    stacked_bars=True,
                    axis="per minute",
                    legend=("mean", "max"),
                    interval="5m",
                    overrides=[
                        by_regex("^2..$", color=fixed("#4477AA")),
                        by_regex("^401$|^403$", color=fixed("#EE6677")),
                        by_regex("^429$", color=fixed("#CCBB44")),
                        by_regex("^5..$", color=fixed("#AA3377")),
                        by_regex("^[a-z_]+$", color=fixed("#66CCEE")),
                    ],
                ),
            ),
            (
                8,
                lines(
                    "Latency of the API",
                    "Half of the requests took less than the lower line, 95 % less than the upper one, the "
                    "body included. A "
                    "request is given up after `api.timeout` (30 s).",
                    [
                        target(percentile(0.5), "half · {{resource}}"),
                        target(percentile(0.95), "95 % · {{resource}}", "high"),
                    ],
                    unit="s",
                    decimals=2,
                    no_value="No requests",
                    lowest=0,
                    interval="5m",
                ),
            ),
            (
                8,
                lines(
                    "Answers that may be incomplete",
                    "1 while the page cap may have hidden rows from the exporter; `intarget-exporter "
                    "doctor` tells the cap "
                    "that was found. Of several replicas the best counts.",
                    [
                        target(
                            f"min by ({_ENDPOINT}) ({select(RESULTS_INCOMPLETE.name, OURS)})",
                            "{{account}} {{resource}}",
                        )
                    ],
                    unit="short",
                    decimals=0,
                    no_value="Not known yet",
                    lowest=0,
                    highest=1,
                    legend=("lastNotNull",),
                    custom={"drawStyle": "line", "lineInterpolation": "stepAfter"},
                ),
            ),
        ),
        "The API",
    )


def _data() -> Row:
    corrections = newest(
        "account, channel, field", f"delta({select(CHANNEL_OVERCOUNT.name, OURS)}[$__rate_interval])"
    )
    invalid = _increase(INVALID_VALUES.name, f"{_ENDPOINT}, field")
    dropped = newest("account", select(DROPPED_CAMPAIGNS.name, OURS))
    return Row(
        8,
        (
            (
                6,
                lines(
                    "Campaigns tracked",
                    "Campaigns that are exported, by account and channel, and those left out because of "
                    "`metrics.max_campaigns`, if there are any.",
                    [
                        target(
                            newest("account, channel", select(TRACKED_CAMPAIGNS.name, OURS)),
                            "{{account}} · {{channel}}",
                        ),
                        target(f"{dropped} > 0", "left out: {{account}}", "dropped"),
                    ],
                    unit="short",
                    decimals=0,
                    no_value="None yet",
                    lowest=0,
                    legend=("lastNotNull",),
                    overrides=[*channel_colours(), by_regex("^left out", color=fixed(BAD))],
                ),
            ),
            (
                6,
                lines(
                    "Corrections by InTarget",
                    "Times that a value came back lower than before, by field, in each step. Counters hold "
                    "the higher value.",
                    [target(f"sum by (field) ({corrections}) > 0", "{{field}}")],
                    unit="short",
                    decimals=0,
                    no_value="No corrections",
                    stacked_bars=True,
                    legend=(),
                    interval="5m",
                ),
            ),
            (
                6,
                lines(
                    "Values that could not be read",
                    "Values of answers that were no counts, amounts or times, by field, in each step. The "
                    "last good values "
                    "are shown instead.",
                    [target(f"sum by (resource, field) ({invalid}) > 0", "{{resource}} {{field}}")],
                    unit="short",
                    decimals=0,
                    no_value="None",
                    stacked_bars=True,
                    legend=(),
                    interval="5m",
                ),
            ),
            (
                6,
                lines(
                    "Unknown fields",
                    "Fields of the last answers that InTarget's documentation doesn't have. Nothing is "
                    "wrong with the metrics; "
                    "the exporter's log names them.",
                    [target(newest(_ENDPOINT, select(UNKNOWN_FIELDS.name, OURS)), "{{account}} {{resource}}")],
                    unit="short",
                    decimals=0,
                    no_value="None",
                    lowest=0,
                    legend=("lastNotNull",),
                ),
            ),
        ),
        "The data",
    )


def _process() -> Row:
    def of_process(metric: str) -> str:
        return select(metric, PROCESS)

    processes: tuple[tuple[str, str, str, str, str, int], ...] = (
        (
            "Series",
            "Samples of each scrape; `metrics.per_message` multiplies the campaigns' part.",
            of_process("scrape_samples_scraped"),
            "{{instance}}",
            "locale",
            0,
        ),
        (
            "Duration of scrapes",
            "How long Prometheus took to scrape; the exporter only hands out what is rendered.",
            of_process("scrape_duration_seconds"),
            "{{instance}}",
            "s",
            3,
        ),
        (
            "Processor time",
            "Processor time that the process used, as a share of one core.",
            f"rate({of_process('process_cpu_seconds_total')}[$__rate_interval])",
            "{{instance}}",
            "percentunit",
            2,
        ),
        (
            "Memory",
            "Resident memory of the process, which grows with the series that it holds.",
            of_process("process_resident_memory_bytes"),
            "{{instance}}",
            "bytes",
            1,
        ),
    )
    return Row(
        7,
        tuple(
            (
                6,
                lines(
                    title,
                    description,
                    [target(expr, legend)],
                    unit=unit,
                    decimals=decimals,
                    no_value="No exporter",
                    lowest=0,
                ),
            )
            for title, description, expr, legend, unit, decimals in processes
        ),
        "The process",
    )


def dashboard() -> Json:
    """Return the model."""
    return frame.build(
        uid="intarget-exporter",
        title="InTarget / Exporter",
        description="Whether the figures are fresh and complete, how the polling of the API goes, "
        "and the exporter's process.",
        variables=[
            frame.target_variable("job", "Job", "Prometheus' scrape jobs of the exporter.", BUILD_INFO.name),
            frame.target_variable(
                "instance",
                "Instance",
                "The exporter's replicas.",
                select(BUILD_INFO.name, "job=~`${job:regex}`"),
            ),
            frame.account_variable(),
        ],
        annotations=[frame.firing_alerts("account")],
        rows=[_headline(), _polls(), _api(), _data(), _process()],
        since="now-6h",
    )
