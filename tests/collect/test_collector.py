"""Complete or flagged: what `Collector` promises under every reading of the API."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from exporter.api.model import Page, Query, TimeRange
from exporter.collect.asking import DAY
from exporter.collect.collector import Collector
from exporter.collect.page_cap import Kind, Sizes
from exporter.collect.poisoned import GRAIN
from exporter.collect.refresh_plan import Rounds, Tier
from exporter.errors import (
    AuthError,
    ConnectionFailedError,
    DeadlineError,
    PollError,
    RequestTimeoutError,
    ServerError,
)
from tests._cutapi import CutApi, refused, stats
from tests.collect import worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from exporter.api.model import MessageStats
    from exporter.collect.collector import Poll
    from exporter.collect.model import Collected

NOW = 1_763_000_000
WINDOW = 14 * DAY
WHOLE = TimeRange(NOW - WINDOW, NOW)
INTERVAL = 300
ORDERS = ("start", "start_desc", "id", "shuffled")
ONCE_WRONG = (
    112,
    610,
    646,
    860,
    1222,
    1250,
    1310,
    1684,
    1829,
    2042,
    2537,
    3487,
    3517,
    3616,
    11453,
    13983,
    12273,
    13112,
    13195,
    21937,
)
"""Servers that were once short without a word, never ended, or were flagged for nothing."""
PAST = [stats(900_000 + i, NOW - WINDOW - 3600.0 * (i + 1)) for i in range(600)]


class Poller:
    """Polls a `CutApi` again and again, as the exporter does."""

    def __init__(self, api: CutApi, *, per_page: int = 500, concurrency: int = 1, pages: bool = False) -> None:
        self.api, self.per_page, self.concurrency, self.pages = api, per_page, concurrency, pages
        self.now, self.polls = float(NOW), 0
        self.collector = self.start(None)

    def start(self, saved: dict[str, object] | None) -> Collector[MessageStats]:
        """Start the exporter, with what was saved."""
        self.collector = Collector(
            per_page=self.per_page,
            concurrency=self.concurrency,
            pages=self.pages,
            rounds=Rounds([Tier(WINDOW, INTERVAL)], WINDOW, INTERVAL),
            saved=saved,
        )
        return self.collector

    def begin(self, ask: Callable[[Query], Page[MessageStats]] | None = None) -> Poll[MessageStats]:
        """Begin the next poll."""
        self.polls += 1
        return self.collector.poll(ask or self.api, now=self.now, clock=float(self.polls * INTERVAL))

    def window(self) -> Collected[MessageStats]:
        """Read the whole window."""
        return self.begin().window()

    def round(self) -> Counter[object]:
        """Poll until everything that was due has been read; return all rows."""
        found = bag(self.window().rows)
        for _ in range(20):
            if not self.collector.rounds.unfinished:
                return found
            found |= bag(self.window().rows)
        raise AssertionError("the round never ended")

    def by_ids(self, ids: Collection[int]) -> set[int]:
        """Read campaigns by their identifiers in up to five polls; return those that were read."""
        found: set[int] = set()
        for _ in range(5):
            self.now += INTERVAL
            read = self.begin().by_ids(ids)
            assert read.failure is None
            found |= read.ids
        return found

    def cost(self) -> int:
        """Return how many requests one poll puts."""
        before = len(self.api.requests)
        self.window()
        return len(self.api.requests) - before


def spread(count: int, *, seed: int = 1) -> list[MessageStats]:
    """Return rows that start at random moments of the window."""
    rng = random.Random(seed)
    return [stats(1000 + i, float(rng.randint(WHOLE.first + 60, WHOLE.last - 60))) for i in range(count)]


def bag(rows: object) -> Counter[object]:
    """Return rows as a multiset."""
    return Counter((row.group, row.title) for row in rows)


# Whatever the server is


@pytest.mark.parametrize("seed", [*range(40), *ONCE_WRONG])
def test_nothing_is_short_without_a_word(seed: int) -> None:
    """A server drawn from all readings and limits: every row is there, or it is flagged; and it ends."""
    outcome = worlds.run(seed)
    assert (0, 0) == (outcome.silent, outcome.endless), outcome.worst


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_changes_between_two_requests_never_count_twice(seed: int, every: int) -> None:
    """Renames in the middle of a poll: no group comes back with more rows than it has."""
    api, rng, _ = worlds.draw(seed)

    def rename() -> None:
        if api.rows and len(api.requests) % every == 0:
            index = rng.randrange(len(api.rows))
            api.rows[index] = replace(api.rows[index], title=f"renamed {len(api.requests)}")

    api.between = rename
    found = Counter(row.group for row in Poller(api).window().rows)
    assert not found - Counter(row.group for row in api.rows)


# Costs


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("cap", [10, 50, 500])
def test_requests_stay_within_their_bounds(cap: int, order: str) -> None:
    """1,000 rows: at most 5·ceil(n/c)+30 requests with nothing known, then at most 2·ceil(n/c)+10."""
    poller = Poller(CutApi([*spread(1000), *PAST], cap=cap, order=order))
    pages = math.ceil(1000 / cap)
    assert poller.cost() <= 5 * pages + 30
    assert not poller.collector.rounds.unfinished
    assert poller.cost() <= 2 * pages + 10
    assert poller.cost() <= 1.2 * pages + 2


def test_sixty_campaigns_at_ten_each_day_cost_little() -> None:
    """More starts in one second than an answer has: within the bounds, everything found, flagged."""
    rows = [
        stats(1000 + 100 * day + i, float((NOW // DAY - day) * DAY + 36000))
        for day in range(1, 14)
        for i in range(60)
    ]
    poller = Poller(CutApi([*rows, *PAST], cap=50, order="id"))
    pages = math.ceil(len(rows) / 50)
    assert poller.cost() <= 5 * pages + 30
    before = len(poller.api.requests)
    assert bag(rows) <= bag(poller.window().rows)
    assert len(poller.api.requests) - before <= 2 * pages + 10
    assert poller.collector.incomplete


@pytest.mark.parametrize("cap", [10, 50, 500])
def test_empty_answers_cost_no_more_than_full_ones(cap: int) -> None:
    """A server that answers with nothing, status 200: within the bounds, flagged, and everything comes back."""
    poller = Poller(CutApi([*spread(1000), *PAST], cap=cap))
    poller.round()

    def empty(query: Query) -> Page[MessageStats]:
        return replace(poller.api(query), rows=(), size=0)

    for _ in range(6):
        poll = poller.begin(empty)
        assert not poll.window().rows
        assert poll.requests <= 2 * math.ceil(1000 / cap) + 10
        assert poller.collector.incomplete or poller.collector.rounds.unfinished
    poller.round()
    assert bag(spread(1000)) <= poller.round()
    assert not poller.collector.incomplete


@pytest.mark.parametrize("kind", ["by ids", "moved"])
def test_every_campaign_has_its_turn_where_one_poll_can_t_read_all(kind: str) -> None:
    """A server that takes one identifier: each poll keeps to its bounds, and some polls read all of them."""
    poller = Poller(CutApi(spread(200), cap=50, most_ids=1, now=NOW))
    poller.round()
    ids = [row.campaign_id for row in poller.api.rows]
    found: set[int] = set()
    for _ in range(20):
        poller.now += 1
        poll = poller.begin()
        read = poll.by_ids(ids) if kind == "by ids" else poll.moved(set(ids) - found, {float(NOW - 9)})
        assert read.failure is None
        assert poll.requests <= 2 * math.ceil(200 / 50) + 10
        found |= read.ids
        if found == set(ids):
            break
        assert read.incomplete
    assert found == set(ids)


def test_many_pages_are_read_in_one_poll() -> None:
    """A server with pages of 10: each page that comes allows for more, also where nothing was known."""
    poller = Poller(CutApi([*spread(1000), *PAST], cap=10, paged=True, order="id"), pages=True)
    assert poller.cost() <= 5 * 100 + 30
    assert not poller.collector.rounds.unfinished
    assert poller.cost() <= 2 * 100 + 10
    assert not poller.collector.rounds.unfinished


def test_a_search_for_senders_goes_on_with_the_next_poll() -> None:
    """It never costs more than the poll may; some polls later all are found and nothing is flagged."""
    old = [stats(10 + i, float(NOW - 100 * DAY - i * 3600)) for i in range(70)]
    api = CutApi(old + spread(20), cap=10, now=NOW)
    api.sent = {row.campaign_id: [NOW - 60 * (index % 600)] for index, row in enumerate(old)}
    poller = Poller(api)
    poller.round()
    for _ in range(30):
        poll = poller.begin()
        senders = poll.senders(TimeRange(NOW - DAY, NOW), WHOLE.first)
        assert poll.requests <= 5 * math.ceil(90 / 10) + 30
        if not senders.goes_on:
            break
        assert senders.unseen
        assert poller.collector.incomplete
    assert (frozenset(row.campaign_id for row in old), "") == (senders.ids, senders.unseen)


def test_a_small_account_costs_one_request() -> None:
    """Fewer rows than the documented default need no proof."""
    poller = Poller(CutApi(spread(9)))
    poller.window()
    assert 1 == poller.cost()


def test_a_small_account_with_a_dense_campaign_costs_little() -> None:
    """One campaign of 12 messages, and nothing else ever: flagged, for a few requests a poll."""
    poller = Poller(CutApi([stats(7, float(NOW - 999), f"m{i}") for i in range(12)]))
    assert poller.cost() <= 40
    assert poller.cost() <= 12
    assert poller.collector.incomplete


# Proof


def test_the_past_proves_a_dense_campaign() -> None:
    """20 rows of one campaign in one second are complete once the server returned more to a wider request."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(20)]
    poller = Poller(CutApi(rows + PAST))
    assert bag(rows) == bag(row for row in poller.window().rows if row.start > WHOLE.first)
    assert not poller.collector.incomplete


