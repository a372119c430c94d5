"""What can go wrong with an answer: transport faults, wrong answers, and values corrected downwards.

Whether a request is hit depends on nothing but the seed, the number of the request and the clock.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

FaultKind: TypeAlias = Literal[
    "rate_limited",  # 429 with Retry-After: `seconds`
    "server_error",  # 500
    "unauthorized",  # 401, though the token is right
    "forbidden",  # 403
    "redirect",  # 302 to another path
    "html200",  # a page of HTML with status 200
    "error200",  # an error object with status 200
    "number200",  # a bare number with status 200
    "cut_json",  # the first half of the JSON, as if it were whole
    "cut_body",  # the connection breaks in mid-body
    "reset",  # the connection is closed without an answer
    "drip",  # the body takes `seconds`, byte by byte
    "drip_headers",  # the headers take `seconds`
    "hang",  # nothing comes for `seconds`, then the connection is closed
    "slow",  # the answer is right, `seconds` late
    "huge",  # `size` bytes of valid JSON that is no answer
    "empty",  # no rows, whatever was asked
    "vanish",  # a third of the campaigns is missing
]
FAULT_KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault and the requests that it hits: those for which all of the following holds.

    `rate`: this share of the requests, drawn.
    `windows`: the clock lies between two of these bounds, seconds after the simulator's origin; none: always.
    `every`: the windows come again after so many seconds.
    `requests`: numbers of requests, from 1; none: all.
    `endpoint`: ``statistics`` or ``conversions``; None: both.
    """

    kind: FaultKind
    rate: float = 1.0
    windows: tuple[tuple[float, float], ...] = ()
    every: float | None = None
    requests: frozenset[int] = frozenset()
    endpoint: str | None = None
    seconds: float = 5.0
    size: int = 1_000_000

    def hits(self, *, seed: int, number: int, since_origin: float, endpoint: str) -> bool:
        """Whether request `number`, so many seconds after the origin, is hit."""
        if self.endpoint not in (None, endpoint) or (self.requests and number not in self.requests):
            return False
        if not _within(self.windows, self.every, since_origin):
            return False
        if self.rate >= 1:
            return True
        rng = random.Random(f"{seed}:{self.kind}:{number}")
        return rng.random() < self.rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """The vendor takes counts back: those of `fields` shrink to `factor`, less `minus`, while a window lasts.

    `windows` and `every` as in `Fault`; an open end is ``math.inf``. `share` of the campaigns is hit, drawn by
    their id; `channel` None: all channels.
    """

    factor: float = 1.0
    minus: int = 0
    fields: frozenset[str] = frozenset({"sent", "delivered", "opened"})
    windows: tuple[tuple[float, float], ...] = ()
    every: float | None = None
    share: float = 1.0
    channel: str | None = None

    def applies(self, *, seed: int, since_origin: float, campaign_id: int, channel: str) -> bool:
        """Whether a row of this campaign is corrected now."""
        if self.channel not in (None, channel) or not _within(self.windows, self.every, since_origin):
            return False
        if self.share >= 1:
            return True
        rng = random.Random(f"{seed}:correction:{campaign_id}")
        return rng.random() < self.share

    def correct(self, counts: Mapping[str, object]) -> dict[str, object]:
        """Return the counts with the corrected ones lowered, never below 0."""
        return {
            name: max(0, int(value * self.factor) - self.minus)
            if name in self.fields and isinstance(value, int) and not isinstance(value, bool)
            else value
            for name, value in counts.items()
        }


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of a simulator. The first fault in the list that hits a request is the one it gets."""

    requests: tuple[Fault, ...] = ()
    corrections: tuple[Correction, ...] = ()

    def find(self, *, seed: int, number: int, since_origin: float, endpoint: str) -> Fault | None:
        """Return the fault that hits request `number`, if any."""
        for fault in self.requests:
            if fault.hits(seed=seed, number=number, since_origin=since_origin, endpoint=endpoint):
                return fault
        return None


def _within(windows: tuple[tuple[float, float], ...], every: float | None, moment: float) -> bool:
    if not windows:
        return True
    if every is not None and moment >= 0:
        moment %= every
    return any(first <= moment < last for first, last in windows)
