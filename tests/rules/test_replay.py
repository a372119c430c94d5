"""The replay that judges the rules: its model of the rules, its model of Alertmanager, and a small run."""

from __future__ import annotations

import numpy as np
import pytest

from grafana.rules.analysis.evaluate import episodes, increase, running
from grafana.rules.analysis.judge import ONE_CAMPAIGN, Report, rate_interval, run, share_interval
from grafana.rules.analysis.notify import Alert, notifications
from grafana.rules.analysis.worlds import KINDS, LATE, draw

CRITICAL = {
    "alertname": "InTargetCampaignBounceRate",
    "severity": "critical",
    "signal": "bounce",
    "account": "a",
}
MINUTE, HOUR = 60, 3600


@pytest.fixture(scope="module")
def report() -> Report:
    """Return what a small run found: of each kind two incidents, and two calm months."""
    return run(calm=2, incidents=2, seed=5)


def test_a_small_replay_finds_what_can_be_known(report: Report) -> None:
    """Nothing that a perfect observer knows stays without its alert."""
    for kind in KINDS[:-1]:
        tally = report.kinds[kind, "shipped"]
        assert tally.found == tally.known, (kind, tally.missed)
    assert sum(report.kinds[kind, "shipped"].known for kind in KINDS[:-1]) > len(KINDS)


def test_a_bad_campaign_is_told_at_once_and_not_for_ever(report: Report) -> None:
    """A burst of bounces or complaints is one minute late."""
    for kind in (ONE_CAMPAIGN[0], ONE_CAMPAIGN[3]):
        assert max(report.kinds[kind, "shipped"].delays) <= 6


def test_what_is_taken_back_is_no_longer_critical(report: Report) -> None:
    """Two hours after InTarget took the bounces back nothing says so any more."""
    assert report.still_on["shipped"] == 0


def test_episodes_wait_and_keep_firing() -> None:
    """`for` delays the start, gaps up to `keep_firing_for` don't end it, a short flicker fires not at all."""
    held = np.zeros(20, dtype=bool)
    held[[2, 3, 4, 8, 9, 15]] = True
    assert list(episodes(held, 1, 4)) == [(3, 14)]
    assert list(episodes(held, 0, 0)) == [(2, 5), (8, 10), (15, 16)]


def test_windows_look_back() -> None:
    """Increase and running maximum are those of the last steps, and of fewer at the beginning."""
    values = np.array([5.0, 6.0, 6.0, 9.0])
    assert increase(values, 2).tolist() == [0, 1, 1, 3]
    assert running(np.array([3.0, 1.0, 2.0, 0.0]), 2).tolist() == [3, 3, 3, 2]
    assert running(np.array([3.0, 1.0, 2.0, 0.0]), 2, least=True).tolist() == [3, 1, 1, 0]


@pytest.mark.parametrize("kind", ["calm", *KINDS])
def test_drawn_counters_never_go_down(kind: str) -> None:
    """What a world shows of a campaign is a counter, unless InTarget takes something back."""
    for campaign in draw(3, kind, LATE, 7).campaigns:
        for field, values in campaign.seen.items():
            if (kind, field) != ("bounces taken back", "bounced"):
                assert np.diff(values).min(initial=0) >= 0


def test_intervals() -> None:
    """Known values: 29 of 30, and none in 60 months."""
    assert share_interval(29, 30) == pytest.approx((0.833, 0.994), abs=0.002)
    assert rate_interval(0, 60) == pytest.approx((0, 3.69 / 60), rel=0.15)


def _alert(since: int, until: int, **labels: str) -> Alert:
    return Alert({**CRITICAL, "campaign_id": "1", **labels}, since, until)


def test_one_campaign_is_a_page_and_its_end() -> None:
    """After the group's wait, and at the next interval after its end."""
    told = notifications([_alert(0, 8 * HOUR)])
    assert [(n.at, len(n.firing), len(n.resolved)) for n in told] == [(MINUTE, 1, 0), (8 * HOUR + MINUTE, 0, 1)]


def test_a_campaign_that_joins_is_told_and_nothing_is_repeated_within_two_days() -> None:
    """A second campaign of the group is told with the first; two days later all is told again."""
    told = notifications([_alert(0, 60 * HOUR), _alert(2 * HOUR, 60 * HOUR, campaign_id="2")])
    assert [len(n.firing) for n in told] == [1, 2, 2, 0]
    assert told[2].at - told[1].at >= 48 * HOUR


def test_warnings_of_the_same_campaign_are_not_told() -> None:
    """The warning is inhibited by the critical alert, and told when that has ended."""
    told = notifications([_alert(0, 2 * HOUR), _alert(0, 19 * HOUR, severity="warning")])
    assert [(n.receiver, len(n.firing)) for n in told] == [("page", 1), ("page", 0), ("chat", 1)]
