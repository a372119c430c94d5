"""One campaign: how it does, against others of its channel."""

from __future__ import annotations

from exporter.exposition.catalogue import (
    CAMPAIGN_COUNTERS,
    CAMPAIGN_STOP,
    CHANNEL_OVERCOUNT,
    CONVERTED_USERS,
    DEPOSITS,
)
from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    BAD,
    BOUNCE_STEPS,
    COMPLAINT_STEPS,
    GOOD,
    MUTED,
    NO_STEPS,
    WARN,
    Json,
    Steps,
    bars,
    by_name,
    by_regex,
    channel_colours,
    fixed,
    lines,
    outcome_colours,
    shaded,
    stat,
    table,
    target,
)
from grafana.generator.promql import (
    CAMPAIGN_KEY,
    CHANNEL_KEY,
    CHANNELS,
    ONE,
    TOP,
    count,
    marked,
    newest,
    risk,
    select,
    started,
)

_GOAL = "{{conversion_event}}, {{conversion_period}}"
_GOAL_KEY = f"{CAMPAIGN_KEY}, conversion_event, conversion_period"
_OPENS = "Opens are inflated by privacy proxies that open every mail, and SMS has none."
RATES = {
    "Delivered": "delivery",
    "Opened": "open",
    "Clicked": "click",
    "Bounced": "bounce",
    "Hard bounced": "hard_bounce",
    "Complaints": "complaint",
    "Unsubscribed": "unsubscribe",
    "Failed or rejected": "failure",
}


def _goals(metric: str) -> str:
    series = newest(_GOAL_KEY, select(metric, ONE))
    return f"sum by (conversion_event, conversion_period) ({series})"


def _identity() -> Row:
    info = newest(f"{CAMPAIGN_KEY}, campaign_name, message_title", select("intarget_campaign_info", ONE))
    queries = {
        "info": f"topk by ({CAMPAIGN_KEY}) (1, {info})",
        "started": f"1000 * {started(ONE)}",
        "stopped": f"1000 * {newest(CAMPAIGN_KEY, select(CAMPAIGN_STOP.name, ONE))}",
    }
    return Row(
        4,
        (
            (
                12,
                table(
                    "Campaign",
                    "What is shown. The name is known from the campaign's conversions only; *Started* and "
                    "*Stopped* are as "
                    "InTarget gives them, *Stopped* is empty while it isn't known.",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "campaign_name": "Name",
                        "message_title": "Message",
                        "campaign_id": "Id",
                        "account": "Account",
                        "channel": "Channel",
                        "Value #started": "Started",
                        "Value #stopped": "Stopped",
                    },
                    unit="dateTimeAsIso",
                    decimals=0,
                    no_value="-",
                ),
            ),
            *(
                (3, _rate_stat(title, record, description, steps, decimals))
                for title, record, description, steps, decimals in (
                    (
                        "Delivered",
                        "delivery",
                        "Delivered per sent; what is still on its way counts as not delivered.",
                        ((None, BAD), (0.8, WARN), (0.9, GOOD)),
                        1,
                    ),
                    ("Bounced", "bounce", "Bounces, hard and soft, per message sent.", BOUNCE_STEPS, 2),
                    ("Complaints", "complaint", "Complaints per message delivered.", COMPLAINT_STEPS, 3),
                )
            ),
            (
                3,
                stat(
                    "Limit surely used",
                    "Share of the bounce or complaint limit, the larger one, that the campaign uses for "
                    "sure: the lower "
                    "confidence bound of its rate over the limit. From 100 % on an alert fires while it "
                    "sends.",
                    [target(f"max by (channel) ({risk(ONE)})", "{{channel}}", instant=True)],
                    unit="percentunit",
                    decimals=0,
                    no_value="No rate",
                    steps=((None, GOOD), (0.6, WARN), (1.0, BAD)),
                ),
            ),
        ),
    )


def _rate_stat(title: str, record: str, description: str, steps: Steps, decimals: int) -> Json:
    expr = f"max by (channel) ({select(f'campaign:intarget_{record}:ratio', ONE)})"
    return stat(
        title,
        f"{description} Over the campaign's whole life; each channel by itself.",
        [target(expr, "{{channel}}", instant=True)],
        unit="percentunit",
        decimals=decimals,
        no_value="No rate",
        steps=steps,
    )


