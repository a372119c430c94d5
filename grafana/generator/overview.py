"""The overview: whether the account is about to be stopped, and what drives it."""

from __future__ import annotations

from typing import Any

from exporter.exposition.catalogue import CHANNEL_COUNTERS, LAST_SUCCESS, RESULTS_INCOMPLETE, TRACKED_CAMPAIGNS
from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    BAD,
    BOUNCE_STEPS,
    COMPLAINT_STEPS,
    GOOD,
    LIMIT_STEPS,
    OUTCOME_COLOURS,
    WARN,
    Json,
    bar_cells,
    by_name,
    by_regex,
    campaign_link,
    channel_colours,
    fixed,
    gauge,
    lines,
    link,
    shaded,
    stat,
    table,
    target,
    value_names,
)
from grafana.generator.promql import (
    ACCOUNT,
    CAMPAIGN_KEY,
    CHANNEL_KEY,
    CHANNELS,
    TOP,
    count,
    limit,
    newest,
    risk,
    select,
    started,
    with_name,
)

SEVERITIES = {"critical": ("critical", BAD), "warning": ("warning", WARN), "info": ("info", "#56B4E9")}
_LEGEND = "{{account}} · {{channel}}"
_WINDOW_NOTE = (
    "Taken from the channel counters over the window chosen above, which lose nothing when a campaign leaves "
    "the exporter's window."
)
_VOLUME_NOTE = (
    "Shown from as many messages on as alerts need (100 sent for bounces, 1,000 delivered for the others)."
)


def _channel(record: str) -> str:
    return select(f"channel:intarget_{record}", CHANNELS)


def _enough(signal: str) -> str:
    """Return a condition: as many messages in the window as alerts need."""
    messages = "sent" if signal == "bounce" else "delivered"
    least = select("intarget:limit:messages", f'signal="{signal}"', CHANNELS)
    return f"and {_channel(f'messages_{messages}:increase$window')} >= on ({CHANNEL_KEY}) {least}"


def _limit_used(signal: str) -> str:
    ratio = f"({_channel(f'{signal}:ratio_increase$window')} {_enough(signal)})"
    return f"{ratio} / on ({CHANNEL_KEY}) {limit(signal, CHANNELS)}"


def _headline() -> Row:
    # With the exporter gone, its last word goes on getting older for an hour.
    statistics = select(LAST_SUCCESS.name, ACCOUNT, 'resource="statistics"')
    read = f"last_over_time({statistics}[1h])"
    age = f"time() - max by (account) ({read})"
    evaluated = "0 * max(intarget:limit_default:warning_share)"
    firing = select(
        "ALERTS",
        'alertstate="firing"',
        'severity=~"critical|warning"',
        *frame.alert_matchers("account", "channel"),
    )
    return Row(
        4,
        (
            (
                4,
                stat(
                    "Alerts firing",
                    "Critical alerts and warnings of this project's rules that fire now for the chosen "
                    "accounts "
                    "and channels, each counted once. Without the rules in this Prometheus nothing is counted.",
                    [
                        target(
                            f"count(max by ({frame.ALERT_KEY}) ({firing})) or {evaluated}",
                            "firing",
                            instant=True,
                        )
                    ],
                    unit="locale",
                    decimals=0,
                    no_value="No rules",
                    steps=((None, GOOD), (1, BAD)),
                    background=True,
                ),
            ),
            (
                4,
                stat(
                    "Messages sent",
                    f"Messages sent by the chosen channels. {_WINDOW_NOTE}",
                    [target(f"sum({_channel('messages_sent:increase$window')})", "sent", instant=True)],
                    unit="locale",
                    decimals=0,
                    no_value="None yet",
                    steps=((None, OUTCOME_COLOURS["Sent"]),),
                ),
            ),
            (
                4,
                stat(
                    "Delivered",
                    f"Delivered messages among those sent, over all chosen channels together. {_WINDOW_NOTE} "
                    "Messages still on their way count as not delivered.",
                    [
                        target(
                            f"sum({_channel('messages_delivered:increase$window')})"
                            f" / (sum({_channel('messages_sent:increase$window')}) > 0)",
                            "delivered",
                            instant=True,
                        )
                    ],
                    unit="percentunit",
                    decimals=1,
                    no_value="Nothing sent",
                    steps=((None, BAD), (0.8, WARN), (0.9, GOOD)),
                    lowest=0,
                    highest=1,
                ),
            ),
            (
                4,
                stat(
                    "Campaigns tracked",
                    "Campaigns that are exported now: those that started within `poll.window`, and older "
                    "ones that "
                    "still send. A campaign with several channels counts in each.",
                    [
                        target(
                            f"sum({newest(CHANNEL_KEY, select(TRACKED_CAMPAIGNS.name, CHANNELS))})",
                            "campaigns",
                            instant=True,
                        )
                    ],
                    unit="locale",
                    decimals=0,
                    no_value="None yet",
                ),
            ),
            (
                4,
                stat(
                    "Age of the data",
                    "Time since the statistics of the account that waits longest were last read with success. "
                    "After `poll.stale_after` (30 m) its campaign series are withdrawn.",
                    [target(f"max({age})", "age", instant=True)],
                    unit="s",
                    decimals=0,
                    no_value="Not read for 1 h",
                    steps=((None, GOOD), (900, WARN), (1800, BAD)),
                ),
            ),
            (
                4,
                stat(
                    "Answers complete",
                    "Whether everything was read that the API has. If not, the rows that are shown are "
                    "right, but "
                    "some campaigns may be missing from rates and totals. One complete replica is enough.",
                    [
                        target(
                            f"max(min by (account, resource) ({select(RESULTS_INCOMPLETE.name, ACCOUNT)}))",
                            "incomplete",
                            instant=True,
                        )
                    ],
                    unit="none",
                    decimals=0,
                    no_value="Not known yet",
                    steps=((None, GOOD), (1, BAD)),
                    mappings=value_names({"0": ("complete", GOOD), "1": ("incomplete", BAD)}),
                ),
            ),
        ),
    )


