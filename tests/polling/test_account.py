"""One account's polls, against an API in memory and a clock that tests move."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from exporter.api import client
from exporter.api.model import Query, Reply
from exporter.config.model import Config
from exporter.errors import (
    REASONS,
    AuthError,
    BadResponseError,
    ClientError,
    ConnectionFailedError,
    DeadlineError,
    InternalError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    StateError,
    StoppedError,
    TooLargeError,
)
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.polling.account import AccountPoller
from exporter.polling.resource_poller import ResourcePoller
from exporter.tracking.model import Snapshot
from exporter.tracking.state_file import State
from exporter.tracking.window import Window
from tests._apiserver import CONVERSIONS, STATISTICS, TOKEN, Api, ApiServer, Asked, conversion, row, spread
from tests._program import Samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOW = 1_763_000_000.0
URL = "http://127.0.0.1:9"
HOUR = 3600.0
DAY = 86400.0
SENT = "intarget_campaign_messages_sent_total"
CHANNEL_SENT = "intarget_channel_messages_sent_total"
_STATUS = {401: AuthError, 429: RateLimitedError, 404: ClientError, 500: ServerError}


class Clock:
    """Both clocks; they stand still unless they are moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Client:
    """Stands in for `ApiClient`: asks an `Api` in memory; each request takes `seconds` of the clock."""

    seconds = 0.0

    def __init__(self, api: Api, clock: Clock, stop: threading.Event, on_request: Callable[..., None]) -> None:
        self.api, self.clock, self.stop, self.on_request = api, clock, stop, on_request

    def get(self, resource: str, query: Query, *, deadline: float) -> Reply:
        """Ask, with the parameters that would be sent."""
        if self.stop.is_set():
            raise StoppedError("stopped")
        if self.clock.now + self.seconds > deadline:
            raise DeadlineError("time is up")
        self.clock.now += self.seconds
        encoded = "&".join(f"{name}={value}" for name, value in client.query_parameters(query))
        parameters = parse_qs(encoded) | {"access-token": [TOKEN]}
        status, headers, body = self.api.answer(Asked(client.PATHS[resource], parameters))
        self.on_request(resource, str(status), 0.0)
        if status != 200:
            raise _STATUS[status](f"status {status}")
        return Reply(body, {name.lower(): value for name, value in headers.items()}, 0.0)

    def close(self) -> None:
        """Nothing is open."""


class World:
    """An account, its API, and whoever scrapes it."""

    def __init__(self) -> None:
        self.api = Api()
        self.clock = Clock()
        self.metrics = SelfMetrics()
        self.state = State.open(None, clock=self.clock)
        self.published = 0
        self.exposition = Exposition(self.metrics)
        self.poller: AccountPoller | None = None
        self.config: dict[str, Any] = {
            "accounts": [{"name": "main", "access_token": TOKEN, "base_url": "http://127.0.0.1:9"}],
            "api": {"concurrency": 1, "requests_per_second": 100_000.0, "retries": 0},
        }

    def start(self, *, save: bool = True, **sections: Any) -> AccountPoller:  # noqa: ANN401 - of the config
        """Begin to poll, as after a (re)start."""
        for section, keys in sections.items():
            self.config[section] = self.config.get(section, {}) | keys
        config = Config.model_validate(self.config)

        def publish(_: AccountPoller) -> None:
            assert self.poller is not None
            self.published += 1
            self.exposition.publish(Snapshot((self.poller.snapshot,)))

        self.poller = AccountPoller(
            config.accounts[0],
            config,
            state=self.state,
            metrics=self.metrics,
            publish=publish,
            wall=self.clock,
            monotonic=self.clock,
            save=save,
            connect=partial(Client, self.api, self.clock),
        )
        return self.poller

    def save_to(self, path: Path) -> None:
        """Keep the state in a file from the next start on."""
        self.state.close()
        self.state = State.open(path, clock=self.clock)

    def poll(self, resource: str = "statistics", *, at: float | None = None) -> bool:
        """Poll, at a time maybe."""
        assert self.poller is not None
        if at is not None:
            self.clock.now = at
        return self.poller.poll(resource)

    def tick(self, at: float) -> None:
        """Let time pass without a poll."""
        assert self.poller is not None
        self.clock.now = at
        self.poller.tick()

    def value(self, name: str, **labels: str) -> float | None:
        """Return what a scrape finds: the sum over all series with these labels; None: there are none."""
        return self.scrape().value(name, **labels)

    def scrape(self) -> Samples:
        """Return what a scrape finds."""
        return Samples(self.exposition.respond(None, None).body.decode())

    def asked(self, kind: str, path: str = STATISTICS) -> list[Asked]:
        """Return and forget the questions of one kind."""
        found = [asked for asked in self.api.asked if (asked.kind, asked.path) == (kind, path)]
        self.api.asked = [asked for asked in self.api.asked if asked not in found]
        return found


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world whose API kept to the documented parameters when the test ends."""
    one = World()
    yield one
    if one.poller is not None:
        one.poller.stop()
    one.state.close()
    assert [] == one.api.violations


# Tiers


def test_young_campaigns_are_read_more_often(world: World) -> None:
    """By default the last two days are read every five minutes, the whole window every hour."""
    world.start(poll={"still_sending": None})
    oldest = []
    for poll in range(14):
        assert world.poll(at=NOW + 300 * poll)
        questions = world.asked("start")
        oldest.append(questions[0].bound("startFrom") - world.clock.now)
    days = [round(-age / DAY) for age in oldest]
    assert [14, *[2] * 11, 14, 2] == days
    assert 300 == world.poller.intervals["statistics"] if world.poller else None


def test_values_change_by_tier(world: World) -> None:
    """A campaign's growth shows when its tier is due, not before."""
    young, old = row(1, NOW - HOUR), row(2, NOW - 5 * DAY)
    world.api.rows[STATISTICS] = [young, old]
    world.start(poll={"still_sending": None})
    world.poll()
    young["sent"] = old["sent"] = 9000
    world.poll(at=NOW + 300)
    assert (9000, 1250) == (world.value(SENT, campaign_id="1"), world.value(SENT, campaign_id="2"))
    world.poll(at=NOW + 3600)
    assert 9000 == world.value(SENT, campaign_id="2")


