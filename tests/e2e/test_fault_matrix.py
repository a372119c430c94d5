"""Each limit and fault of a server, for both resources: met cold, in the steady state, and when it has gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from exporter.api.fields import RESOURCES
from tests.e2e._matrix import DAY, World

pytestmark = pytest.mark.e2e

STALE_POLLS = 7
"""Polls in thirty-five minutes: more than poll.stale_after."""


@dataclass(frozen=True)
class Limit:
    """A server that refuses or reads otherwise. Every poll of it succeeds, and reads everything.

    `cold`, `steady`: whether the result is incomplete then; None: it may be. `short`: rows may be lacking while
    it is. `requests`: how many one poll makes at most, also right after the limit has come.
    """

    dials: dict[str, Any]
    cold: bool | None = False
    steady: bool | None = False
    short: bool = False
    requests: int = 12


LIMITS = {
    "perPage over 100 is refused": Limit({"largest_per_page": 100}),
    "perPage over 100 is refused with 422": Limit({"largest_per_page": 100, "refusal": 422}),
    "ranges over 7 days are refused": Limit({"longest_range": 7 * DAY}),
    "ranges over 3 days end in 504": Limit({"longest_range": 3 * DAY, "refusal": 504}, requests=20),
    "startTo in the future is refused": Limit({"future_refused": True, "refusal": 422}),
    "long URLs are refused": Limit({"longest_target": 300}),
    "more than 10 ids are refused": Limit({"most_ids": 10}),
    "answers are slow by their range": Limit({"seconds_per_day": 4.0}),
    "cap of 50 rows": Limit({"cap": 50}, steady=None, requests=20),
    "cap of 10 rows": Limit({"cap": 10}, steady=None, requests=40),
    "cap of 20 campaigns": Limit({"cap": 20, "unit": "campaigns"}, steady=None, requests=20),
    "cap of 10 rows by ids": Limit({"cap_by_ids": 10}),
    "filters in UTC+3": Limit({"zone": 3.0}, steady=None, requests=30),
    "bounds are exclusive, cap of 10": Limit(
        {"inclusive_from": False, "inclusive_to": False, "cap": 10}, steady=None, requests=40
    ),
    "bounds are cut to days": Limit({"bounds": "days"}, cold=True, steady=None),
    "startTo bounds the end": Limit({"bounds": "end"}, cold=True, steady=None, short=True, requests=60),
    "send filters are ignored": Limit({"send_filter_ignored": True}, cold=None, steady=None, requests=80),
    "one id counts": Limit({"ids_considered": 1}, cold=None, steady=None, requests=20),
    "total of the page alone, cap of 50": Limit({"total": "page", "cap": 50}, steady=None, requests=20),
    "total of everything, cap of 50": Limit({"total": "all", "cap": 50}, steady=None, requests=20),
    "rows under numeric keys": Limit({"envelope": "keyed"}),
    "rows two levels deep": Limit({"envelope": "nested"}),
}


@dataclass(frozen=True)
class Hit:
    """A fault of every request for one resource: its polls fail for `reason`, and the log has `log`."""

    kind: str
    reason: str
    log: str
    fields: dict[str, Any] = field(default_factory=dict)
    requests: int = 6


FAULTS = {
    "429 with Retry-After": Hit(
        "rate_limited", "rate_limited", "asks for fewer requests (HTTP 429)", {"seconds": 2.0}
    ),
    "500": Hit("server_error", "server_error", "the API failed (HTTP 500)", requests=12),
    "401": Hit("unauthorized", "auth", "refused the access token (HTTP 401)", requests=1),
    "403 for this resource": Hit("forbidden", "client_error", "accepts the token elsewhere", requests=1),
    "redirect": Hit("redirect", "client_error", "base_url redirects (HTTP 302)"),
    "web page with 200": Hit("html200", "bad_response", "the answer is a web page"),
    "error with 200": Hit("error200", "bad_response", "the API says: Something went wrong."),
    "number with 200": Hit("number200", "bad_response", "the answer (a number) holds no rows"),
    "half of the JSON": Hit("cut_json", "bad_response", "the answer is not JSON"),
    "connection breaks in the body": Hit("cut_body", "connection", "the connection failed"),
    "connection is reset": Hit("reset", "connection", "the connection failed"),
    "nothing comes": Hit("hang", "timeout", "no complete answer within 30 s", {"seconds": 60.0}),
    "body drips for longer than the timeout": Hit("drip", "timeout", "no complete answer", {"seconds": 45.0}),
    "body is too large": Hit("huge", "too_large", "raise api.max_response_bytes", {"size": 2_000_000}),
}
BOTH = pytest.mark.parametrize("resource", RESOURCES)


@BOTH
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_limit_met_cold(caplog: pytest.LogCaptureFixture, limit: Limit, resource: str) -> None:
    """A server with this limit is read whole from the start, or what may be lacking is flagged."""
    world = World(resource, caplog)
    world.limit(**limit.dials)
    seen = world.poll(4)
    assert (seen.up, seen.reason) == (True, None)
    assert seen.data == "whole" or (limit.short and seen.incomplete)
    assert limit.cold in (None, seen.incomplete)
    assert seen.requests <= limit.requests
    world.limit()
    recovered = world.poll(2)
    assert (recovered.data, recovered.up) == ("whole", True)


@BOTH
@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_limit_met_in_the_steady_state(caplog: pytest.LogCaptureFixture, limit: Limit, resource: str) -> None:
    """A server that begins to limit takes nothing away: the polls go on succeeding, with everything."""
    world = World(resource, caplog)
    assert ("whole", True, False) == ((before := world.poll(4)).data, before.up, before.incomplete)
    world.limit(**limit.dials)
    for _ in range(3):
        seen = world.poll()
        assert (seen.data, seen.up, seen.reason) == ("whole", True, None)
    assert limit.steady in (None, seen.incomplete)
    assert seen.requests <= limit.requests


@BOTH
@pytest.mark.parametrize("hit", FAULTS.values(), ids=FAULTS)
def test_fault_met_cold(caplog: pytest.LogCaptureFixture, hit: Hit, resource: str) -> None:
    """Nothing is exported but the reason; the first poll after the fault brings everything."""
    world = World(resource, caplog)
    world.fail(hit.kind, **hit.fields)
    seen = world.poll(2)
    assert (seen.data, seen.up, seen.reason) == ("none", False, hit.reason)
    assert "poll failed" in seen.log
    assert hit.log in seen.log
    assert 1 <= seen.requests <= hit.requests
    world.fail(None)
    recovered = world.poll()
    assert ("whole", True, False, None) == (
        recovered.data,
        recovered.up,
        recovered.incomplete,
        recovered.reason,
    )


@BOTH
@pytest.mark.parametrize("hit", FAULTS.values(), ids=FAULTS)
def test_fault_met_in_the_steady_state(caplog: pytest.LogCaptureFixture, hit: Hit, resource: str) -> None:
    """What was read stays until it is stale, and the reason is told; afterwards everything is there again."""
    world = World(resource, caplog)
    assert "whole" == world.poll(4).data
    world.fail(hit.kind, **hit.fields)
    seen = world.poll(2)
    assert (seen.data, seen.up, seen.reason) == ("whole", False, hit.reason)
    assert hit.log in seen.log
    assert 1 <= seen.requests <= hit.requests
    assert "none" == world.poll(STALE_POLLS).data
    world.fail(None)
    recovered = world.poll()
    assert ("whole", True) == (recovered.data, recovered.up)


@BOTH
def test_a_campaign_breaks_every_answer(caplog: pytest.LogCaptureFixture, resource: str) -> None:
    """The polls go on succeeding with everything else, soon without a failing request, and it says so."""
    world = World(resource, caplog)
    world.poll(2)
    world.break_answers_with(world.campaigns()[12])
    failed = 0
    for _ in range(8):
        failed += not world.poll().up
    assert failed <= 1
    broken = world.wire.broken
    seen = world.poll(4)
    assert (True, True, broken) == (seen.up, seen.incomplete, world.wire.broken)
    assert seen.share > 0.9
    assert seen.requests <= 12


@BOTH
def test_answers_are_slow(caplog: pytest.LogCaptureFixture, resource: str) -> None:
    """Slowness within the timeout costs time, nothing else."""
    world = World(resource, caplog)
    world.fail("slow", seconds=3.0)
    for seen in (world.poll(2), world.poll(2)):
        assert ("whole", True, False) == (seen.data, seen.up, seen.incomplete)


@BOTH
@pytest.mark.parametrize("kind", ["empty", "vanish"])
def test_answers_lack_rows(caplog: pytest.LogCaptureFixture, kind: str, resource: str) -> None:
    """Known campaigns that an answer lacks stay, and the result is incomplete until they come again."""
    world = World(resource, caplog)
    assert "whole" == world.poll(4).data
    world.fail(kind)
    seen = world.poll(2)
    assert ("whole", True, True) == (seen.data, seen.up, seen.incomplete)
    world.fail(None)
    recovered = world.poll(2)
    assert ("whole", True) == (recovered.data, recovered.up)
