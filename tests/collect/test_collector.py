"""Complete or flagged: what `Collector` promises under every reading of the API."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.api.model import Page, Query, TimeRange
from exporter.collect.collector import Collector
from exporter.collect.evidence import LIFETIME, Evidence, RowMap
from exporter.errors import ClientError, ServerError
from tests._cutapi import CutApi, stats

if TYPE_CHECKING:
    from exporter.api.model import MessageStats
    from exporter.collect.model import Collected

NOW = 1_763_000_000
WINDOW = 14 * 86400
WHOLE = TimeRange(NOW - WINDOW, NOW)
ORDERS = ("start", "start_desc", "id", "shuffled")


class Poller:
    """Polls a `CutApi` again and again, as the exporter does."""

    def __init__(self, api: CutApi, *, per_page: int = 500, concurrency: int = 1) -> None:
        self.api, self.per_page, self.concurrency = api, per_page, concurrency
        self.evidence, self.map, self.now = Evidence(), RowMap(), float(NOW)

    def collector(self) -> Collector[MessageStats]:
        """Return the collector of the next poll."""
        return Collector(
            self.api,
            self.evidence,
            self.map,
            now=self.now,
            per_page=self.per_page,
            concurrency=self.concurrency,
        )

    def poll(self) -> Collected[MessageStats]:
        """Read the whole window."""
        collector = self.collector()
        collector.by_start([WHOLE])
        return collector.collected

    def cost(self) -> int:
        """Return how many requests one poll puts."""
        before = len(self.api.requests)
        self.poll()
        return len(self.api.requests) - before


def spread(count: int, *, seed: int = 1) -> list[MessageStats]:
    """Return rows that start at random moments of the window."""
    rng = random.Random(seed)
    return [stats(1000 + i, float(rng.randint(WHOLE.first, WHOLE.last))) for i in range(count)]


def bag(rows: object) -> Counter[object]:
    """Return rows as a multiset."""
    return Counter((row.group, row.title) for row in rows)


@st.composite
def answers_anything(draw: st.DrawFn) -> CutApi:
    """Draw a server: rows that crowd in few seconds or spread, and all that the API's page leaves open."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    seconds = [WHOLE.first, *(rng.randint(WHOLE.first, WHOLE.last) for _ in range(draw(st.integers(1, 12))))]
    seconds += [second + 1 for second in seconds[:3]] + [second - 1 for second in seconds[1:3]]
    fractions, many_messages = draw(st.booleans()), draw(st.booleans())
    crowding = draw(st.sampled_from((0.0, 0.5, 0.95)))
    rows = []
    ids = rng.sample(range(1, draw(st.sampled_from((250, 2000)))), 200)
    for number in range(draw(st.integers(0, 120))):
        crowded = rng.random() < crowding
        start = float(rng.choice(seconds) if crowded else rng.randint(WHOLE.first, WHOLE.last))
        start += rng.choice((0.0, 0.25, 0.999)) if fractions else 0.0
        start = min(start, float(WHOLE.last))
        messages = rng.choice((1, 1, 1, 2, 3, 12)) if many_messages else 1
        rows += [stats(ids[number], start, f"m{i % 2}", rng.choice(("email", "sms"))) for i in range(messages)]
    return CutApi(
        rows,
        cap=draw(st.sampled_from((10, 11, 17, 50, None))),
        from_inclusive=draw(st.booleans()),
        to_inclusive=draw(st.booleans()),
        order=draw(st.sampled_from(ORDERS)),
        total=draw(st.sampled_from(("none", "none", "true", "all", "zero"))),
    )


@given(answers_anything(), st.sampled_from((10, 30, 500)))
@settings(max_examples=150)
def test_collected_rows_are_the_truth_or_flagged(api: CutApi, per_page: int) -> None:
    """Whatever the server leaves open: every row is there once, or the result says that it is incomplete."""
    poller = Poller(api, per_page=per_page)
    for _ in range(2):
        collected = poller.poll()
        assert not bag(collected.rows) - bag(api.rows)
        if not collected.incomplete:
            assert bag(api.rows) == bag(collected.rows)
            assert not collected.partial


