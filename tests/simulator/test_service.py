"""Questions and answers, without a socket."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import (
    DEMO_TOKEN,
    FIELDS,
    SCENARIOS,
    Conversions,
    Correction,
    Fault,
    Faults,
    FixedMessage,
    Goal,
    Looseness,
    Scenario,
    Simulator,
    demo,
)
from tests._examples import examples
from tests.simulator._ask import DAY, EVERYTHING, HOUR, NOW, Clock, ask, date, fixed, rows, target
from tests.simulator.test_model import check_identities

if TYPE_CHECKING:
    from exporter.simulator import Campaign


def world(*campaigns: Campaign, **looseness: Any) -> Simulator:  # noqa: ANN401
    """Make a simulator of these campaigns."""
    return Simulator(1, Clock(), Scenario.fixed(list(campaigns), looseness=Looseness(**looseness)))


def ids(found: list[dict[str, Any]]) -> list[int]:
    """Return the campaign ids of rows."""
    return [row["campaign_id"] for row in found]


FORTNIGHT = {"startFrom": NOW - 14 * DAY, "startTo": NOW, "perPage": 100_000}


@pytest.mark.parametrize("scenario", ["calm", "recurring", "garbage", "corrections", "channels"])
@pytest.mark.parametrize("endpoint", ["statistics", "conversions"])
def test_the_same_time_gives_the_same_answer(scenario: str, endpoint: str) -> None:
    """Two simulators of one seed answer byte for byte alike; another seed differs; so does a later time."""
    asked = [target(endpoint, **FORTNIGHT), target(endpoint, sendFrom=NOW - DAY, sendTo=NOW, perPage=99)]
    answers = []
    for seed, now in ((5, NOW), (5, NOW), (6, NOW), (5, NOW + HOUR)):
        clock = Clock()
        simulator = demo(clock, scenario, seed)
        clock.now = now
        answers.append([simulator.answer(question) for question in asked])
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]
    assert answers[0] != answers[3]


def test_an_answer_does_not_depend_on_earlier_questions() -> None:
    """What was asked before, and in which order, changes nothing."""
    fresh, used = Simulator(5, Clock(), SCENARIOS["calm"]), Simulator(5, Clock(), SCENARIOS["calm"])
    for days in (300, 3, 40):
        ask(used, startFrom=NOW - days * DAY, startTo=NOW - (days - 2) * DAY, perPage=500)
    used.truth(NOW + 30 * DAY)
    assert ask(fresh, **FORTNIGHT) == ask(used, **FORTNIGHT)


@examples(15)
@given(
    st.integers(0, 1000),
    st.sampled_from(["calm", "recurring", "many-messages", "bounce-spike", "delivery-collapse"]),
    st.lists(st.floats(-5 * DAY, 30 * DAY), min_size=2, max_size=4).map(sorted),
    st.booleans(),
)
def test_the_truth_keeps_its_identities_and_grows(
    seed: int,
    scenario: str,
    moments: list[float],
    compressed: bool,  # noqa: FBT001
) -> None:
    """Over seeds and times: parts never exceed wholes, nothing shrinks, no campaign goes."""
    chosen = replace(SCENARIOS[scenario], history_days=6)
    simulator = Simulator(seed, Clock(), chosen, speed=20.0 if compressed else 1.0)
    earlier: dict[Any, Any] = {}
    sold: dict[Any, Any] = {}
    for moment in moments:
        now = NOW + moment / (20.0 if compressed else 1.0)
        truth = simulator.truth(now, last=NOW + DAY / 4)
        for key, counts in truth.items():
            check_identities(counts)
            before = earlier.get(key, {})
            assert all((before.get(name) or 0) <= (counts[name] or 0) for name in FIELDS)
        assert earlier.keys() <= truth.keys()
        bought = simulator.truth_conversions(now, last=NOW + DAY / 4)
        assert all(bought[key] >= value for key, value in sold.items())
        earlier, sold = truth, bought


@pytest.mark.parametrize("scenario", ["calm", "recurring", "many-messages", "dense"])
def test_rows_sum_to_the_truth(scenario: str) -> None:
    """The rows of the whole answer, summed by campaign and channel, are the truth; so are conversions."""
    chosen = replace(SCENARIOS[scenario], looseness=Looseness())
    simulator = Simulator(2, Clock(), chosen)
    first = NOW - 14 * DAY
    total: dict[Any, Counter[str]] = {}
    for row in rows(simulator, **FORTNIGHT):
        counts = total.setdefault((row["campaign_id"], row["type"].lower()), Counter())
        counts.update({name: row[name] or 0 for name in FIELDS})
    truth = simulator.truth(first=first)
    assert {key: {n: c or 0 for n, c in value.items()} for key, value in truth.items()} == total
    sold: dict[Any, tuple[int, Decimal, int]] = {}
    for row in rows(simulator, "conversions", **FORTNIGHT):
        key = (row["campaign_id"], row["type"].lower(), row["conversion_event"], row["conversion_period"])
        old = sold.get(key, (0, Decimal(0), 0))
        new = int(row["deposits_count"]), Decimal(row["deposits_amount"]), int(row["converted_users"])
        sold[key] = (old[0] + new[0], old[1] + new[1], old[2] + new[2])
    assert simulator.truth_conversions(first=first) == sold
    assert len(total) > 20


def test_a_statistics_row_is_the_documented_one() -> None:
    """Field names, their order and the form of the time are those of the vendor's example."""
    (row,) = rows(world(fixed(7, NOW - 60)), ids=[7])
    expected = ["campaign_id", "message_title", "type", "campaign_start_at", *FIELDS]
    assert expected == list(row)
    assert [7, "A", "Email", date(NOW - 60) + "+00"] == list(row.values())[:4]
    assert list(range(1000, 1012)) == list(row.values())[4:]


