"""Tests of one account's window: what rows do to what is exported."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from exporter.api.model import INVALID, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.model import Changes, ConversionSnapshot, Moment, WindowSettings
from exporter.tracking.state_file import State
from exporter.tracking.window import Window
from tests._builders import DAY, NOW, SETTINGS, at, conversion, counts, row

if TYPE_CHECKING:
    from exporter.api.model import Conversion, Count, MessageStats
    from exporter.tracking.model import AccountSnapshot, CampaignRecord, CampaignSnapshot
    from exporter.tracking.window import Merged

PER_MESSAGE = replace(SETTINGS, per_message=True)
EVERYTHING = (TimeRange(0, 10**9),)
URL = "https://api.example"


def window(settings: WindowSettings = SETTINGS, now: float = NOW) -> Window:
    """Return a window with a new state."""
    return Window("main", "EUR", settings, saved=None, now=at(now))


def poll(
    target: Window,
    *rows: MessageStats,
    now: float,
    succeeded: bool = True,
    partial: frozenset[object] = frozenset(),
    ranges: tuple[TimeRange, ...] = EVERYTHING,
    ids: frozenset[int] = frozenset(),
    discovered: frozenset[int] | None = None,
    loaded: tuple[CampaignRecord, ...] | None = (),
) -> Merged:
    """Merge a poll of everything, unless told otherwise."""
    collected = Collected(rows, partial, ranges, ids)
    return target.merge_statistics(
        collected, now=at(now), succeeded=succeeded, discovered=discovered, loaded=loaded
    )


def polled(*rows: MessageStats, settings: WindowSettings = SETTINGS) -> Window:
    """Return a window after its first poll, a minute after which no channel is held."""
    target = window(settings)
    poll(target, *rows, now=NOW)
    target.tick(at(NOW + 60))
    return target


def state_of(target: Window) -> State:
    """Return a state in which everything is saved."""
    state = State(None, clock=lambda: 0.0)
    state.save("main", URL, target.changes(at(NOW), whole=True))
    return state


def restarted(target: Window, now: float, *, settings: WindowSettings = SETTINGS) -> Window:
    """Return the window after a restart from its state."""
    with closing(state_of(target)) as state:
        return Window("main", "EUR", settings, saved=state.load("main", URL), now=at(now))


def load_archive(target: Window, *keys: tuple[int, str]) -> tuple[CampaignRecord, ...]:
    """Return campaigns as the archive has them."""
    with closing(state_of(target)) as state:
        return tuple(state.load_campaigns("main", URL, keys))


def overcounts(snapshot: AccountSnapshot) -> dict[int, int]:
    """Return the overcount of `sent` by campaign."""
    return {item.campaign_id: item.overcount.sent for item in snapshot.campaigns}


def sent(snapshot: AccountSnapshot) -> dict[int, int | None]:
    """Return the exported `sent` by campaign."""
    return {item.campaign_id: item.values.sent for item in snapshot.campaigns}


def channel_sent(snapshot: AccountSnapshot) -> dict[str, int | None]:
    """Return the exported `sent` by channel."""
    return {item.channel: item.values.sent for item in snapshot.channels}


def only(snapshot: AccountSnapshot) -> CampaignSnapshot:
    """Return the only campaign."""
    (campaign,) = snapshot.campaigns
    return campaign


def messages(snapshot: AccountSnapshot) -> dict[str, int | None]:
    """Return the exported `sent` of the only campaign by title."""
    return {item.title: item.values.sent for item in only(snapshot).messages}


# First sights


def test_first_poll_publishes_as_it_is_and_adds_nothing() -> None:
    """In a new state campaigns start at their values, channels at 0."""
    target = window()
    merged = poll(target, row(1, 500), now=NOW)
    snapshot = target.snapshot()
    assert (0, 1) == (merged.new, merged.found)
    assert ({1: 500}, {"email": 0}, NOW) == (sent(snapshot), channel_sent(snapshot), snapshot.since)


def test_new_campaign_is_held_and_added_at_once() -> None:
    """A campaign that started since the last poll stands at 0 for the hold; its channel has all of it."""
    target = polled(row(1, 500))
    merged = poll(target, row(1, 500), row(2, 70, start=NOW + 200), now=NOW + 300)
    assert (1, 0) == (merged.new, merged.found)
    snapshot = target.snapshot()
    assert ({1: 500, 2: 0}, {"email": 70}) == (sent(snapshot), channel_sent(snapshot))
    assert {2: True, 1: False} == {item.campaign_id: item.held for item in snapshot.campaigns}
    assert {1: 500, 2: 70} == sent(target.snapshot_without_holds())
    assert NOW + 360 == target.next_event(at(NOW))
    assert target.tick(at(NOW + 359)) is None
    assert 1 == target.tick(at(NOW + 360)).released
    assert {1: 500, 2: 70} == sent(target.snapshot())


def test_a_campaign_is_new_wherever_everything_had_been_read() -> None:
    """Figures that come days late count in full; a start that was never read adds nothing."""
    target = window()
    poll(target, now=NOW, ranges=(TimeRange(int(NOW - 5 * DAY), int(NOW + 60)),))
    late, unread = row(1, 70, start=NOW - 5 * DAY), row(2, 30, start=NOW - 5 * DAY - 1)
    merged = poll(target, late, unread, now=NOW + 300)
    snapshot = target.snapshot()
    assert (1, 1, {1: 0, 2: 30}) == (merged.new, merged.found, sent(snapshot))
    target.tick(at(NOW + 360))
    assert ({1: 70, 2: 30}, {"email": 70}) == (sent(target.snapshot()), channel_sent(target.snapshot()))


def test_a_campaign_sent_while_the_exporter_was_down_counts_in_full() -> None:
    """What started after everything had been read is new, however much later it is first read."""
    again = restarted(polled(), NOW + 3 * DAY)
    assert 1 == poll(again, row(1, 70, start=NOW + DAY), now=NOW + 3 * DAY).new
    again.tick(at(NOW + 3 * DAY + 60))
    assert {"email": 70} == channel_sent(again.snapshot())


def test_a_widened_window_finds_nothing_new() -> None:
    """What lies before the window that was read so far was never looked at."""
    again = restarted(polled(), NOW, settings=replace(SETTINGS, window=30 * DAY))
    merged = poll(again, row(1, 70, start=NOW - 20 * DAY), now=NOW + 300)
    assert (0, 1, {1: 70}, {"email": 0}) == (
        merged.new,
        merged.found,
        sent(again.snapshot()),
        channel_sent(again.snapshot()),
    )


def test_starts_that_the_clock_jumped_over_were_not_watched() -> None:
    """A clock that was set from 1970 to now makes nothing new that had been there all the time."""
    target = Window("main", "EUR", SETTINGS, saved=None, now=Moment(100.0, 50.0))
    target.merge_statistics(Collected((), ranges=EVERYTHING), now=Moment(100.0, 50.0), succeeded=True)
    collected = Collected((row(1, 500, start=NOW - DAY),), ranges=EVERYTHING)
    assert 0 == target.merge_statistics(collected, now=Moment(NOW, 80.0), succeeded=True).new
    later = Collected((row(1, 500, start=NOW - DAY), row(2, 7, start=NOW + 60)), ranges=EVERYTHING)
    assert 1 == target.merge_statistics(later, now=Moment(NOW + 90, 170.0), succeeded=True).new


def test_what_may_be_forgotten_is_never_new() -> None:
    """Starts older than the archive reaches are taken for unread again, also right after a long pause."""
    target = window()
    for days in (0, 300):
        poll(target, now=NOW + days * DAY)
    old = row(1, 70, start=NOW + 40 * DAY)
    assert 0 == poll(target, old, now=NOW + 450 * DAY, ids=frozenset({1}), discovered=frozenset({1})).new


def test_nothing_is_new_before_anything_was_read() -> None:
    """What failed polls of a new state bring was there before it, as far as anyone knows."""
    target = window()
    poll(target, row(1, 5), now=NOW, succeeded=False, ranges=())
    both = (row(1, 5), row(2, 7, start=NOW + 5))
    assert 0 == poll(target, *both, now=NOW + 10, succeeded=False, ranges=()).new
    assert {1: 5, 2: 7} == sent(target.snapshot())


def test_new_channel_is_held_at_zero() -> None:
    """A channel's counters appear at 0 before they show what was added."""
    target = polled(row(1, 500))
    poll(target, row(2, 70, start=NOW + 200, channel="sms"), now=NOW + 300)
    assert {"email": 0, "sms": 0} == channel_sent(target.snapshot())
    target.tick(at(NOW + 360))
    assert {"email": 0, "sms": 70} == channel_sent(target.snapshot())


