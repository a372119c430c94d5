"""The worlds that the dashboards are looked at in: hostile names, nothing, few, many, and one for pictures."""

from __future__ import annotations

from tests.dashboards._world import Campaign, Goal, Setup

HOSTILE = 'O\'Neil "x" a/b\\c|d.*(e)'
CHANNEL = 'we"ird/\\|$'
NUMBERS = ("007", "2024", "1e5", "1953726", "0x10", "12.50")
"""Ids and accounts that could be taken for numbers or dates."""
IDS = (*NUMBERS, "8", "9", "10", "11")
_ACCOUNTS = ("main", "main", HOSTILE, "007", "007", HOSTILE, "main", "main", "007", HOSTILE)
_CHANNELS = ("email", "email", "email", "email", CHANNEL, CHANNEL, "sms", CHANNEL, "sms", "email")
TITLES = (
    'He said "go", 100% \\o/',
    "back\\slash at the end\\",
    '",campaign_id="5"} 1 2',
    "Spring | Summer (2026)",
    "two\nlines",
    "🎉 مرحبا",
    "$account ${channel}",
    "Push: Season sale 04",
    "2024-05-01",
    "1e5",
)
GOALS = (Goal(), Goal(event="Registration", period="24 hours", rate=0.01, amount=0))
BAD = {"bounced": 0.121, "delivered": 0.87}

_NAMES = tuple(zip(IDS, _ACCOUNTS, _CHANNELS, TITLES, strict=True))

HOSTILE_NAMES = Setup(
    currencies={"main": "EUR", HOSTILE: "", "007": "USD"},
    campaigns=[
        Campaign(
            campaign_id=campaign_id, account=account, channel=channel, title=title,
            name=title if number % 3 else "", age=1 + 2 * number, messages=30_000 - 1500 * number,
            goals=GOALS if number % 3 else (), rates=BAD if number == 1 else {},
            overcount={"opened": 3} if number == 2 else {},
        )
        for number, (campaign_id, account, channel, title) in enumerate(_NAMES)
    ],
)  # fmt: skip
NOTHING = Setup(campaigns=[], hours=2)
TWO = Setup(
    currencies={"main": "EUR", "second": "EUR"},
    campaigns=[
        Campaign(campaign_id=str(100 + i), account=account, age=3 + i)
        for i, account in enumerate(("main", "second"))
    ],
)
NO_RULES = Setup(campaigns=TWO.campaigns, currencies=TWO.currencies, hours=2, rules=False)
TEN = Setup(
    currencies={f"account-{i:02}": "EUR" for i in range(10)},
    campaigns=[
        Campaign(
            campaign_id=str(1000 + i),
            account=f"account-{i % 10:02}",
            age=2 + i / 2,
            rates={"bounced": 0.005 + 0.001 * i},
        )
        for i in range(40)
    ],
    failing=frozenset({"account-07"}),
)
MANY = Setup(
    hours=1,
    every=600,
    campaigns=[
        Campaign(
            campaign_id=str(1_950_000 + i), title=f"Push: Season sale {i:04}", age=3 + i / 10, messages=500 + i
        )
        for i in range(3000)
    ],
)

_PICTURED = (
    ("Welcome back: 30 % off your next order", "email", 48_000, {}),
    ("Weekend in Lisbon from 89", "email", 61_000, {}),
    ("Your basket is waiting", "email", 12_500, {}),
    ("Flash sale ends tonight", "push", 32_000, {"opened": 0.06, "clicked": 0.011, "unsubscribed": 0}),
    ("Code SPRING26: 15 % until Sunday", "sms", 18_000, {"bounced": 0.016, "clicked": 0.03}),
    ("New arrivals for you", "email", 55_000, {"complaint": 0.00021}),
    ("Season sale: last sizes", "email", 42_000, {}),
    ("We miss you", "email", 9_000, {"bounced": 0.031}),
)
WORST = "1953726"
"""The campaign of the pictures that went wrong."""
PICTURE = Setup(
    hours=8.25 * 24,
    every=600,
    currencies={"main": "EUR", "second": "USD"},
    campaigns=[
        *(
            Campaign(
                campaign_id=str(1_953_700 - i), account=("main", "second")[i % 2], channel=channel, title=title,
                name=title if channel == "email" else "", age=4.4 + 7.3 * i, messages=messages, rates=rates,
                goals=GOALS if channel == "email" else (),
            )
            for i in range(46)
            for title, channel, messages, rates in [_PICTURED[(i * 3) % 8]]
        ),
        Campaign(
            campaign_id=WORST, title="Last chance: free delivery ends tonight", age=9.5,
            name="Last chance: free delivery ends tonight", messages=21_000, rates=BAD, goals=GOALS,
        ),
        Campaign(
            campaign_id="1953727", account="second", title="Double points this week", age=2.2,
            messages=52_000, rates={"complaint": 0.0004}, overcount={"delivered": 12},
        ),
    ],
)  # fmt: skip