# Old campaigns


def test_old_campaigns_that_still_send(world: World) -> None:
    """One that started before the window is found by its sends; its totals are read without a send filter."""
    world.api.rows[STATISTICS] = [
        row(7, NOW - 60 * DAY, sent=5000),
        row(8, NOW - 60 * DAY),
        row(9, NOW - HOUR),
    ]
    world.api.sent = {7: [NOW - 100], 8: [NOW - 30 * DAY], 9: [NOW - HOUR]}
    world.start()
    assert world.poll()
    assert 5000 == world.value(SENT, campaign_id="7")
    assert world.value(SENT, campaign_id="8") is None
    assert 0 == world.value(CHANNEL_SENT)
    assert ["7"] == [number for asked in world.asked("ids") for number in asked.parameters["campaignIds[]"]]
    assert all("startFrom" not in asked.parameters for asked in world.asked("send"))


def test_discovery_has_an_interval_of_its_own(world: World) -> None:
    """Polls between two discoveries ask neither for sends nor for old campaigns."""
    world.api.rows[STATISTICS] = [row(7, NOW - 60 * DAY)]
    world.api.sent = {7: [NOW - 100]}
    world.start()
    asked = []
    for poll in range(7):
        world.poll(at=NOW + 300 * poll)
        asked.append((bool(world.asked("send")), bool(world.asked("ids"))))
    assert [(poll % 3 == 0,) * 2 for poll in range(7)] == asked


def test_old_campaigns_leave_when_they_send_no_more(world: World) -> None:
    """They stay for poll.window after they were last found sending, are read meanwhile, and come back as is."""
    old = row(7, NOW - 60 * DAY, sent=5000)
    world.api.rows[STATISTICS] = [old]
    world.api.sent = {7: [NOW - 100]}
    world.start(poll={"window": "2d", "stale_after": "30d"})
    world.poll()
    old["sent"] = 5010
    world.poll(at=NOW + 1.9 * DAY)
    assert (5010, 10) == (world.value(SENT, campaign_id="7"), world.value(CHANNEL_SENT))
    world.tick(NOW + 2.1 * DAY)
    assert world.value(SENT, campaign_id="7") is None
    assert 10 == world.value(CHANNEL_SENT)
    world.api.sent = {7: [NOW + 3 * DAY]}
    old["sent"] = 5015
    world.poll(at=NOW + 3 * DAY)
    assert (5015, 15) == (world.value(SENT, campaign_id="7"), world.value(CHANNEL_SENT))