def test_field_first_seen_on_a_known_campaign_is_held() -> None:
    """A field that had no value before counts from 0."""
    target = polled(row(1, None))
    assert only(target.snapshot()).values.sent is None
    assert {"email": None} == channel_sent(target.snapshot())
    poll(target, row(1, 9), now=NOW + 300)
    assert {1: 0} == sent(target.snapshot())
    target.tick(at(NOW + 360))
    snapshot = target.snapshot()
    assert ({1: 9}, {"email": 9}) == (sent(snapshot), channel_sent(snapshot))


def test_without_zero_hold_values_show_at_once() -> None:
    """zero_hold: 0s publishes new campaigns as they are; channels still get all of them."""
    target = polled(row(1, 500), settings=replace(SETTINGS, zero_hold=0.0))
    poll(target, row(2, 70, start=NOW + 200), now=NOW + 300)
    snapshot = target.snapshot()
    assert (70, 70, False) == (sent(snapshot)[2], channel_sent(snapshot)["email"], snapshot.campaigns[0].held)


# Rows and groups


def test_messages_of_a_campaign_are_summed() -> None:
    """Rows of one campaign and channel are one series; what is null is left out."""
    target = polled(row(1, 5, title="b"), row(1, 7, title="a"), row(1, None, title="a"))
    campaign = only(target.snapshot())
    assert (12, "a | b") == (campaign.values.sent, campaign.message_title)


