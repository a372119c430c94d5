"""One campaign: how it does, against others of its channel."""

from __future__ import annotations

from typing import Final

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS
from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    BAD,
    BOUNCE_STEPS,
    COMPLAINT_STEPS,
    GOOD,
    LIMIT_STEPS,
    MUTED,
    NO_STEPS,
    PLAIN,
    WARN,
    Json,
    Steps,
    bars,
    by_name,
    channel_colours,
    columns,
    dashed,
    fixed,
    lines,
    link,
    outcome_colours,
    shaded,
    stat,
    table,
    target,
    width,
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
    present,
    risk,
    select,
    started,
)
from grafana.generator.signals import BOUNCE, COMPLAINT

RATES: Final = {
    "Delivered": "delivery",
    "Opened": "open",
    "Clicked": "click",
    "Bounced": "bounce",
    "Hard bounced": "hard_bounce",
    "Complaints": "complaint",
    "Unsubscribed": "unsubscribe",
    "Failed or rejected": "failure",
}
_REACH: Final = {"Sent": "sent", "Delivered": "delivered", "Opened": "opened", "Clicked": "clicked"}
_TROUBLE: Final = {
    "Bounced": "bounced",
    "Soft bounced": "softBounced",
    "Failed": "failed",
    "Rejected": "rejected",
    "Unsubscribed": "unsubscribed",
    "Complaints": "complaint",
}
_NEITHER: Final = {"Failed temporarily": "temporaryFailed", "Skipped": "skipped"}
_OPENS = "Opens are inflated by privacy proxies that open every mail, and SMS has none."
_LIFE = "Over the campaign's whole life, whatever the time range is"
_OWN = f"on ({CHANNEL_KEY}) {count('sent', ONE)}"
"""Limits a series by channel to the campaign's own."""


# The answer


def _limit_used() -> Json:
    return stat(
        "Limit surely used",
        f"""Share of the bounce or complaint limit, the larger one, that the campaign uses for sure: the lower
        confidence bound of its rate over the limit. From 100 % on an alert fires while it sends. {_LIFE}; each
        channel by itself.""",
        [target(present(f"max by (channel) ({risk(ONE)})", "intarget_campaign_info", ONE), "{{channel}}")],
        unit="percentunit",
        decimals=0,
        no_value="Has no limit, or no rate yet",
        steps=LIMIT_STEPS,
        sparkline=True,
        min=0,
    )


def _rate_stat(title: str, record: str, description: str, steps: Steps, decimals: int) -> Json:
    """Return a rate beside its channel's median."""
    ratio = f"campaign:intarget_{record}:ratio"
    median = f"quantile by ({CHANNEL_KEY}) (0.5, {select(ratio, CHANNELS)}) and {_OWN}"
    return stat(
        title,
        f"""{description} Beside it, the median of all tracked campaigns of its account and channel. {_LIFE};
        each channel by itself.""",
        [
            target(
                present(f"max by (channel) ({select(ratio, ONE)})", "intarget_campaign_info", ONE),
                "{{channel}}",
            ),
            target(f"max by (channel) ({median})", "median of {{channel}}", "median", instant=True),
        ],
        unit="percentunit",
        decimals=decimals,
        no_value="No rate yet",
        steps=steps,
        text="value_and_name",
        sparkline=True,
    )


def _headline() -> Row:
    delivery = ((None, BAD), (0.8, WARN), (0.9, GOOD))
    delivered = "Delivered per sent; what is still on its way counts as not delivered."
    return Row(
        5,
        (
            (4, _limit_used()),
            (5, _rate_stat("Bounced", "bounce", "Bounces, hard and soft, per message sent.", BOUNCE_STEPS, 2)),
            (5, _rate_stat("Complaints", "complaint", "Complaints per message delivered.", COMPLAINT_STEPS, 3)),
            (5, _rate_stat("Delivered", "delivery", delivered, delivery, 1)),
            (5, _rate_stat("Clicked", "click", "Messages with a click per message delivered.", NO_STEPS, 2)),
        ),
    )


def _identity() -> Row:
    info = newest(f"{CAMPAIGN_KEY}, campaign_name, message_title", select("intarget_campaign_info", ONE))
    stopped = newest(CAMPAIGN_KEY, select("intarget_campaign_stop_timestamp_seconds", ONE))
    queries = {
        "info": f"topk by ({CAMPAIGN_KEY}) (1, {info})",
        "started": f"1000 * {started(ONE)}",
        "stopped": f"1000 * {stopped}",
    }
    shown = table(
        "Campaign",
        """What is shown. The name is known from the campaign's conversions only; *Started* and *Stopped* are as
        InTarget gives them, *Stopped* is empty while it isn't known.""",
        columns(queries),
        {
            "message_title": "Message",
            "campaign_name": "Name",
            "channel": "Channel",
            "account": "Account",
            "campaign_id": "Id",
            "Value #started": "Started",
            "Value #stopped": "Stopped",
        },
        unit="dateTimeAsIso",
        decimals=None,
        no_value="-",
        overrides=[
            by_name("Started", **width(165)),
            by_name("Stopped", **width(165)),
            by_name(
                "Id",
                **width(110),
                links=[link("The exporter's page of campaigns", "${exporter_url}/campaigns", tab=True)],
            ),
        ],
    )
    return Row(4, ((24, shown),))