def test_a_conversion_row_is_the_documented_one() -> None:
    """Numbers are strings, the stop may be null, and each message has a row for each event."""
    campaign = fixed(7, NOW - 60, titles="AB", conversions_by_goal=[Conversions(154, 1875240, 102)])
    campaign.goals = (Goal("Opened", "1 day", 0, 0), Goal("Delivered", "1 day", 0, 0))
    simulator = world(campaign)
    found = rows(simulator, "conversions", ids=[7])
    assert [("A", "Opened"), ("A", "Delivered"), ("B", "Opened"), ("B", "Delivered")] == [
        (row["message_title"], row["conversion_event"]) for row in found
    ]
    assert {
        "campaign_id": 7,
        "message_title": "A",
        "type": "Email",
        "campaign_start_at": date(NOW - 60) + "+00",
        "campaign_stop_at": None,
        "campaign_name": "Campaign 7",
        "conversion_event": "Opened",
        "conversion_period": "1 day",
        "deposits_count": "154",
        "deposits_amount": "18752.40",
        "converted_users": "102",
    } == found[0]
    campaign.stop = NOW
    assert date(NOW) + "+00" == rows(simulator, "conversions", ids=[7])[0]["campaign_stop_at"]


@pytest.mark.parametrize("endpoint", ["statistics", "conversions"])
@pytest.mark.parametrize("token", [None, "wrong", "", f"{DEMO_TOKEN}&access-token={DEMO_TOKEN}"])
def test_a_wrong_token_is_refused(endpoint: str, token: str | None) -> None:
    """Without the token, or with another one, the answer is 401 whatever was asked."""
    simulator = world(fixed(7, NOW - 60))
    assert 401 == simulator.answer(target(endpoint, token=token, ids=[7])).status
    assert 401 == simulator.answer(target(endpoint, token=token)).status
    simulator.token = None
    assert 200 == simulator.answer(target(endpoint, token=None, ids=[7])).status