@pytest.mark.parametrize("unit", ["campaigns", "pairs"])
def test_pages_of_campaigns_are_complete(unit: str) -> None:
    """Where perPage counts campaigns, an answer of many rows may still be cut."""
    rng = random.Random(3)
    rows = [
        stats(number, float(rng.randint(WHOLE.first + 60, NOW - 60)), f"m{i}")
        for number in range(1, 201)
        for i in range(rng.choice((1, 2, 5)))
    ]
    poller = Poller(CutApi(rows + PAST, cap=50, unit=unit))
    assert bag(rows) <= bag(poller.window().rows)
    assert not poller.collector.incomplete


def test_a_believed_total_proves_a_dense_second() -> None:
    """60 rows of one second at a cap of 50: the header says that the rows found by id are all."""
    rows = [stats(5000 + i, float(NOW - 5 * DAY)) for i in range(60)]
    poller = Poller(CutApi([*rows, *spread(80), *PAST], cap=50, total="true", order="id"))
    assert bag(rows) <= bag(poller.window().rows)
    assert not poller.collector.incomplete


@pytest.mark.parametrize("total", ["all", "zero", "page"])
def test_a_header_that_counts_something_else_is_not_believed(total: str) -> None:
    """A total-count header that lies proves nothing, and hides nothing."""
    poller = Poller(CutApi([*spread(45), *PAST], cap=10, total=total))
    assert bag(spread(45)) <= bag(poller.window().rows)
    assert not poller.collector.incomplete