@given(answers_anything(), st.integers(0, 2**32), st.sampled_from((1, 2)))
@settings(max_examples=60)
def test_changes_between_two_requests_never_count_twice(api: CutApi, seed: int, every: int) -> None:
    """Renames and new rows in the middle of a poll: no group comes back with more rows than it has."""
    rng = random.Random(seed)

    def changing(query: Query) -> Page[MessageStats]:
        if api.rows and len(api.requests) % every == 0:
            index = rng.randrange(len(api.rows))
            api.rows[index] = replace(api.rows[index], title=f"renamed {len(api.requests)}")
        return api(query)

    collector = Collector(changing, Evidence(), RowMap(), now=NOW, per_page=500)
    collector.by_start([WHOLE])
    found = Counter(row.group for row in collector.collected.rows)
    truth = Counter(row.group for row in api.rows)
    assert not found - truth
    if not collector.collected.incomplete:
        assert truth == found


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cap", [10, 50, 500])
def test_requests_stay_within_their_bounds(cap: int, order: str) -> None:
    """1,000 rows: at most 5·ceil(n/c)+20 requests with nothing known, then at most 2·ceil(n/c)+5."""
    poller = Poller(CutApi(spread(1000), cap=cap, order=order))
    pages = math.ceil(1000 / cap)
    assert poller.cost() <= 5 * pages + 20
    assert poller.cost() <= 2 * pages + 5
    assert poller.cost() <= 2 * pages + 5


def test_a_small_account_costs_one_request() -> None:
    """Fewer rows than the documented default need no proof."""
    assert Poller(CutApi(spread(9))).cost() == 1


def test_a_second_with_more_rows_than_a_page_is_read_by_campaign() -> None:
    """300 campaigns of one second, cap 50: all are found through the gaps between known identifiers."""
    second = float(NOW - 5 * 86400)
    crowd = [stats(5000 + i, second) for i in range(300)]
    around = [stats(4900 + i, second - 86400 + i) for i in range(40)]
    around += [stats(5300 + i, second + 86400 + i) for i in range(40)]
    poller = Poller(CutApi(crowd + around, cap=50, order="id"))
    collected = poller.poll()
    assert bag(crowd + around) == bag(collected.rows)
    assert not collected.incomplete
    assert poller.cost() <= 2 * math.ceil(380 / 50) + 5


def test_several_dense_seconds_cost_few_questions() -> None:
    """Four seconds of 300 campaigns each, identifiers rising with gaps: all are found, and proven."""
    rng = random.Random(4)
    starts = sorted(
        [*(row.start for row in spread(100)), *[float(NOW - n * 3 * 86400) for n in range(1, 5)] * 300]
    )
    rows, number = [], 10_000
    for start in starts:
        number += rng.randint(1, 3)
        rows.append(stats(number, start))
    poller = Poller(CutApi(rows, cap=50))
    collected = poller.poll()
    assert bag(rows) == bag(collected.rows)
    assert not collected.incomplete
    assert len(poller.api.requests) <= 5 * math.ceil(len(rows) / 50) + 20
    assert poller.cost() <= 2 * math.ceil(len(rows) / 50) + 5


def test_a_search_that_breaks_off_goes_on_later() -> None:
    """Identifiers that were asked for before a failure aren't asked for again the same day."""
    crowd = [stats(5000 + 9 * i, float(NOW - 5 * 86400)) for i in range(100)]
    api = CutApi([*crowd, *spread(50)], cap=20)
    poller = Poller(api)
    broken = 30

    def failing(query: Query) -> Page[MessageStats]:
        if len(api.requests) >= broken:
            raise ServerError("HTTP 500")
        return api(query)

    read = set()
    while True:
        collector = Collector(failing, poller.evidence, poller.map, now=NOW, per_page=500)
        try:
            collector.by_start([WHOLE])
        except ServerError:
            read.update(collector.collected.rows)
            broken += 30
            assert broken < 600
        else:
            break
    assert set(crowd) <= read | set(collector.collected.rows)


def test_a_campaign_with_more_messages_than_a_page_is_flagged() -> None:
    """30 messages of one campaign, cap 25: no question can tell them apart, so the result is incomplete."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(30)] + spread(60)
    collected = Poller(CutApi(rows, cap=25)).poll()
    assert collected.incomplete
    assert {(7, "email", float(NOW - 999))} == collected.partial
    assert 25 == sum(row.campaign_id == 7 for row in collected.rows)


def test_a_wider_question_proves_a_crowded_second() -> None:
    """20 rows of one campaign in one second are complete once the server returned more to another question."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(20)] + spread(60)
    collected = Poller(CutApi(rows)).poll()
    assert not collected.incomplete
    assert bag(rows) == bag(collected.rows)


