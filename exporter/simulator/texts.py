"""Marketing texts that look like the real thing, and hostile ones."""

# ruff: noqa: RUF001 - other scripts than Latin are the point

from __future__ import annotations

from typing import Final

TITLES: Final[dict[str, tuple[str, ...]]] = {
    "Email": (
        "Spring sale: 25% off everything",
        "Your weekend bonus is waiting 🎁",
        "Last chance — free delivery ends tonight ⏰",
        'New in: the "Nordic Light" collection',
        "Anna, you left something in your basket",
        "We've missed you 💛 here's 15% to come back",
        "Double points until Sunday",
        "Выходные с кешбэком 20% 🔥",
        "Ваш персональный бонус за депозит",
        "Новинки недели: «Северное сияние»",
        "عرض نهاية الأسبوع: خصم ٣٠٪",
        "הטבה אישית מחכה לך 🎉",
        "週末限定:ポイント5倍キャンペーン",
        "Ετοιμάσου για το μεγάλο ξεπούλημα",
        "Rückblick & Ausblick: Ihre Vorteile im Herbst",
        "C'est l'heure des soldes, n'attendez plus !",
        "Deposit today, get +30% on top",
        "Black Friday starts early for members 🖤",
        "Invoice details & loyalty statement inside",
        "3 trips under €99 ✈️ this week only",
    ),
    "SMS": (
        "Code HELLO10: 10% off till Sunday",
        "Your parcel voucher expires today",
        "Бонус 500 ждёт вас до 21:00",
        "Flash sale! 2h left",
        "خصم ٢٠٪ اليوم فقط",
        "Deposit now, +15% bonus",
    ),
    "Push": (
        "🔥 Price drop on your wish list",
        "Your free spins are ready 🎰",
        "Kick-off in 30 minutes ⚽",
        "Новый турнир уже начался 🏆",
        "Tap to claim: 2x points",
        "סייל בזק ⏳",
    ),
    "WhatsApp": (
        "Hi! Your table for Friday 🍝",
        "¿Te quedaste con ganas? -20% hoy",
        "Your order is ready for pick-up",
    ),
    "Viber": (
        "Знижка 15% лише сьогодні 💜",
        "Новый каталог уже у вас",
    ),
}
"""Titles by channel; a channel that isn't listed has those of Push."""

DAILY_TITLES: Final[tuple[str, ...]] = (
    "Welcome aboard 👋 your first steps",
    "Happy birthday! 🎂 a present for you",
    "Still thinking it over? Your basket is here",
    "С возвращением! Ваш бонус внутри",
    "Your daily digest",
)

TOPICS: Final[tuple[str, ...]] = (
    "Deposit bonus",
    "Weekend cashback",
    "Reactivation 30d",
    "Newsletter",
    "Loyalty points",
    "Season sale",
    "Basket reminder",
    "VIP «Gold»",
    "Welcome chain",
    "Tournament",
)

DAILY_TOPICS: Final[tuple[str, ...]] = (
    "Trigger: welcome",
    "Trigger: birthday",
    "Trigger: basket",
    "Live segment: returning",
    "Trigger: daily digest",
)

HOSTILE: Final[tuple[str, ...]] = (
    "<script>alert(document.cookie)</script>",
    "<img src=x onerror=\"fetch('//evil.example')\">",
    'quote " backslash \\ end\\',
    "first line\nsecond line\r\nthird",
    "tab\there, nul-ish \u0001 \u001f control",
    'intarget_up{account="x"} 1\n# EOF\n',
    "{{ template }} ${variable} %s %(name)s {0}",
    "../../etc/passwd; DROP TABLE campaigns; --",
    "right-to-left \u202eoverride\u202c and \u200bzero width",
    "combining Z\u0351\u036b\u0343a\u0363\u0368l\u0348g\u0363o",
    "👩‍👩‍👧‍👦🏳️‍🌈 families and flags 🇪🇪",
    "lone surrogate \ud83d here",
    "line\u2028separator\u2029paragraph\x85next",
    "",
    " leading and trailing ",
    "long " + "title 🚀 " * 1200,
)