def test_a_small_per_page_is_raised_where_one_second_needs_it() -> None:
    """With perPage 10 and no cap, 45 rows in one second are read with a larger page."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(45)]
    poller = Poller(CutApi(rows + spread(60) + PAST), per_page=10)
    assert bag(rows) <= bag(poller.window().rows)


def test_a_lowered_cap_is_noticed() -> None:
    """A server that suddenly cuts at 50 is caught by the rows that it no longer returns."""
    poller = Poller(CutApi(spread(300)))
    poller.window()
    poller.api.cap = 50
    found = poller.round()
    assert bag(poller.api.rows) == found or poller.collector.incomplete


@pytest.mark.parametrize("cap", [10, 50])
def test_a_much_lowered_cap_does_not_hold_up_the_reading(cap: int) -> None:
    """Many rows that an answer lacks aren't all asked for by id, which would take all that a poll may spend."""
    poller = Poller(CutApi([*spread(1000), *PAST]))
    poller.round()
    poller.api.cap = cap
    found: Counter[object] = Counter()
    for _ in range(15):
        found |= bag(poller.window().rows)
    assert bag(spread(1000)) <= found


def test_a_vanished_row_costs_a_closer_look_once() -> None:
    """A row that neither start nor id finds any more is gone."""
    poller = Poller(CutApi([*spread(300), *PAST]))
    poller.window()
    usual = poller.cost()
    del poller.api.rows[150]
    assert poller.cost() <= usual + 4
    assert not poller.collector.incomplete
    assert usual == poller.cost()


