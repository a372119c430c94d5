"""What a server may limit, refuse or read otherwise, one dial at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from exporter.simulator import SCENARIOS, Campaign, Looseness, Scenario, Simulator
from tests.simulator._ask import DAY, HOUR, NOW, Clock, ask, fixed, rows

ALL = {"startFrom": NOW - DAY, "startTo": NOW, "perPage": 500}


def world(*campaigns: Campaign, **dials: Any) -> Simulator:  # noqa: ANN401 - fields of Looseness
    """Make a simulator of these campaigns."""
    return Simulator(1, Clock(), Scenario.fixed(list(campaigns), looseness=Looseness(**dials)))


def ids(simulator: Simulator, **parameters: object) -> list[int]:
    """Return the campaign ids of an answer."""
    return [row["campaign_id"] for row in rows(simulator, **parameters)]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("rows", [1, 1, 1]), ("channels", [1, 1, 1, 1, 2, 2]), ("campaigns", [1] * 4 + [2] * 2 + [3] * 2)],
)
def test_unit(unit: str, expected: list[int]) -> None:
    """A page of three has three rows, three campaigns, or three campaigns and channels."""
    mixed = fixed(1, NOW - 60, titles="AB")
    mixed = replace(mixed, messages=[*mixed.messages, *(replace(one, channel="SMS") for one in mixed.messages)])
    simulator = world(mixed, fixed(2, NOW - 50, titles="AB"), fixed(3, NOW - 40, titles="AB"), unit=unit, cap=3)
    assert expected == ids(simulator, **ALL)
    assert expected == ids(simulator, **ALL | {"perPage": 3})


def test_caps_by_kind() -> None:
    """Requests by start, by identifiers and by send may have caps of their own."""
    campaigns = [fixed(number, NOW - 60 * number) for number in range(1, 10)]
    simulator = world(*campaigns, cap=5, cap_by_ids=2, cap_by_send=7)
    assert 5 == len(ids(simulator, **ALL))
    assert 2 == len(ids(simulator, ids=range(1, 10), perPage=500))
    assert 7 == len(ids(simulator, sendFrom=NOW - DAY, sendTo=NOW, perPage=500))


@pytest.mark.parametrize(
    ("dials", "refused", "accepted"),
    [
        ({"largest_per_page": 100}, {"perPage": 101}, {"perPage": 100}),
        ({"longest_range": DAY}, {"startFrom": NOW - DAY - 1}, {"startFrom": NOW - DAY}),
        ({"future_refused": True}, {"startTo": NOW + 1}, {"startTo": NOW}),
        ({"most_ids": 2}, {"ids": [1, 2, 3]}, {"ids": [1, 2]}),
        ({"longest_target": 300}, {"ids": range(100, 130)}, {"ids": [1]}),
    ],
)
@pytest.mark.parametrize("status", [400, 422, 504])
def test_refusals(
    dials: dict[str, Any], refused: dict[str, Any], accepted: dict[str, Any], status: int
) -> None:
    """What exceeds a limit is refused with the chosen status, what doesn't is answered."""
    simulator = world(fixed(1, NOW - 60), refusal=status, **dials)
    expected = 414 if "longest_target" in dials else status
    assert expected == ask(simulator, **ALL | refused).status
    assert 200 == ask(simulator, **ALL | accepted).status


def test_answers_in_proportion_to_the_range() -> None:
    """The wider the range, the later the answer."""
    simulator = world(seconds_per_day=2.0)
    fault = ask(simulator, startFrom=NOW - 3 * DAY, startTo=NOW).fault
    assert fault is not None
    assert ("slow", 6.0) == (fault.kind, fault.seconds)


def test_zone() -> None:
    """A service in UTC+3 takes 13:00 for 10:00 UTC; what it answers stays in UTC."""
    simulator = world(fixed(1, NOW - 60), zone=3.0)
    assert [] == ids(simulator, **ALL)
    assert [1] == ids(simulator, startFrom=NOW - 60 + 3 * HOUR, startTo=NOW + 3 * HOUR)
    assert [1] == ids(simulator, sendFrom=NOW - DAY, sendTo=NOW + 3 * HOUR)
    assert [] == ids(simulator, sendFrom=NOW - DAY, sendTo=NOW - 60)


