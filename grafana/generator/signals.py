"""The one table of what is watched: signals, windows, limits, severities and texts.

`rules` writes the rule files from it; the dashboards take their limits from it. A ratio is 0 to 1, a duration
is as PromQL writes it (``24h``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from exporter.limits import BOUNCE_LIMIT, COMPLAINT_LIMIT, LIMITED_CHANNEL, WARNING_SHARE

Severity = Literal["critical", "warning", "info"]

WINDOWS: Final = ("1h", "24h", "7d")
"""The windows that dashboards offer and ratios are recorded for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where the links of notifications lead; a user sets both in one line of limits.yaml."""

    grafana: str
    runbook: str


LINKS: Final = Links(grafana="http://localhost:3000", runbook="runbook.md")
"""A release sets `runbook` to the address at which it publishes runbook.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """A window over which a campaign that recurs is judged.

    `carried` is which share of its usual events messages bring within the window that were sent before it:
    those that were sent until so long ago, and after what stands before; older ones bring none to speak of.
    The shares are the larger ones of the delays that the replay assumes.
    """

    window: str
    carried: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedRatio:
    """A ratio that InTarget limits, and how it is judged.

    `events` / `messages` are fields of the API. `late` is how long events may come after
    the message that caused them: messages count that much longer than events. `recent` are the windows over
    which a campaign is judged once it is older than `RECURRING_AFTER`. `quiet_after` is how long a
    campaign may have neither sent nor had an event until its alert ends.
    """

    signal: str
    limit: float
    channel: str
    events: str
    messages: str
    verb: str
    noun: str
    least_messages: int
    late: str
    recent: tuple[Recent, ...]
    quiet_after: str
    advice: str
    account_advice: str

    @property
    def warning(self) -> float:
        """The ratio from which it is near the limit."""
        return round(self.limit * WARNING_SHARE, 9)