def test_an_empty_answer_is_asked_again() -> None:
    """Known rows that an answer lacks are asked for once more before they are believed gone."""
    poller = Poller(CutApi(spread(8)))
    poller.window()

    def empty_once(query: Query) -> Page[MessageStats]:
        page = poller.api(query)
        return replace(page, rows=(), size=0) if len(poller.api.requests) == asked + 1 else page

    asked = len(poller.api.requests)
    assert bag(poller.api.rows) == bag(poller.begin(empty_once).window().rows)
    assert not poller.collector.incomplete


def test_a_small_campaign_that_loses_a_row_changes_no_cap() -> None:
    """12 messages become 11: by start and by id alike, so that nothing is doubted."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(12)]
    poller = Poller(CutApi(rows + spread(60) + PAST))
    poller.window()
    before = poller.collector.limits.largest[Kind.START]
    del poller.api.rows[0]
    poller.window()
    assert (before, ()) == (poller.collector.limits.largest[Kind.START], poller.collector.incomplete)


@pytest.mark.parametrize("unit", ["rows", "campaigns"])
def test_a_page_parameter_replaces_the_splitting(unit: str) -> None:
    """Where the server pages, a dense second and all else is read in as many requests as it has pages."""
    dense = [stats(5000 + i, float(NOW - 5 * DAY)) for i in range(60)]
    rows = [*dense, *spread(140)]
    poller = Poller(CutApi([*rows, *PAST], cap=20, unit=unit, paged=True, order="id"), pages=True)
    assert bag(rows) == bag(row for row in poller.window().rows if row.start > WHOLE.first)
    assert not poller.collector.incomplete
    assert poller.cost() <= 12


def test_an_ignored_page_parameter_changes_nothing() -> None:
    """A server that knows no page parameter is read by splitting, as ever."""
    poller = Poller(CutApi([*spread(100), *PAST], cap=20), pages=True)
    assert bag(spread(100)) <= bag(poller.window().rows)
    assert (False, ()) == (poller.collector.limits.pages, poller.collector.incomplete)


def test_pages_whose_order_changes_are_not_trusted() -> None:
    """A row that stands on two pages says so: the range is split."""
    poller = Poller(CutApi([*spread(100), *PAST], cap=20, paged=True, order="shuffled"), pages=True)
    assert bag(spread(100)) <= bag(poller.window().rows)
    assert not poller.collector.incomplete


# Filters


@pytest.mark.parametrize("zone", [0, 7200, -18000, 20700])
def test_the_zone_of_the_filters_is_learned(zone: int) -> None:
    """Filters in local time: every row is found, and the zone is remembered."""
    poller = Poller(CutApi([*spread(100), *PAST], cap=20, zone=zone))
    assert bag(spread(100)) <= bag(poller.window().rows)
    assert (zone, ()) == (poller.collector.limits.zone, poller.collector.incomplete)


@pytest.mark.parametrize("means", ["midnight", "end"])
def test_a_start_to_that_means_something_else_is_reported(means: str) -> None:
    """Where startTo is cut to midnight, or is compared with the end of the campaign, the result is flagged."""
    api = CutApi([*spread(100), *PAST], cap=20, to_means=means)
    api.stops = {row.campaign_id: row.start + 3600 for row in api.rows}
    poller = Poller(api)
    poller.window()
    assert "start filters don't select what starts then" in poller.collector.incomplete


@pytest.mark.parametrize("taken", [1, 5])
def test_ids_that_are_not_heeded_are_asked_again(taken: int) -> None:
    """A server that takes only some of many identifiers: all campaigns are read all the same."""
    poller = Poller(CutApi(spread(40), ids_taken=taken))
    poller.window()
    ids = {row.campaign_id for row in spread(40)}
    assert ids == poller.by_ids(ids)


def test_an_id_that_is_not_found_but_starts_is_flagged() -> None:
    """The answer by start contradicts the one by id."""
    poller = Poller(CutApi(spread(40), ids_filter=True))
    poller.window()
    poller.api.ids_taken = 0
    read = poller.begin().by_ids({1000})
    assert (frozenset(), True) == (read.ids, read.incomplete)
    assert poller.collector.incomplete


# What a server takes


@pytest.mark.parametrize(
    "limits",
    [
        {"most_per_page": 100},
        {"most_per_page": 10},
        {"most_seconds": 7 * DAY},
        {"most_seconds": DAY},
        {"slowest": 3 * DAY},
        {"future": False},
        {"future": False, "zone": -18000},
        {"most_per_page": 50, "most_seconds": 2 * DAY, "future": False, "most_ids": 1},
    ],
    ids=str,
)
def test_refused_requests_become_smaller(limits: dict[str, int]) -> None:
    """Whatever a server refuses: everything is read, and later polls don't try in vain."""
    poller = Poller(CutApi([*spread(60), *PAST], now=NOW, **limits))
    found = poller.window()
    while poller.collector.rounds.unfinished:
        found = replace(found, rows=found.rows + poller.window().rows)
    assert bag(spread(60)) <= bag(found.rows)
    assert not poller.collector.incomplete
    errors = poller.api.errors
    poller.window()
    assert errors == poller.api.errors