def _funnel() -> Row:
    counted = {"Sent": "sent", "Delivered": "delivered", "Opened": "opened", "Clicked": "clicked"}
    outcomes = [
        target(f"sum({count(field, ONE)})", legend, legend.lower(), instant=True)
        for legend, field in counted.items()
    ]
    lost = {
        "Bounced": "bounced",
        "Soft bounced": "softBounced",
        "Rejected": "rejected",
        "Failed": "failed",
        "Failed temporarily": "temporaryFailed",
        "Skipped": "skipped",
        "Unsubscribed": "unsubscribed",
        "Complaints": "complaint",
    }
    return Row(
        10,
        (
            (
                8,
                bars(
                    "Funnel",
                    "From the messages sent to the deposits, over the campaign's whole life and the chosen "
                    "channels together. "
                    "Each conversion event and period is a step of its own: their users overlap and can't "
                    "be added up. "
                    f"{_OPENS}",
                    [
                        *outcomes,
                        target(_goals(CONVERTED_USERS.name), f"Converted, {_GOAL}", "converted", instant=True),
                        target(_goals(DEPOSITS.name), f"Deposits, {_GOAL}", "deposits", instant=True),
                    ],
                    unit="locale",
                    decimals=0,
                    no_value="Not tracked",
                    lowest=0,
                    overrides=outcome_colours(*counted, "Converted", "Deposits"),
                ),
            ),
            (
                8,
                bars(
                    "What went wrong",
                    "Messages that didn't arrive or weren't wanted, over the campaign's whole life and the "
                    "chosen channels "
                    "together. Soft bounces are among the bounces.",
                    [
                        target(f"sum({count(field, ONE)})", legend, field.lower(), instant=True)
                        for legend, field in lost.items()
                    ],
                    unit="locale",
                    decimals=0,
                    no_value="Not tracked",
                    lowest=0,
                    overrides=outcome_colours(*lost),
                ),
            ),
            (8, _against_channel()),
        ),
        "How is it doing?",
    )


