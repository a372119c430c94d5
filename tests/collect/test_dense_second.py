"""Which identifiers are asked for in search of more campaigns of a dense second."""

from __future__ import annotations

import pytest

from exporter.collect.dense_second import candidates


@pytest.mark.parametrize("base", [0, 10**20])
def test_the_smallest_gaps_come_first_then_what_lies_beyond(base: int) -> None:
    """Known ones are left out, and a gap that is too wide to be asked for."""
    ids = [base + number for number in (100, 103, 105, 1000)]
    found = candidates(ids, {base + 101}, 6)
    assert [base + number for number in (104, 102, 1001, 99, 1002, 98)] == found


def test_no_identifier_is_negative() -> None:
    """Below the lowest there may be none."""
    assert [3, 0, 4, 5] == candidates([1, 2], {1, 2}, 4)
    assert [] == candidates([], set(), 4)
