"""The conversions: what campaigns earned."""

from __future__ import annotations

from typing import Final

from grafana.generator import dashboard as frame
from grafana.generator.dashboard import Row
from grafana.generator.panels import (
    OUTCOME_COLOURS,
    Json,
    bar_cells,
    by_name,
    by_regex,
    campaign_link,
    columns,
    lines,
    stat,
    table,
    target,
    width,
)
from grafana.generator.promql import (
    CAMPAIGN_KEY,
    CHANNELS,
    LINES,
    TOP,
    count,
    currency,
    newest,
    present,
    select,
    started,
    with_name,
)

CAMPAIGNS = f"{CHANNELS}, campaign_id=~`${{campaigns:regex}}`"
_CHOSEN_GOALS = "conversion_event=~`${conversion_event:regex}`, conversion_period=~`${conversion_period:regex}`"
_GOAL = ("conversion_event", "conversion_period")
_GOAL_KEY = ", ".join((CAMPAIGN_KEY, *_GOAL))
USERS, DEPOSITS, AMOUNT = (
    "intarget_campaign_converted_users",
    "intarget_campaign_deposits",
    "intarget_campaign_deposits_amount",
)
CURRENCIES: Final = (
    "EUR",
    "USD",
    "GBP",
    "CHF",
    "PLN",
    "CZK",
    "SEK",
    "NOK",
    "DKK",
    "RUB",
    "UAH",
    "TRY",
    "BRL",
    "INR",
    "JPY",
)
"""Currencies that Grafana writes with their sign; other ones stand beside the figure as they are configured."""

_OVERLAP = (
    "A campaign with several goals (conversion event and period) counts with the largest of them, since the "
    "same deposits and users meet several; choose one goal above for that alone."
)
_TRACKED = (
    "Of the campaigns that the exporter tracks now, whatever the time range is; a total falls when a campaign "
    "leaves `poll.window`, and when InTarget takes a conversion back."
)
_STILL = "Conversions keep coming until a campaign's conversion period has passed."


def _gauge(metric: str, key: str = _GOAL_KEY) -> str:
    return newest(key, select(metric, CAMPAIGNS, _CHOSEN_GOALS))


def _total(metric: str, *labels: str) -> str:
    """Return the sum over campaigns; goals overlap: if not by goal, a campaign counts with its largest."""
    gauge = _gauge(metric, _GOAL_KEY if set(_GOAL) <= set(labels) else CAMPAIGN_KEY)
    return f"sum by ({', '.join(labels)}) ({gauge})" if labels else f"sum({gauge})"


def _amount(*labels: str) -> str:
    """Return the amount by account and its currency; without a configured currency that label is missing."""
    return f"{_total(AMOUNT, 'account', *labels)} * on (account) group_left (currency) {currency()}"


def _reached(*labels: str) -> str:
    """Return the delivered messages of the campaigns that have a goal, once for each goal."""
    delivered = count("delivered", CAMPAIGNS)
    return f"sum by ({', '.join(labels)}) (0 * {_gauge(USERS)} + on ({CAMPAIGN_KEY}) group_left () {delivered})"


def _money() -> list[Json]:
    """Return overrides that write each series whose name has a currency in it."""
    return [by_regex(rf"\b{code}\b", unit=f"currency{code}") for code in CURRENCIES]


def _figure(title: str, description: str, expr: str, legend: str, outcome: str, **rest: object) -> Json:
    return stat(
        title,
        f"{description} {_TRACKED} {_OVERLAP}",
        [target(present(expr, USERS, CAMPAIGNS), legend)],
        steps=((None, OUTCOME_COLOURS[outcome]),),
        sparkline=True,
        points=100,
        **rest,
    )