def test_an_api_without_send_filters(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Where the send filter selects nothing out, old campaigns can't be told from ended ones: that is said."""
    world.api.rows[STATISTICS] = [row(7, NOW - 60 * DAY), row(9, NOW - HOUR)]
    world.api.send_filter = False
    world.start()
    assert world.poll()
    assert world.value(SENT, campaign_id="7") is None
    assert 1250 == world.value(SENT, campaign_id="9")
    assert "ignores send filters" in caplog.text


def test_discovery_can_be_off(world: World) -> None:
    """With still_sending: null nothing is asked by sends."""
    world.start(poll={"still_sending": None})
    world.poll()
    assert [] == world.asked("send")


def test_a_failed_search_fails_no_poll(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A server that refuses to be searched for old campaigns costs nothing of the window; that is told."""
    world.api.rows[STATISTICS] = [row(7, NOW - 60 * DAY, sent=5000), row(9, NOW - HOUR)]
    world.api.sent = {7: [NOW - 100]}
    world.api.fault = lambda asked: (500, {}, b"") if asked.kind == "send" else None
    poller = world.start(poll={"conversions_every": None})
    assert world.poll()
    assert (1250, 1, 1) == (
        world.value(SENT),
        world.value("intarget_up"),
        world.value("intarget_results_incomplete", resource="statistics"),
    )
    assert {"still sending": "status 500"} == poller.status().resources[0].failed_jobs
    assert "part of a poll failed" in caplog.text
    world.api.fault = lambda _: None
    assert world.poll(at=NOW + 300)
    assert (6250, 0) == (
        world.value(SENT),
        world.value("intarget_results_incomplete", resource="statistics"),
    )
    assert {} == poller.status().resources[0].failed_jobs


def test_a_moved_campaign_that_cannot_be_read_again_waits(world: World) -> None:
    """While it can't be read by its id it keeps its values, rather than counting under both starts."""
    moving = row(1, NOW - 5 * DAY, sent=1000)
    world.api.rows[STATISTICS] = [moving, row(2, NOW - HOUR, sent=10)]
    world.start(poll={"still_sending": None})
    world.poll()
    moving.update(row(1, NOW - HOUR, sent=1100))
    world.api.rows[STATISTICS][1]["sent"] = 11
    world.api.fault = lambda asked: (500, {}, b"") if asked.kind == "ids" else None
    assert world.poll(at=NOW + 300)
    assert (1000, 11) == (world.value(SENT, campaign_id="1"), world.value(SENT, campaign_id="2"))
    world.api.fault = lambda _: None
    assert world.poll(at=NOW + 600)
    assert (1100, 101) == (world.value(SENT, campaign_id="1"), world.value(CHANNEL_SENT))


# Conversions


def test_conversions(world: World) -> None:
    """Their gauges and the campaign's name and end are exported beside the counters."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.api.rows[CONVERSIONS] = [
        conversion(1, NOW - HOUR, campaign_stop_at="2025-11-13 00:00:00+00"),
        conversion(1, NOW - HOUR, conversion_event="Clicked", deposits_count=None),
    ]
    poller = world.start()
    assert {"statistics": 300, "conversions": 900} == poller.intervals
    assert world.poll()
    assert not poller.succeeded
    assert world.poll("conversions")
    assert poller.succeeded
    assert 18752.4 == world.value("intarget_campaign_deposits_amount", conversion_event="Opened")
    assert world.value("intarget_campaign_deposits", conversion_event="Clicked") is None
    assert 1 == world.value("intarget_campaign_info", campaign_name="Campaign 1")
    assert 1_762_992_000 == world.value("intarget_campaign_stop_timestamp_seconds")
    assert 1 == world.value("intarget_up")


def test_conversions_of_old_campaigns_are_read_by_id(world: World) -> None:
    """Those of a campaign that was found by its sends are asked for by its id."""
    world.api.rows[STATISTICS] = [row(7, NOW - 60 * DAY)]
    world.api.rows[CONVERSIONS] = [conversion(7, NOW - 60 * DAY)]
    world.api.sent = {7: [NOW - 100]}
    world.start()
    world.poll()
    world.poll("conversions")
    assert ["7"] == world.asked("ids", CONVERSIONS)[0].parameters["campaignIds[]"]
    assert 154 == world.value("intarget_campaign_deposits", campaign_id="7")


def test_conversions_can_be_off(world: World) -> None:
    """With conversions_every: null there is no such resource: not asked, not waited for, not in any metric."""
    poller = world.start(poll={"conversions_every": None})
    assert world.poll()
    assert (["statistics"], True) == (list(poller.intervals), poller.succeeded)
    assert 0 == world.api.count(CONVERSIONS)
    assert 1 == world.value("intarget_up")
    assert world.value("intarget_polls_total", resource="conversions") is None


# Deadlines


def test_a_missed_deadline_is_made_up_for(world: World) -> None:
    """2,000 rows at a cap of 10 and a fraction of the time they take: each poll goes on, and it ends."""
    starts = [NOW - 14 * DAY + 500 + 600 * index for index in range(2000)]
    world.api.rows[STATISTICS] = spread(1, starts, sent=1)
    world.api.cap = 10
    poller = world.start(poll={"still_sending": None}, api={"deadline": "50s"})
    Client.seconds = 0.5
    try:
        exported = []
        results = []
        for poll in range(20):
            results.append(world.poll(at=NOW + 300 * poll))
            exported.append(len(poller.snapshot.campaigns))
            assert 1.1 * 50 >= world.clock.now - NOW - 300 * poll
            if not poller.status().resources[0].incomplete:
                break
    finally:
        Client.seconds = 0.0
    assert not poller.status().resources[0].incomplete
    assert all(results)  # what was read in time is fresh
    assert len(results) > 1
    assert sorted(exported) == exported
    assert 0 < exported[0] < exported[-1]
    gone = sum(1 for start in starts if start <= world.clock.now - 14 * DAY)
    assert 2000 - gone == exported[-1]
    deadlines = world.value("intarget_poll_failures_total", resource="statistics", reason="deadline")
    assert 0 == deadlines
    assert 5 * 200 + 20 >= world.api.count(STATISTICS)


def test_rows_read_before_a_failure_stand(world: World) -> None:
    """What a poll has read before it fails is exported, and the poll is a failure all the same."""
    world.api.rows[STATISTICS] = spread(1, [NOW - DAY * 13 + index * 9000 for index in range(100)])
    world.api.cap = 10
    world.start(poll={"still_sending": None})
    world.api.fault = lambda _: (500, {}, b"") if world.api.count() > 12 else None
    assert not world.poll()
    assert (0, 1) == (
        world.value("intarget_up"),
        world.value("intarget_poll_failures_total", resource="statistics", reason="server_error"),
    )
    assert 0 < len(world.scrape().series(SENT)) < 100


# Failures


@pytest.mark.parametrize(
    "error",
    [
        RequestTimeoutError,
        ConnectionFailedError,
        AuthError,
        RateLimitedError,
        ServerError,
        ClientError,
        BadResponseError,
        TooLargeError,
        DeadlineError,
        InternalError,
    ],
)
def test_each_failure_has_its_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """A failed poll counts under its reason and no other, with its words in the status and in the log."""
    poller = world.start()
    zeros = [world.value("intarget_poll_failures_total", reason=reason) for reason in REASONS]
    assert [0] * len(REASONS) == zeros

    def fail(*_: object, **__: object) -> Reply:
        raise error("words for people")

    monkeypatch.setattr(Client, "get", fail)
    assert not world.poll()
    reason = getattr(error, "reason", "")
    for resource, expected in (("statistics", 1), ("conversions", 0)):
        found = {
            one: world.value("intarget_poll_failures_total", resource=resource, reason=one) for one in REASONS
        }
        assert {one: float(expected and one == reason) for one in REASONS} == found
    status = poller.status().resources[0]
    assert ("words for people", reason, 1) == (status.error, status.reason, status.polls)
    assert (None, None) == (status.last_success, world.value(SENT))
    assert 0 == world.value("intarget_up")


def test_a_fault_of_our_own_is_internal(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug while reading counts as internal, is logged, and the next poll is as good as any."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start()
    monkeypatch.setattr(ResourcePoller, "ask", lambda *_: 1 / 0)
    assert not world.poll()
    assert 1 == world.value("intarget_poll_failures_total", resource="statistics", reason="internal")
    assert "ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    assert world.poll(at=NOW + 300)
    assert 1250 == world.value(SENT)


def test_a_fault_while_merging_is_internal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does a bug while merging: nothing is published of it, and polling goes on."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    poller = world.start()
    monkeypatch.setattr(Window, "merge_statistics", lambda *_, **__: 1 / 0)
    assert not world.poll()
    assert 1 == world.value("intarget_poll_failures_total", resource="statistics", reason="internal")
    assert 0 == world.published
    assert not poller.succeeded
    monkeypatch.undo()
    assert world.poll(at=NOW + 300)
    assert 1250 == world.value(SENT)


def test_nothing_is_lost_by_a_fault_while_merging(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What such a poll had read is read again by the next one, not after the tier's interval."""
    old = row(1, NOW - 5 * DAY)
    world.api.rows[STATISTICS] = [old]
    world.start()
    monkeypatch.setattr(Window, "merge_statistics", lambda *_, **__: 1 / 0)
    world.poll()
    monkeypatch.undo()
    world.poll(at=NOW + 300)
    assert 1250 == world.value(SENT)


def test_one_unreadable_answer_fails_the_poll(world: World) -> None:
    """An error object with status 200 is a failure; what was exported stays."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start()
    world.poll()
    world.api.fault = lambda _: (200, {}, b'{"error": "maintenance"}')
    assert not world.poll(at=NOW + 300)
    assert 1250 == world.value(SENT)
    assert 1 == world.value("intarget_poll_failures_total", resource="statistics", reason="bad_response")
    world.api.fault = lambda _: None
    assert world.poll(at=NOW + 600)


def test_a_vanished_campaign_stays(world: World) -> None:
    """One that an answer no longer has keeps its values until it leaves the window."""
    world.api.rows[STATISTICS] = [row(1, NOW - 13 * DAY), row(2, NOW - HOUR)]
    world.start(poll={"stale_after": "30d"})
    world.poll()
    del world.api.rows[STATISTICS][0]
    world.poll(at=NOW + HOUR)
    assert 1250 == world.value(SENT, campaign_id="1")
    world.tick(NOW + 1.01 * DAY)
    assert world.value(SENT, campaign_id="1") is None
    assert 1250 == world.value(SENT, campaign_id="2")


# Readiness and staleness


def test_ready_after_the_first_poll(world: World) -> None:
    """Before it, there is nothing to serve and the status says so; after it there is, failed or not."""
    poller = world.start()
    assert (False, "waiting for the first poll to end") == (poller.status().ready, poller.status().problem)
    world.api.fault = lambda _: (401, {}, b"")
    world.poll()
    assert (True, None) == (poller.status().ready, poller.status().problem)
    world.poller = None
    poller = world.start()
    assert not poller.status().ready
    world.api.fault = lambda _: None
    world.poll()
    assert poller.status().ready


def test_data_are_withdrawn_when_stale(world: World) -> None:
    """Without a success for stale_after campaigns go, by the clock alone, and what says so stays."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    poller = world.start()
    world.poll()
    world.api.fault = lambda _: (500, {}, b"")
    world.poll(at=NOW + 900)
    assert 1250 == world.value(SENT)
    world.tick(NOW + 1799)
    assert 1250 == world.value(SENT)
    world.tick(NOW + 1800)
    assert (None, None) == (world.value(SENT), world.value(CHANNEL_SENT))
    assert (0, NOW) == (
        world.value("intarget_up"),
        world.value("intarget_last_success_timestamp_seconds", resource="statistics"),
    )
    assert (True, False) == (poller.status().stale, poller.fresh)
    world.api.fault = lambda _: None
    world.api.rows[STATISTICS][0]["sent"] = 1260
    world.poll(at=NOW + 2000)
    assert (1260, 10) == (world.value(SENT), world.value(CHANNEL_SENT))
    assert poller.fresh


def test_saved_data_are_served_at_once_if_fresh(world: World) -> None:
    """A restart has the last data before its first poll ends, unless they are too old."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start()
    world.poll()
    for later, fresh in ((600, True), (1800, False)):
        world.clock.now = NOW + later
        poller = world.start()
        assert (fresh, fresh, int(fresh)) == (
            poller.fresh,
            poller.status().ready,
            len(poller.snapshot.campaigns),
        )
        assert NOW == world.value("intarget_last_success_timestamp_seconds", resource="statistics")


# Counters


def test_new_campaigns_are_held_at_0(world: World) -> None:
    """One that is new stands at 0 for zero_hold and then, by the clock alone, at its value."""
    world.start()
    world.poll()
    world.api.rows[STATISTICS] = [row(1, NOW + 100)]
    world.poll(at=NOW + 300)
    assert (0, 0) == (world.value(SENT), world.value(CHANNEL_SENT))
    world.tick(NOW + 359)
    assert 0 == world.value(SENT)
    world.tick(NOW + 360)
    assert (1250, 1250) == (world.value(SENT), world.value(CHANNEL_SENT))


def test_who_asks_only_once_sees_no_hold(world: World) -> None:
    """`snapshot_without_holds` has the values, and what is published has the 0."""
    poller = world.start()
    world.poll()
    world.api.rows[STATISTICS] = [row(1, NOW + 100)]
    world.poll(at=NOW + 300)
    (free,), (held,) = poller.snapshot_without_holds().campaigns, poller.snapshot.campaigns
    assert (1250, 0) == (free.values.sent, held.values.sent)


def test_a_moved_campaign_counts_once(world: World) -> None:
    """A start that is changed, even into what was read before, doesn't make two campaigns of one."""
    moving = row(1, NOW - 5 * DAY, sent=1000)
    world.api.rows[STATISTICS] = [moving]
    world.start()
    world.poll()
    moving.update(row(1, NOW - HOUR, sent=1100))
    world.poll(at=NOW + 300)
    assert (1100, 100) == (world.value(SENT), world.value(CHANNEL_SENT))


def test_a_campaign_that_moved_while_it_was_away_counts_once(world: World) -> None:
    """One that left the window and is back with a later start adds only its growth, after a restart, too."""
    moving = row(1, NOW - 5 * DAY, sent=1000)
    world.api.rows[STATISTICS] = [moving]
    world.start()
    world.poll()
    world.poll(at=NOW + 10 * DAY)
    assert world.value(SENT) is None
    world.start()
    moving.update(row(1, NOW + 10 * DAY, sent=1100))
    world.poll(at=NOW + 10 * DAY + 300)
    assert (1100, 100) == (world.value(SENT), world.value(CHANNEL_SENT))


def test_corrections_are_reported(world: World) -> None:
    """A step down doesn't show in the counters; how far they stand above InTarget's figure is told."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start()
    world.poll()
    world.api.rows[STATISTICS][0]["sent"] = 1249
    world.poll(at=NOW + 300)
    world.poll(at=NOW + 600)
    assert 1250 == world.value(SENT)
    assert 1 == world.value("intarget_campaign_overcount", channel="email", field="sent")
    assert world.value("intarget_campaign_overcount", channel="email", field="opened") is None
    assert 1 == world.value("intarget_channel_overcount", channel="email", field="sent")
    assert 0 == world.value("intarget_channel_overcount", channel="email", field="opened")


def test_invalid_values_and_unknown_fields(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Both are counted by resource, unknown fields named once, in short; the other values are exported."""
    odd = {"colour": "red", "z" * 1000: 1}
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR, sent=-1, **odd), row(2, NOW - HOUR, sent=None)]
    world.start()
    world.poll()
    world.poll(at=NOW + 300)
    names = [record.fields["names"] for record in caplog.records if "fields" in record.msg]
    assert [f"colour {'z' * 255}…"] == names
    assert 1 <= (world.value("intarget_api_invalid_values_total", resource="statistics", field="sent") or 0)
    assert 2 == world.value("intarget_api_unknown_fields", resource="statistics")
    assert {} == world.scrape().series(SENT)
    assert 2 * 1234 == world.value("intarget_campaign_messages_delivered_total")


