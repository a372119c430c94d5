"""The conversions: what campaigns earned."""

from __future__ import annotations

from exporter.exposition.catalogue import CONVERTED_USERS, DEPOSITS, DEPOSITS_AMOUNT
from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    OUTCOME_COLOURS,
    Json,
    bar_cells,
    by_name,
    campaign_link,
    channel_colours,
    lines,
    stat,
    table,
    target,
)
from grafana.generator.promql import (
    CAMPAIGN_KEY,
    CHANNELS,
    count,
    currency,
    newest,
    select,
    started,
    with_name,
)

CAMPAIGNS = f"{CHANNELS}, campaign_id=~`${{campaigns:regex}}`"
_CHOSEN_GOALS = "conversion_event=~`${conversion_event:regex}`, conversion_period=~`${conversion_period:regex}`"
GOALS = f"{CHANNELS}, {_CHOSEN_GOALS}"
SELECTED = f"{CAMPAIGNS}, {_CHOSEN_GOALS}"
_GOAL = ("conversion_event", "conversion_period")
_GOAL_KEY = ", ".join((CAMPAIGN_KEY, *_GOAL))
_OVERLAP = (
    "A campaign with several goals (conversion event and period) counts with the largest of them, since the "
    "same deposits and users meet several; choose one goal above for that alone."
)
_TRACKED = (
    "Of the campaigns that the exporter tracks now; a total falls when a campaign leaves `poll.window`, and "
    "when InTarget "
    "takes a conversion back."
)
_STILL = "Conversions keep coming until a campaign's conversion period has passed."


def _gauge(metric: str, key: str = _GOAL_KEY) -> str:
    return newest(key, select(metric, SELECTED))


def _total(metric: str, *labels: str) -> str:
    """Return the sum over campaigns; goals overlap: if not by goal, a campaign counts with its largest."""
    gauge = _gauge(metric, _GOAL_KEY if set(_GOAL) <= set(labels) else CAMPAIGN_KEY)
    return f"sum by ({', '.join(labels)}) ({gauge})" if labels else f"sum({gauge})"


def _amount(*labels: str) -> str:
    """Return the amount by account and its currency; without a configured currency that label is missing."""
    amount = _total(DEPOSITS_AMOUNT.name, "account", *labels)
    return f"{amount} * on (account) group_left (currency) {currency()}"


def _reached(*labels: str) -> str:
    """Return the delivered messages of the campaigns that have a goal, once for each goal."""
    key = ", ".join(labels)
    return (
        f"sum by ({key}) (0 * {_gauge(CONVERTED_USERS.name)}"
        f" + on ({CAMPAIGN_KEY}) group_left () {count('delivered', CAMPAIGNS)})"
    )


def _headline() -> Row:
    delivered = f"sum({count('delivered', CAMPAIGNS)} and on ({CAMPAIGN_KEY}) {_gauge(CONVERTED_USERS.name)})"
    return Row(
        4,
        (
            (
                8,
                stat(
                    "Amount of deposits",
                    f"Sum of the deposits that are put down to the chosen campaigns, by account, in its "
                    f"currency. {_TRACKED} "
                    f"{_OVERLAP}",
                    [target(f"topk(8, {_amount()})", "{{account}} {{currency}}", instant=True)],
                    unit="short",
                    decimals=2,
                    no_value="No deposits",
                    steps=((None, OUTCOME_COLOURS["Deposits"]),),
                    text="value_and_name",
                ),
            ),
            (
                4,
                stat(
                    "Deposits",
                    f"Deposits that are put down to the chosen campaigns. {_TRACKED} {_OVERLAP}",
                    [target(_total(DEPOSITS.name), "deposits", instant=True)],
                    unit="locale",
                    decimals=0,
                    no_value="No deposits",
                    steps=((None, OUTCOME_COLOURS["Deposits"]),),
                ),
            ),
            (
                4,
                stat(
                    "Converted users",
                    f"Users who met a goal after a message of the chosen campaigns. {_TRACKED} {_OVERLAP}",
                    [target(_total(CONVERTED_USERS.name), "users", instant=True)],
                    unit="locale",
                    decimals=0,
                    no_value="No conversions",
                    steps=((None, OUTCOME_COLOURS["Converted"]),),
                ),
            ),
            (
                4,
                stat(
                    "Converted per delivered",
                    f"Converted users per delivered message, of the campaigns that have a goal. {_STILL} "
                    f"{_OVERLAP}",
                    [target(f"{_total(CONVERTED_USERS.name)} / ({delivered} > 0)", "rate", instant=True)],
                    unit="percentunit",
                    decimals=2,
                    no_value="No conversions",
                    steps=((None, OUTCOME_COLOURS["Converted"]),),
                ),
            ),
            (
                4,
                stat(
                    "Deposits per 1,000 delivered",
                    f"Deposits per thousand delivered messages, of the campaigns that have a goal. {_STILL} "
                    f"{_OVERLAP}",
                    [target(f"1000 * {_total(DEPOSITS.name)} / ({delivered} > 0)", "per 1,000", instant=True)],
                    unit="short",
                    decimals=2,
                    no_value="No deposits",
                    steps=((None, OUTCOME_COLOURS["Deposits"]),),
                ),
            ),
        ),
    )