@pytest.mark.parametrize("endpoint", ["statistics", "conversions"])
@pytest.mark.parametrize(
    ("status", "parameters"),
    [
        (400, {}),
        (400, {"perPage": 50}),
        (400, {"startFrom": NOW}),
        (400, {"startTo": NOW}),
        (400, {"startFrom": NOW, "sendTo": NOW}),
        (400, {"ids": [7], "page": 2}),
        (400, {"ids": [7], "per_page": 2}),
        (422, {"startFrom": "2026-11-23", "startTo": NOW}),
        (422, {"startFrom": NOW, "startTo": "2026-11-23T00:00:00"}),
        (422, {"ids": [7], "sendFrom": "yesterday"}),
        (422, {"ids": ["x"]}),
        (422, {"ids": [""]}),
        (422, {"ids": [7], "perPage": 0}),
        (422, {"ids": [7], "perPage": "all"}),
        (200, {"ids": [7]}),
        (200, {"startFrom": NOW, "startTo": NOW}),
        (200, {"sendFrom": NOW, "sendTo": NOW}),
    ],
)
def test_undocumented_questions_are_refused(status: int, parameters: dict[str, Any], endpoint: str) -> None:
    """Unfiltered, half filtered, unparsable or unknown: refused; each documented filter alone is enough."""
    assert status == ask(world(fixed(7, NOW - 60)), endpoint, **parameters).status


def test_a_parameter_given_twice_is_refused() -> None:
    """Only campaignIds[] may repeat."""
    simulator = world(fixed(7, NOW - 60), fixed(8, NOW - 60))
    assert 400 == simulator.answer(target(ids=[7], perPage=5) + "&perPage=6").status
    assert [7, 8] == ids(rows(simulator, ids=[7, 8, 7]))


def test_a_space_is_percent_20() -> None:
    """A plus sign in a date isn't a space."""
    question = target(startFrom=NOW - 60, startTo=NOW)
    simulator = world(fixed(7, NOW - 60))
    assert 200 == simulator.answer(question).status
    assert 422 == simulator.answer(question.replace("%20", "+")).status


def test_other_paths_and_long_ones_are_refused() -> None:
    """404 off the two endpoints, 414 where a web server would have given up."""
    simulator = world(fixed(7, NOW - 60))
    assert 404 == simulator.answer(f"/rest/campaign?access-token={DEMO_TOKEN}").status
    assert 414 == ask(simulator, ids=list(range(10**6, 10**6 + 400))).status
    assert 0 == simulator.requests.total()


def test_ten_rows_come_by_default() -> None:
    """Without perPage an answer has ten rows, with it as many as asked for."""
    simulator = world(*(fixed(number, NOW - 60) for number in range(1, 31)))
    assert 10 == len(rows(simulator, startFrom=NOW - 60, startTo=NOW))
    assert 25 == len(rows(simulator, startFrom=NOW - 60, startTo=NOW, perPage=25))


def test_campaigns_appear_when_they_start() -> None:
    """A campaign of the future is in no answer, by whatever filter."""
    clock = Clock()
    simulator = Simulator(1, clock, Scenario.fixed([fixed(7, NOW + 60)]))
    filters = (
        {"ids": [7]},
        {"startFrom": NOW - DAY, "startTo": NOW + DAY},
        {"sendFrom": NOW - DAY, "sendTo": NOW + DAY},
    )
    assert [0, 0, 0] == [len(rows(simulator, **chosen)) for chosen in filters]
    clock.now += 60
    assert [1, 1, 1] == [len(rows(simulator, **chosen)) for chosen in filters]


def test_fixed_campaigns_may_change_between_requests() -> None:
    """A new title, new counts and a new campaign are in the next answer."""
    message = FixedMessage("Old", {"sent": 1})
    campaign = fixed(7, NOW - 60)
    campaign.messages = [message]
    campaigns = [campaign]
    simulator = Simulator(1, Clock(), Scenario.fixed(campaigns))
    assert [("Old", 1)] == [(row["message_title"], row["sent"]) for row in rows(simulator, ids=[7, 8])]
    message.title, message.fixed = "New", {"sent": 2}
    campaigns.append(fixed(8, NOW - 60))
    assert [("New", 2), ("A", 1001)] == [
        (row["message_title"], row["sent"]) for row in rows(simulator, ids=[7, 8])
    ]