# How it is doing


def _totals(fields: dict[str, str], *, instant: bool) -> list[Json]:
    return [
        target(f"sum({count(field, ONE)})", title, title.lower().replace(" ", "_"), instant=instant)
        for title, field in fields.items()
    ]


def _goals(metric: str) -> str:
    goal = "conversion_event, conversion_period"
    return f"sum by ({goal}) ({newest(f'{CAMPAIGN_KEY}, {goal}', select(metric, ONE))})"


def _funnel() -> Json:
    goal = "{{conversion_event}}, {{conversion_period}}"
    return bars(
        "Funnel",
        f"""From the messages sent to the deposits, of the chosen channels together. Each conversion event and
        period is a step of its own: their users overlap and can't be added up. {_OPENS} {_LIFE}.""",
        [
            *_totals(_REACH, instant=True),
            target(
                _goals("intarget_campaign_converted_users"), f"Converted, {goal}", "converted", instant=True
            ),
            target(_goals("intarget_campaign_deposits"), f"Deposits, {goal}", "deposits", instant=True),
        ],
        unit="locale",
        decimals=0,
        no_value="Not tracked",
        overrides=outcome_colours(*_REACH, "Converted", "Deposits"),
        min=0,
    )


def _wrong() -> Json:
    fields = {**_TROUBLE, **_NEITHER}
    return bars(
        "What went wrong",
        f"""Messages that didn't arrive or weren't wanted, of the chosen channels together. Soft bounces are
        among the bounces. {_LIFE}.""",
        _totals(fields, instant=True),
        unit="locale",
        decimals=0,
        no_value="Not tracked",
        overrides=outcome_colours(*fields),
        min=0,
    )


def _against_channel() -> Json:
    def rates(wrap: str, *matchers: str) -> str:
        ratios = {
            title: wrap.format(select(f"campaign:intarget_{name}:ratio", *matchers))
            for title, name in RATES.items()
        }
        return f"(\n{marked('rate', ratios)}\n)"

    queries = {
        "this": rates(f"max by ({CHANNEL_KEY}) ({{}})", ONE),
        "median": f"{rates(f'quantile by ({CHANNEL_KEY}) (0.5, {{}})', CHANNELS)}\nand {_OWN}",
        "high": f"{rates(f'quantile by ({CHANNEL_KEY}) (0.9, {{}})', CHANNELS)}\nand {_OWN}",
    }
    return table(
        "Against its channel",
        f"""The campaign's rates beside those of all tracked campaigns of its account and channel: half of them
        lie under the median, nine of ten under the last column. Every campaign counts alike, small ones too.
        Rates are per message sent (delivered, bounced, failed) or delivered. {_OPENS} {_LIFE}.""",
        columns(queries),
        {
            "rate": "Rate",
            "channel": "Channel",
            "Value #this": "This",
            "Value #median": "Median",
            "Value #high": "90 % under",
        },
        unit="percentunit",
        decimals=3,
        no_value="-",
        overrides=[
            by_name("Rate", **width(130)),
            by_name("This", custom__cellOptions={"type": "color-text"}, color=fixed(PLAIN)),
        ],
    )


# Over time


def _curves(title: str, fields: dict[str, str], description: str) -> Json:
    return lines(
        title,
        f"""{description} Counted since the campaign's start, all chosen channels together. Polled every few
        minutes while the campaign is young, hourly later.""",
        _totals(fields, instant=False),
        unit="locale",
        decimals=0,
        no_value="Not tracked",
        overrides=outcome_colours(*fields),
        min=0,
    )


def _compared(
    title: str,
    record: str,
    description: str,
    decimals: int,
    *,
    steps: Steps = NO_STEPS,
    limit: float | None = None,
) -> Json:
    ratio = f"campaign:intarget_{record}:ratio"
    dashes = "" if limit is None else " Dashed lines: InTarget's limit, and 60 % of it."
    return lines(
        title,
        f"""{description} The campaign's rate over its life so far; grey and dashed, the median of all tracked
        campaigns of its account and channel.{dashes}""",
        [
            target(f"max by (channel) ({select(ratio, ONE)})", "{{channel}}"),
            target(
                f"quantile by ({CHANNEL_KEY}) (0.5, {select(ratio, CHANNELS)}) and {_OWN}",
                "median of {{channel}}",
                "median",
            ),
        ],
        unit="percentunit",
        decimals=decimals,
        no_value="No rate yet",
        limits=limit is not None,
        points=150,
        steps=steps,
        soft_max=None if limit is None else 1.1 * limit,
        overrides=[*channel_colours(), dashed("^median of", MUTED)],
        min=0,
    )