def test_unreadable_value_leaves_the_last_good_one() -> None:
    """One value that can't be read makes the campaign's sum unknown for this poll, and only that field's."""
    target = polled(row(1, 5, title="a"), row(1, 7, title="b"))
    poll(target, row(1, 50, title="a"), row(1, INVALID, title="b"), now=NOW + 300)
    assert ({1: 12}, 0) == (sent(target.snapshot()), only(target.snapshot()).overcount.sent)


def test_poll_of_a_part_touches_only_what_it_read() -> None:
    """A campaign's other starts keep their last values."""
    target = polled(row(1, 100, start=NOW - 5 * DAY), row(1, 10, start=NOW - 100))
    part = (TimeRange(int(NOW - DAY), int(NOW)),)
    poll(target, row(1, 11, start=NOW - 100), now=NOW + 300, ranges=part)
    assert {1: 111} == sent(target.snapshot())


def test_rescheduled_campaign_isnt_counted_twice() -> None:
    """A start that is gone while the campaign came with another one has moved."""
    target = polled(row(1, 100))
    poll(target, row(1, 101, start=NOW + 500), now=NOW + 300)
    campaign = only(target.snapshot())
    assert (101, NOW + 500) == (campaign.values.sent, campaign.start)


def test_campaign_read_by_id_is_replaced_whole() -> None:
    """By its id all of a campaign is read, wherever its starts lie."""
    target = polled(row(1, 100))
    poll(target, row(1, 101, start=NOW - 200), now=NOW + 300, ranges=(), ids=frozenset({1}))
    snapshot = target.snapshot()
    assert ({1: 101}, NOW - 200) == (sent(snapshot), only(snapshot).start)


def test_a_start_that_moved_is_noticed() -> None:
    """A known campaign that comes with another start would count twice if both were kept."""
    target = polled(row(1, 100), row(2, 100))
    assert frozenset() == target.known.moved("statistics", [row(1, 101), row(2, 101)])
    assert {1} == target.known.moved("statistics", [row(1, 101, start=NOW - 200), row(2, 101)])
    assert {7} == target.known.moved("statistics", [row(7, 1), row(7, 1, start=NOW - 200)])


def test_a_start_that_moved_while_the_campaign_was_away_is_noticed() -> None:
    """A campaign of the archive that comes back with another start would count twice if both were kept."""
    target = polled(row(1, 100))
    poll(target, now=NOW + 15 * DAY)
    back = [row(1, 101, start=NOW + 15 * DAY)]
    assert {1} == target.known.moved("statistics", back)
    changes = target.changes(at(NOW))
    target.saved(changes, at(NOW))
    assert {1} == target.known.moved("statistics", back, changes.campaigns)
    assert frozenset() == target.known.moved("statistics", [row(1, 100)], changes.campaigns)


def test_a_moved_start_with_counts_that_go_on_is_the_same_campaign() -> None:
    """A campaign that was put off isn't counted twice, and a dip beside it is a dip."""
    target = polled(row(1, 100, delivered=90, opened=10))
    poll(target, row(1, 120, start=NOW + 200, delivered=89, opened=12), now=NOW + 300)
    campaign = only(target.snapshot())
    assert (counts(sent=120, delivered=90, opened=12), 1) == (campaign.values, campaign.overcount.delivered)
    assert NOW + 200 == campaign.start


def test_a_moved_start_with_counts_that_begin_anew_is_a_new_run() -> None:
    """Each run of a recurring campaign adds to what the earlier ones had, over a restart too."""
    target = polled(row(1, 100, delivered=90, opened=10))
    poll(target, row(1, 7, start=NOW + 200, delivered=6, opened=1), now=NOW + 300)
    again = restarted(target, NOW + 300)
    poll(again, row(1, 30, start=NOW + 200, delivered=25, opened=1), now=NOW + 600)
    poll(again, row(1, 5, start=NOW + 700, delivered=4, opened=0), now=NOW + 900)
    campaign = only(again.snapshot())
    assert (counts(sent=135, delivered=119, opened=11), NOW + 700) == (campaign.values, campaign.start)
    assert (35, 0) == (channel_sent(again.snapshot())["email"], campaign.overcount.sent)