def test_the_log_keeps_no_token() -> None:
    """The log has what was asked and how it ended, and never a token."""
    simulator = Simulator(1, Clock(), Scenario.fixed([fixed(7, NOW - 60)]), token="s3cr3t-canary")
    question = {"startFrom": NOW - 60, "startTo": NOW, "perPage": 5}
    ask(simulator, token="s3cr3t-canary", **question)
    ask(simulator, "conversions", token="wrong-canary", ids=[7])
    assert [(1, "statistics", 200, 1), (2, "conversions", 401, 0)] == [
        (asked.number, asked.endpoint, asked.status, asked.rows) for asked in simulator.log
    ]
    assert (NOW - 60, NOW, 5) == (
        simulator.log[0].start_from,
        simulator.log[0].start_to,
        simulator.log[0].per_page,
    )
    assert {"statistics": 1, "conversions": 1} == dict(simulator.requests)
    assert "canary" not in repr(simulator.log)


# Looseness


def test_cap_is_silent() -> None:
    """A capped page looks like any other, with a smaller cap once it is lowered."""
    simulator = world(*(fixed(number, NOW - 60) for number in range(1, 31)), cap=12)
    asked = {"startFrom": NOW - 60, "startTo": NOW, "perPage": 500}
    assert list(range(1, 13)) == ids(rows(simulator, **asked))
    simulator.looseness = Looseness(cap=11)
    assert 11 == len(rows(simulator, **asked))


@pytest.mark.parametrize(
    ("envelope", "shapes"),
    [
        ("object", [list, dict, list]),
        ("array", [list, list, list]),
        ("data", ["data", "data", "data"]),
        ("items", ["items", "items", "items"]),
    ],
)
def test_envelopes(envelope: str, shapes: list[Any]) -> None:
    """No row, one row and two rows come in the envelope chosen."""
    simulator = world(fixed(1, NOW - 60), fixed(2, NOW - 60), envelope=envelope)
    for count, shape in enumerate(shapes):
        body = json.loads(ask(simulator, ids=[1, 2, 3][:count] or [3]).body)
        found = body[shape] if isinstance(shape, str) else body
        assert isinstance(body, dict if isinstance(shape, str) else shape)
        assert [1, 2][:count] == ids([found] if isinstance(found, dict) else found)


@pytest.mark.parametrize("inclusive_from", [True, False])
@pytest.mark.parametrize("inclusive_to", [True, False])
def test_bounds(*, inclusive_from: bool, inclusive_to: bool) -> None:
    """A campaign that starts on a bound is in the range or not, by the option."""
    campaigns = [fixed(number, NOW - 100 + number) for number in (1, 2, 3)]
    simulator = world(*campaigns, inclusive_from=inclusive_from, inclusive_to=inclusive_to)
    expected = [1] * inclusive_from + [2] + [3] * inclusive_to
    assert expected == ids(rows(simulator, startFrom=NOW - 99, startTo=NOW - 97))


def test_subsecond_starts() -> None:
    """Starts have milliseconds, and count with them against the bounds."""
    campaigns = [fixed(number, NOW - 100) for number in range(1, 20)]
    simulator = world(*campaigns, fixed(99, NOW - 50.5), subsecond_starts=True)
    starts = {row["campaign_start_at"] for row in rows(simulator, **EVERYTHING)}
    assert len(starts) > 15
    assert date(NOW - 51) + ".500+00" in starts
    assert [] == ids(rows(simulator, startFrom=NOW - 100, startTo=NOW - 100))
    assert 19 == len(rows(simulator, startFrom=NOW - 100, startTo=NOW - 99, perPage=50))


def test_whole_starts_hide_fractions() -> None:
    """Without the option a start of a fraction is served and filtered as its whole second."""
    simulator = world(fixed(9, NOW - 50.5))
    (row,) = rows(simulator, startFrom=NOW - 51, startTo=NOW - 51)
    assert date(NOW - 51) + "+00" == row["campaign_start_at"]


def test_strings() -> None:
    """Counts are numeric strings, nulls stay null."""
    campaign = fixed(7, NOW - 60)
    campaign.messages = [FixedMessage("A", {"sent": 12, "opened": None})]
    (row,) = rows(world(campaign, strings=True), ids=[7])
    assert ("12", None, 7) == (row["sent"], row["opened"], row["campaign_id"])