def test_rows_before_the_window_can_prove_a_crowded_second() -> None:
    """If the window holds nothing more, the past is asked whether the server returns more rows."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(20)]
    past = [stats(100 + i, float(NOW - WINDOW - 86400 * i)) for i in range(1, 40)]
    collected = Poller(CutApi(rows + past)).poll()
    assert not collected.incomplete


def test_a_crowd_of_strangers_stays_flagged() -> None:
    """A campaign whose identifier lies far beyond all known ones can hide: the result must not claim it all."""
    rows = [stats(i, float(NOW - 999)) for i in range(1, 11)] + [stats(99_999, float(NOW - 999))]
    collected = Poller(CutApi(rows, cap=10, order="id")).poll()
    assert collected.incomplete


def test_other_endpoints_answers_are_the_last_resort() -> None:
    """12 rows of one campaign are all the resource has: the account's other resource vouches for the cap."""
    api = CutApi([stats(7, float(NOW - 999), f"m{i}") for i in range(12)])
    alone = Collector(api, Evidence(), RowMap(), now=NOW, per_page=500)
    alone.by_start([WHOLE])
    assert alone.collected.incomplete
    vouched = Collector(api, Evidence(), RowMap(), now=NOW, per_page=500, shared_most=lambda: 40)
    vouched.by_start([WHOLE])
    assert not vouched.collected.incomplete


def test_a_small_per_page_is_raised_where_one_second_needs_it() -> None:
    """With perPage 10 and no cap, 45 rows in one second are read with larger pages."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(45)] + spread(60)
    poller = Poller(CutApi(rows), per_page=10)
    collected = poller.poll()
    assert bag(rows) == bag(collected.rows)
    assert not collected.incomplete


def test_a_server_that_refuses_a_larger_per_page_is_no_failure() -> None:
    """A 4xx to a larger perPage leaves the result incomplete, and the poll succeeds."""
    api = CutApi([stats(7, float(NOW - 999), f"m{i}") for i in range(45)])

    def strict(query: Query) -> Page[MessageStats]:
        if query.per_page > 10:
            raise ClientError("HTTP 422")
        return api(query)

    collector = Collector(strict, Evidence(), RowMap(), now=NOW, per_page=10)
    collector.by_start([WHOLE])
    assert collector.collected.incomplete


def test_a_lowered_cap_is_noticed() -> None:
    """A server that suddenly cuts at 50 is caught by the rows that it no longer returns."""
    poller = Poller(CutApi(spread(300)))
    assert not poller.poll().incomplete
    poller.api.cap = 50
    assert bag(poller.api.rows) == bag(poller.poll().rows)


def test_a_vanished_row_is_no_lowered_cap() -> None:
    """One row less than before costs a closer look, once."""
    poller = Poller(CutApi(spread(300)))
    poller.poll()
    usual = poller.cost()
    del poller.api.rows[150]
    assert poller.cost() <= usual + 5
    assert usual >= poller.cost()


def test_what_is_known_of_the_cap_expires_daily() -> None:
    """After a day the cap is unknown again, and a lowered one can't hide."""
    poller = Poller(CutApi(spread(300)))
    poller.poll()
    assert 300 == poller.evidence.most
    poller.api.cap, poller.map = 20, RowMap()
    poller.now += LIFETIME
    assert bag(poller.api.rows) == bag(poller.poll().rows)
    assert "20" == poller.evidence.cap(500)


def test_several_threads_read_the_same() -> None:
    """With concurrency the rows are the same, and all failures are waited for."""
    poller = Poller(CutApi(spread(500), cap=25), concurrency=4)
    assert bag(poller.api.rows) == bag(poller.poll().rows)
    assert bag(poller.api.rows) == bag(poller.poll().rows)


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_failure_keeps_what_was_proven(concurrency: int) -> None:
    """After a failed request the completed ranges stand, and only the rest has to be asked again."""
    api = CutApi(spread(400), cap=20)
    evidence, rows = Evidence(), RowMap()
    broken = 15

    def failing(query: Query) -> Page[MessageStats]:
        if len(api.requests) >= broken:
            raise ServerError("HTTP 500")
        return api(query)

    collector = Collector(failing, evidence, rows, now=NOW, per_page=500, concurrency=concurrency)
    with pytest.raises(ServerError):
        collector.by_start([WHOLE])
    part = collector.collected
    assert part.ranges
    inside = [row for row in api.rows if any(row.start in done for done in part.ranges)]
    assert not bag(inside) - bag(part.rows)


def test_campaigns_are_read_by_identifier_in_few_questions() -> None:
    """Known campaigns come back whole, packed as the cap allows."""
    api = CutApi(spread(200), cap=50)
    poller = Poller(api)
    poller.poll()
    before = len(api.requests)
    collector = poller.collector()
    wanted = [row.campaign_id for row in api.rows[:90]]
    collector.by_ids(wanted)
    assert set(wanted) == collector.collected.ids
    assert bag(api.rows[:90]) == bag(collector.collected.rows)
    assert len(api.requests) - before <= 3


