"""Accounts as they might be: calm ones, and ones in which something happens.

Time is counted in steps of five minutes, the exporter's poll. A world has one account with one channel, e-mail:
campaigns that recur with the hours of the day and the days of the week, bursts and drips of drawn sizes, rates
that differ between accounts and between campaigns, and events that come after their message. Campaigns older
than two days are read once an hour, and those older than the window every 15 minutes, as the exporter does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]

STEP: Final = 300
HOUR: Final = 3600 // STEP
DAY: Final = 24 * HOUR
WARM_UP: Final = 22 * DAY
"""Before this nothing is judged: the rules look back up to three weeks."""
FIELDS: Final = ("sent", "delivered", "bounced", "complaint", "unsubscribed", "failed")
_HOURLY_AFTER: Final = 2 * DAY
_WINDOW: Final = 14 * DAY
_STILL_SENDING_EVERY: Final = HOUR // 4
_OLDEST: Final = -60 * DAY
_MORNING, _EVENING, _WEEKEND = 7, 22, 5

KINDS: Final = (
    "bad list, burst",
    "bad list, drip",
    "bad list, by and by",
    "complaints, burst",
    "complaints, drip",
    "recurring goes bad, bounces",
    "recurring goes bad, complaints",
    "second bad campaign",
    "all lists decay",
    "unsubscribes",
    "failures",
    "delivery collapses",
    "delivery collapses, small account",
    "sending stops",
    "bounces taken back",
)


@dataclass(frozen=True, slots=True)
class Delays:
    """How long events come after their message: shares with their mean in steps, exponentially distributed."""

    name: str
    bounce: tuple[tuple[float, float], ...]
    answer: tuple[tuple[float, float], ...]
    """Complaints and unsubscribes."""


PROMPT: Final = Delays("prompt", ((1.0, 1.0),), ((1.0, 5.0 * HOUR),))
LATE: Final = Delays("late", ((0.8, 2.0), (0.2, 6.0 * HOUR)), ((0.7, 8.0 * HOUR), (0.3, 36.0 * HOUR)))
DELAYS: Final = {delays.name: delays for delays in (PROMPT, LATE)}


@dataclass(slots=True)
class Campaign:
    """One campaign: what the exporter shows of it at each step since `first`, cumulative, by field.

    `before` is what it had counted when the world began; `suspect` are the events and messages of the bad part
    alone, cumulative, which only a perfect observer can tell from the rest.
    """

    number: int
    first: int
    start: int
    seen: dict[str, Counts]
    before: dict[str, int]
    suspect: tuple[Counts, Counts] | None = None


@dataclass(slots=True)
class World:
    """An account, and what happens in it: `signal` goes wrong at step `onset`, in the campaigns `bad`."""

    kind: str
    steps: int
    campaigns: list[Campaign] = field(default_factory=list)
    signal: str = ""
    onset: int = 0
    bad: list[Campaign] = field(default_factory=list)
    taken_back: Counts | None = None


def _later(rng: np.random.Generator, at: Counts, parts: tuple[tuple[float, float], ...], steps: int) -> Counts:
    """Return when events come whose messages were sent `at`: counts by step, those of later steps left off."""
    start = np.repeat(np.arange(len(at)), at)
    mean = rng.choice([m for _, m in parts], p=[s for s, _ in parts], size=len(start))
    come = start + np.floor(rng.exponential(1.0, len(start)) * mean).astype(np.int64)
    return np.bincount(come[come < steps], minlength=steps).astype(np.int64)


@dataclass(slots=True)
class _Rates:
    bounce: float
    complaint: float
    unsubscribe: float
    failure: float = 0.003


class Author:
    """Draws one world."""

    def __init__(self, rng: np.random.Generator, delays: Delays, steps: int, kind: str = "calm") -> None:
        self.rng = rng
        self.delays = delays
        self.world = World(kind, steps)
        low, high = (3.0, 5.2) if kind == "delivery collapses" else (2.3, 5.2)
        if kind == "delivery collapses, small account":
            low, high = 2.8, 3.4
        self.volume = 10 ** rng.uniform(low, high)
        self.usual = _Rates(
            bounce=10 ** rng.uniform(-2.6, -1.8),
            complaint=10 ** rng.uniform(-4.2, -3.8),
            unsubscribe=10 ** rng.uniform(-3.0, -2.4),
        )
        self.weekend = rng.uniform(0.3, 1.0)
        self.night = rng.uniform(0.05, 0.4)
        self.broken: tuple[int, float] | None = None
        """From which step on which share is delivered."""
        self.stopped = steps
        self.decaying: tuple[str, NDArray[np.float64]] | None = None
        """How the bounces of every list climb."""

    def rates(self) -> _Rates:
        """Return a campaign's rates: its account's, and its own deviation."""
        spread = np.exp(self.rng.normal(0, 0.35, 3))
        return _Rates(
            bounce=float(np.clip(self.usual.bounce * spread[0], 0.002, 0.02)),
            complaint=float(np.clip(self.usual.complaint * spread[1], 0.00005, 0.0002)),
            unsubscribe=float(self.usual.unsubscribe * spread[2]),
        )

    def rhythm(self) -> NDArray[np.float64]:
        """Return how much of a day's messages each step sends on average."""
        step = np.arange(self.world.steps)
        hour = step % DAY / HOUR
        awake = np.where((hour >= _MORNING) & (hour < _EVENING), 1.0, self.night)
        weight = awake * np.where(step // DAY % 7 >= _WEEKEND, self.weekend, 1.0)
        return np.asarray(weight * self.world.steps / DAY / weight.sum())

    def add(
        self,
        sent: Counts,
        *,
        first: int,
        start: int,
        rates: _Rates,
        bad: tuple[str, NDArray[np.float64]] | None = None,
        before: int = 0,
    ) -> Campaign:
        """Add a campaign that sends `sent` at each step; `bad` is a signal with its rate at each step."""
        steps, rng = self.world.steps, self.rng
        bad = bad or self.decaying
        sent = sent.copy()
        sent[self.stopped :] = 0

        sending = np.flatnonzero(sent)

        def some(of: Counts, signal: str, usual: float) -> Counts:
            result = np.zeros(steps, dtype=np.int64)
            rate = bad[1][sending] if bad and bad[0] == signal else usual
            result[sending] = rng.binomial(of[sending], rate)
            return result

        bounced = some(sent, "bounce", rates.bounce)
        delivered = sent - bounced
        if self.broken:
            delivered[self.broken[0] :] = rng.binomial(delivered[self.broken[0] :], self.broken[1])
        complaint = some(delivered, "complaint", rates.complaint)
        events = {
            "sent": sent,
            "delivered": delivered,
            "bounced": _later(rng, bounced, self.delays.bounce, steps),
            "complaint": _later(rng, complaint, self.delays.answer, steps),
            "unsubscribed": _later(
                rng,
                some(delivered, "unsubscribe", rates.unsubscribe),
                self.delays.answer,
                steps,
            ),
            "failed": _later(rng, some(sent, "failure", rates.failure), ((1.0, 1.0),), steps),
        }
        earlier = {
            "sent": before,
            "delivered": int(before * (1 - rates.bounce)),
            "bounced": int(before * rates.bounce),
            "complaint": int(before * rates.complaint),
            "unsubscribed": int(before * rates.unsubscribe),
            "failed": int(before * rates.failure),
        }
        read = np.arange(steps)
        late = read - start >= _HOURLY_AFTER
        every = np.where(read - start >= _WINDOW, _STILL_SENDING_EVERY, HOUR)
        read[late] -= ((read + start) % every)[late]
        read = np.maximum(np.maximum.accumulate(read), 0)
        seen = {name: (np.cumsum(values)[read] + earlier[name])[first:] for name, values in events.items()}
        campaign = Campaign(len(self.world.campaigns) + 1, first, start, seen, earlier)
        if bad and bad[0] in ("bounce", "complaint"):
            since = int(np.argmax(sent * (np.arange(steps) >= self.world.onset) > 0))
            mask = np.arange(steps) >= since
            of = sent if bad[0] == "bounce" else delivered
            of = np.cumsum(of * mask)[read][first:]
            part = bounced if bad[0] == "bounce" else complaint
            parts = self.delays.bounce if bad[0] == "bounce" else self.delays.answer
            share = np.cumsum(_later(rng, part * mask, parts, steps))[read][first:]
            # The observer sees the same events as everybody: those of the bad part can't be more than all.
            field_name = "bounced" if bad[0] == "bounce" else "complaint"
            campaign.suspect = (np.minimum(share, seen[field_name] - earlier[field_name]), of)
        self.world.campaigns.append(campaign)
        return campaign

    def calm(self) -> None:
        """Add what the account sends every day, and its campaigns."""
        rng, steps = self.rng, self.world.steps
        recurring = rng.uniform(0.2, 0.6)
        for number in range(int(rng.integers(1, 4))):
            start = int(rng.integers(_OLDEST, steps if number else 0))
            self.recurring(self.volume * recurring / 2, start=start)
        per_day = rng.uniform(0.3, 1.2)
        for at in np.sort(rng.integers(0, steps - 2, rng.poisson(per_day * steps / DAY))):
            size = int(np.clip(self.volume * (1 - recurring) / per_day * rng.lognormal(-0.5, 1.0), 20, 500_000))
            self.burst(int(at), size, int(rng.choice([1, 2, 6, 12, 36, 72, 2 * DAY])))

    def recurring(
        self,
        daily: float,
        *,
        start: int,
        rates: _Rates | None = None,
        bad: tuple[str, NDArray[np.float64]] | None = None,
    ) -> Campaign:
        """Add a campaign that sends `daily` messages a day from step `start` on, which may be long ago."""
        sent = self.rng.poisson(daily * self.rhythm())
        sent[: max(start, 0)] = 0
        return self.add(
            sent,
            first=max(start, 0),
            start=start,
            rates=rates or self.rates(),
            bad=bad,
            before=int(daily * max(-start, 0) / DAY),
        )

    def burst(
        self, at: int, size: int, length: int, bad: tuple[str, NDArray[np.float64]] | None = None
    ) -> Campaign:
        """Add a campaign that sends `size` messages evenly from step `at` on."""
        steps = self.world.steps
        length = min(length, steps - at)
        sent = np.zeros(steps, dtype=np.int64)
        sent[at : at + length] = self.rng.multinomial(size, np.full(length, 1 / length))
        return self.add(sent, first=at, start=at, rates=self.rates(), bad=bad)

    def _level(self, rate: float, *, climb: int = 0) -> NDArray[np.float64]:
        steps, onset = self.world.steps, self.world.onset
        since = np.arange(steps) - onset
        ramp = np.clip(since / climb, 0, 1) if climb else (since >= 0).astype(float)
        return np.asarray(ramp * rate + (1 - ramp) * min(rate, 0.01))

    def _size(self) -> int:
        return int(10 ** self.rng.uniform(2.3, 4.7))

    def incident(self) -> None:
        """Let it happen, a day and some hours after the warm-up."""
        rng, world = self.rng, self.world
        world.onset = WARM_UP + DAY + int(rng.integers(0, DAY))
        bounce, complaint = 10 ** rng.uniform(math.log10(0.08), math.log10(0.5)), 10 ** rng.uniform(-3, -2)
        slow, fast = int(rng.integers(DAY // 2, 2 * DAY)), int(rng.choice([1, 2, 6, 12]))
        kind = world.kind
        if kind in ("bad list, burst", "bad list, drip", "bad list, by and by"):
            world.signal = "bounce"
            climb = slow if kind.endswith("by and by") else 0
            length = fast if kind.endswith("burst") else slow
            world.bad = [
                self.burst(world.onset, self._size(), length, ("bounce", self._level(bounce, climb=climb)))
            ]
        elif kind.startswith("complaints"):
            world.signal = "complaint"
            length = fast if kind.endswith("burst") else slow
            size = int(10 ** rng.uniform(3.5, 5.0))
            world.bad = [self.burst(world.onset, size, length, ("complaint", self._level(complaint)))]
        elif kind == "second bad campaign":
            world.signal = "bounce"
            first = self.burst(world.onset, 5000, 6, ("bounce", self._level(0.4)))
            world.onset += int(rng.integers(2, 12)) * HOUR
            world.bad = [self.burst(world.onset, self._size(), fast, ("bounce", self._level(bounce)))]
            first.suspect = None
        elif kind.startswith("recurring"):
            world.signal = kind.rsplit(" ", 1)[1].rstrip("s").replace("bounce", "bounce")
            rate = bounce if world.signal == "bounce" else complaint
            level = self._level(rate)
            usual = self.rates()
            level[: world.onset] = usual.bounce if world.signal == "bounce" else usual.complaint
            daily = 10 ** rng.uniform(3.0, 4.5) * (1 if world.signal == "bounce" else 5)
            start = world.onset - int(rng.integers(4 * DAY, world.onset - _OLDEST))
            world.bad = [self.recurring(daily, start=start, rates=usual, bad=(world.signal, level))]
        elif kind == "unsubscribes":
            world.signal = "unsubscribe"
            size = int(max(2000, self.volume * rng.uniform(0.5, 2)))
            rate = max(0.03, 8 * self.usual.unsubscribe)
            world.bad = [self.burst(world.onset, size, fast, ("unsubscribe", self._level(rate)))]
        elif kind == "failures":
            world.signal = "delivery"
            size = int(max(500, self.volume * rng.uniform(0.3, 1)))
            world.bad = [self.burst(world.onset, size, fast, ("failure", self._level(rng.uniform(0.2, 0.8))))]

    def before(self) -> None:
        """Settle what concerns the whole account, before its campaigns are drawn."""
        world, rng = self.world, self.rng
        world.onset = WARM_UP + DAY + int(rng.integers(0, DAY))
        if world.kind.startswith("delivery"):
            world.signal = "delivery"
            self.broken = (world.onset, rng.uniform(0, 0.2))
        elif world.kind == "sending stops":
            world.signal = "volume"
            self.stopped = world.onset
        elif world.kind == "all lists decay":
            world.signal = "bounce"
            world.onset = WARM_UP
            level = self._level(rng.uniform(0.07, 0.12), climb=7 * DAY)
            level[: world.onset] = self.usual.bounce
            self.decaying = ("bounce", level)

    def decay(self) -> None:
        """Add lists to those that decay, so that none is far over the limit."""
        for at in range(self.world.onset, self.world.steps - DAY, 6 * HOUR):
            size = int(max(self.volume / 4, 100))
            self.burst(at, size, 6 * HOUR)
        self.world.bad = [campaign for campaign in self.world.campaigns if campaign.first >= self.world.onset]

    def take_back(self) -> None:
        """Let a burst look bad for some hours, until InTarget takes its bounces back."""
        world, rng = self.world, self.rng
        world.signal = "bounce"
        campaign = self.burst(world.onset, self._size() + 500, 6, ("bounce", self._level(0.3)))
        back = world.onset + int(rng.integers(4, 10)) * HOUR - campaign.first
        bounced = campaign.seen["bounced"]
        world.taken_back = np.zeros(len(bounced), dtype=np.int64)
        world.taken_back[back:] = (bounced[back:] * 0.98).astype(np.int64)
        campaign.seen["bounced"] = bounced - world.taken_back
        world.bad = [campaign]


def clip(world: World, since: int, until: int) -> World:
    """Return a part of a world, as an exporter with a new state would show it that was started at `since`."""
    result = World(world.kind, until - since)
    for campaign in world.campaigns:
        if campaign.first >= until:
            continue
        skipped = max(0, since - campaign.first)
        seen = {name: values[skipped : until - campaign.first] for name, values in campaign.seen.items()}
        before = {name: int(values[0]) for name, values in seen.items()} if skipped else campaign.before
        result.campaigns.append(
            Campaign(campaign.number, max(0, campaign.first - since), campaign.start - since, seen, before)
        )
    return result


def draw(seed: int, kind: str, delays: Delays, days: int) -> World:
    """Return a world of `days` after the warm-up."""
    author = Author(np.random.default_rng(seed), delays, WARM_UP + days * DAY, kind)
    if kind != "calm":
        author.before()
    author.calm()
    if kind == "all lists decay":
        author.decay()
    elif kind == "bounces taken back":
        author.take_back()
    elif kind != "calm":
        author.incident()
    return author.world
