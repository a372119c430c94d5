"""The rules on sendings, as arrays: what recording.yaml and alerts.yaml say, for a whole world at once.

A test holds this against promtool. Left out is what stays the same in a world: replicas, outages, overrides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from grafana.generator import signals
from grafana.rules.analysis.worlds import DAY, HOUR, STEP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from grafana.generator.signals import LimitedRatio, Recent, Spike
    from grafana.rules.analysis.worlds import Campaign, World

    Series = NDArray[np.float64]
    Mask = NDArray[np.bool_]

_NEVER: Final = np.nan
_WINDOW: Final = 14 * DAY
"""poll.window: an older campaign is only exported if it sends."""


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert from its firing to its end, in steps; `campaign` is 0 where it is about the account."""

    alert: str
    severity: str
    signal: str
    since: int
    until: int
    campaign: int = 0
    window: str = ""


def steps(duration: str) -> int:
    """Return a duration in steps, rounded down."""
    return int(duration[:-1]) * {"m": 60, "h": 3600, "d": 86400}[duration[-1]] // STEP


def lower_bound(events: Series, z: float) -> Series:
    """Return Wilson and Hilferty's lower bounds."""
    k = np.maximum(events, 1)
    return np.asarray(events * np.maximum(1 - 1 / (9 * k) - z / (3 * np.sqrt(k)), 0) ** 3)


def earlier(values: Series, by: int) -> Series:
    """Return the values of `by` steps before; NaN where there are none."""
    return np.concatenate([np.full(min(by, len(values)), _NEVER), values[:-by] if by else values])[
        : len(values)
    ]


def running(values: Series, window: int, *, least: bool = False) -> Series:
    """Return the maximum over the last `window` steps and this one, or the minimum."""
    pick = np.fmin if least else np.fmax
    result, width = values.astype(float), 1
    while width < window + 1:
        by = min(width, window + 1 - width)
        result = pick(result, earlier(result, by))
        width += by
    return result


def increase(values: Series, window: int) -> Series:
    """Return what was added in the window, or since the beginning."""
    before = earlier(values, window)
    return np.asarray(np.maximum(values - np.where(np.isnan(before), values[0], before), 0))


