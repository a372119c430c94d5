"""Campaigns and how their counts grow: pure functions of a seed and of time.

A message is sent in one or several runs; within a run the sends are spread evenly over its duration, and
every later event (a bounce, an open, a complaint, a deposit) follows its send after an exponential delay, or a
mixture of two. The share of events that have arrived `age` seconds after the run began has a closed form::

    A(age) = 1/T * integral over s = 0 .. min(age, T) of (1 - exp(-(age - s) / tau)) ds

and a count is round(total * A(age)). Rare events also carry the noise that independent arrivals have. Wholes
are lifted to their parts (delivered is at least opened, and so on), so that every identity holds at every
moment and no count ever goes down.

Ages are progress seconds: see `Timeline`.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DAY: Final = 86400.0
HOUR: Final = 3600.0
FOREVER: Final = math.inf

FIELDS: Final = (
    "skipped",
    "sent",
    "delivered",
    "opened",
    "clicked",
    "bounced",
    "softBounced",
    "complaint",
    "rejected",
    "unsubscribed",
    "failed",
    "temporaryFailed",
)
"""The counts of a statistics row, in the order of the vendor's example."""

Counts: TypeAlias = "dict[str, int | None]"
"""Counts by name of FIELDS; None where the channel has no such thing."""
RawCounts: TypeAlias = "Mapping[str, object]"
"""What a fixed message is served with: any JSON value, any subset of FIELDS."""

_DAY_SWING: Final = 0.5  # people and senders are three times as busy by day as by night
_QUIET_HOUR: Final = 2.0 * HOUR
_NOISE: Final = 256  # arrivals drawn one by one for each rare count of a run; more are scaled
_FEW: Final = 20  # successes that are quicker drawn one by one
_MANY: Final = 1000  # successes from which on the normal law differs by nothing that matters here
_TAILS: Final = 15.0  # exp(-15) of half a million is less than half a message

_DELAYS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "delivered": ((1.0, 8.0),),
    "hard": ((1.0, 120.0),),
    "soft": ((0.3, 900.0), (0.7, 2 * HOUR)),
    "opened": ((0.6, 0.8 * HOUR), (0.4, 15 * HOUR)),
    "clicked": ((0.55, 1.1 * HOUR), (0.45, 17 * HOUR)),
    "complaint": ((0.3, 3 * HOUR), (0.7, 18 * HOUR)),
    "unsubscribed": ((0.5, 1.5 * HOUR), (0.5, 14 * HOUR)),
    "rejected": ((1.0, 5.0),),
    "failed": ((1.0, 60.0),),
    "temporaryFailed": ((1.0, 300.0),),
}
"""(weight, mean delay in seconds after the send) of each kind of event."""
_RARE: Final = ("hard", "soft", "complaint", "unsubscribed", "rejected", "failed", "temporaryFailed")
_FAST_COMPLAINTS: Final = ((1.0, 0.5 * HOUR),)

PERIODS: Final = {
    "1 hour": HOUR,
    "12 hours": 12 * HOUR,
    "1 day": DAY,
    "3 days": 3 * DAY,
    "7 days": 7 * DAY,
}
"""Conversion periods, in seconds."""
EVENTS: Final = ("Deposit Refcode", "Delivered", "Opened", "Clicked")
"""Conversion events, as the vendor lists them."""
_NOTHING: Final = dict.fromkeys(("sent", "skipped", *_DELAYS), 0)
_GOAL_DELAY: Final = {"Deposit Refcode": 4 * HOUR, "Delivered": 10.0, "Opened": 6 * HOUR, "Clicked": 8 * HOUR}


@dataclass(frozen=True, slots=True)
class Timeline:
    """How the clock moves the campaigns.

    Up to `origin` the calendar is the clock. After it the calendar runs `speed` times faster: that is the time
    in which new campaigns are planned. Progress is the time in which a campaign's counts grow: the calendar,
    slower by night and faster by day (`diurnal`), the day as long as ever.
    """

    origin: float
    speed: float = 1.0
    diurnal: bool = True

    def calendar(self, clock: float) -> float:
        """Calendar time at `clock`, both in seconds since the epoch."""
        return clock if clock <= self.origin else self.origin + (clock - self.origin) * self.speed

    def clock(self, calendar: float) -> float:
        """Undo `calendar`."""
        return calendar if calendar <= self.origin else self.origin + (calendar - self.origin) / self.speed

    def progress(self, clock: float) -> float:
        """Progress time at `clock`."""
        if not self.diurnal:
            return self.calendar(clock)
        if self.speed == 1.0 or clock <= self.origin:
            return _warp(clock)
        return _warp(self.origin) + (clock - self.origin) * self.speed