def _over_time() -> tuple[Row, Row]:
    bounced = "Bounces, hard and soft, per message sent."
    complained = "Complaints per message delivered."
    return (
        Row(
            9,
            (
                (12, _curves("Reach", _REACH, f"Messages sent, delivered, opened and clicked. {_OPENS}")),
                (12, _curves("Trouble", _TROUBLE, "Bounces, failures, unsubscribes and complaints.")),
            ),
            "Since its start",
        ),
        Row(
            8,
            (
                (6, _compared("Bounce rate", "bounce", bounced, 2, steps=BOUNCE_STEPS, limit=BOUNCE.limit)),
                (
                    6,
                    _compared(
                        "Complaint rate",
                        "complaint",
                        complained,
                        3,
                        steps=COMPLAINT_STEPS,
                        limit=COMPLAINT.limit,
                    ),
                ),
                (6, _compared("Open rate", "open", f"Opened messages per message delivered. {_OPENS}", 1)),
                (6, _compared("Click rate", "click", "Messages with a click per message delivered.", 2)),
            ),
            "Rates, against the median of its channel",
        ),
    )


# Its messages, and what InTarget took back


def _by_title(field: str) -> str:
    return newest("channel, message_title", select(CAMPAIGN_COUNTERS[field].name, ONE, 'message_title!=""'))


def _message_queries() -> dict[str, str]:
    """Return the columns of the largest messages."""
    top = f"topk({TOP}, {_by_title('sent')})"
    key = "on (channel, message_title)"
    ratios = {
        "delivered": ("delivered", "sent"),
        "opened": ("opened", "delivered"),
        "clicked": ("clicked", "delivered"),
        "bounced": ("bounced", "sent"),
        "complaints": ("complaint", "delivered"),
        "unsubscribed": ("unsubscribed", "delivered"),
    }
    queries = {
        ref: f"({_by_title(field)} / {key} ({_by_title(of)} > 0)) and {key} {top}"
        for ref, (field, of) in ratios.items()
    }
    return {"sent": top, **queries}


def _messages() -> Json:
    return table(
        "Messages",
        f"""The campaign's messages by title, the fifty largest. Needs `metrics.per_message: true` in the
        exporter's file; without it this table is empty and nothing else changes. {_LIFE}.""",
        columns(_message_queries()),
        {
            "message_title": "Message",
            "channel": "Channel",
            "Value #sent": "Sent",
            "Value #delivered": "Delivered",
            "Value #opened": "Opened",
            "Value #clicked": "Clicked",
            "Value #bounced": "Bounced",
            "Value #complaints": "Complaints",
            "Value #unsubscribed": "Unsubscr.",
        },
        sort=("Sent", True),
        unit="percentunit",
        decimals=2,
        no_value="Needs metrics.per_message",
        overrides=[
            by_name("Message", **width(280)),
            by_name("Sent", unit="locale", decimals=0),
            by_name("Bounced", **shaded(BOUNCE_STEPS)),
            by_name("Complaints", decimals=3, **shaded(COMPLAINT_STEPS)),
        ],
    )


def _taken_back() -> Json:
    over = newest("channel, field", select("intarget_campaign_overcount", ONE))
    return bars(
        "Taken back by InTarget",
        """How far the exported counters stand above what InTarget says now, by field: it has lowered these
        numbers, and a counter never goes down. Counter less this is InTarget's present figure.""",
        [target(f"sort_desc({over} > 0)", "{{field}} · {{channel}}", instant=True)],
        unit="locale",
        decimals=0,
        no_value="Nothing",
        min=0,
    )


def dashboard() -> Json:
    """Return the model."""
    return frame.build(
        uid="intarget-campaign",
        title="InTarget / Campaign",
        description="One campaign: its rates against its channel's, its funnel, what went wrong, its messages.",
        variables=[frame.account_variable(), frame.channel_variable(), frame.campaign_variable()],
        annotations=[frame.firing_alerts("account", "channel", "campaign_id"), frame.campaign_starts(ONE)],
        rows=[
            _headline(),
            _identity(),
            Row(10, ((7, _funnel()), (7, _wrong()), (10, _against_channel()))),
            *_over_time(),
            Row(8, ((16, _messages()), (8, _taken_back())), "Messages and corrections"),
        ],
        since="now-2d",
    )
