"""Seconds with more rows than one answer can be trusted with: their campaigns are read by their identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final, Generic

from exporter.api.model import R, TimeRange
from exporter.collect.asking import DAY, is_refusal
from exporter.collect.page_cap import Kind
from exporter.collect.server_limits import MOST_IDS
from exporter.collect.split_plan import cell
from exporter.errors import PollError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from exporter.collect.asking import Asker
    from exporter.collect.by_ids import IdReader
    from exporter.collect.model import Answers

SETTLED: Final = 3600
"""Seconds after which no more campaigns are expected to begin in a past second."""
CELLS: Final = 8
"""Dense cells whose campaigns are read together at most."""
FULL: Final = 3
"""Requests by id that are worth being made."""
SEARCHED: Final = 200
"""Unknown identifiers asked for in search of more campaigns of a dense second."""


@dataclass(frozen=True, slots=True)
class DenseCell:
    """Seconds to be read by campaign. `total`: how many rows a header that can be believed says they have."""

    part: TimeRange
    total: int | None = None


class DenseSeconds(Generic[R]):
    """The dense seconds that one job comes upon.

    `searched` has the seconds that couldn't be proven, and when more campaigns were last searched for there;
    `done` the campaigns that were read by their identifiers in this round.
    """

    def __init__(
        self,
        asker: Asker[R],
        answers: Answers[R],
        ids: IdReader[R],
        *,
        searched: dict[int, float],
        done: set[int],
    ) -> None:
        self._asker = asker
        self._answers = answers
        self._ids = ids
        self._searched = searched
        self._done = done
        self._unproven: list[DenseCell] = []  # the search for others may find what they lack
        self.cells: list[DenseCell] = []

    def is_crowded(self, second: int) -> bool:
        """Whether more rows are known of it than an answer can be trusted with."""
        known = self._asker.known
        limit = self._asker.limits.limit(Kind.START, self._asker.per_page)
        return not known.sizes(known.within(TimeRange(second, second))).below(limit)

    def is_settled(self, part: TimeRange) -> bool:
        """Whether it has a dense second that was searched before: a request by start would tell nothing new."""
        now = self._asker.now
        seconds = [second for second in self._searched if second in part]
        return (
            part.seconds <= cell(0).seconds
            and bool(seconds)
            and not self._asker.limits.totals
            and all(self.is_crowded(second) for second in seconds)
            and all(second + SETTLED < now < self._searched[second] + DAY for second in seconds)
        )

    def forget(self, part: TimeRange) -> None:
        """Note that `part` has no dense second any more."""
        for second in [second for second in self._searched if second in part]:
            del self._searched[second]

    @property
    def are_enough(self) -> bool:
        """Whether reading the campaigns needn't wait: they fill some requests, or few more may be made."""
        known, count = self._asker.known, len(self.cells)
        if count >= CELLS or (count and not self._asker.may_ask(2 * count + FULL)):
            return True
        keys = [key for dense in self.cells for key in known.within(dense.part)]
        return known.sizes(keys).share(self._asker.room(Kind.IDS)) > FULL

    def settle(self, spare: int) -> None:
        """Read the campaigns of the cells, and judge whether these are all.

        The search for others leaves `spare` requests to what else has to be read. Raises PollError.
        """
        cells, self.cells = self.cells, []
        known = self._asker.known
        ids = {number for dense in cells for number in known.campaigns(dense.part)}
        try:
            self._ids.read(sorted(ids - self._done, reverse=True))
            for dense in cells:
                self._search(dense.part, spare)
        except PollError as error:
            if not is_refusal(error):
                raise
        finally:
            self._done |= self._answers.ids
        for dense in cells:
            if self._is_proven(dense):
                self._answers.prove(dense.part)
            else:
                self._unproven.append(dense)
                self._answers.give_up(dense.part)

    def search(self) -> None:
        """Look for more campaigns where that had to wait, and judge again. Raises PollError."""
        for dense in self._unproven:
            self._search(dense.part)
        self._done |= self._answers.ids
        self._answers.ranges += [dense.part for dense in self._unproven if self._is_proven(dense)]

    def _is_proven(self, dense: DenseCell) -> bool:
        """Whether as many rows were found as the total-count header says that there are."""
        known = self._asker.known
        sizes = known.sizes(known.within(dense.part))
        counted = [getattr(sizes, unit) for unit in self._asker.limits.totals or ()]
        return (
            dense.total is not None
            and known.campaigns(dense.part) <= self._done
            and bool(counted)
            and min(counted) >= dense.total
        )

    def _search(self, part: TimeRange, spare: int = 0) -> None:
        """Look for more campaigns of a dense second, once a day, or later where few requests may be made."""
        asker, known = self._asker, self._asker.known
        crowded = [second for second in range(part.first, part.last + 1) if self.is_crowded(second)]
        seconds = crowded or [part.first]
        if all(self._searched.get(second, 0.0) > asker.now - DAY for second in seconds) or not asker.may_ask(
            2 + spare
        ):
            return
        self._searched.update(dict.fromkeys(seconds, asker.now))
        found = candidates(known.campaigns(part), known.ids() | self._done, SEARCHED)
        for first in range(0, len(found), MOST_IDS):
            if asker.may_ask():
                self._ids.read(found[first : first + MOST_IDS], sparse=True)


def candidates(ids: Collection[int], known: Collection[int], most: int) -> list[int]:
    """Return up to `most` unknown identifiers of campaigns created together with `ids`, the likeliest first.

    Finding rows this way proves nothing: a campaign that was created at another time has any identifier.
    """
    order = sorted(ids)
    if not order:
        return []
    # Identifiers have no upper bound, and a range of too many has no length.
    gaps = sorted((range(low + 1, high) for low, high in pairwise(order) if high - low - 1 <= most), key=len)
    lowest = max(0, order[0] - most)
    beyond = _alternating(range(order[-1] + 1, order[-1] + most + 1), range(order[0] - 1, lowest - 1, -1))
    found: list[int] = []
    for number in chain(*gaps, beyond):
        if len(found) == most:
            break
        if number not in known:
            found.append(number)
    return found


def _alternating(above: range, below: range) -> Iterator[int]:
    for index, number in enumerate(above):
        yield number
        if index < len(below):
            yield below[index]