def test_a_start_that_may_have_moved_isnt_counted_twice() -> None:
    """Where a failed poll hasn't read the known start again, another one waits for the next poll."""
    target = polled(row(1, 100, start=NOW - 5 * DAY))
    part = (TimeRange(int(NOW - DAY), int(NOW)),)
    poll(target, row(1, 101, start=NOW - 100), now=NOW + 300, ranges=part, succeeded=False)
    snapshot = target.snapshot()
    assert ({1: 100}, {"email": 0}) == (sent(snapshot), channel_sent(snapshot))
    both = (row(1, 100, start=NOW - 5 * DAY), row(1, 105, start=NOW - 100))
    poll(target, *both, now=NOW + 600)
    snapshot = target.snapshot()
    assert ({1: 205}, {"email": 105}) == (sent(snapshot), channel_sent(snapshot))


def test_vanished_campaign_keeps_its_values() -> None:
    """A campaign that is missing from an answer stays as it was, and is no correction."""
    target = polled(row(1, 100), row(2, 5))
    merged = poll(target, row(2, 6), now=NOW + 300)
    assert ({1: 100, 2: 6}, 1) == (sent(target.snapshot()), merged.changed)
    assert {1: 0, 2: 0} == overcounts(target.snapshot())


def test_lower_bound_raises_but_never_corrects() -> None:
    """A group of which rows may be missing can only raise values."""
    target = polled(row(1, 100, title="a"), row(1, 50, title="b"))
    partial = frozenset({row(1, 0).group})
    poll(target, row(1, 100, title="a"), now=NOW + 300, partial=partial)
    assert ({1: 150}, {1: 0}) == (sent(target.snapshot()), overcounts(target.snapshot()))
    poll(target, row(1, 170, title="a"), now=NOW + 600, partial=partial)
    assert {1: 170} == sent(target.snapshot())


@pytest.mark.parametrize("missing", [None, "row"])
def test_fewer_values_than_before_are_a_lower_bound(missing: str | None) -> None:
    """A row that is missing, or null where a value was, is never a fall; the others may raise the sum."""
    target = polled(row(1, 100, title="a"), row(1, 50, title="b"))
    less = () if missing else (row(1, None, title="b"),)
    poll(target, row(1, 120, title="a"), *less, now=NOW + 300)
    assert ({1: 150}, {1: 0}) == (sent(target.snapshot()), overcounts(target.snapshot()))
    poll(target, row(1, 170, title="a"), *less, now=NOW + 600)
    assert {1: 170} == sent(target.snapshot())
    poll(target, row(1, 170, title="a"), row(1, 49, title="b"), now=NOW + 900)
    assert {1: 219} == sent(target.snapshot())


def test_a_correction_is_told_and_never_shown() -> None:
    """A vendor's correction of 600 to 200 is an overcount of 400 of the campaign and of its channel."""
    target = polled()
    poll(target, row(1, 600, start=NOW + 10), now=NOW + 60)
    poll(target, row(1, 200, start=NOW + 10), now=NOW + 120)
    snapshot = target.snapshot()
    assert ({1: 600}, {1: 400}) == (sent(snapshot), overcounts(snapshot))
    assert (600, 400) == (snapshot.channels[0].values.sent, snapshot.channels[0].overcount.sent)


def test_a_channel_s_overcount_outlives_its_campaigns() -> None:
    """A campaign that leaves takes nothing away, and one that comes back makes up for what it had."""
    target = polled(row(1, 600))
    poll(target, row(1, 200), now=NOW + 120)
    poll(target, now=NOW + 15 * DAY)
    snapshot = target.snapshot()
    assert ({}, 0, 400) == (
        sent(snapshot),
        snapshot.channels[0].values.sent,
        snapshot.channels[0].overcount.sent,
    )
    again = restarted(target, NOW + 15 * DAY)
    back = frozenset({1})
    archived = load_archive(target, (1, "email"))
    poll(again, row(1, 500), now=NOW + 15 * DAY, ids=back, discovered=back, loaded=archived)
    channel = again.snapshot().channels[0]
    assert (0, 100) == (channel.values.sent, channel.overcount.sent)


def test_a_channel_that_was_only_renamed_is_no_traffic() -> None:
    """The same campaign under another channel's name is published as it is, and adds only what it grew by."""
    target = polled(row(1, 500, delivered=480))
    merged = poll(target, row(1, 510, channel="newsletter", delivered=480), now=NOW + 300)
    assert (0, 1, 1) == (merged.new, merged.found, merged.gone)
    target.tick(at(NOW + 360))
    snapshot = target.snapshot()
    assert ({1: 510}, {"email": 0, "newsletter": 10}) == (sent(snapshot), channel_sent(snapshot))


