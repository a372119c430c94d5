"""Sizes in every unit, and what is known of the server's limits."""

from __future__ import annotations

import pytest

from exporter.api.model import Page, Query
from exporter.collect.page_cap import Kind, Sizes, page_sizes
from exporter.collect.server_limits import FURTHEST, LIFETIME, MOST_IDS, ServerLimits
from tests._cutapi import stats

DAY = 86400
THREE_ROWS = (stats(1, 0.0, "a"), stats(1, 0.0, "b"), stats(1, 0.0, channel="sms"))


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (Query(start_from=1, start_to=2), Kind.START),
        (Query(campaign_ids=(1,)), Kind.IDS),
        (Query(send_from=1, send_to=2), Kind.SEND),
        (Query(start_from=1, start_to=2, send_from=1, send_to=2), Kind.SEND),
        (Query(campaign_ids=(1,), send_from=1, send_to=2), Kind.SEND),
    ],
    ids=str,
)
def test_kinds(query: Query, kind: Kind) -> None:
    """A send filter decides, then identifiers."""
    assert kind is Kind.of(query)


def test_sizes() -> None:
    """Rows, campaigns, and campaigns and channels are counted apart."""
    assert Sizes(3, 1, 2) == Sizes.of(THREE_ROWS)


def test_unreadable_rows_may_be_anybodys() -> None:
    """An answer measures at least what was read, at most as if each other row were another campaign."""
    least, most = page_sizes(Page(rows=THREE_ROWS, size=5))
    assert (Sizes(5, 1, 2), Sizes(5, 3, 4)) == (least, most)


@pytest.mark.parametrize(
    ("sizes", "below"), [((9, 9, 9), True), ((10, 9, 9), False), ((9, 10, 9), False), ((9, 9, 10), False)]
)
def test_below_in_every_unit(sizes: tuple[int, int, int], below: bool) -> None:  # noqa: FBT001
    """One unit that is reached is enough to doubt."""
    assert below is Sizes(*sizes).below(Sizes(10, 10, 10))


def test_the_limit_is_of_its_own_kind() -> None:
    """What was answered by start proves nothing for identifiers, and nothing is below perPage's default."""
    limits = ServerLimits()
    limits.observe(Kind.START, Sizes(50, 20, 30))
    limits.observe(Kind.START, Sizes(40, 25, 30))
    assert Sizes(50, 25, 30) == limits.limit(Kind.START, 500)
    assert Sizes(10, 10, 10) == limits.limit(Kind.IDS, 500)
    assert Sizes(5, 5, 5) == limits.limit(Kind.IDS, 5)


def test_another_per_page_begins_anew() -> None:
    """Answers to another perPage prove nothing."""
    limits = ServerLimits()
    limits.use(500)
    limits.observe(Kind.START, Sizes(50, 50, 50))
    limits.use(500)
    assert 50 == limits.limit(Kind.START, 500).rows
    limits.use(100)
    assert 10 == limits.limit(Kind.START, 100).rows


@pytest.mark.parametrize(("later", "known"), [(0, True), (LIFETIME - 1, True), (LIFETIME, False), (-1, False)])
def test_what_was_learned_expires(later: int, known: bool) -> None:  # noqa: FBT001
    """After a day, or if the clock is set back, answers are forgotten; what was refused is not."""
    limits = ServerLimits(since=1e9, filters=True, ids_ignored=True, longest=DAY, zone=7200)
    limits.observe(Kind.START, Sizes(50, 50, 50))
    limits.expire(1e9 + later)
    assert (known, known, known or None) == (bool(limits.largest), limits.ids_ignored, limits.filters)
    assert (DAY, 7200) == (limits.longest, limits.zone)


@pytest.mark.parametrize(
    ("refused", "accepted", "asked"), [(None, 10, 20), (None, 9, 10), (15, 10, 10), (21, 10, 20)]
)
def test_more_identifiers_are_asked_for(refused: int | None, accepted: int, asked: int) -> None:
    """Twice as many as were accepted, as long as so many were not refused."""
    limits = ServerLimits(ids=10, ids_refused=refused)
    limits.grow_ids(accepted)
    assert asked == limits.ids


@pytest.mark.parametrize(
    ("refused", "accepted", "asked"), [(None, DAY, 2 * DAY), (None, 60, DAY), (2 * DAY, DAY, DAY)]
)
def test_longer_ranges_are_asked_for(refused: int | None, accepted: int, asked: int) -> None:
    """Twice what was accepted, as long as that was not refused."""
    limits = ServerLimits(longest=DAY, refused=refused)
    limits.grow_range(accepted)
    assert asked == limits.longest


@pytest.mark.parametrize(
    ("coarse", "longest", "margin", "short"),
    [
        (False, None, 0, False),
        (True, None, FURTHEST, False),
        (True, 9 * DAY, FURTHEST, False),
        (True, DAY, DAY // 3, True),
    ],
)
def test_margins(coarse: bool, longest: int | None, margin: int, short: bool) -> None:  # noqa: FBT001
    """Where filters select by days the zones of a day are asked for, too, as far as requests may."""
    limits = ServerLimits(coarse=coarse, longest=longest)
    assert (margin, short) == (limits.margin, limits.is_margin_short)


@pytest.mark.parametrize(
    "saved",
    [
        {"ids": "20"},
        {"zone": 1.5},
        {"largest": {"start": [1, 2]}},
        {"largest": {"other": [1, 2, 3]}},
        {"widened": "start"},
        {"coarse": 1},
        {"filters": "yes"},
        {"totals": [1]},
        {"nobody": "knows"},
    ],
    ids=str,
)
def test_what_cannot_be_used_is_left_out(saved: dict[str, object]) -> None:
    """A saved value of another shape is as good as none."""
    assert ServerLimits() == ServerLimits.load(saved)
    assert MOST_IDS == ServerLimits.load(saved).ids


def test_what_is_saved_comes_back() -> None:
    """All of it, by name."""
    limits = ServerLimits(
        since=5.0, ids=20, longest=DAY, zone=-3600, filters=False, coarse=True, totals=["rows"]
    )
    limits.observe(Kind.SEND, Sizes(3, 2, 1))
    assert limits == ServerLimits.load(limits.save())