def _headroom_table() -> Json:
    queries = {
        "sent": newest(CHANNEL_KEY, _channel("messages_sent:increase$window")),
        "bounce": newest(CHANNEL_KEY, _channel("bounce:ratio_increase$window")),
        "bounce_limit": newest(CHANNEL_KEY, limit("bounce", CHANNELS)),
        "bounce_left": newest(
            CHANNEL_KEY,
            select("channel:intarget_headroom:events", CHANNELS, 'signal="bounce"', 'window="$window"'),
        ),
        "complaint": newest(CHANNEL_KEY, _channel("complaint:ratio_increase$window")),
        "complaint_limit": newest(CHANNEL_KEY, limit("complaint", CHANNELS)),
        "complaint_left": newest(
            CHANNEL_KEY,
            select("channel:intarget_headroom:events", CHANNELS, 'signal="complaint"', 'window="$window"'),
        ),
    }
    sent = f"and on ({CHANNEL_KEY}) {_channel('messages_sent:increase$window')} > 0"
    left = {"decimals": 0, "unit": "locale", **shaded(((None, BAD), (1, WARN), (25, GOOD)))}
    return table(
        "How much room is left",
        "For each channel: its bounce rate (bounced / sent) and complaint rate (complaints / delivered), "
        "the limits at "
        "which InTarget may stop the account, and how many more bounces or complaints the messages of the "
        "window bear "
        f"until then; 0 is at the limit, negative over it. {_WINDOW_NOTE}",
        [target(f"{expr} {sent}", ref=ref, table=True) for ref, expr in queries.items()],
        {
            "account": "Account",
            "channel": "Channel",
            "Value #sent": "Sent",
            "Value #bounce": "Bounce rate",
            "Value #bounce_limit": "Bounce limit",
            "Value #bounce_left": "Bounces left",
            "Value #complaint": "Complaint rate",
            "Value #complaint_limit": "Complaint limit",
            "Value #complaint_left": "Complaints left",
        },
        sort=("Bounces left", False),
        unit="locale",
        decimals=0,
        no_value="-",
        overrides=[
            by_name("Bounce rate", unit="percentunit", decimals=2, **shaded(BOUNCE_STEPS)),
            by_name("Bounce limit", unit="percentunit", decimals=2),
            by_name("Bounces left", **left),
            by_name("Complaint rate", unit="percentunit", decimals=3, **shaded(COMPLAINT_STEPS)),
            by_name("Complaint limit", unit="percentunit", decimals=3),
            by_name("Complaints left", **{**left, **shaded(((None, BAD), (1, WARN), (3, GOOD)))}),
        ],
    )


