"""Tests of one account's window: what rows do to what is exported."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from exporter.api.fields import COUNTER_FIELDS
from exporter.api.model import INVALID, Conversion, MessageStats, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.model import ConversionSnapshot, SavedAccount
from exporter.tracking.window import Window, WindowSettings

if TYPE_CHECKING:
    from exporter.api.model import Count
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot
    from exporter.tracking.window import Merged

DAY = 86400.0
NOW = 1_000_000.0
SETTINGS = WindowSettings(14 * DAY, 1800.0, 3600.0, 60.0, 100, per_message=False)
PER_MESSAGE = replace(SETTINGS, per_message=True)
SENT = COUNTER_FIELDS.index("sent")
EVERYTHING = (TimeRange(0, 10**9),)


def row(
    campaign_id: int, sent: Count, *, title: str = "t", start: float = NOW - 100, channel: str = "email"
) -> MessageStats:
    """Return a row of which only `sent` has a value."""
    values: list[Count] = [None] * 12
    values[SENT] = sent
    return MessageStats(campaign_id, channel, start, title, tuple(values))


def conversion(
    campaign_id: int, deposits: Count, *, event: str = "Clicked", start: float = NOW - 100, title: str = "t"
) -> Conversion:
    """Return a conversion row."""
    return Conversion(
        campaign_id, "email", start, NOW + 5, title, "Name", event, "1 day", deposits, Decimal("1.5"), None
    )


def window(settings: WindowSettings = SETTINGS, now: float = NOW) -> Window:
    """Return a window with a new state."""
    return Window("main", "EUR", settings, saved=None, now=now)


def poll(
    target: Window,
    *rows: MessageStats,
    now: float,
    succeeded: bool = True,
    partial: frozenset[object] = frozenset(),
    ranges: tuple[TimeRange, ...] = EVERYTHING,
    ids: frozenset[int] = frozenset(),
    discovered: frozenset[int] | None = None,
) -> Merged:
    """Merge a poll of everything, unless told otherwise."""
    collected = Collected(rows, partial, ranges, ids)
    return target.merge_statistics(collected, now=now, succeeded=succeeded, discovered=discovered)


def polled(*rows: MessageStats, settings: WindowSettings = SETTINGS) -> Window:
    """Return a window after its first poll, a minute after which no channel is held."""
    target = window(settings)
    poll(target, *rows, now=NOW)
    target.tick(NOW + 60)
    return target


def sent(snapshot: AccountSnapshot) -> dict[int, int | None]:
    """Return the exported `sent` by campaign."""
    return {item.campaign_id: item.values[SENT] for item in snapshot.campaigns}


def channel_sent(snapshot: AccountSnapshot) -> dict[str, int | None]:
    """Return the exported `sent` by channel."""
    return {item.channel: item.values[SENT] for item in snapshot.channels}


def only(snapshot: AccountSnapshot) -> CampaignSnapshot:
    """Return the only campaign."""
    (campaign,) = snapshot.campaigns
    return campaign


def messages(snapshot: AccountSnapshot) -> dict[str, int | None]:
    """Return the exported `sent` of the only campaign by title."""
    return {item.title: item.values[SENT] for item in only(snapshot).messages}


# First sights


def test_first_poll_publishes_as_it_is_and_adds_nothing() -> None:
    """In a new state campaigns start at their values, channels at 0."""
    target = window()
    merged = poll(target, row(1, 500), now=NOW)
    snapshot = target.snapshot(NOW)
    assert (0, 1, frozenset({"email"})) == (merged.new, merged.found, merged.channels)
    assert ({1: 500}, {"email": 0}, NOW) == (sent(snapshot), channel_sent(snapshot), snapshot.since)


def test_new_campaign_is_held_and_added_at_once() -> None:
    """A campaign that started since the last poll stands at 0 for the hold; its channel has all of it."""
    target = polled(row(1, 500))
    merged = poll(target, row(1, 500), row(2, 70, start=NOW + 200), now=NOW + 300)
    assert (1, 0) == (merged.new, merged.found)
    snapshot = target.snapshot(NOW + 300)
    assert ({1: 500, 2: 0}, {"email": 70}) == (sent(snapshot), channel_sent(snapshot))
    assert {2: True, 1: False} == {item.campaign_id: item.held for item in snapshot.campaigns}
    assert {1: 500, 2: 70} == sent(target.snapshot(NOW + 300, hold=False))
    assert NOW + 360 == target.next_event()
    assert target.tick(NOW + 359) is None
    assert 1 == target.tick(NOW + 360).released
    assert {1: 500, 2: 70} == sent(target.snapshot(NOW + 360))


@pytest.mark.parametrize(("age", "new"), [(3599.0, 1), (3600.0, 0)])
def test_new_means_started_within_an_hour_before_the_last_success(age: float, new: int) -> None:
    """An older campaign that is first seen now is published as it is and adds nothing."""
    target = polled()
    merged = poll(target, row(2, 70, start=NOW - age), now=NOW + 300)
    assert (new, 1 - new) == (merged.new, merged.found)
    assert 70 * (1 - new) == sent(target.snapshot(NOW + 300))[2]


def test_nothing_is_new_before_the_first_success() -> None:
    """What failed polls of a new state bring was there before it, as far as anyone knows."""
    target = window()
    poll(target, row(1, 5), now=NOW, succeeded=False)
    assert 0 == poll(target, row(1, 5), row(2, 7, start=NOW + 5), now=NOW + 10, succeeded=False).new
    assert {1: 5, 2: 7} == sent(target.snapshot(NOW + 10))


def test_new_channel_is_held_at_zero() -> None:
    """A channel's counters appear at 0 before they show what was added."""
    target = polled(row(1, 500))
    poll(target, row(2, 70, start=NOW + 200, channel="sms"), now=NOW + 300)
    assert {"email": 0, "sms": 0} == channel_sent(target.snapshot(NOW + 300))
    target.tick(NOW + 360)
    assert {"email": 0, "sms": 70} == channel_sent(target.snapshot(NOW + 360))


