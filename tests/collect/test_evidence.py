"""What is believed of the server, and for how long; where rows are known to be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.api.model import TimeRange
from exporter.collect.evidence import LIFETIME, Evidence, RowMap
from tests._cutapi import stats


@pytest.mark.parametrize(
    ("most", "size", "per_page", "proven"),
    [
        (0, 9, 500, True),
        (0, 10, 500, False),
        (10, 10, 500, False),
        (11, 10, 500, True),
        (50, 49, 500, True),
        (50, 50, 500, False),
        (500, 500, 500, False),
        (500, 499, 500, True),
        (500, 5, 5, False),
        (500, 4, 5, True),
    ],
)
def test_what_proves_an_answer(most: int, size: int, per_page: int, proven: bool) -> None:  # noqa: FBT001
    """Fewer than ten rows, or fewer than were seen once, and always fewer than were asked for."""
    evidence = Evidence()
    evidence.observe(most)
    assert proven == evidence.proves(size, per_page)
    if size > 1:
        assert proven == (size <= evidence.limit(per_page))


def test_a_larger_answer_refutes_a_cap() -> None:
    """What was taken for the cap is none once more rows come."""
    evidence = Evidence(most=50, cut=True)
    evidence.observe(50)
    assert evidence.cut
    evidence.observe(51)
    assert (51, False) == (evidence.most, evidence.cut)


def test_evidence_expires_daily() -> None:
    """After a day, or when the clock was set back, everything has to be proven again."""
    for later, kept in ((LIFETIME - 1, True), (LIFETIME, False), (-1.0, False)):
        evidence = Evidence(since=1000.0, most=50, cut=True, from_inclusive=True, totals=False)
        evidence.expire(1000.0 + later)
        assert (50 if kept else 0) == evidence.most
        if not kept:
            assert Evidence(since=1000.0 + later) == evidence


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (Evidence(), "unknown"),
        (Evidence(most=12), "at least 12"),
        (Evidence(most=50, cut=True), "50"),
        (Evidence(most=500, cut=True), "none below perPage (500)"),
    ],
)
def test_cap_in_words(evidence: Evidence, words: str) -> None:
    """The status page says what is known, and no more."""
    assert words == evidence.cap(500)


GROUPS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 30), st.integers(1, 3)), max_size=8)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "replace", "forget"]), GROUPS, st.integers(0, 30)), max_size=8
)


@given(STEPS)
@settings(max_examples=150)
def test_map_against_a_dictionary(steps: list[tuple[str, list[tuple[int, int, int]], int]]) -> None:
    """The map knows the rows of each group as a plain dictionary does, under every mix of answers."""
    rows, truth = RowMap(), Counter[tuple[int, int]]()
    for step, groups, second in steps:
        sizes = {(number, start): size for number, start, size in groups}
        if step == "forget":
            rows.forget_before(second, keep={1})
            truth = Counter({key: n for key, n in truth.items() if key[1] >= second or key[0] == 1})
        else:
            part = TimeRange(second, second + 10)
            if step == "replace":
                sizes = {key: size for key, size in sizes.items() if key[1] in part}
                truth = Counter({key: n for key, n in truth.items() if key[1] not in part})
                rows.replace(part, [stats(*key) for key, size in sizes.items() for _ in range(size)])
            else:
                rows.add([stats(*key) for key, size in sizes.items() for _ in range(size)])
            truth |= Counter(sizes)
        starts = sorted(start for (_, start), n in truth.items() for _ in range(n))
        assert starts == rows.starts(TimeRange(0, 100))
        inner = TimeRange(5, 20)
        assert sum(n for key, n in truth.items() if key[1] in inner) == rows.rows(inner)
        assert {number for number, start in truth if start in inner} == rows.campaigns(inner)
        assert max((start for start in starts if start < 15), default=None) == rows.before(15)
        assert min((start for start in starts if start >= 15), default=None) == rows.after(15)
        by_campaign = Counter[int]()
        for (number, _), n in truth.items():
            by_campaign[number] += n
        assert by_campaign == rows.ids


def test_neighbours_in_an_answer_are_known_but_not_judged() -> None:
    """Rows beside the part that an answer is complete for are learned, and never forgotten by it."""
    rows = RowMap()
    rows.add([stats(1, 100), stats(2, 110)])
    rows.replace(TimeRange(100, 109), [stats(3, 110), stats(4, 105)])
    assert [105, 110, 110] == rows.starts(TimeRange(0, 200))
