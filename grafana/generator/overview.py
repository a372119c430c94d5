"""The overview: whether an account is about to be stopped, and what drives it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    BAD,
    BOUNCE_STEPS,
    COMPLAINT_STEPS,
    GOOD,
    LIMIT_STEPS,
    OUTCOME_COLOURS,
    PLAIN,
    WARN,
    Json,
    bar_cells,
    by_name,
    campaign_link,
    channel_colours,
    columns,
    dashed,
    limit_steps,
    lines,
    shaded,
    stat,
    table,
    target,
    value_names,
    width,
)
from grafana.generator.problems import alerts_firing, firing_table
from grafana.generator.promql import (
    ACCOUNT,
    AT_END,
    CAMPAIGN_KEY,
    CHANNEL_KEY,
    CHANNELS,
    LINES,
    TOP,
    brought,
    channel_rate,
    count,
    judged,
    leading,
    limit,
    limit_used,
    marked,
    newest,
    present,
    risk,
    select,
    started,
    with_name,
)
from grafana.generator.signals import BOUNCE, COMPLAINT

if TYPE_CHECKING:
    from grafana.generator.signals import LimitedRatio

_LEGEND = "{{account}} · {{channel}}"
_ROW = "A row leads to the campaign."
_WINDOW = "Counted by channel over the window chosen above, not over the time range."
_ENOUGH = (
    f"Shown from as many messages on as alerts need: {BOUNCE.least_messages:,} sent for bounces, "
    f"{COMPLAINT.least_messages:,} delivered for the rest."
)
_EVENTS = {"bounce": "bounces", "complaint": "complaints"}


# The answer


def _closest() -> Json:
    """Return the figure that the dashboard is for: how near the nearest limit is."""
    used = marked("events", {name: limit_used(signal) for signal, name in _EVENTS.items()})
    at_end = marked("events", {name: limit_used(signal, AT_END) for signal, name in _EVENTS.items()})
    return stat(
        "Closest to a limit, $window",
        f"""The largest share that a channel uses of one of InTarget's limits: {BOUNCE.limit:.0%} of the
        messages sent bounced, {COMPLAINT.limit:.2%} of those delivered complained about, unless limits.yaml
        says otherwise. At 100 % the account may be stopped; from 60 % on it is a warning. {_WINDOW}
        {_ENOUGH}""",
        [
            target(
                leading(1, f"{CHANNEL_KEY}, events", used, at_end), "of {{events}}: {{account}} · {{channel}}"
            )
        ],
        unit="percentunit",
        decimals=0,
        no_value="Too few messages",
        steps=LIMIT_STEPS,
        text="value_and_name",
        sparkline=True,
        min=0,
    )


def _compared(title: str, description: str, expr: str, **rest: object) -> Json:
    """Return a figure of the window beside that of a week before; `expr` has OFFSET behind each selector."""
    return stat(
        f"{title}, $window",
        f"{description} Beside it, the same a week before. {_WINDOW}",
        [
            target(
                present(expr.replace("OFFSET", ""), "intarget_channel_messages_sent_total", CHANNELS), "now"
            ),
            target(expr.replace("OFFSET", " offset 1w"), "a week before", "before", instant=True),
        ],
        text="value_and_name",
        sparkline=True,
        **rest,
    )


def _sent() -> Json:
    return _compared(
        "Sent",
        "Messages sent by the chosen channels together.",
        f"sum({channel_rate('messages_sent:increase$window', 'OFFSET')})",
        unit="locale",
        decimals=0,
        no_value="None yet",
    )


def _delivered() -> Json:
    sent, delivered = (
        f"sum({channel_rate(f'messages_{what}:increase$window', 'OFFSET')})" for what in ("sent", "delivered")
    )
    return _compared(
        "Delivered",
        "Delivered among the messages sent, of the chosen channels together; what is on its way isn't.",
        f"{delivered} / ({sent} > 0)",
        unit="percentunit",
        decimals=1,
        no_value="Nothing sent",
        steps=((None, BAD), (0.8, WARN), (0.9, GOOD)),
        max=1,
    )


def _age() -> Json:
    statistics = select("intarget_last_success_timestamp_seconds", ACCOUNT, 'resource="statistics"')
    # With the exporter gone, its last word goes on getting older for an hour.
    return stat(
        "Oldest data",
        """Time since the statistics of the account that waits longest were last read with success. Once it is
        over the exporter's `poll.stale_after` (30 m by default), that account's campaigns are withdrawn.""",
        [target(f"max(time() - max by (account) (last_over_time({statistics}[1h])))", "age", instant=True)],
        unit="s",
        decimals=0,
        no_value="Not read for 1 h",
        steps=((None, GOOD), (900, WARN), (1800, BAD)),
    )


def _headline() -> Row:
    return Row(5, ((8, _closest()), (5, _sent()), (5, _delivered()), (3, alerts_firing()), (3, _age())))


# The accounts


def _account_queries() -> dict[str, str]:
    """Return the columns of the channels of each account that sent something."""
    used = f"max by ({CHANNEL_KEY}) (\n{marked('signal', {s: limit_used(s) for s in _EVENTS})}\n)"
    sent = channel_rate("messages_sent:increase$window")
    queries = {
        "sent": f"{sent} > 0",
        "used": used,
        "before": channel_rate("messages_sent:increase$window", " offset 1w"),
    }
    for signal in _EVENTS:
        left = select("channel:intarget_headroom:events", CHANNELS, f'signal="{signal}"', 'window="$window"')
        queries[signal] = channel_rate(f"{signal}:ratio_increase$window")
        queries[f"{signal}_limit"] = newest(CHANNEL_KEY, limit(signal, CHANNELS))
        queries[f"{signal}_left"] = newest(CHANNEL_KEY, left)
    largest = f"topk({2 * TOP}, {sent} > 0)"
    return {ref: f"({expr}) and on ({CHANNEL_KEY}) {largest}" for ref, expr in queries.items()}


def _accounts() -> Json:
    """Return a row for each channel of each account, the nearest to a limit first."""
    few = {"decimals": 0, "unit": "locale"}
    return table(
        "Accounts and channels, $window",
        f"""How much of the nearer limit each channel uses, its bounce rate (bounced per sent) and complaint
        rate (complaints per delivered) with their limits, and how many more bounces or complaints the messages
        of the window bear until then; 0 is at the limit, negative over it. InTarget publishes limits for email
        only. {_WINDOW}""",
        columns(_account_queries()),
        {
            "account": "Account",
            "channel": "Channel",
            "Value #used": "Limit used",
            "Value #bounce": "Bounced",
            "Value #bounce_limit": "of at most",
            "Value #bounce_left": "Room",
            "Value #complaint": "Complaints",
            "Value #complaint_limit": "of at most ",
            "Value #complaint_left": "Room ",
            "Value #sent": "Sent",
            "Value #before": "Week before",
        },
        sort=("Limit used", True),
        unit="percentunit",
        decimals=2,
        no_value="-",
        overrides=[
            by_name("Limit used", **bar_cells(steps=LIMIT_STEPS, pixels=230), max=1, decimals=0),
            by_name("Bounced", **shaded(BOUNCE_STEPS)),
            by_name("Room", **few, **shaded(((None, BAD), (1, WARN), (25, GOOD)))),
            by_name("Complaints", decimals=3, **shaded(COMPLAINT_STEPS)),
            by_name("of at most ", decimals=3),
            by_name("Room ", **few, **shaded(((None, BAD), (1, WARN), (3, GOOD)))),
            by_name("Sent", **few),
            by_name("Week before", **few),
        ],
    )


def _rate_against_limit(title: str, ratio: LimitedRatio, description: str, decimals: int) -> Json:
    signal = ratio.signal
    default = f'scalar(intarget:limit_default:ratio{{signal="{signal}"}})'
    return lines(
        title,
        f"""{description} {_ENOUGH} {_WINDOW} Dashed: InTarget's limit, and 60 % of it, where alerts warn; a
        channel whose limit limits.yaml sets apart has that as a line of its own. The twelve highest.""",
        [
            target(leading(LINES, CHANNEL_KEY, judged(signal), judged(signal, at=AT_END)), _LEGEND),
            target(
                f"{newest(CHANNEL_KEY, limit(signal, CHANNELS))} != {default}", f"limit · {_LEGEND}", "limit"
            ),
        ],
        unit="percentunit",
        decimals=decimals,
        no_value="Too few messages",
        limits=True,
        min=0,
        steps=limit_steps(ratio),
        soft_max=1.1 * ratio.limit,
        overrides=[dashed("^limit ·", BAD)],
    )


def _rates() -> Row:
    bounced = "Bounced messages, hard and soft, per message sent."
    complained = "Complaints (marked as spam) per message delivered."
    return Row(
        9,
        (
            (12, _rate_against_limit("Bounce rate, $window", BOUNCE, bounced, 2)),
            (12, _rate_against_limit("Complaint rate, $window", COMPLAINT, complained, 3)),
        ),
        "Over time, against the limits",
    )


# The campaigns


def _driver_queries() -> dict[str, str]:
    """Return the columns of the campaigns that brought the most bounces; the first has their names."""
    bounces, complaints, sent = (
        brought(f"campaign:intarget_{what}:max", "$window", CHANNELS)
        for what in ("messages_bounced", "complaints", "messages_sent")
    )
    drivers = f"topk(15, ({bounces}) > 0)"

    def share(events: str) -> str:
        return f"({events}) / on ({CHANNEL_KEY}) group_left () (sum by ({CHANNEL_KEY}) ({events}) > 0)"

    queries = {
        "share": share(bounces),
        "bounces": bounces,
        "complaint_share": share(complaints),
        "complaints": complaints,
        "sent": sent,
        "started": f"1000 * {started(CHANNELS)}",
    }
    shown = {ref: f"({expr}) and on ({CAMPAIGN_KEY}) {drivers}" for ref, expr in queries.items()}
    return {**shown, "share": with_name(shown["share"], CHANNELS)}


def _drivers() -> Json:
    return table(
        "What drives it, $window",
        f"""The campaigns that brought the most bounces within the window chosen above, and their share of the
        bounces and complaints of their channel. A campaign that started in the window counts with all it has;
        of an older one, what it had before the exporter knew it isn't counted. {_ROW}""",
        columns(_driver_queries()),
        {
            "campaign": "Campaign",
            "account": "Account",
            "channel": "Channel",
            "Value #bounces": "Bounces",
            "Value #share": "of the channel's",
            "Value #complaints": "Complaints",
            "Value #complaint_share": "of the channel's ",
            "Value #sent": "Sent",
            "Value #started": "Started",
            "campaign_id": "",
        },
        sort=("Bounces", True),
        unit="locale",
        decimals=0,
        no_value="None",
        overrides=[
            by_name("Campaign", links=[campaign_link()]),
            by_name("of the channel's", unit="percentunit", **bar_cells(OUTCOME_COLOURS["Bounced"]), max=1),
            by_name("of the channel's ", unit="percentunit", **bar_cells(OUTCOME_COLOURS["Complaints"]), max=1),
            by_name("Started", unit="dateTimeFromNow"),
        ],
    )