@pytest.mark.parametrize("option", ["null_rate", "invalid_rate"])
@pytest.mark.parametrize("endpoint", ["statistics", "conversions"])
def test_damaged_values(option: str, endpoint: str) -> None:
    """About the share asked for is damaged, never what identifies a row."""
    campaigns = [
        fixed(number, NOW - 60, conversions_by_goal=[Conversions(1, 1, 1)]) for number in range(1, 200)
    ]
    for campaign in campaigns:
        campaign.goals = (Goal("Opened", "1 day", 0, 0),)
    found = rows(world(*campaigns, **{option: 0.25}), endpoint, **EVERYTHING)
    fields = FIELDS if endpoint == "statistics" else ("deposits_count", "deposits_amount", "converted_users")
    good: type = int if endpoint == "statistics" else str
    values = [row[name] for row in found for name in fields]
    nulls = sum(value is None for value in values)
    invalid = sum(
        value is not None and (type(value) is not good or value in ("many", "-3", -1)) for value in values
    )
    hit, spared = (nulls, invalid) if option == "null_rate" else (invalid, nulls)
    assert 0.18 < hit / len(values) < 0.32
    assert 0 == spared
    assert list(range(1, 200)) == ids(found)


def test_opened_may_be_absent() -> None:
    """A channel without opens has null, or no such field."""
    campaign = fixed(7, NOW - 60, "SMS")
    campaign.messages = [FixedMessage("A", {"sent": 12, "opened": None})]
    simulator = world(campaign)
    assert rows(simulator, ids=[7])[0]["opened"] is None
    simulator.looseness = Looseness(opened_absent=True)
    assert "opened" not in rows(simulator, ids=[7])[0]


def test_unknown_fields() -> None:
    """Rows may have a field that the vendor's page doesn't have."""
    simulator = world(fixed(7, NOW - 60), unknown_fields=True)
    assert {"segment_hash"} == rows(simulator, ids=[7])[0].keys() - rows(world(fixed(7, NOW)), ids=[7])[
        0
    ].keys()


@pytest.mark.parametrize("offset", ["+00", "+00:00", "Z", ""])
def test_offsets(offset: str) -> None:
    """Times end as chosen."""
    (row,) = rows(world(fixed(7, NOW - 60), offset=offset), ids=[7])
    assert date(NOW - 60) + offset == row["campaign_start_at"]


def test_total_header() -> None:
    """The header counts the rows of the whole answer, not of the page; without the option there is none."""
    campaigns = [fixed(number, NOW - 60, titles="AB") for number in range(1, 21)]
    simulator = world(*campaigns, cap=5, total="true")
    asked = {"startFrom": NOW - 60, "startTo": NOW, "perPage": 500}
    assert "40" == dict(ask(simulator, **asked).headers)["X-Pagination-Total-Count"]
    simulator.looseness = Looseness()
    assert "X-Pagination-Total-Count" not in dict(ask(simulator, **asked).headers)


@pytest.mark.parametrize(
    ("order", "expected"), [("start", [3, 1, 2]), ("start_desc", [2, 1, 3]), ("id", [1, 2, 3])]
)
def test_orders(order: str, expected: list[int]) -> None:
    """Rows come by start, by start backwards, or by id, before the page is cut."""
    simulator = world(fixed(1, NOW - 50), fixed(2, NOW - 40), fixed(3, NOW - 60), order=order)
    assert expected == ids(rows(simulator, **EVERYTHING))
    assert expected[:2] == ids(rows(simulator, **{**EVERYTHING, "perPage": 2}))


def test_shuffled_order_differs_from_request_to_request() -> None:
    """One question asked twice brings the rows in another order, cut pages other rows; a rerun repeats it."""
    campaigns = [fixed(number, NOW - 60) for number in range(1, 41)]
    seen = []
    for _ in range(2):
        simulator = world(*campaigns, order="shuffled", cap=20)
        seen.append([ids(rows(simulator, startFrom=NOW - 60, startTo=NOW, perPage=50)) for _ in range(2)])
    assert seen[0] == seen[1]
    assert set(seen[0][0]) != set(seen[0][1])