# Incomplete answers


def test_incomplete_stays_until_it_is_disproven(world: World) -> None:
    """A flag raised for old campaigns isn't taken back by polls that read only young ones."""
    second = NOW - 5 * DAY
    dense = [row(5000 + index, second) for index in range(30)]  # no known campaign above them
    world.api.rows[STATISTICS] = [*dense, *spread(100, [NOW - 12 * DAY + 3600 * index for index in range(40)])]
    world.api.cap = 10
    poller = world.start(poll={"still_sending": None, "conversions_every": None})
    assert world.poll()
    assert (1, 1) == (
        world.value("intarget_results_incomplete", resource="statistics"),
        world.value("intarget_up"),
    )
    world.poll(at=NOW + 300)
    assert 1 == world.value("intarget_results_incomplete", resource="statistics")
    assert poller.status().resources[0].incomplete
    world.api.cap = None
    world.poll(at=NOW + 25 * HOUR)  # what was learned of the server is doubted daily
    assert 0 == world.value("intarget_results_incomplete", resource="statistics")
    assert 70 == len(world.scrape().series(SENT))


def test_what_was_never_read_is_not_complete(world: World) -> None:
    """Before the first success nothing is said of completeness; a later failure takes back nothing."""
    labels = {"resource": "statistics"}
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.api.fault = lambda _: (500, {}, b"")
    world.start()
    assert not world.poll()
    assert world.value("intarget_results_incomplete", **labels) is None
    world.api.fault = lambda _: None
    assert world.poll(at=NOW + 300)
    assert 0 == world.value("intarget_results_incomplete", **labels)
    world.api.fault = lambda _: (500, {}, b"")
    assert not world.poll(at=NOW + 600)
    assert 0 == world.value("intarget_results_incomplete", **labels)