def _warp(clock: float) -> float:
    """Return the integral of 1 - swing * cos(day angle), least at the quiet hour."""
    angle = 2 * math.pi * math.fmod(clock - _QUIET_HOUR, DAY) / DAY
    return clock - _DAY_SWING * DAY / (2 * math.pi) * math.sin(angle)


def binomial(rng: random.Random, trials: int, p: float) -> int:
    """Draw how many of `trials` succeed with chance `p` each; exact up to a thousand expected successes.

    Beyond a thousand the normal law stands in. Below, the middle one of `trials` uniform numbers in order has a
    beta law, and tells which half is still to be drawn (Devroye, Non-Uniform Random Variate Generation, X.4).
    """
    if trials <= 0 or p <= 0 or p >= 1:
        return trials if trials > 0 and p >= 1 else 0
    if p > 0.5:  # noqa: PLR2004 - the smaller side has fewer successes to jump over
        return trials - binomial(rng, trials, 1 - p)
    if trials * p > _MANY:
        drawn = rng.gauss(trials * p, math.sqrt(trials * p * (1 - p)))
        return min(trials, max(0, round(drawn)))
    if trials * p > _FEW:
        middle = (trials + 1) // 2
        value = rng.betavariate(middle, trials + 1 - middle)
        if value <= p:
            return middle + binomial(rng, trials - middle, (p - value) / (1 - value))
        return binomial(rng, middle - 1, p / value)
    return _few_successes(rng, trials, p)


def _few_successes(rng: random.Random, trials: int, p: float) -> int:
    """Jump from success to success: the gaps between them are geometric."""
    log_q = math.log1p(-p)
    position = successes = 0
    while True:
        position += int(math.log(1 - rng.random()) / log_q) + 1
        if position > trials:
            return successes
        successes += 1


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    """Draw from `low` to `high`, each order of magnitude alike."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a campaign is really like: each the chance of one message, or of one delivered message.

    `opened` is None for a channel that can't tell. `undelivered` are those that never arrive nor bounce.
    """

    bounced: float
    soft_share: float
    opened: float | None
    clicked: float
    complaint: float
    unsubscribed: float
    rejected: float
    failed: float
    temporarily_failed: float
    skipped: float
    undelivered: float = 0.0
    fast_complaints: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """A conversion event of a campaign. `rate` is users per event; `deposit` the median amount."""

    event: str
    period: str
    rate: float
    deposit: float