@pytest.mark.parametrize("names", [("mail", "text"), ("text", "mail")])
def test_all_channels_of_a_campaign_that_are_renamed_at_once_are_no_traffic(names: tuple[str, str]) -> None:
    """Each new name takes over the old one with the nearest counts, whatever comes first in the answer."""
    target = polled(row(1, 50, channel="sms"), row(1, 500))
    now_sent = {"mail": 510, "text": 50}
    rows = [row(1, now_sent[name], channel=name) for name in names]
    assert 2 == poll(target, *rows, now=NOW + 300).gone
    target.tick(at(NOW + 360))
    assert {"email": 0, "sms": 0, "mail": 10, "text": 0} == channel_sent(target.snapshot())


def test_renamed_campaign_is_no_new_campaign() -> None:
    """A new title changes the info, nothing else."""
    target = polled(row(1, 10))
    poll(target, row(1, 11, title="new"), now=NOW + 300)
    snapshot = target.snapshot()
    assert (11, "new", 1) == (
        sent(snapshot)[1],
        only(snapshot).message_title,
        channel_sent(snapshot)["email"],
    )


# Campaigns that leave, and some that return


def test_campaign_leaves_with_the_window_and_takes_nothing_away() -> None:
    """After its window a campaign's series go; its channel stays as it is."""
    target = polled(row(1, 10), settings=replace(SETTINGS, stale_after=100 * DAY))
    poll(target, row(1, 15), now=NOW + 300)
    leaves = NOW - 100 + 14 * DAY
    assert leaves == target.next_event(at(NOW))
    assert 1 == target.tick(at(leaves)).gone
    snapshot = target.snapshot()
    assert ({}, {"email": 5}) == (sent(snapshot), channel_sent(snapshot))


def test_returning_campaign_adds_only_its_growth() -> None:
    """What was counted before a campaign left isn't counted again, saved or not."""
    target = polled(row(1, 10))
    gone_at = NOW + 15 * DAY
    poll(target, now=gone_at)
    archived = next(item for item in target.changes(at(NOW)).campaigns if item.campaign_id == 1)
    assert gone_at == archived.evicted
    old = row(1, 25)
    assert frozenset() == target.unknown([old])
    target.saved(target.changes(at(NOW)), at(NOW))
    assert frozenset({(1, "email")}) == target.unknown([old])
    merged = target.merge_statistics(
        Collected((old,), ids=frozenset({1})),
        now=at(gone_at + 60),
        succeeded=True,
        discovered=frozenset({1}),
        loaded=[archived],
    )
    snapshot = target.snapshot()
    assert (0, 1) == (merged.new, merged.found)
    assert ({1: 25}, {"email": 15}) == (sent(snapshot), channel_sent(snapshot))


def test_returning_campaign_needs_no_archive_before_it_is_saved() -> None:
    """A campaign that left while saves fail comes back from memory."""
    target = polled(row(1, 10))
    poll(target, now=NOW + 15 * DAY)
    discovered = frozenset({1})
    poll(target, row(1, 25), now=NOW + 15 * DAY + 60, ids=discovered, discovered=discovered)
    snapshot = target.snapshot()
    assert ({1: 25}, {"email": 15}) == (sent(snapshot), channel_sent(snapshot))


def test_returning_campaign_is_not_new_while_the_archive_cant_be_read() -> None:
    """It may have been counted before; one that started within the window was not, and is new all the same."""
    target = polled()
    poll(target, row(1, 500, start=NOW + 100), now=NOW + 200)
    back = NOW + 16 * DAY
    poll(target, now=back - 300)
    target.saved(target.changes(at(back)), at(back))
    rows = row(1, 510, start=NOW + 100), row(2, 7, start=back - 100)
    merged = poll(target, *rows, now=back, discovered=frozenset({1}), loaded=None)
    target.tick(at(back + 60))
    assert (1, {"email": 507}) == (merged.new, channel_sent(target.snapshot()))


def test_new_channel_of_a_known_campaign_is_held_at_zero() -> None:
    """A campaign that was read without SMS and now has it has sent all of that since."""
    target = polled(row(1, 500, start=NOW - 5 * DAY))
    email, sms = row(1, 500, start=NOW - 5 * DAY), row(1, 30, start=NOW - 5 * DAY, channel="sms")
    merged = poll(target, email, sms, now=NOW + 300)
    snapshot = target.snapshot()
    assert (1, {"email": 0, "sms": 0}) == (merged.new, channel_sent(snapshot))
    assert [500, 0] == [item.values.sent for item in snapshot.campaigns]
    target.tick(at(NOW + 360))
    snapshot = target.snapshot()
    assert {"email": 0, "sms": 30} == channel_sent(snapshot)
    assert [500, 30] == [item.values.sent for item in snapshot.campaigns]