def _alerts() -> Json:
    firing = select("ALERTS", 'alertstate="firing"', *frame.alert_matchers("account", "channel"))
    since = select("ALERTS_FOR_STATE", *frame.alert_matchers("account", "channel"))
    expr = f"topk({TOP}, 1000 * max by ({frame.ALERT_KEY}) ({since}) and on ({frame.ALERT_KEY}) {firing})"
    return table(
        "Firing alerts",
        "Alerts of this project's rules that fire now, and since when their condition has held. The "
        "campaign's id "
        "leads to its dashboard. What each means and what to do stands in the runbook that it links to in "
        "Alertmanager.",
        [target(expr, table=True)],
        {
            "severity": "Severity",
            "alertname": "Alert",
            "account": "Account",
            "channel": "Channel",
            "campaign_id": "Campaign",
            "Value": "Since",
        },
        sort=("Since", True),
        unit="none",
        decimals=0,
        no_value="No alert is firing",
        overrides=[
            by_name(
                "Severity",
                custom__cellOptions={"type": "color-background", "mode": "basic", "applyToRow": False},
                mappings=value_names(SEVERITIES),
                custom__width=90,
            ),
            by_name("Since", unit="dateTimeFromNow"),
            by_name(
                "Campaign",
                links=[
                    link(
                        "Show this campaign",
                        "/d/intarget-campaign?${datasource:queryparam}"
                        "&var-account=${__data.fields.account:percentencode}"
                        "&var-channel=${__data.fields.channel:percentencode}"
                        "&var-campaign=${__data.fields.campaign_id:percentencode}&from=now-2d&to=now",
                    )
                ],
            ),
        ],
    )


def _limits() -> Row:
    gauges = {
        "bounce": "Bounce limit used",
        "complaint": "Complaint limit used",
    }
    meaning = {
        "bounce": "The bounce rate (bounced / sent, hard and soft) as a share of the limit, InTarget's 5 %",
        "complaint": "The complaint rate (complaints / delivered) as a share of the limit, InTarget's 0.05 %",
    }
    return Row(
        8,
        (
            *(
                (
                    5,
                    gauge(
                        title,
                        f"{meaning[signal]} unless limits.yaml says otherwise for the channel. At 100 % the "
                        "account may be "
                        f"stopped; from 60 % on it is a warning. {_VOLUME_NOTE} {_WINDOW_NOTE}",
                        [target(f"sort_desc(topk(12, {_limit_used(signal)}))", _LEGEND, instant=True)],
                        unit="percentunit",
                        decimals=0,
                        no_value="Too few messages",
                        steps=LIMIT_STEPS,
                        lowest=0,
                        highest=1.25,
                    ),
                )
                for signal, title in gauges.items()
            ),
            (14, _alerts()),
        ),
        "Are we about to be stopped?",
    )


def _rate_lines(title: str, signal: str, description: str, *, decimals: int, **rest: Any) -> Json:  # noqa: ANN401
    default = f'scalar(intarget:limit_default:ratio{{signal="{signal}"}})'
    return lines(
        title,
        f"{description} {_VOLUME_NOTE} {_WINDOW_NOTE} Dashed lines: InTarget's limit, and 60 % of it, where "
        "the alerts "
        "warn. A channel "
        "whose limit was set apart in limits.yaml has that as a line of its own.",
        [
            target(f"{_channel(f'{signal}:ratio_increase$window')} {_enough(signal)}", _LEGEND),
            target(f"{limit(signal, CHANNELS)} != {default}", f"limit · {_LEGEND}", "B"),
        ],
        unit="percentunit",
        decimals=decimals,
        no_value="Too few messages",
        limits=True,
        lowest=0,
        overrides=[
            *channel_colours(),
            by_regex(
                "^limit ·",
                color=fixed(BAD),
                custom__lineStyle={"dash": [10, 10], "fill": "dash"},
                custom__fillOpacity=0,
            ),
        ],
        **rest,
    )


def _rates() -> Row:
    return Row(
        9,
        (
            (
                12,
                _rate_lines(
                    "Bounce rate against the limit",
                    "bounce",
                    "Bounced messages, hard and soft, per message sent.",
                    decimals=2,
                    steps=BOUNCE_STEPS,
                    soft_max=0.055,
                ),
            ),
            (
                12,
                _rate_lines(
                    "Complaint rate against the limit",
                    "complaint",
                    "Complaints (marked as spam) per message delivered.",
                    decimals=3,
                    steps=COMPLAINT_STEPS,
                    soft_max=0.00055,
                ),
            ),
        ),
    )


