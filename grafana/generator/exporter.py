"""The exporter: whether the numbers can be believed."""

from __future__ import annotations

from typing import Final

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
    columns,
    fixed,
    lines,
    shaded,
    stat,
    table,
    target,
    value_names,
    width,
)
from grafana.generator.promql import ACCOUNT, CHANNEL_KEY, LINES, TOP, leading, newest, select

PROCESS = "job=~`${job:regex}`, instance=~`${instance:regex}`"
OURS = f"{PROCESS}, {ACCOUNT}"
REASON_COLOURS: Final = {
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
_ANSWER_COLOURS: Final = {
    "^2..$": "#4477AA",
    "^401$|^403$": "#EE6677",
    "^429$": "#CCBB44",
    "^5..$": "#AA3377",
    "^[a-z_]+$": "#66CCEE",
}
_RESOURCE = "account, resource"
_REPLICAS = "Of several replicas the best counts."


def _increase(metric: str, key: str, window: str = "$__rate_interval") -> str:
    return newest(key, f"increase({select(metric, OURS)}[{window}])")


def _last_read(resource: str = "", window: str = "") -> str:
    """Return when each resource of each account was last read."""
    matchers = (OURS, f'resource="{resource}"') if resource else (OURS,)
    read = select("intarget_last_success_timestamp_seconds", *matchers)
    return newest(_RESOURCE, f"last_over_time({read}[{window}])" if window else read)


def _percentile(share: float, metric: str) -> str:
    buckets = select(f"{metric}_bucket", OURS)
    return f"histogram_quantile({share}, sum by (le, resource) (rate({buckets}[$__rate_interval]))) >= 0"


# The answer


def _polls_failing() -> Json:
    up = newest("account", select("intarget_up", OURS))
    return stat(
        "Accounts that fail",
        f"Accounts of which the last poll of a resource failed. {_REPLICAS}",
        [
            target(
                f"count({up} == 0) or 0 * count({up})",
                "failing",
                instant=True,
            )
        ],
        unit="none",
        decimals=0,
        no_value="No exporter",
        steps=((None, GOOD), (1, BAD)),
    )


def _oldest(title: str, resource: str, warn: float, bad: float, note: str) -> Json:
    # With the exporter gone, its last word goes on getting older for an hour.
    return stat(
        title,
        f"Time since the {resource} of the account that waits longest were last read. {note} {_REPLICAS}",
        [target(f"max(time() - {_last_read(resource, '1h')})", "age", instant=True)],
        unit="s",
        decimals=0,
        no_value="Not read for 1 h",
        steps=((None, GOOD), (warn, WARN), (bad, BAD)),
    )


def _incomplete() -> Json:
    incomplete = f"max(min by ({_RESOURCE}) ({select('intarget_results_incomplete', OURS)}))"
    return stat(
        "Answers complete",
        f"""Whether everything was read that the API has, in the account where it is worst, or answers may have
        been cut off. Rows that are shown are right all the same. {_REPLICAS} `intarget-exporter doctor` tells
        the page cap that was found.""",
        [target(incomplete, "incomplete", instant=True)],
        unit="none",
        decimals=0,
        no_value="Not known yet",
        steps=((None, GOOD), (1, BAD)),
        mappings=value_names({"0": ("all complete", GOOD), "1": ("incomplete", BAD)}),
    )


def _persistent() -> Json:
    return stat(
        "State survives a restart",
        """Whether what is exported survives a restart of the exporter, of the process where it is worst. "No
        state file": none is configured, or no exporter is scraped.""",
        [target(f"min({select('intarget_state_persistent', PROCESS)})", "persistent", instant=True)],
        unit="none",
        decimals=0,
        no_value="No state file",
        steps=((None, BAD), (1, GOOD)),
        mappings=value_names({"0": ("not now", BAD), "1": ("yes", GOOD)}),
    )


def _headline() -> Row:
    withdrawn = (
        "Past the exporter's `poll.stale_after` (30 m by default) the account's campaigns are withdrawn."
    )
    seldom = "They are read every `poll.conversions_every` (15 m by default)."
    return Row(
        4,
        (
            (4, _polls_failing()),
            (5, _oldest("Oldest statistics", "statistics", 900, 1800, withdrawn)),
            (5, _oldest("Oldest conversions", "conversions", 3600, 7200, seldom)),
            (5, _incomplete()),
            (5, _persistent()),
        ),
    )


def _account_queries() -> dict[str, str]:
    """Return the columns of each resource of each account."""
    polls = _increase("intarget_polls_total", _RESOURCE, "1d")
    by_reason = _increase("intarget_poll_failures_total", f"{_RESOURCE}, reason", "1d")
    failed = f"sum by ({_RESOURCE}) ({by_reason})"
    queries = {
        "age": f"time() - {_last_read(window='1h')}",
        "stale": newest(_RESOURCE, select("intarget_stale_after_seconds", OURS)),
        "incomplete": f"min by ({_RESOURCE}) ({select('intarget_results_incomplete', OURS)})",
        "polls": polls,
        "failures": f"{failed} / {polls}",
        "requests": f"sum by ({_RESOURCE}) (increase({select('intarget_api_requests_total', OURS)}[1h]))",
    }
    up = newest("account", select("intarget_up", OURS))
    queries["up"] = f"0 * {polls} + on (account) group_left () {up}"
    return {ref: f"topk({2 * TOP}, {expr})" if ref == "up" else expr for ref, expr in queries.items()}


def _accounts() -> Json:
    """Return a row for each resource of each account, the oldest first."""
    return table(
        "Accounts",
        """Each account and resource: whether the account's last polls succeeded, the age of the data and from
        which age they are withdrawn, whether answers are complete, polls of the last day and the share that
        failed, and requests of the last hour over all replicas, since each of them burdens the API.""",
        columns(_account_queries()),
        {
            "account": "Account",
            "resource": "Resource",
            "Value #up": "Polls",
            "Value #age": "Age",
            "Value #stale": "Withdrawn at",
            "Value #incomplete": "Answers",
            "Value #polls": "Polls in 1 d",
            "Value #failures": "Failed",
            "Value #requests": "Requests/h",
        },
        sort=("Age", True),
        unit="none",
        decimals=0,
        no_value="-",
        overrides=[
            by_name(
                "Polls", mappings=value_names({"0": ("failing", BAD), "1": ("succeed", GOOD)}), **_coloured(90)
            ),
            by_name("Age", unit="s"),
            by_name("Withdrawn at", unit="s"),
            by_name(
                "Answers",
                mappings=value_names({"0": ("complete", GOOD), "1": ("incomplete", BAD)}),
                **_coloured(100),
            ),
            by_name("Failed", unit="percentunit", **shaded(((None, GOOD), (0.1, WARN), (0.5, BAD)))),
        ],
    )


def _coloured(pixels: int) -> Json:
    return {"custom__cellOptions": {"type": "color-text"}, **width(pixels)}


def _exporters() -> Json:
    """Return a row for each process that is scraped."""
    queries = {
        "version": newest("instance, version", select("intarget_build_info", PROCESS)),
        "shard": newest("instance", select("intarget_shard_ordinal", PROCESS)),
        "shards": newest("instance", select("intarget_total_shards", PROCESS)),
        "reload": newest("instance", select("intarget_config_last_reload_successful", PROCESS)),
        "persistent": newest("instance", select("intarget_state_persistent", PROCESS)),
        "unsaved": newest("instance", f"increase({select('intarget_state_save_failures_total', PROCESS)}[1d])"),
    }
    return table(
        "Exporters",
        """The exporter processes that are scraped: version, which shard of how many (from 0), whether the last
        load of the configuration succeeded, whether the state survives a restart, and how often it couldn't be
        saved in the last day.""",
        columns(queries),
        {
            "instance": "Instance",
            "version": "Version",
            "Value #shard": "Shard",
            "Value #shards": "of",
            "Value #reload": "Config",
            "Value #persistent": "State",
            "Value #unsaved": "Not saved",
        },
        unit="none",
        decimals=0,
        no_value="-",
        overrides=[
            by_name("Instance", **width(170)),
            by_name(
                "Config", mappings=value_names({"0": ("failed", BAD), "1": ("loaded", GOOD)}), **_coloured(80)
            ),
            by_name(
                "State", mappings=value_names({"0": ("at risk", BAD), "1": ("kept", GOOD)}), **_coloured(80)
            ),
            by_name("Not saved", **shaded(((None, GOOD), (0.5, BAD)))),
        ],
    )


# Polls and requests


def _poll_results() -> Json:
    failures = newest(
        f"{_RESOURCE}, reason", f"3600 * rate({select('intarget_poll_failures_total', OURS)}[$__rate_interval])"
    )
    polls = newest(_RESOURCE, f"3600 * rate({select('intarget_polls_total', OURS)}[$__rate_interval])")
    colours = (
        by_regex(f"^failed: {reason}$", color=fixed(colour), custom__drawStyle="bars", custom__fillOpacity=60)
        for reason, colour in REASON_COLOURS.items()
    )
    return lines(
        "Polls per hour, and failures by reason",
        """Polls begun, and those that failed, by reason. `auth`: the token was refused; `deadline`: the poll
        took longer than `api.deadline`, and the next one goes on from there. Of several replicas the maximum is
        shown.""",
        [
            target(f"sum({polls})", "begun"),
            target(f"sum by (reason) ({failures}) > 0", "failed: {{reason}}", "failed"),
        ],
        unit="short",
        decimals=1,
        no_value="No polls",
        interval="5m",
        overrides=[by_name("begun", color=fixed("#8E8E96")), *colours],
        min=0,
    )


def _durations(title: str, metric: str, description: str, no_value: str) -> Json:
    return lines(
        title,
        f"Half took less than the lower line, 95 % less than the upper one. {description}",
        [
            target(_percentile(0.5, metric), "half · {{resource}}"),
            target(_percentile(0.95, metric), "95 % · {{resource}}", "high"),
        ],
        unit="s",
        decimals=2,
        no_value=no_value,
        interval="5m",
        min=0,
    )


def _ages() -> Json:
    return lines(
        "Age of the data",
        """Time since each resource was last read with success, of the twelve that are oldest now; a sawtooth as
        high as the polling interval is as it should be. Dashed: where the statistics are withdrawn by default
        (30 m).""",
        [
            target(
                leading(LINES, _RESOURCE, f"time() - {_last_read()}", f"-1 * {_last_read_at_end()}"),
                "{{account}} {{resource}}",
            )
        ],
        unit="s",
        decimals=0,
        no_value="Never read",
        limits=True,
        soft_max=2000,
        steps=((None, GOOD), (1800, BAD)),
        min=0,
    )


def _last_read_at_end() -> str:
    return newest(_RESOURCE, select("intarget_last_success_timestamp_seconds", OURS, at=" @ end()"))


def _answers() -> Json:
    requests = f"rate({select('intarget_api_requests_total', OURS)}[$__rate_interval])"
    return lines(
        "Requests per minute, by answer",
        """HTTP status code, or what went wrong where there was no answer. Over all replicas, since each of them
        burdens the API.""",
        [target(f"60 * sum by (code) ({requests})", "{{code}}")],
        unit="short",
        decimals=1,
        no_value="No requests",
        stacked_bars=True,
        interval="5m",
        overrides=[by_regex(pattern, color=fixed(colour)) for pattern, colour in _ANSWER_COLOURS.items()],
    )


def _cut_off() -> Json:
    incomplete = f"min by ({_RESOURCE}) ({select('intarget_results_incomplete', OURS)})"
    return lines(
        "Answers that may be incomplete",
        f"""Resources of which the page cap may have hidden rows from the exporter; `intarget-exporter doctor`
        tells the cap that was found. {_REPLICAS}""",
        [target(f"sum({incomplete})", "incomplete")],
        unit="none",
        decimals=0,
        no_value="Not known yet",
        custom={"lineInterpolation": "stepAfter"},
        soft_max=1,
        min=0,
    )


def _polls() -> tuple[Row, Row]:
    retried = "Retries and waits included; from `api.deadline` (4 m by default) on a poll is given up."
    whole = "The body included; a request is given up after `api.timeout` (30 s by default)."
    return (
        Row(
            8,
            (
                (8, _poll_results()),
                (8, _durations("Duration of polls", "intarget_poll_duration_seconds", retried, "No polls")),
                (8, _ages()),
            ),
            "Polls",
        ),
        Row(
            8,
            (
                (8, _answers()),
                (
                    8,
                    _durations(
                        "Latency of the API", "intarget_api_request_duration_seconds", whole, "No requests"
                    ),
                ),
                (8, _cut_off()),
            ),
            "The API",
        ),
    )


# The data


def _tracked() -> Json:
    dropped = newest("account", select("intarget_dropped_campaigns", OURS))
    tracked = newest(CHANNEL_KEY, select("intarget_tracked_campaigns", OURS))
    return lines(
        "Campaigns tracked",
        "Campaigns that are exported, by channel, and those left out because of `metrics.max_campaigns`.",
        [
            target(f"sum by (channel) ({tracked})", "{{channel}}"),
            target(f"{dropped} > 0", "left out: {{account}}", "dropped"),
        ],
        unit="short",
        decimals=0,
        no_value="None yet",
        overrides=[*channel_colours(), by_regex("^left out", color=fixed(BAD))],
        min=0,
    )


def _taken_back() -> Json:
    over = newest(f"{CHANNEL_KEY}, field", select("intarget_channel_overcount", OURS))
    return lines(
        "Taken back by InTarget, by field",
        """How far the channel counters stand above what InTarget says now. A step is a correction: InTarget has
        lowered numbers, and a counter never goes down. Counter less this is InTarget's present figure.""",
        [target(f"sum by (field) ({over}) > 0", "{{field}}")],
        unit="short",
        decimals=0,
        no_value="Nothing",
        custom={"lineInterpolation": "stepAfter"},
        min=0,
    )


def _unread() -> Json:
    invalid = _increase("intarget_api_invalid_values_total", f"{_RESOURCE}, field")
    return lines(
        "Values that could not be read",
        "Values that were no counts, amounts or times, by field, in each step. The last good ones are shown.",
        [target(f"sum by (resource, field) ({invalid}) > 0", "{{resource}} {{field}}")],
        unit="short",
        decimals=0,
        no_value="None",
        stacked_bars=True,
        interval="5m",
    )


def _new_fields() -> Json:
    fields = newest(_RESOURCE, select("intarget_api_unknown_fields", OURS))
    return lines(
        "Unknown fields",
        """Fields of the last answers that InTarget's documentation doesn't have. Nothing is wrong with the
        metrics; the exporter's log names them.""",
        [target(f"max by (resource) ({fields})", "{{resource}}")],
        unit="short",
        decimals=0,
        no_value="None",
        soft_max=1,
        min=0,
    )


def _of_process(title: str, description: str, expr: str, unit: str, decimals: int) -> Json:
    """Return a chart with a line for each process."""
    return lines(
        title,
        description,
        [target(expr, "{{instance}}")],
        unit=unit,
        decimals=decimals,
        no_value="No exporter",
        min=0,
    )


def _process() -> Row:
    samples, scrape, memory = (
        select(name, PROCESS)
        for name in ("scrape_samples_scraped", "scrape_duration_seconds", "process_resident_memory_bytes")
    )
    processor = f"rate({select('process_cpu_seconds_total', PROCESS)}[$__rate_interval])"
    served = "How long Prometheus took to scrape; the exporter only hands out what is rendered."
    used = "Processor time that the process used, as a share of one core."
    return Row(
        7,
        (
            (
                6,
                _of_process(
                    "Series",
                    "Samples of each scrape; `metrics.per_message` multiplies them.",
                    samples,
                    "locale",
                    0,
                ),
            ),
            (6, _of_process("Duration of scrapes", served, scrape, "s", 3)),
            (6, _of_process("Processor time", used, processor, "percentunit", 2)),
            (
                6,
                _of_process(
                    "Memory", "Resident memory, which grows with the series that it holds.", memory, "bytes", 1
                ),
            ),
        ),
        "The process",
    )


def dashboard() -> Json:
    """Return the model."""
    build_info = "intarget_build_info"
    ours = select(build_info, "job=~`${job:regex}`")
    return frame.build(
        uid="intarget-exporter",
        title="InTarget / Exporter",
        description="""Whether the figures are fresh and complete, how the polling of the API goes, and the
        exporter's process.""",
        variables=[
            frame.target_variable("job", "Job", "Prometheus' scrape jobs of the exporter.", build_info),
            frame.target_variable("instance", "Instance", "The exporter's replicas.", ours),
            frame.account_variable(),
        ],
        annotations=[frame.firing_alerts("account")],
        rows=[
            _headline(),
            Row(8, ((24, _accounts()),), "Can I believe these numbers?"),
            Row(5, ((24, _exporters()),)),
            *_polls(),
            Row(7, ((6, _tracked()), (6, _taken_back()), (6, _unread()), (6, _new_fields())), "The data"),
            _process(),
        ],
        since="now-6h",
    )