BOUNCE: Final = LimitedRatio(
    signal="bounce",
    limit=BOUNCE_LIMIT,
    channel=LIMITED_CHANNEL,
    events="bounced",
    messages="sent",
    verb="sent",
    noun="bounces",
    least_messages=100,
    late="24h",
    recent=(
        Recent(window="15m", carried=(("30m", 0.95), ("60m", 0.15), ("6h", 0.015))),
        Recent(window="1h", carried=(("90m", 1.0), ("6h", 0.07))),
        Recent(window="4h", carried=(("5h", 1.0), ("24h", 0.085))),
        Recent(window="24h", carried=(("25h", 1.0),)),
    ),
    quiet_after="12h",
    advice="drop the addresses that bounced, and find out where the list came from",
    account_advice="Drop the addresses that bounced, and find out where the lists came from.",
)
COMPLAINT: Final = LimitedRatio(
    signal="complaint",
    limit=COMPLAINT_LIMIT,
    channel=LIMITED_CHANNEL,
    events="complaint",
    messages="delivered",
    verb="delivered",
    noun="complaints",
    least_messages=1000,
    late="72h",
    recent=(
        Recent(window="3h", carried=(("6h", 0.45), ("24h", 0.25), ("48h", 0.03))),
        Recent(window="6h", carried=(("12h", 0.7), ("24h", 0.22), ("48h", 0.07))),
        Recent(window="24h", carried=(("30h", 1.0), ("48h", 0.44))),
    ),
    quiet_after="12h",
    advice="check who was written to and whether they had agreed",
    account_advice="Check who was written to, whether they had agreed, and whether the unsubscribe link works.",
)
LIMITED: Final = (BOUNCE, COMPLAINT)
LIMITS: Final = {ratio.signal: ratio for ratio in LIMITED}
"""What dashboards look up: ``LIMITS["bounce"].limit`` and ``.warning``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certainty:
    """Standard errors between a ratio and its lower bound, by what is judged."""

    campaign: float
    recent: float
    account: float


CERTAINTY: Final = Certainty(campaign=3.1, recent=2.8, account=2.0)
SLOW: Final = "3m"
"""How often that is evaluated which no page waits for; Prometheus takes a sample for current for 5 minutes."""
RECURRING_AFTER: Final = 4 * 86400
"""Seconds after which a campaign that still sends is judged by its last hours too."""
RECURRING_KNOWN: Final = 2 * 86400
"""Seconds after which it is recorded for that: windows and what they carry reach two days back."""
RECURRING_PAUSE: Final = "4d"
"""A campaign that has sent nothing for so long recurs no more, until it sends again."""
NEWS: Final = "6h"
"""For how long an alert speaks of a campaign that sends no more, but has only now proven bad."""
AFTERMATH: Final = "1d"
"""For how long after an account's critical alert its lesser ones are no news."""
LEAST_EVENTS: Final = 3
"""Three events are the least that is a pattern and no accident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """A change against the channel's own week: how many times the usual, and how much more, surely.

    `windows` are those that are looked at, each with its memory: the events of a window are held against the
    most messages that it had within that time.
    """

    alert: str
    signal: str
    events: tuple[str, ...]
    messages: str
    windows: tuple[tuple[str, str], ...]
    factor: float
    floor: float
    wait: str | None
    happened: str
    advice: str


SPIKES: Final = (
    Spike(
        alert="InTargetBounceSpike",
        signal="bounce",
        events=("bounced",),
        messages="sent",
        windows=(("1h", "2h"),),
        factor=3,
        floor=0.02,
        wait="5m",
        happened="bounced",
        advice="Look for the campaign that just started, and at the domains that bounce: one provider may "
        "refuse you.",
    ),
    Spike(
        alert="InTargetComplaintSpike",
        signal="complaint",
        events=("complaint",),
        messages="delivered",
        windows=(("24h", "72h"),),
        factor=3,
        floor=0.0002,
        wait=None,
        happened="were complained about",
        advice="Look for the campaign that started in the last day, and stop it if it can't explain itself.",
    ),
    Spike(
        alert="InTargetUnsubscribeSpike",
        signal="unsubscribe",
        events=("unsubscribed",),
        messages="delivered",
        windows=(("6h", "24h"), ("24h", "72h")),
        factor=2,
        floor=0.003,
        wait=None,
        happened="led to an unsubscribe",
        advice="Look at what was sent, to whom and how often in the last day.",
    ),
    Spike(
        alert="InTargetFailureSpike",
        signal="delivery",
        events=("failed", "rejected"),
        messages="sent",
        windows=(("1h", "2h"),),
        factor=3,
        floor=0.03,
        wait="5m",
        happened="failed or were rejected",
        advice="Look at the provider's status and the channel's settings in InTarget, such as sender names and "
        "certificates.",
    ),
)
SPIKE_Z: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collapse:
    """A delivery collapse: under `factor` of the week's ratio, from `messages` in `window` on."""

    window: str
    messages: int


COLLAPSE_FACTOR: Final = 0.5
COLLAPSES: Final = (Collapse(window="1h", messages=30), Collapse(window="6h", messages=30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Sending has stopped: nothing in `window`, though the last two weeks had never a `pause` without."""

    window: str
    pause: str


SILENCES: Final = (
    Silence(window="4h", pause="2h"),
    Silence(window="8h", pause="4h"),
    Silence(window="16h", pause="8h"),
    Silence(window="24h", pause="12h"),
)
SILENCE_MEMORY: Final = "13d"
SILENCE_HISTORY: Final = "4d"
"""Nothing is called unusual that was watched for less."""

SENDS_NOTHING_AFTER: Final = 12 * 3600
"""Seconds after its start from which a campaign that has sent nothing is reported."""
CONVERSION_FACTOR: Final = 0.2
CONVERSION_PERIODS: Final = {
    "1 hour": 3600,
    "6 hours": 6 * 3600,
    "12 hours": 12 * 3600,
    "24 hours": 86400,
    "1 day": 86400,
    "2 days": 2 * 86400,
    "3 days": 3 * 86400,
    "5 days": 5 * 86400,
    "7 days": 7 * 86400,
    "1 week": 7 * 86400,
}
"""The API's phrases, in seconds."""