def _against_channel() -> Json:
    def union(wrap: str, *matchers: str) -> str:
        return marked(
            "rate",
            {
                title: wrap.format(select(f"campaign:intarget_{record}:ratio", *matchers))
                for title, record in RATES.items()
            },
        )

    # The campaigns of the chosen channels that have a place in this comparison: those in the campaign's own.
    own = f"on ({CHANNEL_KEY}) {count('sent', ONE)}"
    others = {
        "median": f"quantile by ({CHANNEL_KEY}) (0.5, {{}})",
        "high": f"quantile by ({CHANNEL_KEY}) (0.9, {{}})",
    }
    queries = {
        "this": union(f"max by ({CHANNEL_KEY}) ({{}})", ONE),
        **{ref: f"(\n{union(wrap, CHANNELS)}\n)\nand {own}" for ref, wrap in others.items()},
    }
    return table(
        "Against its channel",
        "The campaign's rates beside those of all tracked campaigns of its account and channel: half of "
        "them lie under the "
        "median, nine of ten under the last column. Every campaign counts alike, small ones too; over their "
        "whole life. "
        f"Rates are per message sent (delivered, bounced, failed) or delivered. {_OPENS}",
        [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
        {
            "rate": "Rate",
            "channel": "Channel",
            "Value #this": "This",
            "Value #median": "Median",
            "Value #high": "9 of 10 under",
        },
        unit="percentunit",
        decimals=3,
        no_value="-",
        overrides=[by_name("This", custom__cellOptions={"type": "color-text"}, color=fixed("#56B4E9"))],
    )


def _curves() -> Row:
    reach = {"Sent": "sent", "Delivered": "delivered", "Opened": "opened", "Clicked": "clicked"}
    trouble = {
        "Bounced": "bounced",
        "Soft bounced": "softBounced",
        "Failed": "failed",
        "Rejected": "rejected",
        "Unsubscribed": "unsubscribed",
        "Complaints": "complaint",
    }

    def curves(title: str, fields: dict[str, str], description: str) -> Json:
        return lines(
            title,
            f"{description} Counted since the campaign's start, all chosen channels together. Polled every "
            "few minutes "
            "while the campaign is young, hourly later.",
            [
                target(f"sum({count(field, ONE)})", legend, legend.lower().replace(" ", "_"))
                for legend, field in fields.items()
            ],
            unit="locale",
            decimals=0,
            no_value="Not tracked",
            lowest=0,
            overrides=outcome_colours(*fields),
            legend=("lastNotNull",),
        )

    return Row(
        9,
        (
            (
                12,
                curves(
                    "Reach since the start", reach, f"Messages sent, delivered, opened and clicked. {_OPENS}"
                ),
            ),
            (12, curves("Trouble since the start", trouble, "Bounces, failures, unsubscribes and complaints.")),
        ),
        "Since its start",
    )


def _rate_curves() -> Row:
    def compared(
        title: str,
        record: str,
        description: str,
        decimals: int,
        *,
        steps: Steps = NO_STEPS,
        soft_max: float | None = None,
    ) -> Json:
        ratio = f"campaign:intarget_{record}:ratio"
        own = f"and on ({CHANNEL_KEY}) {count('sent', ONE)}"
        return lines(
            title,
            f"{description} The campaign's rate over its life so far; grey and dashed, the median of all "
            "tracked campaigns of "
            "its account and channel."
            + (" Dashed lines: InTarget's limit, and 60 % of it." if steps is not NO_STEPS else ""),
            [
                target(f"max by ({CHANNEL_KEY}) ({select(ratio, ONE)})", "{{channel}}"),
                target(
                    f"quantile by ({CHANNEL_KEY}) (0.5, {select(ratio, CHANNELS)}) {own}",
                    "median of {{channel}}",
                    "median",
                ),
            ],
            unit="percentunit",
            decimals=decimals,
            no_value="No rate",
            lowest=0,
            limits=steps is not NO_STEPS,
            points=150,
            steps=steps,
            soft_max=soft_max,
            overrides=[
                *channel_colours(),
                by_regex(
                    "^median of",
                    color=fixed(MUTED),
                    custom__fillOpacity=0,
                    custom__lineStyle={"dash": [10, 10], "fill": "dash"},
                ),
            ],
        )

    return Row(
        8,
        (
            (
                6,
                compared(
                    "Bounce rate",
                    "bounce",
                    "Bounces, hard and soft, per message sent.",
                    2,
                    steps=BOUNCE_STEPS,
                    soft_max=0.055,
                ),
            ),
            (
                6,
                compared(
                    "Complaint rate",
                    "complaint",
                    "Complaints per message delivered.",
                    3,
                    steps=COMPLAINT_STEPS,
                    soft_max=0.00055,
                ),
            ),
            (6, compared("Open rate", "open", f"Opened messages per message delivered. {_OPENS}", 1)),
            (6, compared("Click rate", "click", "Messages with a click per message delivered.", 2)),
        ),
        "Rates, against the median of its channel",
    )


def _messages() -> Row:
    def by_title(field: str) -> str:
        series = select(CAMPAIGN_COUNTERS[field].name, ONE, 'message_title!=""')
        return newest("channel, message_title", series)

    top = f"topk({TOP}, {by_title('sent')})"
    key = "on (channel, message_title)"

    def ratio(field: str, of: str) -> str:
        return f"({by_title(field)} / {key} ({by_title(of)} > 0)) and {key} {top}"

    queries = {
        "sent": top,
        "delivered": ratio("delivered", "sent"),
        "opened": ratio("opened", "delivered"),
        "clicked": ratio("clicked", "delivered"),
        "bounced": ratio("bounced", "sent"),
        "complaints": ratio("complaint", "delivered"),
        "unsubscribed": ratio("unsubscribed", "delivered"),
    }
    corrections = newest(
        "account, channel, field", f"delta({select(CHANNEL_OVERCOUNT.name, CHANNELS)}[$__rate_interval])"
    )
    own = f"and on ({CHANNEL_KEY}) {count('sent', ONE)}"
    return Row(
        8,
        (
            (
                16,
                table(
                    "Messages",
                    "The campaign's messages by title, the fifty largest. Needs `metrics.per_message: true` "
                    "in the exporter's "
                    "file; without it this table is empty and nothing else changes.",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "message_title": "Message",
                        "channel": "Channel",
                        "Value #sent": "Sent",
                        "Value #delivered": "Delivered",
                        "Value #opened": "Opened",
                        "Value #clicked": "Clicked",
                        "Value #bounced": "Bounced",
                        "Value #complaints": "Complaints",
                        "Value #unsubscribed": "Unsubscribed",
                    },
                    sort=("Sent", True),
                    unit="percentunit",
                    decimals=2,
                    no_value="Needs metrics.per_message",
                    overrides=[
                        by_name("Message", custom__width=300),
                        by_name("Sent", unit="locale", decimals=0),
                        by_name("Bounced", **shaded(BOUNCE_STEPS)),
                        by_name("Complaints", decimals=3, **shaded(COMPLAINT_STEPS)),
                    ],
                ),
            ),
            (
                8,
                lines(
                    "Corrections in its channel",
                    "Times in each step that InTarget lowered a number of any campaign of the channel, by "
                    "field. The "
                    "exported counters hold "
                    "the higher value, so rates may differ a little from InTarget's report.",
                    [target(f"sum by (channel, field) ({corrections} {own}) > 0", "{{field}} · {{channel}}")],
                    unit="locale",
                    decimals=0,
                    no_value="No corrections",
                    stacked_bars=True,
                    legend=(),
                    interval="5m",
                ),
            ),
        ),
        "Messages and corrections",
    )


def dashboard() -> Json:
    """Return the model."""
    return frame.build(
        uid="intarget-campaign",
        title="InTarget / Campaign",
        description="One campaign: its funnel, its rates against those of its channel, what "
        "went wrong, and its messages.",
        variables=[frame.account_variable(), frame.channel_variable(), frame.campaign_variable(several=False)],
        annotations=[frame.firing_alerts("account", "channel", "campaign_id"), frame.campaign_starts(ONE)],
        rows=[_identity(), _funnel(), _curves(), _rate_curves(), _messages()],
        since="now-2d",
    )