@dataclass(frozen=True, slots=True)
class Conversions:
    """What a goal has brought: deposits, their sum in cents, users; `users` <= `deposits`."""

    deposits: int = 0
    cents: int = 0
    users: int = 0

    def __add__(self, other: Conversions) -> Conversions:
        return Conversions(self.deposits + other.deposits, self.cents + other.cents, self.users + other.users)

    def __sub__(self, other: Conversions) -> Conversions:
        return Conversions(self.deposits - other.deposits, self.cents - other.cents, self.users - other.users)

    @property
    def amount(self) -> str:
        """Sum of the deposits as the vendor writes it, ``18752.40``."""
        return f"{self.cents // 100}.{self.cents % 100:02d}"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What a run brings in the end: its events by kind, the row of counts, the conversions by goal."""

    totals: Mapping[str, int]
    final: Counts
    conversions: tuple[Conversions, ...]


class Run:
    """One sending of `volume` messages over `duration` seconds from `begin` seconds after the campaign's start.

    `key` seeds every draw. `counts` and `conversions` take the age of the campaign in progress seconds and a
    cut: only messages sent up to that age are counted.
    """

    __slots__ = ("_arrivals", "_drawn", "_goals", "_key", "_rates", "_volume", "begin", "duration", "horizon")

    def __init__(
        self,
        key: str,
        volume: int,
        rates: Rates,
        goals: Sequence[Goal] = (),
        *,
        duration: float,
        begin: float = 0.0,
    ) -> None:
        self.begin = begin
        self.duration = max(1.0, duration)
        self._key = key
        self._volume = volume
        self._rates = rates
        self._goals = tuple(goals)
        self._arrivals: dict[str, list[float]] = {}
        self._drawn: _Drawn | None = None
        delays = [tau for mixture in _DELAYS.values() for _, tau in mixture]
        self.horizon = self.duration + _TAILS * max([*delays, *map(_conversion_delay, self._goals)])

    def _draw(self) -> _Drawn:
        """Return what the run will bring in the end; drawn when first needed, as most of a plan never is."""
        if self._drawn is None:
            rng = random.Random(self._key)
            totals = _draw_totals(rng, self._volume, self._rates)
            conversions = tuple(_draw_conversions(rng, goal, totals) for goal in self._goals)
            self._drawn = _Drawn(totals, _assemble(totals, self._rates), conversions)
        return self._drawn

    @property
    def final(self) -> Counts:
        """The counts after everything has arrived."""
        return dict(self._draw().final)

    @property
    def final_conversions(self) -> tuple[Conversions, ...]:
        """The conversions after everything has arrived, by goal."""
        return self._draw().conversions

    def sent(self, cut: float) -> int:
        """How many were sent up to `cut`."""
        share = min(max(cut - self.begin, 0.0), self.duration) / self.duration
        return _round(self._volume * share)

    def counts(self, age: float, cut: float) -> Counts:
        """Return the counts of a campaign of this `age`."""
        age -= self.begin
        until = min(cut - self.begin, age, self.duration)
        if until <= 0:
            return _assemble(_NOTHING, self._rates)
        if age >= self.horizon and until >= self.duration:
            return self.final
        totals = self._draw().totals
        now = {
            name: _round(totals[name] * self._share(_DELAYS[name], age, until))
            for name in ("delivered", "opened", "clicked")
        }
        for name in _RARE:
            now[name] = self._rare(name, age, until) if totals[name] else 0
        for name in ("skipped", "sent"):
            now[name] = _round(totals[name] * until / self.duration)
        return _assemble(now, self._rates)

    def conversions(self, age: float, cut: float, goal: int) -> Conversions:
        """Return what the goal of this index has brought."""
        age -= self.begin
        until = min(cut - self.begin, age, self.duration)
        if until <= 0:
            return Conversions()
        total = self._draw().conversions[goal]
        if age >= self.horizon and until >= self.duration:
            return total
        share = self._share(((1.0, _conversion_delay(self._goals[goal])),), age, until)
        users = _round(total.users * share)
        return Conversions(max(users, _round(total.deposits * share)), _round(total.cents * share), users)

    def _share(self, mixture: tuple[tuple[float, float], ...], age: float, until: float) -> float:
        """Return which share of the run's events have arrived: A(age) of the module's docstring."""
        arrived = 0.0
        for weight, tau in mixture:
            arrived += weight * (until - tau * (math.exp((until - age) / tau) - math.exp(-age / tau)))
        return min(1.0, max(0.0, arrived / self.duration))

    def _rare(self, name: str, age: float, until: float) -> int:
        """Return a rare count, with the noise of independent arrivals.

        The arrivals are `_NOISE` uniform draws at most; where the total is larger, their scatter is scaled down
        to that of the total.
        """
        total = self._draw().totals[name]
        mixture = _DELAYS[name]
        if name == "complaint" and self._rates.fast_complaints:
            mixture = _FAST_COMPLAINTS
        share = self._share(mixture, age, until)
        arrivals = self._arrivals.get(name)
        if arrivals is None:
            rng = random.Random(f"{self._key}:{name}")
            arrivals = sorted(rng.random() for _ in range(min(total, _NOISE)))
            self._arrivals[name] = arrivals
        arrived = bisect_right(arrivals, share) / len(arrivals)
        weight = math.sqrt(len(arrivals) / total)
        return _round(total * ((1 - weight) * share + weight * arrived))


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _draw_totals(rng: random.Random, volume: int, rates: Rates) -> dict[str, int]:
    bounced = binomial(rng, volume, rates.bounced)
    soft = binomial(rng, bounced, rates.soft_share)
    delivered = binomial(rng, volume - bounced, 1 - rates.undelivered)
    if rates.opened is None:
        opened = 0
        clicked = binomial(rng, delivered, rates.clicked)
    else:
        opened = binomial(rng, delivered, rates.opened)
        clicked = binomial(rng, opened, min(1.0, rates.clicked / rates.opened))
    return {
        "sent": volume,
        "hard": bounced - soft,
        "soft": soft,
        "delivered": delivered,
        "opened": opened,
        "clicked": clicked,
        "complaint": binomial(rng, delivered, rates.complaint),
        "unsubscribed": binomial(rng, delivered, rates.unsubscribed),
        "rejected": binomial(rng, volume, rates.rejected),
        "failed": binomial(rng, volume, rates.failed),
        "temporaryFailed": binomial(rng, volume, rates.temporarily_failed),
        "skipped": binomial(rng, volume, rates.skipped),
    }


def _conversion_delay(goal: Goal) -> float:
    """Return the mean delay of a goal's conversions after the send."""
    return _GOAL_DELAY[goal.event] + PERIODS[goal.period] / 4