def test_channels_that_were_always_there_add_nothing() -> None:
    """Neither channels that are first seen together nor one whose start nobody has read yet are increases."""
    target = polled(row(1, 500, start=NOW - 5 * DAY), row(1, 30, start=NOW - 5 * DAY, channel="sms"))
    poll(target, row(1, 9, start=NOW - 6 * DAY, channel="push"), now=NOW + 300)
    assert {"email": 0, "push": 0, "sms": 0} == channel_sent(target.snapshot())


def test_unreadable_at_first_sight_adds_nothing_when_read() -> None:
    """A field that couldn't be read in the first poll of a state is no increase in the second."""
    target = polled(row(1, INVALID))
    poll(target, row(1, 500), now=NOW + 300)
    snapshot = target.snapshot()
    assert ({1: 500}, {"email": 0}) == (sent(snapshot), channel_sent(snapshot))


def test_still_sending_campaign_stays_until_undiscovered_for_a_window() -> None:
    """A campaign older than the window is tracked by its discovery, and is to be read by its id."""
    target = polled()
    poll(target, row(1, 10, start=NOW - 90 * DAY), now=NOW, discovered=frozenset({1}))
    assert frozenset({1}) == target.known.old_campaigns(NOW)
    poll(target, now=NOW + 14 * DAY - 1)
    assert {1: 10} == sent(target.snapshot())
    poll(target, now=NOW + 14 * DAY)
    assert {} == sent(target.snapshot())
    assert frozenset() == target.known.old_campaigns(NOW + 14 * DAY)


def test_old_rows_that_nobody_discovered_are_left_out() -> None:
    """A row from before the window isn't tracked just because an answer overlapped."""
    target = polled(row(1, 10, start=NOW - 15 * DAY))
    assert {} == sent(target.snapshot())


# Staleness and restarts


def test_stale_account_is_withdrawn_and_continues() -> None:
    """Without a success for stale_after everything goes; afterwards counters go on."""
    target = polled(row(1, 10))
    assert NOW + 1800 == target.next_event(at(NOW))
    assert target.tick(at(NOW + 1800)).staleness
    assert (True, (), ()) == (
        (gone := target.snapshot()).stale,
        gone.campaigns,
        gone.channels,
    )
    assert poll(target, row(1, 12), now=NOW + 2000).staleness
    snapshot = target.snapshot()
    assert (False, {1: 12}, {"email": 2}) == (snapshot.stale, sent(snapshot), channel_sent(snapshot))


def test_failed_polls_keep_nothing_fresh() -> None:
    """Rows of failed polls are merged, but don't put the withdrawal off."""
    target = polled(row(1, 10))
    poll(target, row(1, 11), now=NOW + 1700, succeeded=False)
    assert {1: 11} == sent(target.snapshot())
    target.tick(at(NOW + 1800))
    assert target.snapshot().stale


def test_hold_doesnt_end_unseen() -> None:
    """A campaign that comes while the account is withdrawn is held anew when it is back."""
    target = polled(row(1, 10))
    poll(target, row(2, 70, start=NOW + 100), now=NOW + 1900, succeeded=False)
    target.tick(at(NOW + 1990))
    poll(target, now=NOW + 2000)
    assert target.tick(at(NOW + 2059)) is None
    assert 0 == sent(target.snapshot())[2]
    target.tick(at(NOW + 2060))
    assert 70 == sent(target.snapshot())[2]


def test_restart_serves_fresh_data_at_once_and_holds_anew() -> None:
    """What was saved is published before any poll; an unreleased hold begins again."""
    target = polled(row(1, 10))
    poll(target, row(2, 70, start=NOW + 200), now=NOW + 300)
    again = restarted(target, NOW + 350)
    assert target.snapshot() == again.snapshot()
    assert again.tick(at(NOW + 409)) is None
    again.tick(at(NOW + 410))
    assert {1: 10, 2: 70} == sent(again.snapshot())


def test_restart_with_old_data_publishes_nothing_until_a_success() -> None:
    """Saved data that are stale wait for a poll; what happened meanwhile is counted."""
    again = restarted(polled(row(1, 10)), NOW + 7200)
    assert again.snapshot().stale
    poll(again, row(1, 30), row(2, 5, start=NOW + 3000), now=NOW + 7300)
    again.tick(at(NOW + 7360))
    snapshot = again.snapshot()
    assert ({1: 30, 2: 5}, {"email": 25}) == (sent(snapshot), channel_sent(snapshot))


def test_clock_that_ran_ahead_doesnt_keep_data_fresh() -> None:
    """A success saved in the future counts as now."""
    target = window(now=NOW + 100 * DAY)
    poll(target, row(1, 10, start=NOW + 100 * DAY), now=NOW + 100 * DAY)
    again = restarted(target, NOW + 100)
    assert not again.snapshot().stale
    assert again.tick(at(NOW + 1900)).staleness
    assert again.snapshot().stale