def test_send_filter_selects_campaigns_that_send() -> None:
    """Recurring campaigns are found by what they send, though their start is long past; counts are whole."""
    simulator = Simulator(3, Clock(), SCENARIOS["calm"])
    found = rows(simulator, sendFrom=NOW - DAY, sendTo=NOW, perPage=1000)
    recurring = {campaign.campaign_id for campaign in simulator.campaigns() if campaign.recurring}
    assert recurring <= set(ids(found))
    whole = rows(simulator, ids=sorted(set(ids(found))), perPage=1000)
    assert {json.dumps(row) for row in found} <= {json.dumps(row) for row in whole}
    starts = {row["campaign_start_at"] for row in found if row["campaign_id"] not in recurring}
    assert min(starts) > date(NOW - 3 * DAY)


def test_send_filter_may_restrict_counts() -> None:
    """With the option, the days' counts add up to the whole count, and so do conversions."""
    loose = Looseness(send_filter_restricts_counts=True, inclusive_to=False)
    scenario = replace(SCENARIOS["recurring"], history_days=5, looseness=loose)
    simulator = Simulator(3, Clock(), scenario)
    chosen = [campaign.campaign_id for campaign in simulator.campaigns()]
    for endpoint, name in (("statistics", "opened"), ("statistics", "sent"), ("conversions", "deposits_count")):
        total: Counter[Any] = Counter()
        for day in range(251):
            span = {"sendFrom": NOW - (day + 1) * DAY, "sendTo": NOW - day * DAY}
            for row in rows(simulator, endpoint, **span, perPage=10_000):
                total[row["campaign_id"]] += int(row[name] or 0)
        whole: Counter[Any] = Counter()
        for row in rows(simulator, endpoint, ids=chosen, perPage=10_000):
            whole[row["campaign_id"]] += int(row[name] or 0)
        assert +whole == +total


def test_filters_combine() -> None:
    """Start and send filters together: both hold, or one of them is ignored; ids always hold."""
    old = fixed(1, NOW - 40 * DAY, sends=(0.0, 60 * DAY))
    new = fixed(2, NOW - 2 * DAY)
    newest = fixed(3, NOW - HOUR)
    span = {"startFrom": NOW - 3 * DAY, "startTo": NOW, "sendFrom": NOW - DAY, "sendTo": NOW}
    simulator = world(old, new, newest)
    found = {}
    for combine in ("and", "send_wins", "start_wins"):
        simulator.looseness = Looseness(filters_combine=combine)
        found[combine] = ids(rows(simulator, **span))
    assert {"and": [3], "send_wins": [1, 3], "start_wins": [2, 3]} == found
    assert [3] == ids(rows(simulator, **span, ids=[1, 3]))


@examples(25)
@given(st.integers(0, 99), st.floats(0, 20 * DAY), st.floats(0, 5 * DAY), st.booleans(), st.booleans())
def test_start_filter_equals_its_definition(
    seed: int,
    back: float,
    length: float,
    subsecond: bool,  # noqa: FBT001
    inclusive: bool,  # noqa: FBT001
) -> None:
    """A range of starts brings just the rows of the whole answer that lie in it."""
    loose = Looseness(subsecond_starts=subsecond, inclusive_from=inclusive, inclusive_to=inclusive)
    scenario = replace(SCENARIOS["calm"], history_days=20, looseness=loose)
    simulator = Simulator(seed, Clock(), scenario)
    first, last = date(NOW - back), date(NOW - back + length)
    expected = [
        row
        for row in rows(simulator, **EVERYTHING)
        if (first <= row["campaign_start_at"][:-3] <= last and inclusive)
        or (first < row["campaign_start_at"][:-3] < last)
    ]
    assert expected == rows(simulator, startFrom=first, startTo=last, perPage=100_000)


# Corrections


@pytest.mark.parametrize(
    ("correction", "sent", "later"),
    [
        (Correction(minus=1, windows=((0, 60),)), 1000, 1001),
        (Correction(factor=0.4, windows=((0, 1e9),)), 400, 400),
        (Correction(minus=1, windows=((0, 60),), every=600), 1000, 1000),
        (Correction(minus=1, channel="SMS"), 1001, 1001),
        (Correction(minus=1, fields=frozenset({"opened"})), 1001, 1001),
        (Correction(minus=5000), 0, 0),
        (Correction(minus=1, share=0.0), 1001, 1001),
    ],
)
def test_corrections(correction: Correction, sent: int, later: int) -> None:
    """Counts go down in the windows of the correction, only where it applies; the truth stays."""
    clock = Clock()
    scenario = Scenario.fixed([fixed(7, NOW - 60)], faults=Faults(corrections=(correction,)))
    simulator = Simulator(1, clock, scenario)
    assert sent == rows(simulator, ids=[7])[0]["sent"]
    assert 1001 == simulator.truth()[7, "email"]["sent"]
    clock.now += 600
    assert later == rows(simulator, ids=[7])[0]["sent"]


