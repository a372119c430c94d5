"""How often the campaign alert is wrong, exactly: ``python -m grafana.rules.analysis.false_alarms``.

A campaign is looked at after every poll, so it has thousands of occasions to look bad by chance. This works
out, by following the distribution of its number of events from look to look, the probability that the lower
bound ever crosses the limit while the true ratio is the limit itself (the least favourable case) or lower.
"""

from __future__ import annotations

import argparse
import math
from functools import lru_cache

import numpy as np

LIMITS = {"bounce": 0.05, "complaint": 0.0005}
_NEGLIGIBLE = 1e-15
LOOKS = {"burst of 1 h": 12, "drip over a day": 288, "drip over 14 d": 4032}


def lower_bound(events: float, z: float) -> float:
    """Return Wilson and Hilferty's lower bound of a Poisson mean of which `events` were seen."""
    if events <= 0:
        return 0.0
    return float(events * max(0.0, 1 - 1 / (9 * events) - z / (3 * math.sqrt(events))) ** 3)


def score_bound(events: float, messages: float, z: float) -> float:
    """Return the textbook Wilson score lower bound of a proportion, for comparison; a ratio."""
    spread = z * math.sqrt(max(0.0, events * (messages - events)) / messages + z * z / 4)
    return (events + z * z / 2 - spread) / (messages + z * z)


@lru_cache(maxsize=1 << 18)
def boundary(messages: int, limit: float, z: float, *, score: bool = False) -> int:
    """Return the smallest number of events whose lower bound over `messages` is at `limit`."""

    def crossed(events: int) -> bool:
        bound = score_bound(events, messages, z) if score else lower_bound(events, z) / messages
        return bound >= limit

    low, high = 0, 1
    while not crossed(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if crossed(middle) else (middle, high)
    return high


def binomial(messages: int, rate: float) -> np.ndarray:
    """Return the probabilities of 0, 1, … events among `messages`; what is left off is below 1e-15."""
    mean = messages * rate
    last = min(messages, math.ceil(mean + 9 * math.sqrt(mean) + 25))
    events = np.arange(last + 1)
    log = np.array(
        [math.lgamma(messages + 1) - math.lgamma(k + 1) - math.lgamma(messages - k + 1) for k in events]
    )
    return np.asarray(np.exp(log + events * math.log(rate) + (messages - events) * math.log1p(-rate)))


def ever_crosses(
    messages: int, looks: int, rate: float, limit: float, z: float, *, score: bool = False
) -> float:
    """Return the probability that one of `looks` evenly spaced looks finds the bound at `limit`."""
    steps: dict[int, np.ndarray] = {}
    offset, mass, crossed, before = 0, np.ones(1), 0.0, 0
    for look in range(1, looks + 1):
        now = messages * look // looks
        if now == before:
            continue
        step = now - before
        if step not in steps:
            steps[step] = binomial(step, rate)
        mass = np.convolve(mass, steps[step])
        edge = boundary(now, limit, z, score=score) - offset
        if edge < len(mass):
            crossed += float(mass[max(edge, 0) :].sum())
            mass = mass[: max(edge, 0)]
        if not len(mass):
            return crossed
        kept = np.flatnonzero(mass > _NEGLIGIBLE)
        if not len(kept):
            return crossed
        mass, offset = mass[kept[0] : kept[-1] + 1], offset + int(kept[0])
        before = now
    return crossed


def power(messages: int, rate: float, limit: float, z: float) -> float:
    """Return the probability that the bound is at `limit` once all `messages` have been sent."""
    return float(binomial(messages, rate)[boundary(messages, limit, z) :].sum())


def _line(signal: str, z: float, profile: str, messages: str, row: list[float]) -> str:
    return f"{signal:10} z={z:<4g} {profile:16} {messages:>8}  " + "  ".join(f"{p:.1e}" for p in row)


def main() -> None:
    """Print one line for each signal, volume, profile and z."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--z", type=float, nargs="+", default=[3.0, 3.5, 4.0])
    parser.add_argument("--volumes", type=int, nargs="+", default=[50, 500, 5_000, 50_000, 500_000])
    args = parser.parse_args()
    print("probability that a campaign ever alarms; columns: true ratio at the limit, at 40 % of it;")
    print("the last column is the textbook score bound at 40 %")
    for signal, limit in LIMITS.items():
        for z in args.z:
            worst = [0.0, 0.0, 0.0]
            for profile, looks in LOOKS.items():
                for messages in args.volumes:
                    row = [
                        ever_crosses(messages, looks, limit, limit, z),
                        ever_crosses(messages, looks, 0.4 * limit, limit, z),
                        ever_crosses(messages, looks, 0.4 * limit, limit, z, score=True),
                    ]
                    worst = [max(a, b) for a, b in zip(worst, row, strict=True)]
                    print(
                        f"{signal:10} z={z:<4g} {profile:16} {messages:>8}  "
                        + "  ".join(f"{p:.1e}" for p in row)
                    )
            print(f"{signal:10} z={z:<4g} {'worst':16} {'':>8}  " + "  ".join(f"{p:.1e}" for p in worst))


if __name__ == "__main__":
    main()
