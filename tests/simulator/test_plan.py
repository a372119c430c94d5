"""Which campaigns there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.simulator import SCENARIOS, CurveMessage, Incident, Scenario, Simulator, demo
from tests.simulator._ask import DAY, HOUR, NOW, Clock, fixed


def test_calm_has_a_believable_year() -> None:
    """Ordinary campaigns every day, most in daytime, Email the commonest, recurring ones months old."""
    campaigns = Simulator(3, Clock(), SCENARIOS["calm"]).campaigns()
    recent = [campaign for campaign in campaigns if campaign.start > NOW - 14 * DAY]
    assert 55 <= len(recent) <= 95
    channels = Counter(campaign.channel for campaign in campaigns)
    assert {"Email", "Push", "SMS"} == set(channels)
    assert "Email" == channels.most_common(1)[0][0]
    by_day = sum(7 * HOUR <= campaign.start % DAY < 20 * HOUR for campaign in campaigns)
    assert by_day > 0.85 * len(campaigns)
    assert sum(campaign.start % 60 == 0 for campaign in campaigns) > len(campaigns) / 2
    recurring = [campaign for campaign in campaigns if campaign.recurring]
    assert 3 == len(recurring)
    assert all(campaign.start < NOW - 59 * DAY for campaign in recurring)


def test_ids_are_unique_and_grow_with_time() -> None:
    """No id is given twice, and later campaigns have greater ids, day by day."""
    campaigns = Simulator(3, Clock(), SCENARIOS["dense"]).campaigns(first=NOW - 8 * DAY)
    ids = [campaign.campaign_id for campaign in campaigns]
    assert len(set(ids)) == len(ids)
    planned = [campaign for campaign in campaigns if not campaign.recurring]
    days = [campaign.start // DAY for campaign in sorted(planned, key=lambda c: c.campaign_id)]
    assert sorted(days) == days


def test_the_past_does_not_depend_on_when_the_simulator_began() -> None:
    """Two simulators that begin on different days agree on what both have planned."""
    first = Simulator(3, Clock(NOW - 20 * DAY), SCENARIOS["calm"])
    second = Simulator(3, Clock(), SCENARIOS["calm"])
    span = {"first": NOW - 40 * DAY, "last": NOW}
    starts = [
        {c.campaign_id: c.start for c in simulator.campaigns(NOW, **span) if not c.recurring}
        for simulator in (first, second)
    ]
    assert starts[0] == starts[1]
    assert len(starts[0]) > 150


def test_a_dense_second_holds_hundreds() -> None:
    """In `dense` one second of every fourth day has three hundred starts."""
    campaigns = Simulator(3, Clock(), SCENARIOS["dense"]).campaigns(first=NOW - 8 * DAY)
    (_, first), (_, second), (_, third) = Counter(campaign.start for campaign in campaigns).most_common(3)
    assert min(first, second) >= 300
    assert third < 10


def test_many_messages_exceed_a_page() -> None:
    """In `many-messages` one campaign has more messages than the cap, and titles repeat."""
    simulator = Simulator(3, Clock(), replace(SCENARIOS["many-messages"], history_days=10))
    longest = max(simulator.campaigns(), key=lambda campaign: len(campaign.messages))
    assert len(longest.messages) > 50
    assert len({message.title for message in longest.messages}) < len(longest.messages)


def test_big_is_big() -> None:
    """In `big` two days have hundreds of campaigns: a fortnight has thousands."""
    campaigns = Simulator(3, Clock(), SCENARIOS["big"]).campaigns(first=NOW - 2 * DAY)
    assert 500 < len(campaigns) < 1000


@pytest.mark.parametrize("hour", [0, 5, 11, 17, 23])
@pytest.mark.parametrize("scenario", ["calm", "bounce-spike"])
def test_the_demo_has_a_fortnight_behind_it(hour: int, scenario: str) -> None:
    """At any time of day the demo begins with 50 to 100 campaigns, three of them recurring."""
    campaigns = demo(Clock(NOW - NOW % DAY + hour * HOUR), scenario).campaigns()
    assert 55 <= len([campaign for campaign in campaigns if not campaign.recurring]) <= 95
    assert 3 == sum(campaign.recurring for campaign in campaigns)


@pytest.mark.parametrize("hour", [0, 5, 11, 17, 23])
def test_the_demo_moves_within_minutes(hour: int) -> None:
    """At any time of day a campaign starts about every 45 s, and is sent within three minutes."""
    clock = Clock(NOW - NOW % DAY + hour * HOUR)
    simulator = demo(clock)
    origin = clock.now
    fresh = simulator.campaigns(origin + 1800, first=origin)
    assert 30 <= len(fresh) <= 55
    starts = [origin, *(campaign.start for campaign in fresh)]
    assert max(b - a for a, b in pairwise(starts)) < 150
    campaign = fresh[0]
    key = (campaign.campaign_id, campaign.channel.lower())
    total = simulator.truth(origin + DAY)[key]["sent"]
    halfway = simulator.truth(campaign.start + 8)[key]["sent"]
    done = simulator.truth(campaign.start + 180)[key]["sent"]
    assert 0 < (halfway or 0) < (total or 0)
    assert (done or 0) >= 0.98 * (total or 0)


def test_an_incident_rises_and_is_over() -> None:
    """Its campaign bounces as usual at first, then at the ratio, and stops being sent after its duration."""
    incident = Incident(kind="bounce", ratio=0.3, volume=40_000, start=600, duration=3600, onset_seconds=1800)
    scenario = replace(SCENARIOS["calm"], incidents=(incident,))
    simulator = Simulator(4, Clock(), scenario)
    ((found, campaign),) = simulator.incidents()
    assert incident == found
    assert NOW + 600 == campaign.start
    assert campaign not in simulator.campaigns(NOW + 599)
    assert campaign in simulator.campaigns(NOW + 600)

    def counts(seconds: float) -> dict[str, int]:
        truth = simulator.truth(campaign.start + seconds, first=campaign.start)
        return {name: count or 0 for name, count in truth[campaign.campaign_id, "email"].items()}

    early, onset, end, later = counts(200), counts(1800), counts(3600), counts(20 * DAY)
    assert early["bounced"] < 0.06 * early["sent"]
    last = (end["bounced"] - onset["bounced"]) / (end["sent"] - onset["sent"])
    assert 0.24 < last < 0.36
    assert 40_000 == later["sent"]
    assert end["sent"] > 39_000


def test_an_incident_without_volume_worsens_planned_campaigns() -> None:
    """Campaigns of the channel that start within it have its ratio, others keep theirs."""
    incident = Incident(kind="bounce", ratio=0.4, volume=None, start=-5 * DAY, duration=2 * DAY)
    simulator = Simulator(4, Clock(), replace(SCENARIOS["calm"], incidents=(incident,)))
    hit, spared = [], []
    for campaign in simulator.campaigns(first=NOW - 10 * DAY):
        truth = simulator.truth(NOW + 20 * DAY, first=campaign.start, last=campaign.start)
        counts = truth[campaign.campaign_id, campaign.channel.lower()]
        inside = NOW - 5 * DAY <= campaign.start < NOW - 3 * DAY and campaign.channel == "Email"
        (hit if inside else spared).append((counts["bounced"] or 0) / (counts["sent"] or 1))
    assert len(hit) > 3
    assert min(hit) > 0.2
    assert max(spared) < 0.1
    assert [] == simulator.incidents()


@pytest.mark.parametrize(
    ("name", "channel", "share"),
    [
        ("bounce-spike", "email", lambda c: (c["bounced"] - c["softBounced"]) / c["sent"] / 0.12),
        ("complaint-spike", "email", lambda c: c["complaint"] / c["delivered"] / 0.003),
        ("unsubscribe-spike", "email", lambda c: c["unsubscribed"] / c["delivered"] / 0.04),
        ("delivery-collapse", "sms", lambda c: 1 - c["delivered"] / c["sent"] + 0.4),
        ("failures", "push", lambda c: (c["failed"] + c["rejected"]) / c["sent"] / 0.2),
    ],
)
def test_spikes_of_the_demo_show_within_minutes(name: str, channel: str, share: object) -> None:
    """A minute after the demo's start the campaign begins; minutes later it has its ratio, and has ended."""
    simulator = demo(Clock(), name)
    ((_, campaign),) = simulator.incidents()
    assert NOW + 60 == campaign.start
    after = simulator.truth(NOW + 60 + 900, first=campaign.start)[campaign.campaign_id, channel]
    much_later = simulator.truth(NOW + 60 + 7200, first=campaign.start)[campaign.campaign_id, channel]
    assert share(after) == pytest.approx(1, abs=0.15)
    assert after["sent"] == much_later["sent"]