def episodes(held: Mask, wait: int, keep: int) -> Iterator[tuple[int, int]]:
    """Apply `for` and `keep_firing_for`, in steps: firing since, until."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held, [False]]).astype(np.int8)))
    current: tuple[int, int] | None = None
    for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if current and begin - current[1] <= keep:
            current = (current[0], end)
            continue
        if current:
            yield current[0], current[1] + keep
            current = None
        if end - begin > wait:
            current = (begin + wait, end)
    if current:
        yield current[0], current[1] + keep


def _divide(events: Series, messages: Series) -> Series:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(messages > 0, events / messages, _NEVER))


def _last(events: Mask) -> NDArray[np.int64]:
    """Return the last step until now at which there was one; -1 before the first."""
    return np.maximum.accumulate(np.where(events, np.arange(len(events)), -1))


def _recent_bound(recent: Recent, events: Series, messages: Series) -> Series:
    """Return what the ratio of a window surely is, less what earlier messages bring as usual."""
    window = steps(recent.window)
    before = earlier(messages, window)
    among = messages - before
    usual, carried, edge = _divide(events, messages), np.zeros(len(messages)), before
    for ago, share in recent.carried:
        older = earlier(messages, steps(ago))
        carried = carried + share * (edge - older)
        edge = older
    carried = usual * np.where(np.isnan(carried), among, carried)
    bound = lower_bound(events - earlier(events, window), signals.CERTAINTY.recent) - carried
    return _divide(bound, np.nan_to_num(among))


def totals(world: World) -> dict[str, Series]:
    """Return the channel counters: from 0, with every increase of every campaign."""
    fields = ("sent", "delivered", "bounced", "complaint", "unsubscribed", "failed")
    result = {name: np.zeros(world.steps) for name in fields}
    for campaign in world.campaigns:
        for name in fields:
            result[name][campaign.first :] += campaign.seen[name] - campaign.before[name]
    return result


class Evaluation:
    """Everything that fires in a world.

    `minutes` is how far apart rules are evaluated: 1, or 5 as in the comparison with promtool.
    """

    def __init__(self, world: World, *, minutes: int = 1) -> None:
        self.world = world
        self.minutes = minutes
        self.channel = totals(world)
        self.firings: list[Firing] = []
        for ratio in signals.LIMITED:
            self._account(ratio)
            for campaign in world.campaigns:
                self._campaign(ratio, campaign)
        for spike in signals.SPIKES:
            self._spike(spike)
        self._collapse()
        self._silence()

    def _wait(self, duration: str | None) -> int:
        if duration is None:
            return 0
        minutes = int(duration[:-1])
        return minutes // 5 if self.minutes == 1 else -(-minutes // 5)

    def _fire(
        self,
        alert: str,
        severity: str,
        signal: str,
        held: Mask,
        *,
        wait: str | None = "1m",
        keep: str | None = "1h",
        campaign: Campaign | None = None,
        window: str = "",
    ) -> None:
        offset, number = (campaign.first, campaign.number) if campaign else (0, 0)
        for since, until in episodes(held, self._wait(wait), steps(keep) if keep else 0):
            self.firings.append(Firing(alert, severity, signal, since + offset, until + offset, number, window))

    def _grown(self, field: str, window: str) -> Series:
        return increase(self.channel[field], steps(window))

    def _tracked(self, field: str) -> Series:
        """Return the messages of all campaigns, with what they had sent before the world began."""
        result = np.zeros(self.world.steps)
        for campaign in self.world.campaigns:
            result[campaign.first :] += campaign.seen[field]
        return result

    def _account(self, ratio: LimitedRatio) -> None:
        judged: dict[str, Series] = {}
        over: dict[tuple[str, str], Mask] = {}
        for window in ("24h", "7d"):
            events = self._grown(ratio.events, window)
            exposure = running(self._grown(ratio.messages, window), steps(ratio.late))
            exposure[: 3 * DAY] = np.maximum(exposure, self._tracked(ratio.messages))[: 3 * DAY]
            if window == "24h":
                goes_on = _divide(events, exposure) >= ratio.limit
            enough = (events >= signals.LEAST_EVENTS) & (exposure >= ratio.least_messages)
            judged[window] = np.where(enough, _divide(events, exposure), _NEVER)
            lower = _divide(lower_bound(events, signals.CERTAINTY.account), exposure)
            for severity, limit in (("critical", ratio.limit), ("warning", ratio.warning)):
                held = (judged[window] >= limit) & (lower >= signals.WARNING_SHARE * limit)
                over[severity, window] = held & goes_on if window == "7d" else held
        alert = f"InTargetAccount{ratio.signal.title()}Rate"
        told = np.zeros(self.world.steps, dtype=bool)
        for (severity, window), held in sorted(over.items()):
            before = len(self.firings)
            self._fire(alert, severity, ratio.signal, held & ~told, window=window)
            for firing in self.firings[before:] if severity == "critical" else ():
                told[firing.since + 1 : firing.until + steps(signals.AFTERMATH)] = True

    def _campaign(self, ratio: LimitedRatio, campaign: Campaign) -> None:
        events = campaign.seen[ratio.events].astype(float)
        messages = campaign.seen[ratio.messages].astype(float)
        sent = campaign.seen["sent"].astype(float)
        now = np.arange(campaign.first, campaign.first + len(events))
        young = now - campaign.start < DAY
        bounds = [_divide(lower_bound(events, signals.CERTAINTY.campaign), messages)]
        recurring = now - campaign.start >= signals.RECURRING_AFTER // STEP
        recurs = sent[recurring].size > 0 and sent[-1] > sent[recurring][0]
        bounds += [
            np.where(recurring, _recent_bound(recent, events, messages), _NEVER)
            for recent in (ratio.recent if recurs else ())
        ]
        lower = np.fmax.reduce(bounds)
        if not (lower >= ratio.warning).any():
            return
        quiet, news = steps(ratio.quiet_after), steps(signals.NEWS)
        for severity, limit in (("critical", ratio.limit), ("warning", ratio.warning)):
            suspect = lower >= limit
            if not suspect.any():
                continue
            shown = np.where(suspect, messages, _NEVER)
            sends = shown > running(shown, quiet, least=True)
            known = ~np.isnan(earlier(sent, news)) | young | (now - campaign.start > _WINDOW)
            fresh = np.isnan(earlier(shown, news)) & known
            held = suspect & (sends | fresh)
            self._fire(
                f"InTargetCampaign{ratio.signal.title()}Rate", severity, ratio.signal, held, campaign=campaign
            )

    def _spike(self, spike: Spike) -> None:
        held = np.zeros(self.world.steps, dtype=bool)
        for window, memory in spike.windows:
            held |= self._rises(spike, window, memory)
        held[: 3 * DAY] = False
        self._fire(spike.alert, "warning", spike.signal, held, wait=spike.wait, keep="30m")

    def _rises(self, spike: Spike, window: str, memory: str) -> Mask:
        failures = len(spike.events) > 1
        hours = int(window[:-1])

        def messages(window: str) -> Series:
            sent = self._grown(spike.messages, window)
            return np.asarray(sent + self._grown(spike.events[0], window) if failures else sent)

        events, week = self._grown(spike.events[0], window), self._grown(spike.events[0], "7d")
        most = running(self._grown(spike.messages, window), steps(memory))
        if failures:
            most = most + events
        exposed = np.maximum(most, messages("7d") * hours / 168)
        before, of = week - events, messages("7d") - messages(window)
        base, ratio = _divide(before, of), _divide(events, exposed)
        share = _divide(exposed, of)
        z = 2 * (np.sqrt(events + 0.375) - np.sqrt(share * (before + 0.375))) / np.sqrt(1 + share)
        held = (z > signals.SPIKE_Z) & (ratio >= spike.factor * base) & (ratio - base >= spike.floor)
        return np.asarray(held)

    def _collapse(self) -> None:
        usual = _divide(self._grown("delivered", "7d"), self._grown("sent", "7d"))
        low, known = np.zeros(self.world.steps, dtype=bool), np.zeros(self.world.steps, dtype=bool)
        for collapse in signals.COLLAPSES:
            sent = self._grown("sent", collapse.window)
            ratio = _divide(self._grown("delivered", collapse.window), sent)
            known |= sent >= collapse.messages
            low |= (ratio < signals.COLLAPSE_FACTOR * usual) & (sent >= collapse.messages)
        held = _last(low) > _last(known & ~low)
        held[: 3 * DAY] = False
        self._fire("InTargetDeliveryCollapse", "critical", "delivery", held, wait="30m", keep="30m")

    def _silence(self) -> None:
        total = self.channel["sent"]

        def rhythm(window: str) -> Series:
            return np.asarray(total - earlier(total, steps(window)))

        begins = np.zeros(self.world.steps, dtype=bool)
        for silence in signals.SILENCES:
            window, pause = rhythm(silence.window), rhythm(silence.pause)
            least = running(pause, steps(signals.SILENCE_MEMORY), least=True)
            known = ~np.isnan(earlier(pause, steps(signals.SILENCE_HISTORY)))
            begins |= (window == 0) & (earlier(least, steps(silence.window)) > 0) & known
        day = rhythm("24h")
        week = earlier(day, 7 * DAY)
        alike = day == 0
        for weeks in (2, 3):
            then = earlier(day, 7 * weeks * DAY)
            alike &= (then > 0.3 * week) & (then < 3 * week)
        begins |= alike
        quiet = rhythm(signals.SILENCES[0].window) == 0
        held = begins | (quiet & (_last(begins) > _last(~quiet)))
        self._fire("InTargetSendingStopped", "warning", "volume", held, wait=None, keep=None)


def naive(world: World, *, least: bool) -> list[Firing]:
    """Return what most people would write: the campaign's ratio over the limit, `least` with a least volume."""
    found = []
    for ratio in signals.LIMITED:
        for campaign in world.campaigns:
            messages = campaign.seen[ratio.messages].astype(float)
            held = _divide(campaign.seen[ratio.events].astype(float), messages) > ratio.limit
            if least:
                held &= messages >= ratio.least_messages
            found += [
                Firing(
                    "naive",
                    "critical",
                    ratio.signal,
                    since + campaign.first,
                    until + campaign.first,
                    campaign.number,
                )
                for since, until in episodes(held, 0, HOUR)
            ]
    return found