def test_corrections_hit_a_share_of_the_campaigns() -> None:
    """Half of the campaigns are hit, always the same."""
    faults = Faults(corrections=(Correction(minus=1, share=0.5),))
    simulator = Simulator(1, Clock(), Scenario.fixed([fixed(n, NOW) for n in range(1, 201)], faults=faults))
    hit = [
        {row["campaign_id"] for row in rows(simulator, **EVERYTHING) if row["sent"] == 1000} for _ in range(2)
    ]
    assert hit[0] == hit[1]
    assert 70 < len(hit[0]) < 130


# When faults strike


def statuses(simulator: Simulator, count: int, endpoint: str = "statistics") -> list[int]:
    """Ask so many times and return the statuses."""
    return [ask(simulator, endpoint, ids=[7]).status for _ in range(count)]


def faulty(*faults: Fault, clock: Clock | None = None) -> Simulator:
    """Make a simulator of one campaign with these faults."""
    return Simulator(1, clock or Clock(), Scenario.fixed([fixed(7, NOW - 60)], faults=Faults(faults)))


def test_faults_by_number_endpoint_and_window() -> None:
    """A fault strikes the requests named, on its endpoint, within its windows, again after `every`."""
    numbered = faulty(Fault(kind="server_error", requests=frozenset({2, 3})))
    assert [200, 500, 500, 200] == statuses(numbered, 4)
    one_sided = faulty(Fault(kind="server_error", endpoint="conversions"))
    assert [200, 500] == [*statuses(one_sided, 1), *statuses(one_sided, 1, "conversions")]
    clock = Clock()
    timed = faulty(Fault(kind="server_error", windows=((10, 20),), every=100), clock=clock)
    seen = []
    for clock.now in (NOW, NOW + 10, NOW + 20, NOW + 110, NOW + 125):
        seen += statuses(timed, 1)
    assert [200, 500, 200, 500, 200] == seen


def test_faults_by_rate_repeat() -> None:
    """About the share asked for is hit, by the seed and the number of the request alone."""
    seen = [statuses(faulty(Fault(kind="server_error", rate=0.3)), 200) for _ in range(2)]
    assert seen[0] == seen[1]
    assert 35 < seen[0].count(500) < 85


def test_injected_faults_come_first_and_once() -> None:
    """The next authorised requests get what was injected, then all is as before."""
    simulator = faulty()
    simulator.inject("server_error", 2)
    simulator.inject(Fault(kind="rate_limited", seconds=7))
    assert 401 == ask(simulator, token="wrong", ids=[7]).status
    answers = [ask(simulator, ids=[7]) for _ in range(4)]
    assert [500, 500, 429, 200] == [answer.status for answer in answers]
    assert "7" == dict(answers[2].headers)["Retry-After"]
    assert [None, "server_error", "server_error", "rate_limited", None] == [a.fault for a in simulator.log]


def test_a_vanishing_campaign_takes_all_its_rows() -> None:
    """About a third of the campaigns is missing from the answer, each wholly, and back in the next."""
    simulator = world(*(fixed(number, NOW - 60, titles="ABC") for number in range(1, 61)))
    simulator.inject("vanish")
    left = Counter(ids(rows(simulator, **EVERYTHING)))
    assert 28 < len(left) < 52
    assert {3} == set(left.values())
    assert 180 == len(rows(simulator, **EVERYTHING))


def test_an_empty_answer_is_still_well_formed() -> None:
    """No rows in the usual envelope."""
    simulator = faulty(Fault(kind="empty"))
    assert b'{"data": []}' == ask(simulator, ids=[7]).body
