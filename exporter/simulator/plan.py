"""Which campaigns there are: a function of seed, scenario and timeline.

Calendar days are planned one by one, each from the seed and its number alone, so that any range of starts can
be asked for without planning the rest. Ids grow with the day; each day owns as many as it could need.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final

from exporter.simulator.model import (
    DAY,
    EVENTS,
    HOUR,
    PERIODS,
    Campaign,
    CurveMessage,
    DailyMessage,
    Goal,
    Message,
    Rates,
    Run,
    Timeline,
    log_uniform,
)
from exporter.simulator.texts import DAILY_TITLES, DAILY_TOPICS, HOSTILE, TITLES, TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from exporter.simulator.scenarios import Incident, Scenario

_KEPT_DAYS: Final = 4096
_RESERVED: Final = 64  # ids of a day for recurring campaigns and incidents
_ONSET_STEPS: Final = 6
_LONGEST_SENDING: Final = 26 * HOUR  # of the clock: half a day of progress takes longer by night
_DEMO_PER_DAY: Final = 5.5  # an account that starts 360 a day needs no compression
_DEMO_SENDING: Final = (20.0, 170.0)  # real seconds; a campaign of a compressed day is still watched being sent

# The share of campaigns that start in each hour of a day (UTC).
_HOURS: Final = (1, 1, 1, 1, 2, 4, 8, 14, 22, 26, 24, 18, 14, 16, 18, 20, 18, 14, 10, 8, 5, 3, 2, 1)


class Plan:
    """The campaigns of one simulated account."""

    def __init__(self, seed: int, scenario: Scenario, timeline: Timeline) -> None:
        self._seed = seed
        self._scenario = scenario
        self._timeline = timeline
        self._days: dict[int, list[Campaign]] = {}
        self._width = 2 * math.ceil(2 * scenario.per_day + 4) + 2 * scenario.dense + _RESERVED
        self._first = max(0.0, timeline.origin - scenario.history_days * DAY)
        self._reserved: dict[int, int] = {}
        recurring = [self._recurring(number) for number in range(scenario.recurring)]
        self.incidents = [
            (incident, self._incident(incident)) for incident in scenario.incidents if incident.volume
        ]
        self._special = [*recurring, *(campaign for _, campaign in self.incidents)]

    def between(self, first: float, last: float, now: float) -> Iterator[Campaign]:
        """Yield every campaign that started between these clock times, and not after `now`."""
        last = min(last, now)
        for campaign in self._listed():
            if first <= campaign.start <= last:
                yield campaign
        yield from self._planned(first, last)

    def may_send_between(self, first: float, last: float, now: float) -> Iterator[Campaign]:
        """Yield every campaign that sends between these clock times, and some that don't."""
        last = min(last, now)
        for campaign in self._listed():
            if campaign.start <= last:
                yield campaign
        yield from self._planned(first - _LONGEST_SENDING, last)

    def by_ids(self, ids: Iterable[int], now: float) -> Iterator[Campaign]:
        """Yield the campaigns of these ids that have started, each once."""
        wanted = set(ids)
        for campaign in self._listed():
            if campaign.campaign_id in wanted and campaign.start <= now:
                yield campaign
        first, last = math.floor(self._first / DAY), math.floor(self._timeline.calendar(now + 1) / DAY)
        for day in sorted({number // self._width for number in wanted}):
            if first <= day <= last:
                for campaign in self._day(day):
                    if campaign.campaign_id in wanted and campaign.start <= now:
                        yield campaign

    def _listed(self) -> Iterator[Campaign]:
        """Yield the campaigns that don't belong to the plan of a day."""
        yield from self._special
        yield from self._scenario.campaigns

    def _planned(self, first: float, last: float) -> Iterator[Campaign]:
        """Yield the planned campaigns that started between these clock times."""
        if first > last or not (self._scenario.per_day or self._scenario.dense):
            return
        start = max(self._timeline.calendar(first), self._first)
        # A start is rounded down to the clock's whole seconds, away from its calendar time.
        end = self._timeline.calendar(last + 1)
        for day in range(math.floor(start / DAY), math.floor(end / DAY) + 1):
            for campaign in self._day(day):
                if first <= campaign.start <= last:
                    yield campaign

    def _day(self, day: int) -> list[Campaign]:
        known = self._days.get(day)
        if known is None:
            known = self._plan_day(day)
            if len(self._days) >= _KEPT_DAYS:
                del self._days[next(iter(self._days))]
            self._days[day] = known
        return known

    def _plan_day(self, day: int) -> list[Campaign]:
        """Plan the campaigns of a calendar day. Those before the history are left out."""
        rng = random.Random(f"{self._seed}:day:{day}")
        scenario, timeline = self._scenario, self._timeline
        weekend = (day + 4) % 7 in (0, 6)
        mean = scenario.per_day * (0.7 if weekend else 1.12)
        count = math.floor(mean * rng.uniform(0.7, 1.3) + rng.random())
        moments = [_moment(rng) for _ in range(count)]
        if timeline.speed != 1 and (day + 1) * DAY > timeline.origin:
            # Compressed, nights would be minutes of nothing: from the origin on, starts are spread evenly.
            count = math.floor(min(scenario.per_day, _DEMO_PER_DAY) + rng.random())
            even = [(number + rng.random()) / count * DAY for number in range(count)]
            begins = timeline.origin - day * DAY
            moments = [moment for moment in moments if moment < begins]
            moments += [moment for moment in even if moment >= begins]
        if scenario.dense and day % 4 == 0:
            moments += [10 * HOUR] * scenario.dense
        numbers = sorted(rng.sample(range(self._width - _RESERVED), len(moments)))
        planned = []
        for number, moment in zip(numbers, sorted(moments), strict=True):
            calendar = day * DAY + moment
            start = float(math.floor(timeline.clock(calendar)))
            if calendar >= self._first:
                planned.append(self._campaign(day * self._width + number, start))
        return planned

    def _campaign(self, campaign_id: int, start: float) -> Campaign:
        """Plan an ordinary campaign, sent once or over a day."""
        key = f"{self._seed}:{campaign_id}"
        rng = random.Random(key)
        scenario = self._scenario
        channel = rng.choices(tuple(scenario.channels), tuple(scenario.channels.values()))[0]
        volume = round(log_uniform(rng, *scenario.volume))
        rates = self._affected(draw_rates(rng, channel), channel, start)
        duration = self._sending(rng, volume, start)
        goals = _draw_goals(rng, channel, scenario.conversions)
        topic = rng.choice(HOSTILE if scenario.hostile else TOPICS)
        if scenario.max_messages > 10:  # a scenario about many messages, not A/B tests
            parts = rng.randint(1, scenario.max_messages)
        else:
            parts = 1 if rng.random() < 0.75 else rng.randint(1, scenario.max_messages)
        messages: list[Message] = []
        for part in range(parts):
            title = self._title(rng, channel)
            if part and rng.random() < 0.3:
                title = messages[-1].title
            share = volume // parts + (1 if part < volume % parts else 0)
            run = Run(f"{key}:{part}", share, rates, goals, duration=duration)
            messages.append(CurveMessage(title, None, (run,)))
        if channel == "Email" and "Push" in scenario.channels and rng.random() < 0.06:
            push = draw_rates(rng, "Push")
            run = Run(f"{key}:push", volume // 3, push, goals, duration=duration)
            messages.append(CurveMessage(self._title(rng, "Push"), "Push", (run,)))
        stop = None
        if rng.random() < 0.6:
            timeline = self._timeline
            end = timeline.calendar(start) + duration + rng.choice((HOUR, 12 * HOUR, DAY, 3 * DAY))
            stop = float(math.ceil(timeline.clock(end)))
        name = f"{channel}: {topic} {campaign_id % 97:02d}"
        return Campaign(campaign_id, channel, start, messages, name, stop, goals)

    def _sending(self, rng: random.Random, volume: int, start: float) -> float:
        """Draw for how long a campaign is sent, in progress seconds."""
        timeline = self._timeline
        if rng.random() < 0.2:  # spread over the day, so as not to wake everybody at once
            duration = rng.uniform(6 * HOUR, 12 * HOUR)
        else:
            duration = max(60.0, volume / rng.uniform(40, 200))
        if timeline.speed != 1 and start >= timeline.origin:
            duration = rng.uniform(*_DEMO_SENDING) * timeline.speed
        return duration

    def _affected(self, rates: Rates, channel: str, start: float) -> Rates:
        """Return the rates under the incidents that hit every campaign of a channel."""
        for incident in self._scenario.incidents:
            since = start - self._timeline.origin - incident.start
            if incident.volume is None and incident.channel == channel and 0 <= since < incident.duration:
                rates = worsen(rates, incident.kind, incident.ratio, 1.0)
        return rates

    def _incident(self, incident: Incident) -> Campaign:
        """Plan the campaign of an incident: steps over the onset, then the rest."""
        timeline = self._timeline
        start = float(math.floor(timeline.origin + incident.start))
        campaign_id = self._reserve(start)
        key = f"{self._seed}:{campaign_id}"
        rng = random.Random(key)
        usual = draw_rates(rng, incident.channel)
        # Sends go evenly over progress time, from the campaign's start to `duration` of the clock later.
        whole = timeline.progress(start + incident.duration) - timeline.progress(start)
        onset = min(1.0, incident.onset_seconds / incident.duration)
        steps = [
            (onset * step / _ONSET_STEPS, onset / _ONSET_STEPS, (step + 0.5) / _ONSET_STEPS)
            for step in range(_ONSET_STEPS if onset else 0)
        ]
        if onset < 1:
            steps.append((onset, 1 - onset, 1.0))
        volume = incident.volume or 0
        sent, runs = 0, []
        for number, (begin, length, strength) in enumerate(steps):
            upto = round(volume * (begin + length))
            rates = worsen(usual, incident.kind, incident.ratio, strength)
            run = Run(f"{key}:{number}", upto - sent, rates, duration=length * whole, begin=begin * whole)
            runs.append(run)
            sent = upto
        title = self._title(rng, incident.channel)
        message = CurveMessage(title, None, tuple(runs))
        name = f"{incident.channel}: {rng.choice(TOPICS)} (purchased list)"
        return Campaign(campaign_id, incident.channel, start, [message], name)

    def _recurring(self, number: int) -> Campaign:
        """Plan a campaign that is months old and sends every day, in one go or all day long."""
        rng = random.Random(f"{self._seed}:recurring:{number}")
        timeline, scenario = self._timeline, self._scenario
        age = rng.randint(60, 240) * DAY + rng.randint(0, 23) * HOUR
        start = max(0.0, float(math.floor((timeline.origin - age) / 60) * 60))
        campaign_id = self._reserve(start)
        key = f"{self._seed}:{campaign_id}"
        kinds = tuple(scenario.channels)
        channel = kinds[number % len(kinds)] if number else "Email"
        rates = draw_rates(rng, channel)
        goals = _draw_goals(rng, channel, 1.0)
        volume = log_uniform(rng, 200, 8000)
        duration = rng.uniform(16 * HOUR, 22 * HOUR) if number % 2 else rng.uniform(0.5 * HOUR, 2 * HOUR)
        titles = [rng.choice(HOSTILE if scenario.hostile else DAILY_TITLES)]
        if rng.random() < 0.4:
            titles.append(rng.choice(DAILY_TITLES))
        messages: list[Message] = [
            DailyMessage(
                title,
                None,
                _daily_runs(f"{key}:{part}", volume / len(titles), duration, rates, goals),
                len(goals),
            )
            for part, title in enumerate(titles)
        ]
        name = f"{channel}: {DAILY_TOPICS[number % len(DAILY_TOPICS)]}"
        return Campaign(campaign_id, channel, start, messages, name, None, goals, recurring=True)

    def _reserve(self, start: float) -> int:
        """Return an id that fits the start and that no planned campaign has."""
        day = math.floor(self._timeline.calendar(start) / DAY)
        used = self._reserved.get(day, 0)
        if used >= _RESERVED:
            raise ValueError(f"more than {_RESERVED} incidents and recurring campaigns start on one day")
        self._reserved[day] = used + 1
        return (day + 1) * self._width - _RESERVED + used

    def _title(self, rng: random.Random, channel: str) -> str:
        if self._scenario.hostile:
            return rng.choice(HOSTILE)
        return rng.choice(TITLES.get(channel, TITLES["Push"]))


def _moment(rng: random.Random) -> float:
    """Draw a second of the day: by day rather than by night, and often a round one."""
    hour = rng.choices(range(24), _HOURS)[0]
    if rng.random() < 0.7:
        return hour * HOUR + rng.choice((0, 0, 0, 10, 15, 20, 30, 30, 40, 45, 50)) * 60.0
    return hour * HOUR + rng.randint(0, 3599)


def draw_rates(rng: random.Random, channel: str) -> Rates:
    """Draw what a campaign of this channel is really like."""
    email = channel == "Email"
    opened = rng.uniform(0.15, 0.45) if email else rng.uniform(0.04, 0.16) if channel == "Push" else None
    clicked = log_uniform(rng, 0.01, 0.06)
    return Rates(
        bounced=log_uniform(rng, 0.002, 0.02),
        soft_share=rng.uniform(0.3, 0.6),
        opened=opened,
        clicked=clicked if opened is None else min(clicked, 0.6 * opened),
        complaint=log_uniform(rng, 5e-5, 2e-4) if email else 0.0,
        unsubscribed=log_uniform(rng, 0.0005, 0.004),
        rejected=log_uniform(rng, 0.0002, 0.002),
        failed=log_uniform(rng, 0.001, 0.007),
        temporarily_failed=log_uniform(rng, 0.0005, 0.003),
        skipped=rng.uniform(0.0, 0.03),
    )


def worsen(rates: Rates, kind: str, ratio: float, strength: float) -> Rates:
    """Return the rates with one of them moved towards `ratio`: not at all at strength 0, wholly at 1."""
    changes: dict[str, float | bool] = {}
    if kind == "bounce":
        # The ratio is that of hard bounces; the soft ones stay as they are.
        soft = rates.bounced * rates.soft_share
        usual = rates.bounced - soft
        bounced = usual + (ratio - usual) * strength + soft
        changes = {"bounced": bounced, "soft_share": soft / bounced}
    elif kind == "complaint":
        changes = {
            "complaint": rates.complaint + (ratio - rates.complaint) * strength,
            "fast_complaints": True,
        }
    elif kind == "unsubscribe":
        changes = {"unsubscribed": rates.unsubscribed + (ratio - rates.unsubscribed) * strength}
    elif kind == "failed":
        changes = {
            "failed": rates.failed + (ratio * 2 / 3 - rates.failed) * strength,
            "rejected": rates.rejected + (ratio / 3 - rates.rejected) * strength,
        }
    else:
        changes = {"undelivered": ratio * strength}
    values = {name: getattr(rates, name) for name in Rates.__slots__}
    return Rates(**{**values, **changes})


def _draw_goals(rng: random.Random, channel: str, chance: float) -> tuple[Goal, ...]:
    """Draw the conversion events of a campaign: none, or up to three different ones."""
    if rng.random() >= chance:
        return ()
    events = [event for event in EVENTS if event != "Opened" or channel in ("Email", "Push")]
    goals = []
    for event in rng.sample(events, rng.choice((1, 1, 1, 2, 2, 3))):
        period = rng.choice(tuple(PERIODS))
        rate = log_uniform(rng, 0.002, 0.02) if event == "Delivered" else log_uniform(rng, 0.01, 0.12)
        goals.append(Goal(event, period, rate, log_uniform(rng, 15, 250)))
    return tuple(goals)


def _daily_runs(
    key: str, volume: float, duration: float, rates: Rates, goals: tuple[Goal, ...]
) -> Callable[[int], Run]:
    """Return the function that builds each day's run of a recurring message."""

    def make(day: int) -> Run:
        rng = random.Random(f"{key}:{day}")
        today = round(volume * rng.uniform(0.7, 1.3))
        return Run(f"{key}:{day}", today, rates, goals, duration=duration, begin=day * DAY)

    return make