def test_field_first_seen_on_a_known_campaign_is_held() -> None:
    """A field that had no value before counts from 0."""
    target = polled(row(1, None))
    assert only(target.snapshot(NOW + 60)).values[SENT] is None
    assert {"email": None} == channel_sent(target.snapshot(NOW + 60))
    poll(target, row(1, 9), now=NOW + 300)
    assert {1: 0} == sent(target.snapshot(NOW + 300))
    target.tick(NOW + 360)
    snapshot = target.snapshot(NOW + 360)
    assert ({1: 9}, {"email": 9}) == (sent(snapshot), channel_sent(snapshot))


def test_without_zero_hold_values_show_at_once() -> None:
    """zero_hold: 0s publishes new campaigns as they are; channels still get all of them."""
    target = polled(row(1, 500), settings=replace(SETTINGS, zero_hold=0.0))
    poll(target, row(2, 70, start=NOW + 200), now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
    assert (70, 70, False) == (sent(snapshot)[2], channel_sent(snapshot)["email"], snapshot.campaigns[0].held)


# Rows and groups


def test_messages_of_a_campaign_are_summed() -> None:
    """Rows of one campaign and channel are one series; what is null is left out."""
    target = polled(row(1, 5, title="b"), row(1, 7, title="a"), row(1, None, title="a"))
    campaign = only(target.snapshot(NOW + 60))
    assert (12, "a | b") == (campaign.values[SENT], campaign.message_title)


def test_unreadable_value_leaves_the_last_good_one() -> None:
    """One value that can't be read makes the campaign's sum unknown for this poll, and only that field's."""
    target = polled(row(1, 5, title="a"), row(1, 7, title="b"))
    merged = poll(target, row(1, 50, title="a"), row(1, INVALID, title="b"), now=NOW + 300)
    assert {1: 12} == sent(target.snapshot(NOW + 300))
    assert {} == merged.corrections


def test_poll_of_a_part_touches_only_what_it_read() -> None:
    """A campaign's other starts keep their last values."""
    target = polled(row(1, 100, start=NOW - 5 * DAY), row(1, 10, start=NOW - 100))
    part = (TimeRange(int(NOW - DAY), int(NOW)),)
    poll(target, row(1, 11, start=NOW - 100), now=NOW + 300, ranges=part)
    assert {1: 111} == sent(target.snapshot(NOW + 300))


def test_rescheduled_campaign_isnt_counted_twice() -> None:
    """A start that is gone while the campaign came with another one has moved."""
    target = polled(row(1, 100))
    poll(target, row(1, 101, start=NOW + 500), now=NOW + 300)
    campaign = only(target.snapshot(NOW + 300))
    assert (101, NOW + 500) == (campaign.values[SENT], campaign.start)


def test_campaign_read_by_id_is_replaced_whole() -> None:
    """By its id all of a campaign is read, wherever its starts lie."""
    target = polled(row(1, 100))
    poll(target, row(1, 101, start=NOW - 200), now=NOW + 300, ranges=(), ids=frozenset({1}))
    snapshot = target.snapshot(NOW + 300)
    assert ({1: 101}, NOW - 200) == (sent(snapshot), only(snapshot).start)


def test_a_start_that_moved_is_noticed() -> None:
    """A known campaign that comes with another start would count twice if both were kept."""
    target = polled(row(1, 100), row(2, 100))
    assert frozenset() == target.moved("statistics", [row(1, 101), row(2, 101)])
    assert {1} == target.moved("statistics", [row(1, 101, start=NOW - 200), row(2, 101)])
    assert {7} == target.moved("statistics", [row(7, 1), row(7, 1, start=NOW - 200)])


def test_a_start_that_moved_while_the_campaign_was_away_is_noticed() -> None:
    """A campaign of the archive that comes back with another start would count twice if both were kept."""
    target = polled(row(1, 100))
    poll(target, now=NOW + 15 * DAY)
    back = [row(1, 101, start=NOW + 15 * DAY)]
    assert {1} == target.moved("statistics", back)
    changes = target.changes()
    target.saved(changes)
    assert {1} == target.moved("statistics", back, changes.campaigns)
    assert frozenset() == target.moved("statistics", [row(1, 100)], changes.campaigns)


def test_a_start_that_may_have_moved_isnt_counted_twice() -> None:
    """Where a failed poll hasn't read the known start again, another one waits for the next poll."""
    target = polled(row(1, 100, start=NOW - 5 * DAY))
    part = (TimeRange(int(NOW - DAY), int(NOW)),)
    poll(target, row(1, 101, start=NOW - 100), now=NOW + 300, ranges=part, succeeded=False)
    snapshot = target.snapshot(NOW + 300)
    assert ({1: 100}, {"email": 0}) == (sent(snapshot), channel_sent(snapshot))
    both = (row(1, 100, start=NOW - 5 * DAY), row(1, 105, start=NOW - 100))
    poll(target, *both, now=NOW + 600)
    snapshot = target.snapshot(NOW + 600)
    assert ({1: 205}, {"email": 105}) == (sent(snapshot), channel_sent(snapshot))


def test_vanished_campaign_keeps_its_values() -> None:
    """A campaign that is missing from an answer stays as it was, and is no correction."""
    target = polled(row(1, 100), row(2, 5))
    merged = poll(target, row(2, 6), now=NOW + 300)
    assert ({1: 100, 2: 6}, {}, 1) == (sent(target.snapshot(NOW + 300)), merged.corrections, merged.changed)


def test_lower_bound_raises_but_never_corrects() -> None:
    """A group of which rows may be missing can only raise values."""
    target = polled(row(1, 100, title="a"), row(1, 50, title="b"))
    partial = frozenset({row(1, 0).group})
    merged = poll(target, row(1, 100, title="a"), now=NOW + 300, partial=partial)
    assert ({1: 150}, {}) == (sent(target.snapshot(NOW + 300)), merged.corrections)
    poll(target, row(1, 170, title="a"), now=NOW + 600, partial=partial)
    assert {1: 170} == sent(target.snapshot(NOW + 600))


def test_correction_is_reported_by_channel_and_field() -> None:
    """A step down is held, counted, and visible beside the vendor's value."""
    target = polled(row(1, 5870))
    merged = poll(target, row(1, 5869), now=NOW + 300)
    campaign = only(target.snapshot(NOW + 300))
    assert {("email", "sent"): 1} == merged.corrections
    assert (5870, 5869, 1) == (campaign.values[SENT], campaign.vendor[SENT], campaign.corrections[SENT])
    assert {} == poll(target, row(1, 5869), now=NOW + 600).corrections


def test_reset_passes_through_after_three_polls() -> None:
    """A lasting large fall is published, and its new value added to the channel."""
    target = polled(row(1, 1000))
    resets = [poll(target, row(1, 30), now=NOW + 300 * n).resets for n in (1, 2, 3)]
    snapshot = target.snapshot(NOW + 900)
    assert ([0, 0, 1], {1: 30}, {"email": 30}) == (resets, sent(snapshot), channel_sent(snapshot))


def test_renamed_campaign_is_no_new_campaign() -> None:
    """A new title changes the info, nothing else."""
    target = polled(row(1, 10))
    poll(target, row(1, 11, title="new"), now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
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
    assert leaves == target.next_event()
    assert 1 == target.tick(leaves).gone
    snapshot = target.snapshot(leaves)
    assert ({}, {"email": 5}) == (sent(snapshot), channel_sent(snapshot))


def test_returning_campaign_adds_only_its_growth() -> None:
    """What was counted before a campaign left isn't counted again, saved or not."""
    target = polled(row(1, 10))
    gone_at = NOW + 15 * DAY
    poll(target, now=gone_at)
    archived = next(item for item in target.changes().campaigns if item.campaign_id == 1)
    assert gone_at == archived.evicted
    old = row(1, 25)
    assert frozenset() == target.unknown([old])
    target.saved(target.changes())
    assert frozenset({(1, "email")}) == target.unknown([old])
    merged = target.merge_statistics(
        Collected((old,), ids=frozenset({1})),
        now=gone_at + 60,
        succeeded=True,
        discovered=frozenset({1}),
        recalled=[archived],
    )
    snapshot = target.snapshot(gone_at + 60)
    assert (0, 1) == (merged.new, merged.found)
    assert ({1: 25}, {"email": 15}) == (sent(snapshot), channel_sent(snapshot))


def test_returning_campaign_needs_no_archive_before_it_is_saved() -> None:
    """A campaign that left while saves fail comes back from memory."""
    target = polled(row(1, 10))
    poll(target, now=NOW + 15 * DAY)
    discovered = frozenset({1})
    poll(target, row(1, 25), now=NOW + 15 * DAY + 60, ids=discovered, discovered=discovered)
    snapshot = target.snapshot(NOW + 15 * DAY + 60)
    assert ({1: 25}, {"email": 15}) == (sent(snapshot), channel_sent(snapshot))


def test_new_channel_of_a_known_campaign_is_held_at_zero() -> None:
    """A campaign that was read without SMS and now has it has sent all of that since."""
    target = polled(row(1, 500, start=NOW - 5 * DAY))
    email, sms = row(1, 500, start=NOW - 5 * DAY), row(1, 30, start=NOW - 5 * DAY, channel="sms")
    merged = poll(target, email, sms, now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
    assert (1, {"email": 0, "sms": 0}) == (merged.new, channel_sent(snapshot))
    assert [500, 0] == [item.values[SENT] for item in snapshot.campaigns]
    target.tick(NOW + 360)
    snapshot = target.snapshot(NOW + 360)
    assert {"email": 0, "sms": 30} == channel_sent(snapshot)
    assert [500, 30] == [item.values[SENT] for item in snapshot.campaigns]


def test_channels_that_were_always_there_add_nothing() -> None:
    """Neither channels that are first seen together nor one whose start nobody has read yet are increases."""
    target = polled(row(1, 500, start=NOW - 5 * DAY), row(1, 30, start=NOW - 5 * DAY, channel="sms"))
    poll(target, row(1, 9, start=NOW - 6 * DAY, channel="push"), now=NOW + 300)
    assert {"email": 0, "push": 0, "sms": 0} == channel_sent(target.snapshot(NOW + 360))


def test_unreadable_at_first_sight_adds_nothing_when_read() -> None:
    """A field that couldn't be read in the first poll of a state is no increase in the second."""
    target = polled(row(1, INVALID))
    poll(target, row(1, 500), now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
    assert ({1: 500}, {"email": 0}) == (sent(snapshot), channel_sent(snapshot))


def test_cut_rows_confirm_no_reset() -> None:
    """Sums that may lack rows never count towards a reset, also where only one start's rows were cut."""
    target = polled(row(1, 1000))
    cut = row(1, 10, title="b", start=NOW - 50)
    for n in (1, 2, 3, 4):
        poll(target, row(1, 10), cut, now=NOW + 300 * n, partial=frozenset({cut.group}))
    assert {1: 1000} == sent(target.snapshot(NOW + 1200))


def test_half_read_campaign_confirms_no_reset() -> None:
    """A fall counts towards a reset only where all of the campaign's starts within the window were read."""
    old, new = row(1, 1000, start=NOW - 5 * DAY), row(1, 10)
    target = polled(old, new)
    poll(target, row(1, 0, start=NOW - 5 * DAY), new, now=NOW + 300)
    part = (TimeRange(int(NOW - DAY), int(NOW)),)
    for n in (2, 3, 4):
        poll(target, new, now=NOW + 300 * n, ranges=part)
    assert {1: 1010} == sent(target.snapshot(NOW + 1200))


def test_still_sending_campaign_stays_until_undiscovered_for_a_window() -> None:
    """A campaign older than the window is tracked by its discovery, and is to be read by its id."""
    target = polled()
    poll(target, row(1, 10, start=NOW - 90 * DAY), now=NOW, discovered=frozenset({1}))
    assert frozenset({1}) == target.old_campaigns(NOW)
    poll(target, now=NOW + 14 * DAY - 1)
    assert {1: 10} == sent(target.snapshot(NOW + 14 * DAY - 1))
    poll(target, now=NOW + 14 * DAY)
    assert {} == sent(target.snapshot(NOW + 14 * DAY))
    assert frozenset() == target.old_campaigns(NOW + 14 * DAY)


def test_old_rows_that_nobody_discovered_are_left_out() -> None:
    """A row from before the window isn't tracked just because an answer overlapped."""
    target = polled(row(1, 10, start=NOW - 15 * DAY))
    assert {} == sent(target.snapshot(NOW + 60))


# Staleness and restarts


def test_stale_account_is_withdrawn_and_continues() -> None:
    """Without a success for stale_after everything goes; afterwards counters go on."""
    target = polled(row(1, 10))
    assert NOW + 1800 == target.next_event()
    assert target.tick(NOW + 1800).staleness
    assert (True, (), ()) == (
        (gone := target.snapshot(NOW + 1800)).stale,
        gone.campaigns,
        gone.channels,
    )
    assert poll(target, row(1, 12), now=NOW + 2000).staleness
    snapshot = target.snapshot(NOW + 2000)
    assert (False, {1: 12}, {"email": 2}) == (snapshot.stale, sent(snapshot), channel_sent(snapshot))


def test_failed_polls_keep_nothing_fresh() -> None:
    """Rows of failed polls are merged, but don't put the withdrawal off."""
    target = polled(row(1, 10))
    poll(target, row(1, 11), now=NOW + 1700, succeeded=False)
    assert {1: 11} == sent(target.snapshot(NOW + 1700))
    assert target.snapshot(NOW + 1800).stale


def test_hold_doesnt_end_unseen() -> None:
    """A campaign that comes while the account is withdrawn is held anew when it is back."""
    target = polled(row(1, 10))
    poll(target, row(2, 70, start=NOW + 100), now=NOW + 1900, succeeded=False)
    target.tick(NOW + 1990)
    poll(target, now=NOW + 2000)
    assert target.tick(NOW + 2059) is None
    assert 0 == sent(target.snapshot(NOW + 2059))[2]
    target.tick(NOW + 2060)
    assert 70 == sent(target.snapshot(NOW + 2060))[2]


def saved(target: Window) -> SavedAccount:
    """Return what a state would load after saving everything, holds without their times."""
    changes = target.changes(whole=True)
    return SavedAccount(
        changes.since,
        changes.successes,
        tuple(
            replace(
                item,
                counters=tuple(
                    replace(counter, held=None if counter.held is None else 0.0) for counter in item.counters
                ),
            )
            for item in changes.campaigns
            if item.evicted is None
        ),
        changes.channels,
        changes.conversions,
        {key: time for key, time in changes.discovered.items() if time is not None},
    )


def test_restart_serves_fresh_data_at_once_and_holds_anew() -> None:
    """What was saved is published before any poll; an unreleased hold begins again."""
    target = polled(row(1, 10))
    poll(target, row(2, 70, start=NOW + 200), now=NOW + 300)
    again = Window("main", "EUR", SETTINGS, saved=saved(target), now=NOW + 350)
    assert target.snapshot(NOW + 350) == again.snapshot(NOW + 350)
    assert again.tick(NOW + 409) is None
    again.tick(NOW + 410)
    assert {1: 10, 2: 70} == sent(again.snapshot(NOW + 410))


def test_restart_with_old_data_publishes_nothing_until_a_success() -> None:
    """Saved data that are stale wait for a poll; what happened meanwhile is counted."""
    again = Window("main", "EUR", SETTINGS, saved=saved(polled(row(1, 10))), now=NOW + 7200)
    assert again.snapshot(NOW + 7200).stale
    poll(again, row(1, 30), row(2, 5, start=NOW + 3000), now=NOW + 7300)
    again.tick(NOW + 7360)
    snapshot = again.snapshot(NOW + 7360)
    assert ({1: 30, 2: 5}, {"email": 25}) == (sent(snapshot), channel_sent(snapshot))


def test_clock_that_ran_ahead_doesnt_keep_data_fresh() -> None:
    """A success saved in the future counts as now."""
    future = replace(saved(polled(row(1, 10))), successes={"statistics": NOW + 100 * DAY})
    again = Window("main", "EUR", SETTINGS, saved=future, now=NOW + 100)
    assert again.snapshot(NOW + 1900).stale


# Saving


def test_changes_are_kept_until_saved() -> None:
    """A failed save is retried with the next; what was saved isn't saved again."""
    target = polled(row(1, 10), row(2, 10))
    first = target.changes()
    assert (True, 2) == (first.whole, len(first.campaigns))
    target.saved(first)
    assert () == target.changes().campaigns
    poll(target, row(1, 11), row(2, 10), now=NOW + 300)
    failed = target.changes()
    assert (False, [1]) == (failed.whole, [item.campaign_id for item in failed.campaigns])
    poll(target, row(1, 11), row(2, 12), now=NOW + 600)
    assert [1, 2] == [item.campaign_id for item in target.changes().campaigns]


def test_change_during_a_save_is_saved_with_the_next() -> None:
    """What changed after `changes` isn't taken for saved."""
    target = polled(row(1, 10))
    first = target.changes()
    poll(target, row(1, 11), now=NOW + 300)
    target.saved(first)
    assert [11] == [item.counters[SENT].top for item in target.changes().campaigns]


# Limits and messages


def test_only_the_newest_campaigns_are_exported() -> None:
    """Beyond max_campaigns the oldest are dropped from the export, and still feed their channel."""
    rows = [row(number, 10, start=NOW - number) for number in (1, 2, 3)]
    target = polled(*rows, row(1, 5, start=NOW - 1, channel="sms"), settings=replace(SETTINGS, max_campaigns=2))
    poll(target, row(3, 14, start=NOW - 3), now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
    assert ([1, 1, 2], 1, 4) == (
        [item.campaign_id for item in snapshot.campaigns],
        snapshot.dropped,
        channel_sent(snapshot)["email"],
    )


def test_titles_are_series_of_their_own() -> None:
    """With per_message the sums by title follow the same rules; a title twice is summed."""
    target = polled(row(1, 5, title="a"), row(1, 6, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    assert {"a": 11, "b": 7} == messages(target.snapshot(NOW + 60))
    poll(target, row(1, 10, title="a"), row(1, 9, title="b"), row(1, 3, title="c"), now=NOW + 300)
    assert {"a": 11, "b": 9, "c": 0} == messages(target.snapshot(NOW + 300))
    target.tick(NOW + 360)
    assert {"a": 11, "b": 9, "c": 3} == messages(target.snapshot(NOW + 360))


def test_renamed_title_goes_on_as_it_is() -> None:
    """A title that comes as another goes is published as it is, and the old one goes; back again it goes on."""
    target = polled(row(1, 50, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    poll(target, row(1, 52, title="z"), row(1, 7, title="b"), now=NOW + 300)
    snapshot = target.snapshot(NOW + 300)
    assert ({"z": 52, "b": 7}, 2) == (messages(snapshot), channel_sent(snapshot)["email"])
    poll(target, row(1, 49, title="a"), row(1, 7, title="b"), now=NOW + 600)
    assert {"z": 52, "a": 50, "b": 7} == messages(target.snapshot(NOW + 600))


def test_vanished_title_stays() -> None:
    """A title that is missing, with no other in its place, keeps its last values."""
    target = polled(row(1, 50, title="a"), row(1, 7, title="b"), settings=PER_MESSAGE)
    poll(target, row(1, 7, title="b"), now=NOW + 300)
    assert {"a": 50, "b": 7} == messages(target.snapshot(NOW + 300))


def test_titles_tracked_from_now_on_start_as_they_are() -> None:
    """Turning per_message on for a known campaign is no increase of its titles."""
    again = Window("main", None, PER_MESSAGE, saved=saved(polled(row(1, 50))), now=NOW + 100)
    poll(again, row(1, 55), now=NOW + 300)
    assert {"t": 55} == messages(again.snapshot(NOW + 300))


# Conversions


def convert(target: Window, *rows: Conversion, now: float, succeeded: bool = True) -> Merged:
    """Merge a poll of all conversions."""
    return target.merge_conversions(Collected(rows, ranges=EVERYTHING), now=now, succeeded=succeeded)


def test_conversions_are_gauges_that_may_fall() -> None:
    """Conversions are summed over messages by event and period, and go down freely."""
    target = polled(row(1, 10))
    convert(
        target, conversion(1, 3), conversion(1, 4, title="b"), conversion(1, 9, event="Opened"), now=NOW + 60
    )
    campaign = only(target.snapshot(NOW + 60))
    assert (
        ConversionSnapshot("Clicked", "1 day", 7, Decimal("3.0"), None),
        ConversionSnapshot("Opened", "1 day", 9, Decimal("1.5"), None),
    ) == campaign.conversions
    assert ("Name", NOW + 5) == (campaign.campaign_name, campaign.stop)
    convert(target, conversion(1, 2), now=NOW + 120)
    gauges = only(target.snapshot(NOW + 120)).conversions
    assert [2, 9] == [gauge.deposits for gauge in gauges]


@pytest.mark.parametrize("value", [None, INVALID])
def test_last_good_conversion_stays(value: Count) -> None:
    """A number that is missing or unreadable leaves the last good one."""
    target = polled(row(1, 10))
    convert(target, conversion(1, 3), now=NOW + 60)
    convert(target, conversion(1, value), now=NOW + 120)
    assert 3 == only(target.snapshot(NOW + 120)).conversions[0].deposits


def test_conversions_without_statistics_are_exported() -> None:
    """A campaign known by its conversions only has gauges and info, and no counter."""
    target = polled()
    merged = convert(target, conversion(8, 3), now=NOW + 60)
    campaign = only(target.snapshot(NOW + 60))
    assert (1, (None,) * 12, "t", NOW - 100) == (
        merged.found,
        campaign.values,
        campaign.message_title,
        campaign.start,
    )
    poll(target, now=NOW + 15 * DAY)
    assert () == target.snapshot(NOW + 15 * DAY).campaigns
    target.saved(target.changes())
    assert target.changes().conversions == ()


def test_stale_conversions_are_withdrawn_alone() -> None:
    """Without a success of the conversions only their gauges go."""
    target = polled(row(1, 10))
    convert(target, conversion(1, 3), now=NOW + 60)
    poll(target, row(1, 10), now=NOW + 3600)
    assert NOW + 3660 == target.next_event()
    assert target.tick(NOW + 3660).staleness
    campaign = only(target.snapshot(NOW + 3660))
    assert (10, ()) == (campaign.values[SENT], campaign.conversions)
    convert(target, conversion(1, 4), now=NOW + 3700)
    assert 4 == only(target.snapshot(NOW + 3700)).conversions[0].deposits
