"""That doctor finds out how a server reads what is open, for one reading after the other."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from exporter.api import parse
from exporter.api.client import query_parameters
from exporter.api.fields import CONVERSIONS, PATHS, STATISTICS
from exporter.api.model import Query, Reply
from exporter.doctor.asker import DAY, HOUR, MOST_REQUESTS, Asker
from exporter.doctor.readings import read_server
from exporter.doctor.report import OK, UNKNOWN, WARNING, Reading
from exporter.errors import ClientError, RequestTimeoutError
from exporter.simulator import Campaign, Looseness, Scenario, Simulator
from tests.simulator._ask import NOW, fixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.api.model import Page


def several(count: int = 30, *, stop: float | None = None) -> list[Campaign]:
    """Return campaigns of two messages and two channels, one every five hours, the last five hours ago."""
    campaigns = []
    for number in range(count):
        start = NOW - (count - number) * 5 * HOUR
        one = fixed(100 + number, start, titles="AB")
        sms = replace(one.messages[0], channel="SMS")
        campaigns.append(
            replace(one, messages=[*one.messages, sms], stop=None if stop is None else start + stop)
        )
    return campaigns


def read(
    campaigns: Sequence[Campaign],
    *,
    per_page: int = 500,
    resource: str = STATISTICS,
    **dials: Any,  # noqa: ANN401
) -> tuple[dict[str, Reading], Asker]:
    """Return the readings of a server with these dials, by point."""
    looseness = Looseness(**({"unknown_ignored": True} | dials))
    simulator = Simulator(1, lambda: NOW, Scenario.fixed(list(campaigns), looseness=looseness), token=None)
    reader = parse.statistics_reader() if resource == STATISTICS else parse.conversions_reader()

    def ask(query: Query) -> tuple[Reply, Page[Any]]:
        encoded = "&".join(f"{name}={value}".replace(" ", "%20") for name, value in query_parameters(query))
        answer = simulator.answer(f"{PATHS[resource]}?{encoded}")
        if answer.status != 200:
            raise ClientError("refused; the API says: no", status=answer.status)
        headers = {name.lower(): value for name, value in answer.headers}
        reply = Reply(answer.body, headers, 0.25)
        return reply, reader(reply)

    asking = Asker(ask, now=math.floor(NOW), per_page=per_page, page_parameter="page")
    readings = {one.point: one for one in read_server(asking)}
    assert len(simulator.log) == asking.requests <= MOST_REQUESTS
    return readings, asking


def test_documented_server() -> None:
    """A server without limits and surprises has no warning, within half of the requests."""
    readings, asking = read(several())
    assert {OK} == {one.level for one in readings.values()}
    assert asking.requests <= MOST_REQUESTS / 2
    assert [] == [one.point for one in readings.values() if one.value == UNKNOWN and one.point != "send_filter"]


DIALS: list[tuple[dict[str, Any], str, str, dict[str, Any]]] = [
    ({}, "largest_per_page", "1000 or more", {"per_page": 1000, "refused": False}),
    ({"largest_per_page": 100}, "largest_per_page", "100", {"per_page": 100, "refused": True}),
    ({}, "longest_range", "365 days or more", {"days": 365}),
    ({"longest_range": 7 * DAY}, "longest_range", "7 days", {"days": 7, "refused": True}),
    ({}, "start_to_in_future", "accepted", {"accepted": True}),
    ({"future_refused": True}, "start_to_in_future", "refused", {"accepted": False}),
    ({}, "page_cap", "at least 90 rows", {"largest_answer": 90, "is_cut": False}),
    ({"cap": 50}, "page_cap", "50 rows", {"is_cut": True}),
    ({"cap": 10, "unit": "campaigns"}, "page_cap", "10 campaigns", {"is_cut": True}),
    ({"cap": 15, "unit": "channels"}, "page_cap", "15 channels", {"is_cut": True}),
    ({}, "per_page_counts", "rows", {"unit": "rows"}),
    ({"unit": "campaigns"}, "per_page_counts", "campaigns", {"unit": "campaigns"}),
    ({"unit": "channels"}, "per_page_counts", "campaigns and channels", {"unit": "campaigns and channels"}),
    ({}, "page_cap_by_ids", "at least 90 rows", {"ids": 30, "refused": False}),
    ({"cap_by_ids": 20}, "page_cap_by_ids", "20 rows", {"is_cut": True}),
    ({"most_ids": 12}, "page_cap_by_ids", "at least 30 rows", {"ids": 10, "refused": True}),
    ({"ids_considered": 1}, "page_cap_by_ids", "only some of the campaigns count", {"is_cut": None}),
    ({"send_filter_ignored": True}, "send_filter", "ignored", {"send_filter": "ignored"}),
    ({}, "zone", "UTC", {"offset_seconds": 0}),
    ({"zone": 3.0}, "zone", "UTC+3 h", {"offset_seconds": 3 * HOUR}),
    ({"zone": -9.5}, "zone", "UTC-9.5 h", {"offset_seconds": -34_200}),
    ({"zone": 5.75, "cap": 10}, "zone", "UTC+5.75 h", {"offset_seconds": 20_700}),
    ({}, "bounds", "startFrom inclusive, startTo inclusive", {"from_inclusive": True}),
    ({"inclusive_from": False}, "bounds", "startFrom exclusive, startTo inclusive", {"from_inclusive": False}),
    ({"inclusive_to": False}, "bounds", "startFrom inclusive, startTo exclusive", {"to_inclusive": False}),
    ({"bounds": "days"}, "bounds", "cut to days", {"cut_to_days": True}),
    ({}, "filters_combined", "both must hold", {"and": True}),
    ({"filters_combine": "send_wins"}, "filters_combined", "send alone counts", {"and": False}),
    ({"filters_combine": "start_wins"}, "filters_combined", "start alone counts", {"and": False}),
    ({}, "total_header", "none", {"total": None}),
    ({"total": "true"}, "total_header", "counts all rows", {"total": "rows"}),
    ({"total": "true", "unit": "campaigns"}, "total_header", "counts all campaigns", {"total": "campaigns"}),
    ({"total": "true", "cap": 50}, "total_header", "counts beyond the page", {"total": "beyond"}),
    ({"total": "page"}, "total_header", "counts the page alone", {"total": "page"}),
    ({"total": "all"}, "total_header", "counts more than the answer", {"total": "wrong"}),
    ({}, "page_parameter", "none", {"pages": False}),
    ({"unknown_ignored": False}, "page_parameter", "none", {"pages": False}),
    ({"page_parameter": "page"}, "page_parameter", "page", {"pages": True}),
    ({}, "order", "by start and by id", {"stable": True}),
    ({"order": "start_desc"}, "order", "by start, latest first and by id, highest first", {"stable": True}),
    ({"order": "shuffled"}, "order", "none", {"stable": False}),
    ({}, "latency", "0.250 s for 0 rows, 0.250 s for 90 rows", {"slowest_seconds": 0.25}),
]


@pytest.mark.parametrize(("dials", "point", "value", "values"), DIALS)
def test_reading(dials: dict[str, Any], point: str, value: str, values: dict[str, Any]) -> None:
    """Each dial is found, and told in words and figures."""
    readings, _ = read(several(), **dials)
    assert value == readings[point].value, readings[point].how
    assert values.items() <= readings[point].values.items()


def test_bound_of_the_end() -> None:
    """A startTo that bounds the end of a campaign is told from a zone."""
    readings, _ = read(several(stop=float(DAY)), bounds="end")
    assert "startTo bounds the end of a campaign" == readings["bounds"].value
    assert WARNING == readings["bounds"].level


@pytest.mark.parametrize("inclusive", [True, False])
def test_fractions_of_a_second(*, inclusive: bool) -> None:
    """A start with milliseconds stands at no bound: it tells nothing of whether the bounds are inclusive."""
    readings, _ = read(several(), subsecond_starts=True, inclusive_from=inclusive, inclusive_to=inclusive)
    assert (UNKNOWN, {"fractions": True}) == (readings["bounds"].value, readings["bounds"].values)


@pytest.mark.parametrize(("restricts", "expected"), [(True, "restricts"), (False, "selects")])
@pytest.mark.parametrize("resource", [STATISTICS, CONVERSIONS])
def test_counts_of_a_send_filter(resource: str, *, restricts: bool, expected: str) -> None:
    """Whether a send filter restricts the counts is seen in the first minute of a long campaign."""
    scenario = Scenario(name="x", description="x", per_day=6, recurring=3, diurnal=False)
    simulated = Simulator(4, lambda: NOW, scenario, token=None)
    readings, _ = read(
        simulated.campaigns(NOW, first=NOW - 12 * DAY),
        resource=resource,
        send_filter_restricts_counts=restricts,
    )
    assert expected == readings["send_filter"].values.get("send_filter"), readings["send_filter"].how


def test_empty_account() -> None:
    """Without campaigns nothing is claimed that rows would have to show."""
    readings, _ = read([])
    for point in (
        "page_cap",
        "per_page_counts",
        "page_cap_by_ids",
        "page_cap_by_send",
        "zone",
        "bounds",
        "order",
    ):
        assert UNKNOWN == readings[point].value
        assert OK == readings[point].level


def test_requests_are_limited() -> None:
    """Where everything fails, the stated number of requests is kept, and what wasn't tried is told."""
    asked = []

    def ask(query: Query) -> tuple[Reply, Page[Any]]:
        asked.append(query)
        raise RequestTimeoutError("slow")

    reader = Asker(ask, now=math.floor(NOW), per_page=500, page_parameter="page")
    readings = read_server(reader)
    assert {UNKNOWN, "refused", "none"} >= {one.value for one in readings}
    assert len(asked) <= MOST_REQUESTS


def test_requests_that_are_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading for which no request is left says so."""
    for module in ("asker", "readings"):
        monkeypatch.setattr(f"exporter.doctor.{module}.MOST_REQUESTS", 4)
    readings, asking = read(several())
    assert 4 == asking.requests
    assert "not tried: 4 requests were used up" == readings["page_parameter"].how