def test_a_wall_clock_that_is_set_changes_neither_staleness_nor_holds() -> None:
    """Only time that has really passed makes data stale or ends a hold."""
    target = polled(row(1, 10))
    collected = Collected((row(1, 10), row(2, 70, start=NOW + 200)), ranges=EVERYTHING)
    target.merge_statistics(collected, now=Moment(NOW + 300, NOW + 300), succeeded=True)
    assert target.tick(Moment(NOW + 7200, NOW + 301)) is None
    assert {1: 10, 2: 0} == sent(target.snapshot())
    assert target.tick(Moment(NOW - 7200, NOW + 359)) is None
    assert 1 == target.tick(Moment(NOW - 7200, NOW + 360)).released
    assert target.tick(Moment(NOW - 7200, NOW + 2100)).staleness


# Saving


def test_changes_are_kept_until_saved() -> None:
    """A failed save is retried with the next; what was saved isn't saved again."""
    target = polled(row(1, 10), row(2, 10))
    first = target.changes(at(NOW))
    assert (True, 2) == (first.whole, len(first.campaigns))
    target.saved(first, at(NOW))
    assert () == target.changes(at(NOW)).campaigns
    poll(target, row(1, 11), row(2, 10), now=NOW + 300)
    failed = target.changes(at(NOW))
    assert (False, [1]) == (failed.whole, [item.campaign_id for item in failed.campaigns])
    poll(target, row(1, 11), row(2, 12), now=NOW + 600)
    assert [1, 2] == [item.campaign_id for item in target.changes(at(NOW)).campaigns]


def test_what_nothing_changed_costs_nothing() -> None:
    """A poll with the same rows writes nothing, and what is published stays the same object."""
    rows = (row(1, 10), row(1, 5, title="b"), row(2, 10, start=NOW - 50))
    target = polled(*rows)
    convert(target, conversion(1, 3), now=NOW + 60)
    before = target.snapshot()
    target.saved(target.changes(at(NOW + 60)), at(NOW + 60))
    poll(target, *reversed(rows), now=NOW + 120)
    assert before is target.snapshot()
    assert Changes() == target.changes(at(NOW + 120))
    poll(target, *rows[:2], row(2, 11, start=NOW - 50), now=NOW + 180)
    changed, kept = target.snapshot().campaigns
    assert (2, 11, True) == (changed.campaign_id, changed.values.sent, kept is before.campaigns[1])
    assert [2] == [item.campaign_id for item in target.changes(at(NOW + 180)).campaigns]


def test_times_alone_are_saved_now_and_then() -> None:
    """When a poll last succeeded is saved with what changed, and else after a while."""
    target = polled(row(1, 10))
    target.saved(target.changes(at(NOW)), at(NOW))
    poll(target, row(1, 10), now=NOW + 299)
    assert Changes() == target.changes(at(NOW + 299))
    assert {"statistics": NOW + 299} == target.changes(at(NOW + 300)).account.successes
    target.saved(target.changes(at(NOW + 300)), at(NOW + 300))
    poll(target, row(1, 10), now=NOW + 310)
    poll(target, now=NOW + 320, succeeded=False)
    assert {"statistics": NOW + 310} == target.changes(at(NOW + 320)).account.successes


# Limits and messages


def test_only_the_newest_campaigns_are_exported() -> None:
    """Beyond max_campaigns the oldest are dropped from the export, and still feed their channel."""
    rows = [row(number, 10, start=NOW - number) for number in (1, 2, 3)]
    target = polled(*rows, row(1, 5, start=NOW - 1, channel="sms"), settings=replace(SETTINGS, max_campaigns=2))
    poll(target, row(3, 14, start=NOW - 3), now=NOW + 300)
    snapshot = target.snapshot()
    assert ([1, 1, 2], 1, 4) == (
        [item.campaign_id for item in snapshot.campaigns],
        snapshot.dropped,
        channel_sent(snapshot)["email"],
    )