def test_bounds_cut_to_midnight() -> None:
    """With bounds cut to days, nothing of today is before now."""
    midnight = NOW // DAY * DAY
    simulator = world(fixed(1, NOW - 60), fixed(2, midnight - 60), bounds="days")
    assert [2] == ids(simulator, **ALL)
    assert [2, 1] == ids(simulator, startFrom=NOW - DAY, startTo=NOW + DAY)


def test_bound_of_the_end() -> None:
    """The bound startTo may mean the end of a campaign; one without an end is never before it."""
    ended = replace(fixed(1, NOW - 600), stop=NOW - 300)
    simulator = world(ended, fixed(2, NOW - 600), bounds="end")
    assert [] == ids(simulator, startFrom=NOW - DAY, startTo=NOW - 301)
    assert [1] == ids(simulator, startFrom=NOW - DAY, startTo=NOW)


def test_some_identifiers_count() -> None:
    """Of several identifiers only the first ones may be looked at."""
    simulator = world(*(fixed(number, NOW - 60) for number in range(1, 5)), ids_considered=2)
    assert [1, 2] == ids(simulator, ids=[1, 2, 3, 4])


def test_send_filter_is_ignored() -> None:
    """A send filter that does nothing lets every campaign pass, and a start filter beside it still counts."""
    simulator = world(fixed(1, NOW - 60), fixed(2, NOW - 3 * DAY), send_filter_ignored=True)
    assert [2, 1] == ids(simulator, sendFrom=NOW - 9 * DAY, sendTo=NOW - 8 * DAY)
    assert [1] == ids(simulator, **ALL, sendFrom=NOW - 9 * DAY, sendTo=NOW - 8 * DAY)


def test_page_parameter() -> None:
    """Pages follow one another without a gap; the parameter is refused, or ignored, where it doesn't exist."""
    campaigns = [fixed(number, NOW - 60) for number in range(1, 6)]
    simulator = world(*campaigns, page_parameter="page", cap=2)
    assert [[1, 2], [3, 4], [5], []] == [ids(simulator, **ALL, page=page) for page in (1, 2, 3, 4)]
    assert 400 == ask(world(*campaigns), **ALL, page=2).status
    assert [1, 2] == ids(world(*campaigns, cap=2, unknown_ignored=True), **ALL, page=2)


@pytest.mark.parametrize(("total", "expected"), [("none", None), ("true", "3"), ("page", "2"), ("all", "4")])
def test_total_header(total: str, expected: str | None) -> None:
    """The header may tell the truth, count the page, or count everything there is."""
    campaigns = [fixed(number, NOW - 60) for number in range(1, 4)]
    simulator = world(*campaigns, fixed(4, NOW - 3 * DAY), total=total, cap=2)
    assert expected == dict(ask(simulator, **ALL).headers).get("X-Pagination-Total-Count")


def test_clock() -> None:
    """The service's Date may be ahead."""
    told = dict(ask(world(clock_ahead=300.0), **ALL).headers)["Date"]
    assert NOW + 300 == parsedate_to_datetime(told).timestamp()


def test_envelopes_of_php() -> None:
    """Rows may lie two levels deep, or under numeric keys."""
    found = ask(world(fixed(1, NOW - 60), fixed(2, NOW - 50), envelope="keyed"), **ALL)
    assert {"0": 1, "2": 2} == {key: row["campaign_id"] for key, row in json.loads(found.body).items()}
    found = ask(world(fixed(1, NOW - 60), envelope="nested"), **ALL)
    assert 1 == json.loads(found.body)["data"]["items"][0]["campaign_id"]


@pytest.mark.parametrize("name", ["strict", "campaign-pages", "local-time"])
def test_servers_of_other_habits(name: str) -> None:
    """The scenarios of other servers answer a narrow request with rows."""
    simulator = Simulator(1, Clock(), SCENARIOS[name])
    answer = ask(simulator, startFrom=NOW - 6 * DAY, startTo=NOW - HOUR, perPage=100)
    assert answer.status == 200
    assert b"campaign_id" in answer.body