def _draw_conversions(rng: random.Random, goal: Goal, totals: Mapping[str, int]) -> Conversions:
    """Draw all that a goal will bring."""
    base = {
        "Deposit Refcode": totals["clicked"],
        "Delivered": totals["delivered"],
        "Opened": totals["opened"],
        "Clicked": totals["clicked"],
    }[goal.event]
    users = binomial(rng, base, goal.rate)
    deposits = users + binomial(rng, users, 0.4)
    spread = rng.lognormvariate(0.0, 0.6 / math.sqrt(max(1, deposits)))
    cents = round(deposits * goal.deposit * spread * 100)
    return Conversions(deposits, cents, users)


def _assemble(now: Mapping[str, int], rates: Rates) -> Counts:
    """Make a row of counts of which no part exceeds its whole."""
    clicked = now["clicked"]
    opened = None if rates.opened is None else max(now["opened"], clicked)
    bounced = now["hard"] + now["soft"]
    delivered = max(now["delivered"], opened or 0, clicked, now["complaint"], now["unsubscribed"])
    return {
        "skipped": now["skipped"],
        "sent": max(now["sent"], delivered + bounced),
        "delivered": delivered,
        "opened": opened,
        "clicked": clicked,
        "bounced": bounced,
        "softBounced": now["soft"],
        "complaint": now["complaint"],
        "rejected": now["rejected"],
        "unsubscribed": now["unsubscribed"],
        "failed": now["failed"],
        "temporaryFailed": now["temporaryFailed"],
    }


def add_counts(left: Mapping[str, int | None], right: Mapping[str, int | None]) -> Counts:
    """Add field by field; None where both are None."""
    total: Counts = {}
    for name in FIELDS:
        a, b = left.get(name), right.get(name)
        total[name] = None if a is None and b is None else (a or 0) + (b or 0)
    return total


class Message(Protocol):
    """One message of a campaign: one row of statistics."""

    title: str
    channel: str | None

    def counts(self, age: float, cut: float) -> Mapping[str, object]:
        """Return the counts at this age of the campaign, of the messages sent up to the age `cut`."""

    def conversions(self, age: float, cut: float, goal: int) -> Conversions:
        """Return what the goal of this index has brought."""

    def sent_between(self, first: float, last: float) -> bool:
        """Whether anything was sent between these two ages."""


@dataclass(slots=True)
class CurveMessage:
    """A message sent in a few runs. `title` may be changed at any time."""

    title: str
    channel: str | None
    runs: tuple[Run, ...]

    def counts(self, age: float, cut: float) -> Counts:
        """See `Message`."""
        total = self.runs[0].counts(age, cut)
        for run in self.runs[1:]:
            total = add_counts(total, run.counts(age, cut))
        return total

    def conversions(self, age: float, cut: float, goal: int) -> Conversions:
        """See `Message`."""
        return sum((run.conversions(age, cut, goal) for run in self.runs), Conversions())

    def sent_between(self, first: float, last: float) -> bool:
        """See `Message`."""
        return any(run.sent(last) > run.sent(first) for run in self.runs)