def _brought(record: str) -> str:
    """Return what campaigns brought within the window.

    The recorded series may have missed a new campaign's zero, and `increase` guesses at its ends: what began
    within the window is counted as it is.
    """
    series = select(record, CHANNELS)
    new = f"{started(CHANNELS)} >= scalar(min_over_time(vector(time())[$window:5m]))"
    return (
        f"(max by ({CAMPAIGN_KEY}) ({series} and on ({CAMPAIGN_KEY}) ({new}))"
        f" or round(increase({series}[$window])))"
    )


def _drivers() -> Row:
    bounces = _brought("campaign:intarget_messages_bounced:max")
    complaints = _brought("campaign:intarget_complaints:max")
    sent = _brought("campaign:intarget_messages_sent:max")
    share = f"{bounces} / on ({CHANNEL_KEY}) group_left () (sum by ({CHANNEL_KEY}) ({bounces}) > 0)"
    drivers = f"topk(15, ({bounces} > 0))"
    queries = {
        "bounces": with_name(drivers, CHANNELS),
        "share": f"({share}) and on ({CAMPAIGN_KEY}) {drivers}",
        "complaints": f"({complaints}) and on ({CAMPAIGN_KEY}) {drivers}",
        "sent": f"({sent}) and on ({CAMPAIGN_KEY}) {drivers}",
        "started": f"1000 * {started(CHANNELS)} and on ({CAMPAIGN_KEY}) {drivers}",
    }
    return Row(
        10,
        (
            (
                13,
                table(
                    "What drives it",
                    "The campaigns that brought the most bounces within the window chosen above, and their "
                    "share of the bounces of all campaigns of their channel. A campaign that started in the "
                    "window counts with all it has; of an older one, what it had before it became known to the "
                    "exporter isn't counted. A row leads to the campaign.",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "campaign": "Campaign",
                        "account": "Account",
                        "channel": "Channel",
                        "campaign_id": "Id",
                        "Value #bounces": "Bounces",
                        "Value #share": "Share",
                        "Value #complaints": "Complaints",
                        "Value #sent": "Sent",
                        "Value #started": "Started",
                    },
                    sort=("Bounces", True),
                    unit="locale",
                    decimals=0,
                    no_value="No campaign bounced",
                    overrides=[
                        by_name("Campaign", links=[campaign_link()], custom__width=190),
                        by_name("Bounces", **bar_cells(OUTCOME_COLOURS["Bounced"])),
                        by_name("Share", unit="percentunit", decimals=0),
                        by_name("Id", custom__width=75),
                        by_name("Started", unit="dateTimeFromNow"),
                    ],
                ),
            ),
            (11, _headroom_table()),
        ),
        "What drives it, and how much room is left",
    )


def _activity() -> Row:
    sent, delivered = (CHANNEL_COUNTERS[name].name for name in ("sent", "delivered"))

    def per_minute(metric: str) -> str:
        rate = newest(CHANNEL_KEY, f"rate({select(metric, CHANNELS)}[$__rate_interval])")
        return f"60 * sum by (channel) ({rate})"

    def event_rate(title: str, record: str, description: str, soft_max: float) -> Json:
        return lines(
            title,
            f"{description} {_VOLUME_NOTE} {_WINDOW_NOTE}",
            [target(f"{_channel(f'{record}:ratio_increase$window')} {_enough('complaint')}", _LEGEND)],
            unit="percentunit",
            decimals=2,
            no_value="Too few messages",
            lowest=0,
            soft_max=soft_max,
            overrides=channel_colours(),
        )

    return Row(
        8,
        (
            (
                6,
                lines(
                    "Messages sent",
                    "Messages sent in a minute, by channel, all chosen accounts together. Campaigns are "
                    "read every few "
                    "minutes to every hour, by their age, so a burst may be shown as wide as that.",
                    [target(per_minute(sent), "{{channel}}")],
                    unit="short",
                    decimals=1,
                    no_value="Nothing sent",
                    stacked_bars=True,
                    axis="per minute",
                    legend=("mean", "max"),
                    interval="2m",
                    overrides=channel_colours(),
                ),
            ),
            (
                6,
                lines(
                    "Messages delivered",
                    "Messages delivered in a minute, by channel, all chosen accounts together; beside the "
                    "messages sent a "
                    "gap between the two shows a delivery that fails or lags.",
                    [target(per_minute(delivered), "{{channel}}")],
                    unit="short",
                    decimals=1,
                    no_value="Nothing delivered",
                    stacked_bars=True,
                    axis="per minute",
                    legend=("mean", "max"),
                    interval="2m",
                    overrides=channel_colours(),
                ),
            ),
            (
                6,
                event_rate(
                    "Click rate",
                    "click",
                    "Messages with a click per message delivered in the window. Clicks come late: in a "
                    "quiet window they "
                    "belong to earlier messages. Security scanners click too.",
                    0.02,
                ),
            ),
            (
                6,
                event_rate(
                    "Unsubscribe rate",
                    "unsubscribe",
                    "Recipients who unsubscribed per message delivered in the window. They come late, as "
                    "clicks do.",
                    0.005,
                ),
            ),
        ),
        "Activity",
    )


