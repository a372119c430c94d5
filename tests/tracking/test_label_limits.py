"""Tests of how many channels, conversion events and periods an account may have."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.api.fields import CHANNEL, EVENT, LABEL_LIMITS
from exporter.api.model import Page, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.campaigns import MOST_GONE
from exporter.tracking.codec import dump, pack_campaign
from exporter.tracking.groups import MOST_TITLES
from exporter.tracking.state_file import State
from exporter.tracking.window import Window
from tests import _builders
from tests._builders import NOW, at, conversion, row

if TYPE_CHECKING:
    from exporter.api.model import Conversion, MessageStats, R
    from exporter.tracking.model import WindowSettings

SETTINGS = replace(_builders.SETTINGS, stale_after=1e9, conversions_stale_after=1e9, zero_hold=0.0)
URL = "https://api.example"
EVERYTHING = (TimeRange(0, 10**9),)
MANY = 3 * max(LABEL_LIMITS.values())


class Account:
    """A window over a state in memory, polled every five minutes."""

    def __init__(self, state: State, settings: WindowSettings = SETTINGS) -> None:
        self._state = state
        self._settings = settings
        self._now = NOW
        self.excess: dict[str, int] = {}
        self.restart()

    def restart(self) -> None:
        """Go on from the state."""
        saved = self._state.load("main", URL)
        self.window = Window("main", None, self._settings, saved=saved, now=at(self._now))

    def _rows(self, *rows: R) -> Collected[R]:
        self._now += 300
        page, excess = self.window.bounded(Page(rows=rows, size=len(rows)))
        for name, n in excess.items():
            self.excess[name] = self.excess.get(name, 0) + n
        return Collected(page.rows, frozenset(), EVERYTHING, frozenset())

    def _save(self) -> None:
        changes = self.window.changes(at(self._now))
        self._state.save("main", URL, changes)
        self.window.saved(changes, at(self._now))

    def poll(self, *rows: MessageStats) -> None:
        """Merge and save an answer of the statistics."""
        self.window.merge_statistics(self._rows(*rows), now=at(self._now), succeeded=True)
        self._save()

    def poll_conversions(self, *rows: Conversion) -> None:
        """Merge and save an answer of the conversions."""
        self.window.merge_conversions(self._rows(*rows), now=at(self._now), succeeded=True)
        self._save()

    def poll_some(self, *rows: MessageStats) -> None:
        """Merge and save an answer that may lack rows of each campaign."""
        read = replace(self._rows(*rows), partial=frozenset(one.group for one in rows))
        self.window.merge_statistics(read, now=at(self._now), succeeded=True)
        self._save()

    @property
    def saved_bytes(self) -> int:
        """How long the campaigns are in the state."""
        saved = self._state.load("main", URL)
        assert saved is not None
        return sum(len(dump(pack_campaign(item))) for item in saved.campaigns)

    @property
    def messages(self) -> dict[str, tuple[int | None, int]]:
        """The message counters of messages sent that are exported, and how far they stand above the truth."""
        (campaign,) = self.window.snapshot().campaigns
        return {item.title: (item.values.sent, item.overcount.sent) for item in campaign.messages}

    @property
    def channels(self) -> dict[str, int | None]:
        """The channel counters of messages sent."""
        return {item.channel: item.values.sent for item in self.window.snapshot().channels}

    @property
    def saved_channels(self) -> set[str]:
        """The channels that are in the state."""
        saved = self._state.load("main", URL)
        assert saved is not None
        return {item.channel for item in saved.channels}


def state() -> State:
    """Return an empty state in memory."""
    return State(None, clock=lambda: 0.0)


def test_channels_on_top_of_the_limit_are_other_and_count_each_message_once() -> None:
    """A channel that is invented with every answer makes no series without bound, and no traffic."""
    with closing(state()) as saved:
        account = Account(saved)
        account.poll(row(1, 100))
        for n in range(MANY):
            account.poll(row(1, 100 + n, channel=f"c{n}"))
        channels = account.channels
        assert LABEL_LIMITS[CHANNEL] + 1 == len(channels)
        assert MANY - 1 == sum(filter(None, channels.values()))
        assert MANY - LABEL_LIMITS[CHANNEL] + 1 == account.excess[CHANNEL]
        assert ["other"] == [item.channel for item in account.window.snapshot().campaigns]


def test_channels_are_as_before_after_a_restart_with_a_healthy_api() -> None:
    """Invented channels are forgotten, also in the state; those with campaigns, and new ones, stay."""
    with closing(state()) as saved:
        account = Account(saved)
        account.poll(row(1, 100), row(2, 10, channel="sms"))
        for n in range(MANY):
            account.poll(row(1, 100, channel=f"c{n}"), row(2, 20, channel="sms"))
        account.restart()
        account.poll(row(1, 130), row(2, 25, channel="sms"), row(3, 1, channel="push"))
        assert {"email": 30, "sms": 15, "push": 1} == {
            name: sent for name, sent in account.channels.items() if name != "other"
        }
        assert {"email", "sms", "push", "other"} == account.saved_channels


def test_conversions_of_too_many_events_are_left_out_until_a_restart() -> None:
    """Their sums mean nothing, so there is no other event; a healthy API gets all of its events back."""
    with closing(state()) as saved:
        account = Account(saved)
        account.poll(row(1, 100))
        for n in range(MANY):
            account.poll_conversions(replace(conversion(1, 5), event=f"e{n}", period=f"{n} days"))
        (campaign,) = account.window.snapshot().campaigns
        assert LABEL_LIMITS[EVENT] == len(campaign.conversions)
        assert MANY - LABEL_LIMITS[EVENT] == account.excess[EVENT]
        account.restart()
        account.poll_conversions(conversion(1, 7, event="Clicked"))
        account.restart()
        (campaign,) = account.window.snapshot().campaigns
        assert [("Clicked", 7)] == [(item.event, item.deposits) for item in campaign.conversions]


def test_titles_that_are_invented_with_every_answer_are_forgotten() -> None:
    """After 300 titles, memory and state are as after 30; what is exported is InTarget's figure, never less."""
    with closing(state()) as saved:
        account = Account(saved, replace(SETTINGS, per_message=True))
        sizes = []
        for n in range(301):
            account.poll(row(1, 1000 + n, title=f"invented {n:03}"), row(1, 100 + n, title="kept"))
            assert {f"invented {n:03}": (1000 + n, 0), "kept": (100 + n, 0)} == account.messages
            (record,) = account.window._campaigns.records.values()
            sizes.append((len(record.messages), account.saved_bytes))
        assert sizes[30] == sizes[150] == sizes[300]
        assert MOST_GONE + 2 == sizes[300][0]
        account.restart()
        account.poll(row(1, 1500, title="invented 005"), row(1, 500, title="kept"))
        assert {"invented 005": (1500, 0), "kept": (500, 0)} == account.messages


def test_titles_that_are_invented_for_answers_that_lack_rows_are_forgotten() -> None:
    """Titles are joined there, since those of other answers may still exist: no more than so many."""
    for per_message in (False, True):
        with closing(state()) as saved:
            account = Account(saved, replace(SETTINGS, per_message=per_message))
            account.poll(row(1, 1000), row(1, 5, title="other"))
            sizes = []
            for n in range(301):
                account.poll_some(row(1, 1000 + n, title=f"invented {n:03}"))
                sizes.append(account.saved_bytes)
            assert max(sizes[200:]) <= 1.02 * sizes[100]
            (campaign,) = account.window.snapshot().campaigns
            assert campaign.message_title.count("|") < MOST_TITLES