@dataclass(slots=True)
class DailyMessage:
    """A message that goes out every day for as long as the campaign lives.

    `make_run` builds the run of a day, 0 for the first. Days long past are summed once.
    """

    title: str
    channel: str | None
    make_run: Callable[[int], Run]
    goals: int
    _runs: list[Run] = field(default_factory=list)
    _sums: list[tuple[Counts, tuple[Conversions, ...]]] = field(default_factory=list)

    def counts(self, age: float, cut: float) -> Counts:
        """See `Message`."""
        settled = self._settled(age, cut)
        total = dict(self._sum(settled)[0])
        for day in range(settled, self._days(min(age, cut))):
            total = add_counts(total, self._run(day).counts(age, cut))
        return total

    def conversions(self, age: float, cut: float, goal: int) -> Conversions:
        """See `Message`."""
        settled = self._settled(age, cut)
        total = self._sum(settled)[1][goal]
        for day in range(settled, self._days(min(age, cut))):
            total += self._run(day).conversions(age, cut, goal)
        return total

    def sent_between(self, first: float, last: float) -> bool:
        """See `Message`."""
        days = range(max(0, int(first // DAY) - 1), self._days(last))
        return any(self._run(day).sent(last) > self._run(day).sent(first) for day in days)

    def _days(self, age: float) -> int:
        """How many days have begun at this age."""
        return max(0, math.floor(age / DAY) + 1)

    def _run(self, day: int) -> Run:
        while len(self._runs) <= day:
            self._runs.append(self.make_run(len(self._runs)))
        return self._runs[day]

    def _settled(self, age: float, cut: float) -> int:
        """How many of the first days have brought all that they ever will, and lie before the cut."""
        horizon = self._run(0).horizon + DAY
        return max(0, math.floor(min(age - horizon, cut - 2 * DAY) / DAY))

    def _sum(self, days: int) -> tuple[Counts, tuple[Conversions, ...]]:
        if not self._sums:
            first = self._run(0).counts(0.0, 0.0)
            self._sums.append((first, (Conversions(),) * self.goals))
        while len(self._sums) <= days:
            counts, conversions = self._sums[-1]
            run = self._run(len(self._sums) - 1)
            added = tuple(a + b for a, b in zip(conversions, run.final_conversions, strict=True))
            self._sums.append((add_counts(counts, run.final), added))
        return self._sums[days]


@dataclass(slots=True)
class FixedMessage:
    """A message with counts laid down by a test: plain values, or a function of the campaign's age in seconds.

    Values go into the answer as they are, so they may also be invalid. `conversions_by_goal` has one entry for
    each of the campaign's goals. `sends` are the ages between which it is sent, evenly; the end may be FOREVER.
    Everything may be changed between two requests.
    """

    title: str
    fixed: RawCounts | Callable[[float], RawCounts]
    channel: str | None = None
    conversions_by_goal: Sequence[Conversions] = ()
    sends: tuple[float, float] = (0.0, HOUR)

    def counts(self, age: float, cut: float) -> RawCounts:
        """See `Message`. A cut within the sends leaves its share of every count, rounded down."""
        values = self.fixed(age) if callable(self.fixed) else self.fixed
        share = self._share(age, cut)
        if share == 1:
            return values
        return {
            name: int(value * share) if isinstance(value, int) and not isinstance(value, bool) else value
            for name, value in values.items()
        }

    def conversions(self, age: float, cut: float, goal: int) -> Conversions:
        """See `Message`."""
        if goal >= len(self.conversions_by_goal):
            return Conversions()
        total, share = self.conversions_by_goal[goal], self._share(age, cut)
        return Conversions(int(total.deposits * share), int(total.cents * share), int(total.users * share))

    def sent_between(self, first: float, last: float) -> bool:
        """See `Message`."""
        return first <= self.sends[1] and last >= self.sends[0]

    def _share(self, age: float, cut: float) -> float:
        """Return which share of what was sent at this age was sent up to the cut."""
        first, last = self.sends[0], min(self.sends[1], age)
        if cut >= last:
            return 1.0
        return max(0.0, cut - first) / (last - first) if last > first else 0.0


@dataclass(slots=True)
class Campaign:
    """One campaign. `start` and `stop` are seconds since the epoch; `channel` is the API's ``type``.

    A message may have a channel of its own. Everything may be changed between two requests.
    """

    campaign_id: int
    channel: str
    start: float
    messages: list[Message]
    name: str = ""
    stop: float | None = None
    goals: tuple[Goal, ...] = ()
    recurring: bool = False