OLD = [stats(10 + i, float(NOW - 100 * 86400 - i * 3600)) for i in range(30)]
DAY = TimeRange(NOW - 86400, NOW)
BEFORE = WHOLE.first


def sending(api: CutApi, ids: range) -> CutApi:
    """Let campaigns send every hour of the last day."""
    api.sent = dict.fromkeys(ids, range(NOW - 86400, NOW, 3600))
    return api


@pytest.mark.parametrize("combine", ["and", "send", "start"])
@pytest.mark.parametrize("cap", [None, 10, 25])
def test_campaigns_that_still_send_are_discovered(cap: int | None, combine: str) -> None:
    """Old campaigns with recent sends are found, however filters combine, or the result is flagged."""
    api = sending(CutApi(OLD + spread(50), cap=cap, combine=combine), range(10, 16))
    for row in spread(50):
        api.sent[row.campaign_id] = [NOW - 3600]
    collector = Poller(api).collector()
    found = collector.senders(DAY, BEFORE)
    assert found is not None
    if not collector.collected.incomplete:
        assert set(range(10, 16)) == found
    assert found <= set(range(10, 16))
    if combine == "and":
        assert not collector.collected.incomplete


def test_an_ignored_send_filter_discovers_nothing() -> None:
    """A server that answers with rows for a moment without sends can't tell who still sends."""
    api = CutApi(OLD, send_filter=False)
    assert Poller(api).collector().senders(DAY, BEFORE) is None


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from((0.0, 0.5)), st.integers(1, 3)), max_size=30))
@example([(3, 0.0, 2), (3, 0.5, 1)])
def test_row_map_counts_what_it_was_given(entries: list[tuple[int, float, int]]) -> None:
    """The map's counts by range are those of the rows that it holds, also after a part was replaced."""
    rows = [stats(i, second + part) for i, (second, part, count) in enumerate(entries) for _ in range(count)]
    held = RowMap()
    held.add(rows)
    held.add(rows)
    assert len(rows) == held.rows(TimeRange(0, 100))
    held.replace(TimeRange(0, 10), [row for row in rows if row.start < 5])
    expected = [row for row in rows if row.start < 5 or row.start >= 11]
    assert len(expected) == held.rows(TimeRange(0, 100))
    assert Counter(row.campaign_id for row in expected) == held.ids
    held.forget_before(20, keep={rows[-1].campaign_id} if rows else ())
    kept = [row for row in expected if row.start >= 20 or row.campaign_id == rows[-1].campaign_id]
    assert sorted(row.start for row in kept) == held.starts(TimeRange(0, 100))


@pytest.mark.parametrize("gap", [10**5, 10**11])
def test_a_search_among_sparse_identifiers_is_given_up(gap: int) -> None:
    """Where identifiers are far apart, gaps aren't asked for; the second is flagged, what came is there."""
    crowd = [stats(10**6 + i * gap, NOW - 5 * 86400.0) for i in range(12)]
    others = [stats(i, NOW - 6 * 86400.0 + i * 600) for i in range(1, 41)]
    poller = Poller(CutApi([*crowd, *others], cap=10))
    found = poller.poll()
    assert found.incomplete
    assert 10 <= len(set(crowd) & set(found.rows))
    assert bag(others) == bag(row for row in found.rows if row.campaign_id < 10**6)
    assert len(poller.api.requests) < 150


@pytest.mark.parametrize("error", [ClientError("HTTP 400"), ServerError("HTTP 500")])
def test_a_question_for_proof_may_fail(error: Exception) -> None:
    """Where wide questions that could prove a second are refused, rows are flagged; the poll succeeds."""
    crowd = [stats(100, NOW - 5 * 86400.0, title=str(i)) for i in range(12)]
    api = CutApi(crowd, cap=None)

    def refusing(query: Query) -> Page[MessageStats]:
        if query.start_from is not None and query.start_from < WHOLE.first - 60:
            raise error
        return api(query)

    collector = Collector(refusing, Evidence(), RowMap(), now=NOW, per_page=500)
    collector.by_start([WHOLE])
    assert collector.collected.incomplete
    assert bag(crowd) == bag(collector.collected.rows)


def test_a_header_that_counts_the_page_is_not_believed() -> None:
    """A total-count header that only repeats the size of the page proves nothing."""
    rows = spread(45)
    api = CutApi(rows, cap=10)

    def lying(query: Query) -> Page[MessageStats]:
        page = api(query)
        return replace(page, total=page.size)

    collector = Collector(lying, Evidence(), RowMap(), now=NOW, per_page=500)
    collector.by_start([WHOLE])
    assert bag(rows) == bag(collector.collected.rows)
    assert not collector.collected.incomplete