BREAKS = [
    ServerError("HTTP 500", status=500),
    ConnectionFailedError("the connection was closed before the answer was complete"),
    RequestTimeoutError("no answer"),
]
POISONED = ((30,), (20, 21), (5, 25, 35, 45, 59))


@pytest.mark.parametrize("breaks", BREAKS, ids=str)
@pytest.mark.parametrize("poisoned", POISONED, ids=str)
@pytest.mark.parametrize("pages", [False, True], ids=["plain", "paged"])
def test_campaigns_that_break_every_answer_take_no_other_down(
    breaks: PollError,
    poisoned: tuple[int, ...],
    pages: bool,  # noqa: FBT001
) -> None:
    """What can't be read even alone is left out and told; all else is read, and soon no request fails."""
    rows = sorted(spread(60), key=lambda row: row.start)
    broken = {rows[index].campaign_id for index in poisoned}
    others = [row for row in rows if all(abs(row.start - rows[index].start) > 2 * GRAIN for index in poisoned)]
    api = CutApi([*rows, *PAST], cap=20 if pages else None, now=NOW, broken=broken, breaks=breaks, paged=pages)
    poller = Poller(api, pages=pages)
    found: Counter[object] = Counter()
    for _ in range(20 * len(poisoned)):
        found |= bag(poller.window().rows)
        poller.now += 1
    assert bag(others) <= found
    assert "of them fails" in poller.collector.incomplete[0]
    for restart in (False, True):
        if restart:
            poller.start(json.loads(json.dumps(poller.collector.save())))
        errors = poller.api.errors
        window = poller.window()
        assert (None, errors) == (window.failure, poller.api.errors)
        assert bag(others) <= bag(window.rows)


def test_what_was_left_out_is_asked_for_again_once_a_day() -> None:
    """A campaign that no longer breaks answers is back within a day, and nothing is flagged."""
    rows = spread(60)
    poller = Poller(CutApi([*rows, *PAST], now=NOW, broken=[rows[30].campaign_id], breaks=BREAKS[1]))
    for _ in range(20):
        poller.window()
        poller.now += 1
    assert poller.collector.incomplete
    poller.api.broken = ()
    poller.now = poller.api.now = later = NOW + DAY + 60
    assert bag(row for row in rows if row.start > later - WINDOW) <= poller.round()
    assert () == poller.collector.incomplete


def test_a_server_that_fails_for_a_while_has_no_poisoned_campaigns() -> None:
    """Nothing is left out for a day because everything failed for some polls."""
    poller = Poller(CutApi([*spread(60), *PAST], now=NOW))
    poller.window()
    for error in (ConnectionFailedError("no"), ServerError("HTTP 502", status=502)):

        def failing(_: Query, error: PollError = error) -> Page[MessageStats]:
            raise error

        for _ in range(3):
            poll = poller.begin(failing)
            assert error is poll.window().failure
            assert error is poll.by_ids(range(1000, 1010)).failure
            assert poll.requests <= 12
    assert [] == poller.collector.poisoned.save()
    assert set(range(1000, 1010)) == poller.by_ids(range(1000, 1010))
    assert bag(spread(60)) <= poller.round()
    assert () == poller.collector.incomplete