def test_rows_of_a_first_poll_that_failed_are_told_to_be_incomplete(world: World) -> None:
    """A first poll that misses its deadline with nothing proven exposes what it read, and says so."""
    world.api.rows[STATISTICS] = spread(1, [NOW - 600 * index for index in range(1, 100)])
    world.api.cap = 10
    poller = world.start(poll={"still_sending": None}, api={"deadline": "70s"})
    Client.seconds = 20.0
    try:
        assert not world.poll()
    finally:
        Client.seconds = 0.0
    assert 10 == len(poller.snapshot.campaigns)
    assert 1 == world.value("intarget_results_incomplete", resource="statistics")


def test_incomplete_ends_with_the_window(world: World) -> None:
    """Once the seconds in doubt have left the window there is nothing to doubt."""
    world.api.rows[STATISTICS] = [row(10 + index, NOW - 13.9 * DAY) for index in range(30)]
    world.api.cap = 10
    world.start(poll={"still_sending": None, "stale_after": "30d"})
    world.poll()
    assert 1 == world.value("intarget_results_incomplete", resource="statistics")
    world.poll(at=NOW + 0.5 * DAY)
    assert 0 == world.value("intarget_results_incomplete", resource="statistics")


# State


def test_a_failing_state_is_counted_and_polling_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What can't be saved is exported all the same, and saved as soon as that works."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    poller = world.start()

    def full(*_: object) -> None:
        raise StateError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(world.state, "save", full)
        patch.setattr(world.state, "load_campaigns", full)
        assert world.poll()
    assert (1250, 1) == (world.value(SENT), world.value("intarget_state_save_failures_total"))
    assert "state not saved" in caplog.text
    assert world.state.load("main", URL) is None
    poller.tick()
    assert world.poll(at=NOW + 300)
    saved = world.state.load("main", URL)
    assert saved is not None
    assert [1] == [campaign.campaign_id for campaign in saved.campaigns]


