"""Ranges against plain sets of seconds."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.api.model import TimeRange
from exporter.collect.ranges import intersect, subtract, union
from tests._examples import examples

RANGES = st.lists(
    st.builds(
        lambda first, length: TimeRange(first, first + length - 1), st.integers(0, 40), st.integers(0, 9)
    ),
    max_size=8,
)


def as_set(ranges: list[TimeRange] | tuple[TimeRange, ...]) -> set[int]:
    """Return the seconds."""
    return {second for part in ranges for second in range(part.first, part.last + 1)}


def canonical(ranges: tuple[TimeRange, ...]) -> bool:
    """Whether ranges are disjoint, rising, not empty, and apart from each other."""
    apart = all(before.last + 1 < after.first for before, after in pairwise(ranges))
    return apart and all(part.seconds > 0 for part in ranges)


@examples(100, derandomize=True)
@given(RANGES)
def test_union(ranges: list[TimeRange]) -> None:
    """A union has the same seconds, neighbours joined, and is its own union."""
    joined = union(ranges)
    assert as_set(ranges) == as_set(joined)
    assert canonical(joined)
    assert joined == union(joined)


@examples(100, derandomize=True)
@given(RANGES, RANGES)
def test_difference_and_intersection(ranges: list[TimeRange], others: list[TimeRange]) -> None:
    """Both are those of sets."""
    assert as_set(ranges) - as_set(others) == as_set(subtract(ranges, others))
    assert as_set(ranges) & as_set(others) == as_set(intersect(ranges, others))
    assert canonical(subtract(ranges, others))
    assert canonical(intersect(ranges, others))