def test_too_many_incidents_of_one_day_are_refused() -> None:
    """Ids of a day are limited; more incidents than those raise instead of sharing an id."""
    scenario = replace(SCENARIOS["calm"], incidents=(Incident(kind="bounce"),) * 70)
    with pytest.raises(ValueError, match="more than 64"):
        Simulator(1, Clock(), scenario)


def test_fixed_has_only_what_it_was_given() -> None:
    """A fixed scenario has its campaigns, from their starts on, and sees those added later."""
    campaigns = [fixed(1, NOW - 10), fixed(2, NOW + 10)]
    simulator = Simulator(1, Clock(), Scenario.fixed(campaigns))
    assert [1] == [campaign.campaign_id for campaign in simulator.campaigns()]
    assert [1, 2] == [campaign.campaign_id for campaign in simulator.campaigns(NOW + 10)]
    campaigns.append(fixed(3, NOW - 5))
    assert [1, 3] == [campaign.campaign_id for campaign in simulator.campaigns()]


def test_every_scenario_describes_itself() -> None:
    """Names are keys, descriptions are one line that fits a help text, and campaigns come."""
    assert set(SCENARIOS) >= {"calm", "bounce-spike", "complaint-spike", "outage", "token-revoked", "garbage"}
    for name, scenario in SCENARIOS.items():
        assert name == scenario.name
        assert 10 < len(scenario.description) <= 100
        assert "\n" not in scenario.description
        assert isinstance(demo(Clock(), name).campaigns(first=NOW - 5 * DAY)[0].messages[0], CurveMessage)