def _worst() -> Row:
    worst = f"topk({TOP}, {risk(CHANNELS)})"

    def of_worst(expr: str) -> str:
        return f"({expr}) and on ({CAMPAIGN_KEY}) {worst}"

    queries = {
        "risk": with_name(worst, CHANNELS),
        "bounce": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_bounce:ratio", CHANNELS))),
        "complaint": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_complaint:ratio", CHANNELS))),
        "unsubscribe": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_unsubscribe:ratio", CHANNELS))),
        "delivery": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_delivery:ratio", CHANNELS))),
        "open": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_open:ratio", CHANNELS))),
        "click": of_worst(newest(CAMPAIGN_KEY, select("campaign:intarget_click:ratio", CHANNELS))),
        "sent": of_worst(count("sent", CHANNELS)),
        "started": of_worst(f"1000 * {started(CHANNELS)}"),
    }
    return Row(
        13,
        (
            (
                24,
                table(
                    "Worst campaigns",
                    "The fifty campaigns that use most of a limit, over their whole life. *Risk* is the "
                    "share of the bounce "
                    "or complaint limit, the larger one, that they use for sure: the lower confidence bound "
                    "of the rate over "
                    "the limit, so that one bounce of five doesn't count as 20 %. Rates are per message "
                    "sent (bounced, "
                    "delivered) or delivered (the others). Opens are inflated by privacy proxies that open "
                    "every mail, and "
                    "missing for SMS. Click a heading to sort; a row leads to the campaign.",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "campaign": "Campaign",
                        "account": "Account",
                        "channel": "Channel",
                        "campaign_id": "Id",
                        "Value #risk": "Risk",
                        "Value #bounce": "Bounced",
                        "Value #complaint": "Complaints",
                        "Value #unsubscribe": "Unsubscribed",
                        "Value #delivery": "Delivered",
                        "Value #open": "Opened",
                        "Value #click": "Clicked",
                        "Value #sent": "Sent",
                        "Value #started": "Started",
                    },
                    sort=("Risk", True),
                    unit="percentunit",
                    decimals=2,
                    no_value="-",
                    overrides=[
                        by_name("Campaign", links=[campaign_link()], custom__width=280),
                        by_name("Risk", decimals=0, **shaded(LIMIT_STEPS)),
                        by_name("Bounced", **shaded(BOUNCE_STEPS)),
                        by_name("Complaints", decimals=3, **shaded(COMPLAINT_STEPS)),
                        by_name("Delivered", decimals=1),
                        by_name("Opened", decimals=1),
                        by_name("Sent", unit="locale", decimals=0),
                        by_name("Started", unit="dateTimeFromNow"),
                    ],
                ),
            ),
        ),
        "Campaigns",
    )


def dashboard() -> Json:
    """Return the model."""
    return frame.build(
        uid="intarget-overview",
        title="InTarget / Overview",
        description="How close each account and channel is to InTarget's limits (5 % bounces, 0.05 % "
        "complaints), which campaigns drive it, and what is being sent.",
        variables=[frame.account_variable(), frame.channel_variable(), frame.window_variable()],
        annotations=[frame.firing_alerts("account", "channel"), frame.campaign_starts(CHANNELS)],
        rows=[_headline(), _limits(), _rates(), _drivers(), _activity(), _worst()],
        since="now-24h",
    )