def _worst_queries() -> dict[str, str]:
    """Return the columns of the campaigns that use most of a limit; the first has their names."""
    worst = f"topk({TOP}, {risk(CHANNELS)})"
    rates = ("bounce", "complaint", "unsubscribe", "delivery", "open", "click")
    queries = {
        rate: newest(CAMPAIGN_KEY, select(f"campaign:intarget_{rate}:ratio", CHANNELS)) for rate in rates
    }
    queries |= {"sent": count("sent", CHANNELS), "started": f"1000 * {started(CHANNELS)}"}
    shown = {ref: f"({expr}) and on ({CAMPAIGN_KEY}) {worst}" for ref, expr in queries.items()}
    return {"risk": with_name(worst, CHANNELS), **shown}


def _worst() -> Json:
    return table(
        "Worst campaigns",
        f"""The fifty campaigns that use most of a limit, over their whole life. *Risk* is the share of the
        bounce or complaint limit, the larger one, that they use for sure: the lower confidence bound of the
        rate over the limit, so that one bounce of five doesn't count as 20 %. Rates are per message sent
        (bounced, delivered) or delivered (the others). Opens are inflated by privacy proxies, and SMS has none.
        {_ROW}""",
        columns(_worst_queries()),
        {
            "campaign": "Campaign",
            "account": "Account",
            "channel": "Channel",
            "Value #risk": "Risk",
            "Value #bounce": "Bounced",
            "Value #complaint": "Complaints",
            "Value #unsubscribe": "Unsubscr.",
            "Value #delivery": "Delivered",
            "Value #open": "Opened",
            "Value #click": "Clicked",
            "Value #sent": "Sent",
            "Value #started": "Started",
            "campaign_id": "",
        },
        sort=("Risk", True),
        unit="percentunit",
        decimals=2,
        no_value="-",
        overrides=[
            by_name("Campaign", links=[campaign_link()]),
            by_name("Risk", decimals=0, **shaded(LIMIT_STEPS), **width(70)),
            by_name("Bounced", **shaded(BOUNCE_STEPS)),
            by_name("Complaints", decimals=3, **shaded(COMPLAINT_STEPS)),
            by_name("Delivered", decimals=1),
            by_name("Opened", decimals=1),
            by_name("Sent", unit="locale", decimals=0),
            by_name("Started", unit="dateTimeFromNow"),
        ],
    )