def _headline() -> Row:
    delivered = f"sum({count('delivered', CAMPAIGNS)} and on ({CAMPAIGN_KEY}) {_gauge(USERS)})"
    whole = {"unit": "locale", "decimals": 0}
    amount = _figure(
        "Amount of deposits",
        "Deposits attributed to the chosen campaigns, by account, in its currency; the eight largest.",
        f"topk(8, {_amount()})",
        "{{account}} {{currency}}",
        "Deposits",
        unit="short",
        decimals=2,
        no_value="No deposits",
        text="value_and_name",
        overrides=_money(),
    )
    deposits = _figure(
        "Deposits", "Deposits attributed to the chosen campaigns.", _total(DEPOSITS), "deposits", "Deposits",
        no_value="No deposits", **whole,
    )  # fmt: skip
    users = _figure(
        "Converted users", "Users who met a goal after a message.", _total(USERS), "users", "Converted",
        no_value="No conversions", **whole,
    )  # fmt: skip
    rate = _figure(
        "Converted per delivered",
        f"Converted users per delivered message, of the campaigns that have a goal. {_STILL}",
        f"{_total(USERS)} / ({delivered} > 0)",
        "rate",
        "Converted",
        unit="percentunit",
        decimals=2,
        no_value="No conversions",
    )
    return Row(5, ((9, amount), (5, deposits), (5, users), (5, rate)))


def _curves() -> Row:
    ratio = select("channel:intarget_conversion:ratio", CHANNELS, _CHOSEN_GOALS)
    common = {"min": 0, "points": 100}
    amount = lines(
        "Amount, by account and channel",
        f"Sum of the deposits, in the account's currency; the twelve largest. {_TRACKED} {_OVERLAP}",
        [target(f"topk({LINES}, {_amount('channel')})", "{{account}} {{currency}} · {{channel}}")],
        unit="short",
        decimals=None,
        no_value="No deposits",
        overrides=_money(),
        **common,
    )
    users = lines(
        "Converted users, by account and channel",
        f"The twelve largest. {_TRACKED} {_OVERLAP}",
        [target(f"topk({LINES}, {_total(USERS, 'account', 'channel')})", "{{account}} · {{channel}}")],
        unit="locale",
        decimals=0,
        no_value="No conversions",
        **common,
    )
    rate = lines(
        "Converted per delivered, by goal",
        f"""Converted users per delivered message by goal and channel, over all tracked campaigns that have the
        goal; the choice of campaigns doesn't apply. The twelve highest. {_STILL}""",
        [target(f"topk({LINES}, {newest(', '.join(('account', 'channel', *_GOAL)), ratio)})",
                "{{conversion_event}}, {{conversion_period}} · {{account}} {{channel}}")],
        unit="percentunit",
        decimals=2,
        no_value="No conversions",
        **common,
    )  # fmt: skip
    return Row(9, ((7, amount), (7, users), (10, rate)), "Over time")


def _by_goal() -> Json:
    labels = ("account", "channel", *_GOAL)
    per_delivered = f"({_reached(*labels)} > 0)"
    top = f"topk({TOP}, {_total(USERS, *labels)})"
    queries = {
        "campaigns": f"count by ({', '.join(labels)}) ({_gauge(USERS)})",
        "delivered": _reached(*labels),
        "rate": f"{_total(USERS, *labels)} / {per_delivered}",
        "deposits": _total(DEPOSITS, *labels),
        "amount": _amount("channel", *_GOAL),
        "amount_per": f"1000 * {_total(AMOUNT, *labels)} / {per_delivered}",
    }
    shown = {ref: f"({expr}) and on ({', '.join(labels)}) {top}" for ref, expr in queries.items()}
    return table(
        "By goal",
        f"""For each account, channel, conversion event and period: how many campaigns have it, their delivered
        messages, and what came of them; the rate is per delivered message. Amounts are in the currency beside
        them, also per 1,000 delivered. The fifty goals with most converted users. {_STILL}""",
        columns({"users": top, **shown}),
        {
            "account": "Account",
            "channel": "Channel",
            "conversion_event": "Event",
            "conversion_period": "Period",
            "Value #users": "Users",
            "Value #rate": "Rate",
            "Value #amount": "Amount",
            "currency": "Currency",
            "Value #amount_per": "per 1,000",
            "Value #deposits": "Deposits",
            "Value #delivered": "Delivered",
            "Value #campaigns": "Campaigns",
        },
        sort=("Users", True),
        unit="locale",
        decimals=0,
        no_value="-",
        overrides=_amounts("Users"),
    )