def test_what_was_refused_is_remembered_and_tried_again_daily() -> None:
    """A restart asks for no more than was accepted; a day later more is asked for again."""
    poller = Poller(CutApi([*spread(60), *PAST], most_seconds=2 * DAY, most_per_page=100, now=NOW))
    poller.window()
    poller.start(json.loads(json.dumps(poller.collector.save())))
    errors = poller.api.errors
    poller.window()
    assert errors == poller.api.errors
    poller.api.most_seconds = poller.api.most_per_page = None
    poller.now += DAY
    poller.api.now = poller.now
    for _ in range(3):
        poller.window()
    assert poller.collector.limits.longest is None or poller.collector.limits.longest > 2 * DAY
    assert 500 == max(query.per_page for query in poller.api.requests[-4:])


@pytest.mark.parametrize("breaks", BREAKS, ids=str)
def test_refused_ids_are_no_failure(breaks: PollError) -> None:
    """Campaigns that the server can't answer for are flagged and left out; the others are read."""
    broken = {1003, 1004, 1005, 1039}
    api = CutApi(spread(40), now=NOW, breaks=breaks)
    poller = Poller(api)
    poller.window()
    api.broken = broken
    assert set(range(1000, 1040)) - broken == poller.by_ids(range(1000, 1040))
    assert poller.collector.incomplete
    errors = api.errors
    poll = poller.begin()
    assert set(range(1000, 1040)) - broken == poll.by_ids(range(1000, 1040)).ids
    assert errors == api.errors
    assert poll.requests <= 4


def test_ids_that_never_answer_don_t_fail_the_window() -> None:
    """Dense seconds whose campaigns can't be read by their identifiers are flagged; the rest is read."""
    rows = [*spread(100), *(stats(5000 + i, float(NOW - 5 * DAY)) for i in range(60))]
    api = CutApi([*rows, *PAST], cap=50, now=NOW)

    def failing(query: Query) -> Page[MessageStats]:
        if query.campaign_ids:
            raise ConnectionFailedError("no")
        return api(query)

    poller = Poller(api)
    for _ in range(3):
        window = poller.begin(failing).window()
        assert window.failure is None
    assert bag(spread(100)) <= bag(window.rows)
    assert poller.collector.incomplete


@pytest.mark.parametrize("error", [AuthError("no"), refused(404)])
def test_other_failures_end_a_job_at_once(error: Exception) -> None:
    """No smaller request helps against them; what was read until then stands."""
    api = CutApi(spread(100), cap=20)

    def failing(query: Query) -> Page[MessageStats]:
        if len(api.requests) == 8:
            raise error
        return api(query)

    window = Poller(api).begin(failing).window()
    assert error is window.failure
    assert 8 == len(api.requests)
    assert window.rows


def test_a_server_that_never_answers_is_the_reason_and_not_the_deadline() -> None:
    """Where the time was up after refusals alone, the first of them is told; else that the time was up."""
    errors: list[PollError] = [RequestTimeoutError("no answer"), DeadlineError("time is up")]

    def failing(_: Query) -> Page[MessageStats]:
        raise errors.pop(0)

    poller = Poller(CutApi(spread(3), now=NOW, deadline=0))
    assert isinstance(poller.begin(failing).window().failure, RequestTimeoutError)
    assert isinstance(poller.window().failure, DeadlineError)


def test_a_job_that_fails_takes_no_other_down() -> None:
    """Requests by send are refused: the window is read, and the search says why it ended."""
    api = CutApi(spread(40))

    def failing(query: Query) -> Page[MessageStats]:
        if query.send_from is not None:
            raise ConnectionFailedError("no")
        return api(query)

    poll = Poller(api).begin(failing)
    assert isinstance(poll.senders(TimeRange(NOW - DAY, NOW), WHOLE.first).failure, ConnectionFailedError)
    assert bag(spread(40)) == bag(poll.window().rows)
    assert poll.collected.failure is None


# Deadlines


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("deadline", [12, 20])
def test_work_counts_over_every_deadline(deadline: int, restart: bool) -> None:  # noqa: FBT001
    """Dense seconds and a deadline of a few requests: each poll goes on, also after a restart, and it ends."""
    rows = [stats(1000 + 40 * day + i, float(NOW - day * DAY - 7)) for day in range(1, 10) for i in range(30)]
    poller = Poller(CutApi(rows + PAST, cap=20))
    found: set[object] = set()
    for _ in range(60):
        poller.api.deadline = deadline
        window = poller.window()
        assert window.failure is None or isinstance(window.failure, DeadlineError)
        found |= {row.group for row in window.rows}
        if not poller.collector.rounds.unfinished:
            break
        if restart:
            poller.start(json.loads(json.dumps(poller.collector.save())))
    assert not poller.collector.rounds.unfinished
    assert len({row.group for row in rows} - found) < 20