# What is sent


def _per_minute() -> Json:
    rate = newest(
        CHANNEL_KEY, f"rate({select('intarget_channel_messages_sent_total', CHANNELS)}[$__rate_interval])"
    )
    return lines(
        "Messages sent per minute",
        """By channel, all chosen accounts together. Campaigns are read every few minutes to every hour, by
        their age, so a burst may be drawn as wide as that.""",
        [target(f"60 * sum by (channel) ({rate})", "{{channel}}")],
        unit="short",
        decimals=1,
        no_value="Nothing sent",
        stacked_bars=True,
        interval="2m",
        overrides=channel_colours(),
    )


def _event_rate(title: str, signal: str, description: str) -> Json:
    return lines(
        f"{title}, $window",
        f"{description} {_ENOUGH} {_WINDOW} The twelve highest.",
        [target(leading(LINES, CHANNEL_KEY, judged(signal), judged(signal, at=AT_END)), _LEGEND)],
        unit="percentunit",
        decimals=2,
        no_value="Too few messages",
        min=0,
    )


def _tracked() -> Json:
    return stat(
        "Campaigns tracked",
        """Campaigns that are exported now: those that started within `poll.window`, and older ones that still
        send. A campaign with several channels counts in each.""",
        [
            target(
                f"sum({newest(CHANNEL_KEY, select('intarget_tracked_campaigns', CHANNELS))})",
                "campaigns",
                instant=True,
            )
        ],
        unit="locale",
        decimals=0,
        no_value="None yet",
        steps=((None, PLAIN),),
    )


