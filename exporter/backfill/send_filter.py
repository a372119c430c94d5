"""Finds out what InTarget's send filter does to the counts of a campaign.

Whether sendFrom and sendTo divide counts or merely select campaigns isn't documented (the vendor's page on the
statistics API), so it is tried on campaigns of the account.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exporter.api.model import TimeRange
from exporter.backfill.resource_history import SendFilter
from exporter.collect.asking import DAY, NEVER
from exporter.collect.senders import OLDEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.backfill.requests import Requests
    from exporter.backfill.resource_history import ResourceHistory

CANDIDATES: Final = 5
"""With how many campaigns to try it."""

_BY_START: Final = (
    "so history within a campaign can't be known: figures are by start, as in InTarget's own report. A campaign"
    " has its present total from the end of the step in which it started; those that started before --from are"
    " left out"
)
WORDS: Final = {
    SendFilter.DIVIDES: (
        "InTarget's send filter divides {what}: each step has those of the messages sent until its end"
    ),
    SendFilter.SELECTS: (
        f"InTarget's send filter selects campaigns but doesn't divide their {{what}}, {_BY_START}"
    ),
    SendFilter.IGNORED: f"InTarget ignores the send filter for {{what}}, {_BY_START}",
    SendFilter.UNCLEAR: (
        "whether InTarget's send filter divides {what} can't be told (none of the campaigns that were tried has"
        f" some before and some after a moment), {_BY_START}"
    ),
}


class SendFilterProbe:
    """Tries the send filter for one resource."""

    def __init__(self, requests: Requests, history: ResourceHistory[Any]) -> None:
        self._requests = requests
        self._history = history
        self._measure = history.kind.measure

    def probe(self, ids: Iterable[int]) -> tuple[SendFilter, bool]:
        """Find out what a send filter does, on those that have most to count; and whether that is sure."""
        sizes = {number: self._measure(self._history.totals.get(number, ())) for number in ids}
        able = sorted((number for number in sizes if sizes[number] > 1), key=lambda one: (-sizes[one], one))
        best = SendFilter.UNCLEAR
        for number in able[:CANDIDATES]:
            found, sure = self._try(number, math.floor(self._history.start(number)))
            if sure:
                return found, True
            if found is not SendFilter.UNCLEAR:
                best = found
        return best, False

    def _try(self, number: int, start: int) -> tuple[SendFilter, bool]:
        """Look for a moment with sends before and after it: there the counts of both sides tell.

        If the filter divides, they add up to the total; if it only selects, each is the total. So it is, too,
        within a day if the filter divides by whole days: only the end of a day proves that it doesn't divide.
        Messages on one side only tell nothing: it may be messages that are selected.
        """
        if self._measure(self._rows(number, NEVER)):
            return SendFilter.IGNORED, True
        end = math.floor(self._requests.wall()) + DAY
        low, high = start, max(start + 1, end)
        while high - low > 1:
            moment, day_ends = _moment(start, low, high)
            sides = [
                self._rows(number, TimeRange(OLDEST, moment)),
                self._rows(number, TimeRange(moment + 1, end)),
            ]
            before, after = map(self._measure, sides)
            if before and after:
                before, after, total = map(self._measure, _in_all([*sides, self._rows(number, None)]))
                if before and after and 4 * (before + after) <= 5 * total:  # some growth is allowed for
                    return SendFilter.DIVIDES, True
                if total and 5 * min(before, after) >= 4 * total:
                    return SendFilter.SELECTS, day_ends
                break
            if bool(before) == bool(after):
                break
            low, high = (low, moment) if before else (moment, high)
        return SendFilter.UNCLEAR, False

    def _rows(self, number: int, send: TimeRange | None) -> list[Any]:
        got = self._requests.poll(self._history, send).by_ids([number], filtered=send is not None)
        if got.failure is not None:
            raise got.failure
        return [row for row in got.rows if row.campaign_id == number]


def _in_all(answers: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return the rows of the messages that have equally many rows in each answer."""
    counts = [Counter((row.group, row.title) for row in rows) for rows in answers]
    same = {key for key in counts[0] if len({count[key] for count in counts}) == 1}
    return [[row for row in rows if (row.group, row.title) in same] for rows in answers]


def _moment(start: int, low: int, high: int) -> tuple[int, bool]:
    """Return a second between two others, and whether a day (UTC) ends with it, which it does where one can.

    It is looked for in proportion to the age: sends thin out.
    """
    between = start + math.isqrt((low - start + 1) * (high - start + 1))
    day_end = between - between % DAY + DAY - 1
    for moment in (day_end, day_end - DAY):
        if low < moment < high:
            return moment, True
    return min(max(between, low + 1), high - 1), False