def _curves() -> Row:
    return Row(
        9,
        (
            (
                8,
                lines(
                    "Amount of deposits",
                    f"Sum of the deposits by account and channel, in the account's currency. {_TRACKED} "
                    f"{_OVERLAP}",
                    [target(f"topk(20, {_amount('channel')})", "{{account}} {{currency}} · {{channel}}")],
                    unit="locale",
                    decimals=0,
                    no_value="No deposits",
                    lowest=0,
                    points=100,
                    overrides=channel_colours(),
                ),
            ),
            (
                8,
                lines(
                    "Converted users",
                    f"Converted users by account and channel. {_TRACKED} {_OVERLAP}",
                    [
                        target(
                            f"topk(20, {_total(CONVERTED_USERS.name, 'account', 'channel')})",
                            "{{account}} · {{channel}}",
                        )
                    ],
                    unit="locale",
                    decimals=0,
                    no_value="No conversions",
                    lowest=0,
                    points=100,
                    overrides=channel_colours(),
                ),
            ),
            (
                8,
                lines(
                    "Converted per delivered",
                    "Converted users per delivered message by goal and channel, over all tracked campaigns "
                    "that "
                    f"have the goal; the choice of campaigns doesn't apply. The twelve highest. {_STILL}",
                    [
                        target(
                            f"topk(12, {select('channel:intarget_conversion:ratio', GOALS)})",
                            "{{conversion_event}}, {{conversion_period}} · {{account}} {{channel}}",
                        )
                    ],
                    unit="percentunit",
                    decimals=2,
                    no_value="No conversions",
                    lowest=0,
                ),
            ),
        ),
        "Over time",
    )


def _by_goal() -> Row:
    labels = ("account", "channel", *_GOAL)
    key = ", ".join(labels)
    per_delivered = f"({_reached(*labels)} > 0)"
    top = f"topk(50, {_total(CONVERTED_USERS.name, *labels)})"
    queries = {
        "users": top,
        "campaigns": f"count by ({key}) ({_gauge(CONVERTED_USERS.name)}) and on ({key}) {top}",
        "delivered": f"{_reached(*labels)} and on ({key}) {top}",
        "rate": f"({_total(CONVERTED_USERS.name, *labels)} / {per_delivered}) and on ({key}) {top}",
        "deposits": f"{_total(DEPOSITS.name, *labels)} and on ({key}) {top}",
        "amount": f"({_amount('channel', *_GOAL)}) and on ({key}) {top}",
        "amount_per": f"({_total(DEPOSITS_AMOUNT.name, *labels)} / {per_delivered}) and on ({key}) {top}",
    }
    return Row(
        11,
        (
            (
                24,
                table(
                    "By goal",
                    "For each account, channel, conversion event and period: how many campaigns have it, "
                    "their delivered "
                    "messages, and what came of them. Amounts are in the account's currency, which stands "
                    "beside them if it is "
                    f"configured. The fifty goals with most converted users. {_STILL}",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "account": "Account",
                        "channel": "Channel",
                        "conversion_event": "Event",
                        "conversion_period": "Period",
                        "Value #campaigns": "Campaigns",
                        "Value #delivered": "Delivered",
                        "Value #users": "Converted users",
                        "Value #rate": "Per delivered",
                        "Value #deposits": "Deposits",
                        "Value #amount": "Amount",
                        "currency": "Currency",
                        "Value #amount_per": "Amount per delivered",
                    },
                    sort=("Converted users", True),
                    unit="locale",
                    decimals=0,
                    no_value="-",
                    overrides=[
                        by_name("Campaigns", decimals=0),
                        by_name("Converted users", **bar_cells(OUTCOME_COLOURS["Converted"])),
                        by_name("Per delivered", unit="percentunit", decimals=2),
                        by_name("Amount", **bar_cells(OUTCOME_COLOURS["Deposits"]), decimals=2),
                        by_name("Amount per delivered", unit="short", decimals=3),
                    ],
                ),
            ),
        ),
        "By conversion event and period",
    )


