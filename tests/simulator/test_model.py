"""The curves: draws, identities, growth."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator.model import (
    FIELDS,
    FOREVER,
    Conversions,
    CurveMessage,
    DailyMessage,
    FixedMessage,
    Goal,
    Run,
    Timeline,
    add_counts,
    binomial,
)
from exporter.simulator.plan import draw_rates, worsen
from tests._examples import examples
from tests.simulator._ask import DAY, HOUR

GOALS = (Goal("Opened", "1 day", 0.05, 40.0), Goal("Clicked", "1 hour", 0.3, 40.0))

runs = st.builds(
    lambda seed, channel, volume, duration, begin: Run(
        f"{seed}",
        volume,
        draw_rates(random.Random(seed), channel),
        GOALS if channel == "Email" else GOALS[1:],
        duration=duration,
        begin=begin,
    ),
    st.integers(0, 10_000),
    st.sampled_from(["Email", "SMS", "Push"]),
    st.integers(0, 500_000),
    st.floats(1, 12 * HOUR),
    st.floats(0, 2 * HOUR),
)
ages = st.lists(st.floats(0, 20 * DAY), min_size=2, max_size=6).map(sorted)


def check_identities(counts: dict[str, int | None]) -> None:
    """Fail if a part exceeds its whole."""
    value = {name: count or 0 for name, count in counts.items()}
    assert value["sent"] >= value["delivered"] + value["bounced"]
    assert value["bounced"] >= value["softBounced"]
    assert value["delivered"] >= max(value["opened"], value["clicked"], value["complaint"])
    assert value["delivered"] >= value["unsubscribed"]
    if counts["opened"] is not None:
        assert value["opened"] >= value["clicked"]
    assert min(value.values()) >= 0


@examples(80)
@given(runs, ages, st.floats(0, DAY))
def test_identities_hold_and_nothing_shrinks(run: Run, moments: list[float], cut: float) -> None:
    """At every age and every cut the identities hold, and no count is below an earlier one."""
    for limit in (FOREVER, cut):
        seen = [run.counts(age, limit) for age in moments]
        for counts in seen:
            check_identities(counts)
        for earlier, later in pairwise(seen):
            assert all((earlier[name] or 0) <= (later[name] or 0) for name in FIELDS)


@examples(40)
@given(runs)
def test_a_run_ends_at_its_totals(run: Run) -> None:
    """Just before the horizon everything but a straggler has come; after it, exactly the totals."""
    before, after = run.counts(run.begin + run.horizon - 1, FOREVER), run.counts(1e9, FOREVER)
    assert run.final == after
    for name in FIELDS:
        assert abs((after[name] or 0) - (before[name] or 0)) <= 1
    assert after["sent"] == (after["delivered"] or 0) + (after["bounced"] or 0)


@examples(40)
@given(runs, ages)
def test_conversions_grow_and_end(run: Run, moments: list[float]) -> None:
    """Deposits, amount and users never shrink, users never exceed deposits, and the totals are reached."""
    for goal, final in enumerate(run.final_conversions):
        seen = [run.conversions(age, FOREVER, goal) for age in moments] + [run.conversions(1e9, FOREVER, goal)]
        assert final == seen[-1]
        for earlier, later in pairwise(seen):
            assert later.users >= earlier.users
            assert later.cents >= earlier.cents
            assert later.deposits >= max(earlier.deposits, later.users)


@examples(40)
@given(runs, st.floats(0, 20 * DAY), st.lists(st.floats(0, DAY), min_size=1, max_size=4).map(sorted))
def test_cuts_add_up(run: Run, age: float, cuts: list[float]) -> None:
    """The counts of neighbouring spans of sends add up to the counts of all."""
    edges = [-1.0, *cuts, FOREVER]
    total = dict.fromkeys(FIELDS, 0)
    for first, last in pairwise(edges):
        upto, before = run.counts(age, last), run.counts(age, first)
        total = add_counts(total, {name: (upto[name] or 0) - (before[name] or 0) for name in FIELDS})
    assert {name: count or 0 for name, count in run.counts(age, FOREVER).items()} == total


def test_opens_exist_for_email_and_push_only() -> None:
    """An SMS has no opens, before its first send and after its last."""
    rng = random.Random(1)
    sms = Run("x", 100, draw_rates(rng, "SMS"), duration=60)
    email = Run("x", 100, draw_rates(rng, "Email"), duration=60)
    assert [None, None] == [sms.counts(0, FOREVER)["opened"], sms.counts(1e9, FOREVER)["opened"]]
    assert [0, True] == [email.counts(0, FOREVER)["opened"], (email.counts(1e9, FOREVER)["opened"] or 0) > 0]


@pytest.mark.parametrize(
    ("trials", "p"), [(100, 0.02), (1000, 0.9), (40_000, 0.01), (400_000, 0.01), (50, 0.5)]
)
def test_binomial_has_the_right_mean_and_spread(trials: int, p: float) -> None:
    """Mean and variance of many draws are those of the law, by each of the three methods."""
    rng = random.Random(7)
    draws = [binomial(rng, trials, p) for _ in range(3000)]
    mean, variance = trials * p, trials * p * (1 - p)
    measured = sum(draws) / len(draws)
    assert abs(measured - mean) < 5 * (variance / len(draws)) ** 0.5
    assert sum((draw - measured) ** 2 for draw in draws) / len(draws) == pytest.approx(variance, rel=0.15)
    assert all(0 <= draw <= trials for draw in draws)


def test_binomial_at_its_ends() -> None:
    """Nothing succeeds at 0 or of nothing, everything at 1."""
    rng = random.Random(7)
    assert [0, 0, 9] == [binomial(rng, 9, 0.0), binomial(rng, 0, 0.5), binomial(rng, 9, 1.0)]


def test_rare_events_scatter_like_independent_ones() -> None:
    """At half of the sends the bounces over many campaigns vary as a binomial does, not less."""
    rates = worsen(draw_rates(random.Random(1), "Email"), "bounce", 0.02, 1.0)
    halves = []
    for seed in range(400):
        run = Run(f"{seed}", 5000, rates, duration=100_000)
        total = run.final["bounced"] or 0
        halves.append(((run.counts(50_000, FOREVER)["bounced"] or 0) - total / 2) / (total / 4) ** 0.5)
    mean = sum(halves) / len(halves)
    assert 0.8 < sum((half - mean) ** 2 for half in halves) / len(halves) < 1.25


def daily(volume: int = 300) -> DailyMessage:
    """Make a message that sends two hours a day."""
    rates = draw_rates(random.Random(3), "Email")
    return DailyMessage(
        "Daily",
        None,
        lambda day: Run(f"d:{day}", volume, rates, GOALS, duration=2 * HOUR, begin=day * DAY),
        len(GOALS),
    )


@examples(15)
@given(st.lists(st.floats(0, 50 * DAY), min_size=2, max_size=4).map(sorted), st.floats(0, 50 * DAY))
def test_a_daily_message_is_the_sum_of_its_days(moments: list[float], cut: float) -> None:
    """Days that were summed in advance count as those worked out one by one do."""
    message = daily()
    expected = CurveMessage("", None, tuple(message.make_run(day) for day in range(52)))
    for age in moments:
        for limit in (FOREVER, cut):
            assert expected.counts(age, limit) == message.counts(age, limit)
            assert expected.conversions(age, limit, 1) == message.conversions(age, limit, 1)


def test_a_daily_message_sends_every_day() -> None:
    """Every day has sends; the hours between two days' sends have none."""
    message = daily()
    assert all(message.sent_between(day * DAY, (day + 1) * DAY) for day in range(60))
    assert not any(message.sent_between(day * DAY + 3 * HOUR, (day + 1) * DAY) for day in range(60))


