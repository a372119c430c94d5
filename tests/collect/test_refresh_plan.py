"""What is due when, and that nothing is starved or forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.api.model import TimeRange
from exporter.collect.ranges import subtract, union
from exporter.collect.refresh_plan import AHEAD, RECENT, Rounds, Tier
from tests._examples import examples

NOW = 1_763_000_000
DAY = 86400
TIERS = (Tier(2 * DAY, 300), Tier(14 * DAY, 3600))


def rounds() -> Rounds:
    """Return the rounds of the default configuration."""
    return Rounds(TIERS, 14 * DAY, 300)


def finish(one: Rounds, now: float) -> tuple[TimeRange, ...]:
    """Read all that is due, and return what it was."""
    due = one.due(now, now)
    one.read(due)
    return due


def test_first_round_reads_the_window() -> None:
    """At the start everything is due, also what starts by a clock that is ahead."""
    one = rounds()
    assert (TimeRange(NOW - 14 * DAY, NOW + AHEAD),) == one.due(NOW, NOW)
    assert one.whole(NOW) == one.due(NOW, NOW)[0]


def test_each_tier_is_read_at_its_interval() -> None:
    """Between two rounds of the old campaigns only the young ones are read."""
    one = rounds()
    due = [finish(one, NOW + 300 * poll) for poll in range(26)]
    whole = [poll for poll, ranges in enumerate(due) if sum(part.seconds for part in ranges) > 4 * DAY]
    assert [0, 12, 24] == whole
    assert (TimeRange(NOW + 300 - 2 * DAY, NOW + 300 + AHEAD),) == due[1]


def test_nothing_is_due_between_polls() -> None:
    """A poll that runs early, for the discovery of old campaigns maybe, reads nothing by start."""
    one = Rounds((Tier(14 * DAY, 3600),), 14 * DAY, 300)
    finish(one, NOW)
    assert () == one.due(NOW + 300, NOW + 300)
    assert () != one.due(NOW + 3500, NOW + 3500)


def test_the_last_tier_reaches_to_the_end_of_the_window() -> None:
    """Tiers that end before the window, or after it, leave no gap and read nothing outside."""
    for younger_than in (DAY, 30 * DAY):
        one = Rounds((Tier(younger_than, 300),), 14 * DAY, 300)
        assert (TimeRange(NOW - 14 * DAY, NOW + AHEAD),) == one.due(NOW, NOW)


def test_tiers_beyond_the_window() -> None:
    """A tier that begins where the window has ended is never due by itself."""
    one = Rounds((Tier(3 * DAY, 300), Tier(9 * DAY, 600)), 2 * DAY, 300)
    assert (TimeRange(NOW - 2 * DAY, NOW + AHEAD),) == finish(one, NOW)
    assert (TimeRange(NOW + 300 - 2 * DAY, NOW + 300 + AHEAD),) == finish(one, NOW + 300)


def test_an_unfinished_round_goes_on() -> None:
    """A poll that was cut short leaves the rest to the next one, with what has started meanwhile."""
    one = rounds()
    one.due(NOW, NOW)
    middle = NOW - 7 * DAY
    one.read([TimeRange(middle, NOW + AHEAD)])
    assert one.unfinished
    later = NOW + 300
    expected = (TimeRange(later - 14 * DAY, middle - 1), TimeRange(NOW - RECENT, later + AHEAD))
    assert expected == one.due(later, later)
    one.read(expected)
    assert not one.unfinished


def test_an_unfinished_round_counts_from_its_beginning() -> None:
    """When it is done the next round is due at once if its time has come."""
    one = rounds()
    one.due(NOW, NOW)
    one.read([TimeRange(NOW - DAY, NOW + AHEAD)])
    finish(one, NOW + 300)
    assert (TimeRange(NOW + 600 - 2 * DAY, NOW + 600 + AHEAD),) == one.due(NOW + 600, NOW + 600)


def test_a_failed_poll_makes_nothing_less_due() -> None:
    """Without any success the same remains due, moved on with the window."""
    one = rounds()
    for poll in range(5):
        now = NOW + 300 * poll
        assert (TimeRange(now - 14 * DAY, now + AHEAD),) == one.due(now, now)


def test_restart() -> None:
    """When what was read is lost, everything is due again, also in the middle of a round."""
    one = rounds()
    finish(one, NOW)
    one.due(NOW + 300, NOW + 300)
    one.restart()
    assert (TimeRange(NOW + 300 - 14 * DAY, NOW + 300 + AHEAD),) == one.due(NOW + 300, NOW + 300)


def test_leftovers_leave_with_the_window() -> None:
    """What an unfinished round has left over isn't read once it is older than the window."""
    one = rounds()
    one.due(NOW, NOW)
    one.read([TimeRange(NOW - 13 * DAY, NOW + AHEAD)])
    later = NOW + 2 * DAY
    assert (TimeRange(NOW - RECENT, later + AHEAD),) == one.due(later, later)


@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=30), st.integers(1, 4))
@examples(150, derandomize=True)
def test_nothing_is_starved(polls: list[tuple[float, bool]], tiers: int) -> None:
    """However polls are cut short, every second is read within its tier's interval once they aren't.

    Each poll may fail after a part of what was due, the latest first; then 30 polls succeed.
    """
    settings = [Tier(DAY * 2 * (n + 1), 300 * 2**n) for n in range(tiers)]
    one = Rounds(settings, 10 * DAY, 300)
    now = float(NOW)
    read_at: list[tuple[float, tuple[TimeRange, ...]]] = []
    for part, fails in [*polls, *([(1.0, False)] * 30)]:
        due = one.due(now, now)
        read = due
        if fails:
            seconds = int(part * sum(piece.seconds for piece in due))
            kept = []
            for piece in reversed(due):
                taken = min(seconds, piece.seconds)
                kept.append(TimeRange(piece.last - taken + 1, piece.last))
                seconds -= taken
            read = union(kept)
        one.read(read)
        read_at.append((now, read))
        assert () == subtract(due, [one.whole(now)])
        now += 300
    now -= 300
    older = 0.0
    for index, tier in enumerate(settings):
        last = index == len(settings) - 1
        end = 10 * DAY if last else tier.younger_than
        mine = TimeRange(int(now - end), int(now - older - (1 if older else 0)))
        recent = [piece for at, read in read_at if at > now - 2 * tier.every for piece in read]
        # What aged from the tier before within the interval was read as that one's
        assert () == subtract([mine], recent)
        older = end


def test_a_wall_clock_set_back_delays_nothing() -> None:
    """Intervals are measured by a clock that doesn't jump."""
    one = Rounds([Tier(14 * DAY, 300)], 14 * DAY, 300)
    one.read(one.due(NOW + 7200, 1000.0))
    assert () == one.due(NOW, 1100.0)
    assert () != one.due(NOW, 1300.0)


def test_an_unfinished_round_outlives_a_restart() -> None:
    """What was left over is read on, with what has started meanwhile; nonsense is ignored."""
    one = rounds()
    one.due(NOW, NOW)
    one.read([TimeRange(NOW - 7 * DAY, NOW + AHEAD)])
    other = rounds()
    other.load(one.save())
    assert one.due(NOW + 300, NOW + 300) == other.due(NOW + 300, 5.0)
    for nonsense in (None, [["x"]], [[1], 2], [[1, 2]]):
        another = rounds()
        another.load(nonsense)
        assert not another.unfinished