def _top() -> Row:
    def total(metric: str) -> str:
        return _total(metric, *CAMPAIGN_KEY.split(", "))

    delivered = f"({count('delivered', CAMPAIGNS)} > 0)"
    top = f"topk(50, {total(DEPOSITS_AMOUNT.name)})"

    def of_top(expr: str) -> str:
        return f"({expr}) and on ({CAMPAIGN_KEY}) {top}"

    queries = {
        "amount": with_name(top, CAMPAIGNS),
        "currency": f"0 * {top} + on (account) group_left (currency) {currency()}",
        "amount_per": of_top(f"{total(DEPOSITS_AMOUNT.name)} / on ({CAMPAIGN_KEY}) {delivered}"),
        "deposits": of_top(total(DEPOSITS.name)),
        "users": of_top(total(CONVERTED_USERS.name)),
        "rate": of_top(f"{total(CONVERTED_USERS.name)} / on ({CAMPAIGN_KEY}) {delivered}"),
        "delivered": of_top(count("delivered", CAMPAIGNS)),
        "started": of_top(f"1000 * {started(CAMPAIGNS)}"),
    }
    return Row(
        13,
        (
            (
                24,
                table(
                    "Top campaigns",
                    "The fifty campaigns with the largest amount of deposits, over their whole life and all "
                    "chosen goals. A row "
                    f"leads to the campaign. {_OVERLAP} {_STILL}",
                    [target(expr, ref=ref, table=True) for ref, expr in queries.items()],
                    {
                        "campaign": "Campaign",
                        "account": "Account",
                        "channel": "Channel",
                        "campaign_id": "Id",
                        "Value #amount": "Amount",
                        "currency": "Currency",
                        "Value #amount_per": "Amount per delivered",
                        "Value #deposits": "Deposits",
                        "Value #users": "Converted users",
                        "Value #rate": "Per delivered",
                        "Value #delivered": "Delivered",
                        "Value #started": "Started",
                    },
                    sort=("Amount", True),
                    unit="locale",
                    decimals=0,
                    no_value="No deposits",
                    overrides=[
                        by_name("Campaign", links=[campaign_link()], custom__width=280),
                        by_name("Amount", **bar_cells(OUTCOME_COLOURS["Deposits"]), decimals=2),
                        by_name("Amount per delivered", unit="short", decimals=3),
                        by_name("Per delivered", unit="percentunit", decimals=2),
                        by_name("Started", unit="dateTimeFromNow"),
                    ],
                ),
            ),
        ),
        "By campaign",
    )


def dashboard() -> Json:
    """Return the model."""
    selector = select(CONVERTED_USERS.name, CHANNELS)
    return frame.build(
        uid="intarget-conversions",
        title="InTarget / Conversions",
        description="What campaigns earned: deposits, their amount in the account's currency and converted "
        "users, by goal and by campaign.",
        variables=[
            frame.account_variable(),
            frame.channel_variable(),
            frame.campaign_variable(several=True),
            frame.label_variable("conversion_event", "Event", "What counts as a conversion.", selector),
            frame.label_variable(
                "conversion_period", "Period", "How long after the message a conversion counts.", selector
            ),
        ],
        annotations=[frame.firing_alerts("account", "channel"), frame.campaign_starts(CAMPAIGNS)],
        rows=[_headline(), _curves(), _by_goal(), _top()],
        since="now-7d",
    )
