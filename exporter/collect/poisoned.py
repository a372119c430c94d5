"""Starts and campaigns whose every answer fails, whatever else is asked for with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.api.model import TimeRange
from exporter.collect.ranges import subtract

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.collect.ranges import Ranges

AGAIN: Final = 86400
"""Seconds after which what failed twice is asked for again."""
GRAIN: Final = 60
"""Seconds of starts that are small enough to be left out."""


class Poisoned:
    """What is left out so that everything else can be read, and when each of it is asked for again.

    What fails for the first time is asked for again by the next poll, and then once a day. Longer ranges of
    starts are those that are still being closed in on; they are asked for in halves.
    """

    def __init__(self, saved: object = None) -> None:
        self.starts: dict[TimeRange, float] = {}
        self.ids: dict[int, float] = {}
        for item in saved if isinstance(saved, list) else ():
            match item:
                case [int(first), int(last), int(again) | float(again)]:
                    self.starts[TimeRange(first, last)] = again
                case [int(number), int(again) | float(again)]:
                    self.ids[number] = again

    def save(self) -> list[list[float]]:
        """Return it as plain values for JSON."""
        starts = [[part.first, part.last, again] for part, again in sorted(self.starts.items())]
        return [*starts, *([number, again] for number, again in sorted(self.ids.items()))]

    def forget_before(self, second: int, now: float) -> None:
        """Drop starts before `second`, and campaigns that nobody asked for when they were due."""
        self.starts = {part: again for part, again in self.starts.items() if part.last >= second}
        self.ids = {number: again for number, again in self.ids.items() if again > now - AGAIN}

    # Starts

    def left_out(self, now: float) -> list[TimeRange]:
        """Return the starts that aren't asked for at `now`."""
        return [part for part, again in self.starts.items() if now <= again <= now + AGAIN]

    def cut(self, ranges: Iterable[TimeRange]) -> list[TimeRange]:
        """Cut ranges at those that failed, so that none is asked for as a whole; what is long is halved."""
        pieces: list[TimeRange] = list(subtract(ranges, self.starts))
        for part in self.starts:
            for piece in halves(part) if part.seconds > GRAIN else [part]:
                pieces += [
                    TimeRange(max(piece.first, whole.first), min(piece.last, whole.last)) for whole in ranges
                ]
        return sorted(piece for piece in pieces if piece.seconds)

    def close_in(self, part: TimeRange) -> None:
        """Note that `part` of what failed fails itself."""
        self._drop(part)
        self.starts[part] = 0.0

    def leave_out(self, part: TimeRange, now: float) -> None:
        """Note that `part` fails and can't be made smaller."""
        failed_before = any(0 < self.starts[failed] < now for failed in self._overlapping(part))
        self._drop(part)
        self.starts[part] = now + AGAIN if failed_before else now

    def clear(self, part: TimeRange) -> None:
        """Note that `part` was answered: what fails lies beside it."""
        for failed in self._overlapping(part):
            again = self.starts.pop(failed)
            self.starts |= dict.fromkeys(subtract([failed], [part]), again)

    def _drop(self, part: TimeRange) -> None:
        for failed in self._overlapping(part):
            del self.starts[failed]

    def _overlapping(self, part: TimeRange) -> list[TimeRange]:
        return [one for one in self.starts if one.first <= part.last and part.first <= one.last]

    # Campaigns

    def are_left_out(self, ids: Iterable[int], now: float) -> set[int]:
        """Return which campaigns aren't asked for at `now`."""
        return {number for number in ids if now <= self.ids.get(number, -1.0) <= now + AGAIN}

    def leave_out_id(self, number: int, now: float) -> None:
        """Note that the answer about a single campaign fails."""
        self.ids[number] = now + AGAIN if self.ids.get(number, now) < now else now

    def clear_ids(self, ids: Iterable[int]) -> None:
        """Note that campaigns were answered."""
        for number in ids:
            self.ids.pop(number, None)


def halves(part: TimeRange) -> Ranges:
    """Return both halves of a range, the longer one first."""
    middle = part.first + (part.seconds + 1) // 2
    return TimeRange(part.first, middle - 1), TimeRange(middle, part.last)
