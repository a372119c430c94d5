"""Seconds with more rows than one answer can be trusted with: their campaigns are read by their identifiers."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from exporter.api.model import TimeRange

SETTLED: Final = 3600
"""Seconds after which no more campaigns are expected to begin in a past second."""


@dataclass(frozen=True, slots=True)
class DenseCell:
    """Seconds to be read by campaign. `total`: how many rows a header that can be believed says they have."""

    part: TimeRange
    total: int | None = None


def candidates(ids: Collection[int], known: Collection[int], most: int) -> list[int]:
    """Return up to `most` unknown identifiers of campaigns created together with `ids`, the likeliest first.

    Finding rows this way proves nothing: a campaign that was created at another time has any identifier.
    """
    order = sorted(ids)
    if not order:
        return []
    gaps = sorted((range(low + 1, high) for low, high in pairwise(order)), key=len)
    beyond = _alternating(range(order[-1] + 1, order[-1] + most + 1), range(order[0] - 1, -1, -1))
    found: list[int] = []
    for number in chain(*(gap for gap in gaps if len(gap) <= most), beyond):
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