@pytest.mark.parametrize("diurnal", [True, False])
@pytest.mark.parametrize("speed", [1.0, 350.0])
def test_the_timeline_is_continuous_and_growing(*, diurnal: bool, speed: float) -> None:
    """Progress and calendar never stand still or jump, also at the origin, and the calendar can be undone."""
    timeline = Timeline(10 * DAY + 5000, speed, diurnal)
    clocks = [timeline.origin + minute * 60 for minute in range(-3000, 3000, 7)]
    for earlier, later in pairwise(clocks):
        step = timeline.progress(later) - timeline.progress(earlier)
        assert 0.4 * 420 < step < 1.6 * 420 * speed
        assert timeline.clock(timeline.calendar(later)) == pytest.approx(later)
    if diurnal and speed == 1:
        assert timeline.progress(clocks[0] + DAY) - timeline.progress(clocks[0]) == pytest.approx(DAY)


def test_a_fixed_message_grows_by_its_function() -> None:
    """Counts may be a function of the campaign's age in seconds."""
    message = FixedMessage("A", lambda age: {"sent": int(age)})
    assert {"sent": 90} == message.counts(90.5, FOREVER)


def test_a_fixed_message_is_sent_evenly() -> None:
    """A cut within the sends takes its share of the counts and conversions, of what is sent by then."""
    message = FixedMessage(
        "A", {"sent": 100, "opened": None}, conversions_by_goal=[Conversions(10, 1000, 5)], sends=(0.0, 100.0)
    )
    assert {"sent": 25, "opened": None} == message.counts(1e6, 25.0)
    assert {"sent": 50, "opened": None} == message.counts(50.0, 25.0)
    assert {"sent": 0, "opened": None} == message.counts(1e6, -1.0)
    assert Conversions(2, 250, 1) == message.conversions(1e6, 25.0, 0)
    assert Conversions(10, 1000, 5) == message.conversions(1e6, FOREVER, 0)
    assert Conversions() == message.conversions(1e6, FOREVER, 1)


def test_amounts_are_written_with_two_decimals() -> None:
    """Cents become a decimal number as the vendor writes it."""
    assert "18752.40" == Conversions(154, 1875240, 102).amount
    assert "0.05" == Conversions(1, 5, 1).amount


@pytest.mark.parametrize(
    ("kind", "ratio"),
    [("bounce", 0.12), ("complaint", 0.003), ("unsubscribe", 0.04), ("failed", 0.2), ("delivery", 0.6)],
)
def test_worse_rates_give_the_ratio_asked_for(kind: str, ratio: float) -> None:
    """A run at full strength has the ratio of its incident, at strength 0 the usual one."""
    usual = draw_rates(random.Random(5), "Email")
    measured = {}
    for strength in (0.0, 1.0):
        end = Run("r", 400_000, worsen(usual, kind, ratio, strength), duration=60).final
        value = {name: count or 0 for name, count in end.items()}
        measured[strength] = {
            "bounce": (value["bounced"] - value["softBounced"]) / value["sent"],
            "complaint": value["complaint"] / value["delivered"],
            "unsubscribe": value["unsubscribed"] / value["delivered"],
            "failed": (value["failed"] + value["rejected"]) / value["sent"],
            "delivery": 1 - value["delivered"] / (value["sent"] - value["bounced"]),
        }[kind]
    assert measured[1.0] == pytest.approx(ratio, rel=0.1)
    assert measured[0.0] < ratio / 5
