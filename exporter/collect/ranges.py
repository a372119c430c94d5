"""Arithmetic on sets of whole seconds, written as tuples of disjoint ranges in rising order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api.model import TimeRange

if TYPE_CHECKING:
    from collections.abc import Iterable

Ranges = tuple[TimeRange, ...]


def union(ranges: Iterable[TimeRange]) -> Ranges:
    """Return the same seconds as disjoint ranges, neighbours joined, in rising order."""
    joined: list[TimeRange] = []
    for part in sorted(part for part in ranges if part.seconds):
        if joined and part.first <= joined[-1].last + 1:
            joined[-1] = TimeRange(joined[-1].first, max(joined[-1].last, part.last))
        else:
            joined.append(part)
    return tuple(joined)


def subtract(ranges: Iterable[TimeRange], without: Iterable[TimeRange]) -> Ranges:
    """Return the seconds of `ranges` that are not in `without`."""
    holes = union(without)
    left: list[TimeRange] = []
    for part in union(ranges):
        first = part.first
        for hole in holes:
            if hole.last < first:
                continue
            if hole.first > part.last:
                break
            left.append(TimeRange(first, hole.first - 1))
            first = hole.last + 1
        left.append(TimeRange(first, part.last))
    return tuple(part for part in left if part.seconds)


def intersect(ranges: Iterable[TimeRange], others: Iterable[TimeRange]) -> Ranges:
    """Return the seconds that are in both."""
    both = union(ranges)
    return subtract(both, subtract(both, others))