def test_several_threads_read_the_same() -> None:
    """With concurrency the rows are the same, and all failures are waited for."""
    poller = Poller(CutApi([*spread(500), *PAST], cap=25), concurrency=4)
    assert bag(spread(500)) <= bag(poller.window().rows)
    assert bag(spread(500)) <= bag(poller.window().rows)


# Identifiers and sends


def test_campaigns_are_read_by_identifier_in_few_requests() -> None:
    """Known campaigns come back whole, packed as the cap allows."""
    poller = Poller(CutApi(spread(200), cap=50))
    poller.window()
    before = len(poller.api.requests)
    wanted = [row.campaign_id for row in poller.api.rows[:90]]
    read = poller.begin().by_ids(wanted)
    assert set(wanted) == read.ids
    assert bag(poller.api.rows[:90]) == bag(read.rows)
    assert len(poller.api.requests) - before <= 5


def test_a_campaign_with_more_messages_than_a_page_is_flagged() -> None:
    """30 messages of one campaign, cap 25: no request can tell them apart."""
    rows = [stats(7, float(NOW - 999), f"m{i}") for i in range(30)] + spread(60)
    window = Poller(CutApi(rows + PAST, cap=25)).window()
    assert window.incomplete
    assert {(7, "email", float(NOW - 999))} == window.partial
    assert 25 == sum(row.campaign_id == 7 for row in window.rows)


OLD = [stats(10 + i, float(NOW - 100 * DAY - i * 3600)) for i in range(30)]


@pytest.mark.parametrize("combine", ["and", "send", "start"])
@pytest.mark.parametrize("cap", [None, 10, 25])
def test_campaigns_that_still_send_are_discovered(cap: int | None, combine: str) -> None:
    """Old campaigns with recent sends are found, however filters combine, or the search says what it lacks."""
    api = CutApi(OLD + spread(50), cap=cap, combine=combine)
    api.sent = dict.fromkeys(range(10, 16), range(NOW - DAY, NOW, 3600)) | {
        row.campaign_id: [NOW - 3600] for row in spread(50)
    }
    poller = Poller(api)
    poll = poller.begin()
    poll.window()
    senders = poll.senders(TimeRange(NOW - DAY, NOW), WHOLE.first)
    assert senders.ids <= set(range(10, 16))
    assert senders.unseen or set(range(10, 16)) == senders.ids
    assert combine != "and" or not senders.unseen


def test_an_ignored_send_filter_discovers_nothing() -> None:
    """A server that answers with rows for a moment without sends can't tell who still sends."""
    senders = Poller(CutApi(OLD, send_filter=False)).begin().senders(TimeRange(NOW - DAY, NOW), WHOLE.first)
    assert (True, frozenset()) == (senders.ignored, senders.ids)


def test_a_row_found_by_send_but_not_by_start_is_reported() -> None:
    """The answers of one kind are compared with those of another, which costs nothing."""
    api = CutApi(spread(5))
    api.sent = {row.campaign_id: [NOW - 3600] for row in api.rows}

    def hiding(query: Query) -> Page[MessageStats]:
        page = api(query)
        rows = tuple(row for row in page.rows if query.start_from is None or row.campaign_id != 1002)
        return replace(page, rows=rows, size=len(rows))

    poller = Poller(api)
    poll = poller.begin(hiding)
    poll.window()
    assert not poller.collector.incomplete
    poll.senders(TimeRange(NOW - DAY, NOW), WHOLE.first)
    assert poller.collector.incomplete


def test_what_is_learned_outlives_a_restart() -> None:
    """The page cap, the zone and the bounds are saved by name; what nobody knows is left out."""
    poller = Poller(CutApi([*spread(100), *PAST], cap=20, zone=7200))
    poller.window()
    saved = json.loads(json.dumps(poller.collector.save() | {"later": 1, "ids": "many"}))
    limits = poller.start(saved).limits
    assert (7200, 20, 100) == (limits.zone, limits.largest[Kind.START].rows, limits.ids)
    assert Sizes(20, 20, 20) == limits.largest[Kind.START]