def test_a_lost_state_is_saved_as_a_whole(world: World, tmp_path: Path) -> None:
    """If the file is removed under the running exporter, everything goes into the new one."""
    world.api.rows[STATISTICS] = [row(1, NOW - 5 * DAY), row(2, NOW - HOUR)]
    world.save_to(tmp_path / "state.db")
    world.start()
    world.poll()
    for file in tmp_path.glob("state.db*"):
        if not file.name.endswith(".lock"):
            file.unlink()
    world.api.rows[STATISTICS][1]["sent"] = 2000
    assert world.poll(at=NOW + 300)
    saved = world.state.load("main", URL)
    assert saved is not None
    assert {1, 2} == {campaign.campaign_id for campaign in saved.campaigns}


def test_an_unreadable_state_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If what was saved can't be read, nothing is written over it: the account goes on in memory."""
    written: list[object] = []

    def broken(*_: object) -> None:
        raise StateError("broken")

    monkeypatch.setattr(world.state, "load", broken)
    monkeypatch.setattr(world.state, "save", lambda *given: written.append(given))
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start()
    assert world.poll()
    assert ([], 1250) == (written, world.value(SENT))
    assert 2 == world.value("intarget_state_save_failures_total")


def test_a_state_that_can_be_read_again_is_taken_up(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found meanwhile goes into it, no counter makes a step, and the next start goes on from there."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.save_to(tmp_path / "state.db")
    world.start(poll={"still_sending": None})
    world.poll()
    world.api.rows[STATISTICS][0]["sent"] = 2000
    world.poll(at=NOW + 300)
    world.tick(NOW + 400)
    assert 750 == world.value(CHANNEL_SENT)
    with monkeypatch.context() as patch:

        def fail(*_: object) -> None:
            raise StateError("no such disk")

        for name in ("load", "load_campaigns", "save"):
            patch.setattr(world.state, name, fail)
        poller = world.start()
        world.api.rows[STATISTICS][0]["sent"] = 2100
        assert world.poll(at=NOW + 600)
        world.api.rows[STATISTICS][0]["sent"] = 2130
        assert world.poll(at=NOW + 900)
        world.tick(NOW + 1000)
        assert (2130, 30) == (world.value(SENT), world.value(CHANNEL_SENT))
        assert 0 == world.value("intarget_state_persistent")
        assert "no such disk" == poller.state_problem
    poller.save_again()
    assert (None, 1) == (poller.state_problem, world.value("intarget_state_persistent"))
    world.api.rows[STATISTICS][0]["sent"] = 2135
    assert world.poll(at=NOW + 1200)
    assert (2135, 35) == (world.value(SENT), world.value(CHANNEL_SENT))
    world.start()
    assert NOW + 400 == world.value("intarget_state_start_timestamp_seconds")
    world.api.rows[STATISTICS][0]["sent"] = 2140
    assert world.poll(at=NOW + 1500)
    assert (2140, 40) == (world.value(SENT), world.value(CHANNEL_SENT))


def test_saved_before_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment something is published it is in the state: polls, ends of holds and conversions."""
    world.api.rows[CONVERSIONS] = [conversion(1, NOW + 100)]
    poller = world.start()
    order: list[str] = []
    save = world.state.save
    monkeypatch.setattr(world.state, "save", lambda *given: (order.append("save"), save(*given)))
    monkeypatch.setattr(poller, "_publish", lambda _: order.append("publish"))
    world.poll()
    world.api.rows[STATISTICS] = [row(1, NOW + 100)]
    world.poll(at=NOW + 300)
    world.poll("conversions")
    world.tick(NOW + 360)
    assert ["save", "publish"] * 4 == order


def test_nothing_is_written_where_nothing_may_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `save` the state is only read."""
    monkeypatch.setattr(world.state, "save", lambda *_: pytest.fail("saved"))
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    world.start(save=False)
    assert world.poll()


def test_what_is_known_of_the_cap_survives_a_restart(world: World) -> None:
    """The second start doesn't pay for finding it out again."""
    world.api.rows[STATISTICS] = spread(1, [NOW - 13 * DAY + index * 3600 for index in range(300)])
    world.api.cap = 50
    poller = world.start(poll={"still_sending": None})
    world.poll()
    assert "50" == poller.status().resources[0].page_cap
    poller = world.start(poll={"still_sending": None})
    assert "50" == poller.status().resources[0].page_cap
    before = world.api.count(STATISTICS)
    world.poll(at=NOW + 300)
    assert world.api.count(STATISTICS) - before <= 300 / 50 + 3, "where rows are is known, too"


# Stopping


def test_a_stopped_poll_has_no_result(world: World) -> None:
    """A stop ends a poll without a failure, and nothing is published or saved afterwards."""
    world.api.rows[STATISTICS] = [row(1, NOW - HOUR)]
    poller = world.start()

    def stop(_: Asked) -> None:
        threading.Thread(target=poller.stop).start()
        assert poller._stop.wait(10)

    world.api.fault = stop
    assert not world.poll()
    assert 0 == world.published
    world.tick(NOW + DAY)
    assert 0 == world.published
    assert 0 == world.value("intarget_poll_failures_total")


def test_requests_per_hour(world: World) -> None:
    """The status counts the requests of the last hour."""
    poller = world.start(poll={"still_sending": None})
    for poll in range(24):
        world.poll(at=NOW + 300 * poll)
    assert 12 == poller.status().resources[0].requests_per_hour


# Over real sockets


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    [
        (401, "auth", 1),
        (403, "auth", 2),
        (404, "client_error", 1),
        (302, "client_error", 1),
        (503, "server_error", 4),  # and whether it is up at all
    ],
)
def test_refusals_over_sockets(status: int, reason: str, requests: int) -> None:
    """With the real client: a refused token isn't tried again within a poll, a failing server is."""
    clock = Clock()
    with ApiServer() as server:
        server.api.fault = lambda _: (status, {"Location": server.url}, b"")
        config = Config.model_validate(
            {
                "accounts": [{"name": "main", "access_token": TOKEN, "base_url": server.url}],
                "api": {"requests_per_second": 100_000.0, "retries": 1},
            }
        )
        metrics = SelfMetrics()
        state = State.open(None, clock=clock)
        poller = AccountPoller(
            config.accounts[0],
            config,
            state=state,
            metrics=metrics,
            publish=lambda _: None,
            wall=clock,
            monotonic=time.monotonic,
        )
        for poll in (1, 2):
            assert not poller.poll("statistics")
            assert poll * requests == server.api.count()
        poller.stop()
        state.close()
    found = Samples(b"".join(metrics.render(openmetrics=False).families).decode())
    assert 2 == found.value("intarget_poll_failures_total", resource="statistics", reason=reason)
    assert 2 * requests == found.value("intarget_api_requests_total", code=str(status))