def test_titles_are_series_of_their_own() -> None:
    """With per_message the sums by title follow the same rules; a title twice is summed."""
    target = polled(row(1, 5, title="a"), row(1, 6, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    assert {"a": 11, "b": 7} == messages(target.snapshot())
    poll(target, row(1, 10, title="a"), row(1, 9, title="b"), row(1, 3, title="c"), now=NOW + 300)
    assert {"a": 11, "b": 9, "c": 0} == messages(target.snapshot())
    target.tick(at(NOW + 360))
    assert {"a": 11, "b": 9, "c": 3} == messages(target.snapshot())


def test_renamed_title_goes_on_as_it_is() -> None:
    """A title that comes as another goes is published as it is, and the old one goes; back again it goes on."""
    target = polled(row(1, 50, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    poll(target, row(1, 52, title="z"), row(1, 7, title="b"), now=NOW + 300)
    snapshot = target.snapshot()
    assert ({"z": 52, "b": 7}, 2) == (messages(snapshot), channel_sent(snapshot)["email"])
    poll(target, row(1, 49, title="a"), row(1, 7, title="b"), now=NOW + 600)
    assert {"z": 52, "a": 50, "b": 7} == messages(target.snapshot())


def test_vanished_title_stays() -> None:
    """A title that is missing, with no other in its place, keeps its last values."""
    target = polled(row(1, 50, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    poll(target, row(1, 7, title="b"), now=NOW + 300)
    assert {"a": 50, "b": 7} == messages(target.snapshot())


def test_titles_tracked_from_now_on_start_as_they_are() -> None:
    """Turning per_message on for a known campaign is no increase of its titles."""
    again = restarted(polled(row(1, 50)), NOW + 100, settings=PER_MESSAGE)
    poll(again, row(1, 55), now=NOW + 300)
    assert {"t": 55} == messages(again.snapshot())


# Conversions


def convert(target: Window, *rows: Conversion, now: float, succeeded: bool = True) -> Merged:
    """Merge a poll of all conversions."""
    return target.merge_conversions(Collected(rows, ranges=EVERYTHING), now=at(now), succeeded=succeeded)


def test_conversions_are_gauges_that_may_fall() -> None:
    """Conversions are summed over messages by event and period, and go down freely."""
    target = polled(row(1, 10))
    convert(
        target, conversion(1, 3), conversion(1, 4, title="b"), conversion(1, 9, event="Opened"), now=NOW + 60
    )
    campaign = only(target.snapshot())
    assert (
        ConversionSnapshot("Clicked", "1 day", 7, Decimal("3.0"), None),
        ConversionSnapshot("Opened", "1 day", 9, Decimal("1.5"), None),
    ) == campaign.conversions
    assert ("Name", NOW + 5) == (campaign.campaign_name, campaign.stop)
    convert(target, conversion(1, 2), now=NOW + 120)
    gauges = only(target.snapshot()).conversions
    assert [7, 9] == [gauge.deposits for gauge in gauges]  # a row less than before: a lower bound
    convert(target, conversion(1, 1), conversion(1, 2, title="b"), now=NOW + 180)
    assert [3, 9] == [gauge.deposits for gauge in only(target.snapshot()).conversions]


@pytest.mark.parametrize("value", [None, INVALID])
def test_last_good_conversion_stays(value: Count) -> None:
    """A number that is missing or unreadable leaves the last good one."""
    target = polled(row(1, 10))
    convert(target, conversion(1, 3), now=NOW + 60)
    convert(target, conversion(1, value), now=NOW + 120)
    assert 3 == only(target.snapshot()).conversions[0].deposits


def test_conversions_without_statistics_are_exported() -> None:
    """A campaign known by its conversions only has gauges and info, and no counter."""
    target = polled()
    merged = convert(target, conversion(8, 3), now=NOW + 60)
    campaign = only(target.snapshot())
    assert (1, counts(), "t", NOW - 100) == (
        merged.found,
        campaign.values,
        campaign.message_title,
        campaign.start,
    )
    poll(target, now=NOW + 15 * DAY)
    assert () == target.snapshot().campaigns
    target.saved(target.changes(at(NOW)), at(NOW))
    assert target.changes(at(NOW)).conversions == ()


def test_conversions_without_statistics_leave_by_time_alone() -> None:
    """Nobody has to poll for them to leave the window."""
    target = polled()
    convert(target, conversion(8, 3), now=NOW + 60)
    assert 8 == only(target.snapshot()).campaign_id
    leaves = NOW - 100 + SETTINGS.window
    poll(target, now=leaves - 10)
    convert(target, now=leaves - 10)
    assert leaves == target.next_event(at(leaves - 10))
    assert target.tick(at(leaves)) is not None
    assert () == target.snapshot().campaigns


def test_stale_conversions_are_withdrawn_alone() -> None:
    """Without a success of the conversions only their gauges go."""
    target = polled(row(1, 10))
    convert(target, conversion(1, 3), now=NOW + 60)
    poll(target, row(1, 10), now=NOW + 3600)
    assert NOW + 3660 == target.next_event(at(NOW))
    assert target.tick(at(NOW + 3660)).staleness
    campaign = only(target.snapshot())
    assert (10, ()) == (campaign.values.sent, campaign.conversions)
    convert(target, conversion(1, 4), now=NOW + 3700)
    assert 4 == only(target.snapshot()).conversions[0].deposits
