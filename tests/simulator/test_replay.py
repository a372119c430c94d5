"""What a recording is served as."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from exporter.simulator.replay import Replay
from tests.simulator._ask import DAY, HOUR, NOW, Clock, date, target

AT = 1_790_000_000


def answer(first: float, last: float, *rows: dict[str, Any], **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return one recorded answer to a request by start."""
    parameters = {"startFrom": [date(first)], "startTo": [date(last)], "perPage": ["500"]}
    base = {"path": "/rest/campaign/statistics", "parameters": parameters, "status": 200, "headers": {}}
    return base | {"body": {"data": list(rows)}} | fields


def row(campaign_id: int, start: float) -> dict[str, Any]:
    """Return one recorded row."""
    return {
        "campaign_id": campaign_id,
        "message_title": "Title 1",
        "type": "Email",
        "campaign_start_at": f"{date(start)}+00",
    }


def replay(*answers: dict[str, Any]) -> Replay:
    """Serve these answers, ten days and some seconds after they were recorded."""
    return Replay(json.dumps({"intarget_recording": 1, "at": AT, "answers": list(answers)}), Clock(NOW))


def ask(served: Replay, **parameters: object) -> Any:  # noqa: ANN401 - any JSON
    """Return the document of an answer."""
    return json.loads(served.answer(target(**parameters)).body)


def starts(document: dict[str, Any]) -> list[str]:
    """Return the starts of rows."""
    return [one["campaign_start_at"] for one in document["data"]]


WINDOW = {"startFrom": NOW - DAY, "startTo": NOW, "perPage": 500}


def test_times_are_shifted() -> None:
    """Requests and rows move with the clock, so that the recording seems to be of now; the envelope stays."""
    served = replay(answer(AT - DAY, AT, row(1, AT - HOUR)))
    assert [f"{date(NOW - HOUR)}+00"] == starts(ask(served, **WINDOW))
    assert 1 == served.requests["statistics"] == len(served.log)


def test_nearest_request_is_answered() -> None:
    """Of recorded requests that differ in time only, the nearest one counts; a far one doesn't."""
    served = replay(answer(AT - DAY, AT, row(1, AT - HOUR)), answer(AT - DAY + 300, AT, row(2, AT - HOUR)))
    assert 1 == ask(served, **WINDOW | {"startFrom": NOW - DAY + 20})["data"][0]["campaign_id"]
    assert 2 == ask(served, **WINDOW | {"startFrom": NOW - DAY + 280})["data"][0]["campaign_id"]
    assert isinstance(ask(served, **WINDOW | {"startFrom": NOW - 2 * DAY}), list)


def test_same_request_gets_its_answers_in_turn() -> None:
    """What was answered differently the second time is so again."""
    served = replay(answer(AT - DAY, AT, row(1, AT)), answer(AT - DAY, AT, row(2, AT)))
    assert [1, 2, 1] == [ask(served, **WINDOW)["data"][0]["campaign_id"] for _ in range(3)]


def test_refusals_and_broken_connections() -> None:
    """A recorded status is given again; what had none ends without an answer; what was no JSON is none."""
    served = replay(answer(AT - DAY, AT, status=429, headers={"retry-after": "7"}))
    refused = served.answer(target(**WINDOW))
    assert (429, "7") == (refused.status, dict(refused.headers)["Retry-After"])
    fault = replay(answer(AT - DAY, AT, status=None)).answer(target(**WINDOW)).fault
    assert fault is not None
    assert "reset" == fault.kind
    page = answer(AT - DAY, AT)
    del page["body"]
    assert replay(page).answer(target(**WINDOW)).body.startswith(b"<html")


def test_other_requests_get_the_recorded_rows() -> None:
    """A request that wasn't recorded is answered from all rows, in pages no larger than the recorded ones."""
    rows = [row(number, AT - number * HOUR) for number in range(1, 7)]
    served = replay(answer(AT - DAY, AT, *rows[:3]), answer(AT - 2 * DAY, AT - DAY, *rows[3:]))
    found = ask(served, startFrom=NOW - 5 * HOUR, startTo=NOW - 2 * HOUR, perPage=100)
    assert [5, 4, 3] == [one["campaign_id"] for one in found]
    assert [2] == [one["campaign_id"] for one in ask(served, ids=[2, 99], perPage=100)]
    assert 3 == len(ask(served, startFrom=NOW - DAY, startTo=NOW + 1, perPage=99))


def test_clock_of_the_recorded_server() -> None:
    """A server whose clock was ahead is so again."""
    served = replay(answer(AT - DAY, AT, headers={"date": "Mon, 21 Sep 2026 14:15:20 GMT"}))
    told = dict(served.answer(target(**WINDOW)).headers)["Date"]
    assert parsedate_to_datetime(told).timestamp() - NOW == 1_790_000_120 - AT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"intarget_recording": 2}',
        '{"intarget_recording": 1}',
        '{"intarget_recording": 1, "at": 1, "answers": [{}]}',
    ],
)
def test_what_is_no_recording(text: str) -> None:
    """Anything else is refused as a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        Replay(text, Clock())


@pytest.mark.parametrize("query", ["startFrom=now", "campaignIds[]=1&perPage=many"])
def test_a_malformed_request_is_refused(query: str) -> None:
    """What no server would take ends in an answer, not in a traceback."""
    assert 422 == replay().answer(f"/rest/campaign/statistics?{query}").status


def test_unknown_path() -> None:
    """Other paths don't exist."""
    assert 404 == replay().answer("/x").status