def _complete() -> Json:
    incomplete = select("intarget_results_incomplete", ACCOUNT)
    return stat(
        "Answers complete",
        """Whether everything was read that the API has, in the account where it is worst. If not, the rows that
        are shown are right, but some campaigns may be missing from rates and totals. One complete replica is
        enough.""",
        [target(f"max(min by (account, resource) ({incomplete}))", "incomplete", instant=True)],
        unit="none",
        decimals=0,
        no_value="Not known yet",
        steps=((None, GOOD), (1, BAD)),
        mappings=value_names({"0": ("all complete", GOOD), "1": ("incomplete", BAD)}),
    )


def _activity() -> tuple[Row, Row]:
    late = "They come late: in a quiet window they belong to earlier messages."
    return (
        Row(
            8,
            (
                (8, _per_minute()),
                (8, _event_rate("Click rate", "click", f"Messages with a click per message delivered. {late}")),
                (
                    8,
                    _event_rate(
                        "Unsubscribe rate", "unsubscribe", f"Unsubscribes per message delivered. {late}"
                    ),
                ),
            ),
            "What is sent",
        ),
        Row(3, ((12, _tracked()), (12, _complete()))),
    )


def dashboard() -> Json:
    """Return the model."""
    return frame.build(
        uid="intarget-overview",
        title="InTarget / Overview",
        description=f"""How close each account and channel is to InTarget's limits ({BOUNCE.limit:.0%} bounces,
        {COMPLAINT.limit:.2%} complaints), which campaigns drive it, and what is being sent.""",
        variables=[frame.account_variable(), frame.channel_variable(), frame.window_variable()],
        annotations=[frame.firing_alerts("account", "channel"), frame.campaign_starts(CHANNELS)],
        rows=[
            _headline(),
            Row(7, ((24, firing_table()),)),
            Row(8, ((24, _accounts()),)),
            _rates(),
            Row(9, ((24, _drivers()),), "Campaigns"),
            Row(12, ((24, _worst()),)),
            *_activity(),
        ],
        since="now-24h",
    )