def _amounts(*counts: str) -> list[Json]:
    """Return overrides of the columns that both tables have."""
    return [
        *(by_name(heading, **bar_cells(OUTCOME_COLOURS["Converted"])) for heading in counts),
        by_name("Rate", unit="percentunit", decimals=2),
        by_name("Amount", **bar_cells(OUTCOME_COLOURS["Deposits"]), decimals=0),
        by_name("Currency", **width(80)),
        by_name("per 1,000", unit="none", decimals=2, **width(85)),
    ]


def _top_queries() -> dict[str, str]:
    """Return the columns of the campaigns with the largest amounts; the first has their names."""
    labels = CAMPAIGN_KEY.split(", ")
    delivered = f"({count('delivered', CAMPAIGNS)} > 0)"
    top = f"topk({TOP}, {_total(AMOUNT, *labels)})"
    queries = {
        "amount_per": f"1000 * {_total(AMOUNT, *labels)} / on ({CAMPAIGN_KEY}) {delivered}",
        "deposits": _total(DEPOSITS, *labels),
        "users": _total(USERS, *labels),
        "rate": f"{_total(USERS, *labels)} / on ({CAMPAIGN_KEY}) {delivered}",
        "delivered": count("delivered", CAMPAIGNS),
        "started": f"1000 * {started(CAMPAIGNS)}",
    }
    shown = {ref: f"({expr}) and on ({CAMPAIGN_KEY}) {top}" for ref, expr in queries.items()}
    in_currency = f"0 * {top} + on (account) group_left (currency) {currency()}"
    return {"amount": with_name(top, CAMPAIGNS), "currency": in_currency, **shown}


def _top() -> Json:
    return table(
        "Top campaigns",
        f"""The fifty campaigns with the largest amount of deposits, over their whole life and all chosen goals;
        amounts are in the currency beside them. A row leads to the campaign. {_OVERLAP} {_STILL}""",
        columns(_top_queries()),
        {
            "campaign": "Campaign",
            "account": "Account",
            "channel": "Channel",
            "Value #amount": "Amount",
            "currency": "Currency",
            "Value #amount_per": "per 1,000",
            "Value #deposits": "Deposits",
            "Value #users": "Users",
            "Value #rate": "Rate",
            "Value #delivered": "Delivered",
            "Value #started": "Started",
            "campaign_id": "",
        },
        sort=("Amount", True),
        unit="locale",
        decimals=0,
        no_value="No deposits",
        overrides=[
            by_name("Campaign", links=[campaign_link()]),
            *_amounts(),
            by_name("Started", unit="dateTimeFromNow"),
        ],
    )


def dashboard() -> Json:
    """Return the model."""
    selector = select(USERS, CHANNELS)
    period = "How long after the message a conversion counts."
    return frame.build(
        uid="intarget-conversions",
        title="InTarget / Conversions",
        description="""What campaigns earned: deposits, their amount in the account's currency and converted
        users, by goal and by campaign.""",
        variables=[
            frame.account_variable(),
            frame.channel_variable(),
            frame.campaigns_variable(),
            frame.label_variable("conversion_event", "Event", "What counts as a conversion.", selector),
            frame.label_variable("conversion_period", "Period", period, selector),
        ],
        annotations=[frame.firing_alerts("account", "channel"), frame.campaign_starts(CAMPAIGNS, enable=False)],
        rows=[
            _headline(),
            _curves(),
            Row(9, ((24, _by_goal()),), "By conversion event and period"),
            Row(12, ((24, _top()),), "By campaign"),
        ],
        since="now-7d",
    )