def test_a_moved_campaign_with_many_messages_counts_once(world: World) -> None:
    """Messages that can't be proven to be all are still those of one campaign, whatever start they have now."""
    world.api.rows[STATISTICS] = [row(7, NOW - DAY, title=f"m{i}", sent=100) for i in range(12)]
    world.start(poll={"still_sending": None})
    assert world.poll()
    assert 1200 == world.value(SENT, campaign_id="7")
    for moved in world.api.rows[STATISTICS]:
        moved["campaign_start_at"] = row(7, NOW - DAY + 7200)["campaign_start_at"]
    for at in (NOW + 300, NOW + 600):
        assert world.poll(at=at)
        assert 1200 == world.value(SENT, campaign_id="7")
        assert 0 == world.value(CHANNEL_SENT, channel="email")


@pytest.mark.parametrize(("cap", "count"), [(10, 25), (10, 11), (10, 10), (50, 60), (None, 12)])
def test_a_campaign_with_many_starts_is_read_whole(world: World, cap: int | None, count: int) -> None:
    """A campaign with more rows than its id can prove, each with a start of its own, has all of them, once."""
    rows = [row(1, NOW - (3 + index) * HOUR, title=f"m{index}", sent=100) for index in range(count)]
    world.api.rows[STATISTICS] = rows
    world.api.cap = cap
    world.start(poll={"still_sending": None})
    assert world.poll()
    assert 100 * count == world.value(SENT)
    rows[3]["sent"] = 150
    rows.append(row(1, NOW + 60, title="new", sent=7))
    assert world.poll(at=NOW + 3600)
    assert 100 * count + 57 == world.value(SENT)
    world.tick(NOW + 3700)
    assert 57 == world.value(CHANNEL_SENT)


def test_conversions_with_many_starts_are_not_doubled(world: World) -> None:
    """Conversions of one campaign, beyond what its id can prove, are summed once."""
    world.api.rows[CONVERSIONS] = [
        conversion(1, NOW - (3 + index) * HOUR, deposits_count="5") for index in range(12)
    ]
    world.api.cap = 10
    world.start(poll={"still_sending": None})
    assert world.poll("statistics")
    for at in (NOW, NOW + 900):
        assert world.poll("conversions", at=at)
        assert 60 == world.value("intarget_campaign_deposits")


def test_a_dense_second_that_thins_out_is_proven_again(world: World) -> None:
    """Once so few rows are left in a second that an answer proves them, nothing is incomplete any more."""
    dense = [row(1, NOW - 5 * DAY, title=f"m{index}", sent=1) for index in range(12)]
    world.api.rows[STATISTICS] = dense
    world.api.cap = 10
    world.start(poll={"still_sending": None})
    assert world.poll()
    assert 1 == world.value("intarget_results_incomplete", resource="statistics")
    del dense[5:]
    assert world.poll(at=NOW + 3600)
    assert world.poll(at=NOW + 7200)
    assert 0 == world.value("intarget_results_incomplete", resource="statistics")
