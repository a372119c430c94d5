"""A small replay in CI; the full one is ``python -m tests.rules.replay``, and the runbook has its table."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from tests.rules.replay import DAY, draw_account, episodes, replay, stages


@pytest.mark.e2e
def test_a_small_replay_meets_the_goals() -> None:
    """Sure incidents and raw crossings are found at once; calm accounts have no critical campaign."""
    for tool in ("prometheus", "promtool"):
        if shutil.which(tool) is None:
            reason = f"{tool} is not installed"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    report = replay(calm=3, incidents=9, days=9, seed=7)
    assert report.missed == []
    assert sum(report.sure.values()) > 2
    assert report.sure["bounce"] == report.sure_found["InTargetCampaignBounceRate"]
    assert report.sure["complaint"] == report.sure_found["InTargetCampaignComplaintRate"]
    assert report.proven == report.proven_found
    assert max(report.delays) <= 2
    assert report.crossed > 5
    assert report.crossed == report.crossed_found
    assert report.slow > 0
    assert report.slow == report.warned
    assert report.unfounded == []
    assert report.calm_firings["InTargetCampaignBounceRate", "critical"] == 0
    assert report.calm_firings["InTargetCampaignComplaintRate", "critical"] == 0


def test_episodes_wait_and_keep_firing() -> None:
    """`for` delays the start, gaps up to `keep_firing_for` don't end it, a short flicker fires not at all."""
    assert list(episodes([0, 60, 120, 600, 660, 9000], 60, 600)) == [(60, 1260)]
    assert list(episodes([0, 300], 60, 0)) == []
    assert list(episodes([0, 60, 3600, 3660], 60, 600)) == [(60, 660), (3660, 4260)]


def test_drawn_counters_never_go_down() -> None:
    """What the replay shows of a campaign is a counter, across the change to hourly reading too."""
    rng = np.random.default_rng(1)
    campaigns = [c for i in range(20) for c in draw_account(rng, f"a{i}", 9 * DAY, incident=True, number=1)]
    assert len(campaigns) > 50
    for campaign in campaigns:
        for values in campaign.seen.values():
            assert np.diff(values).min(initial=0) >= 0


def test_stages_use_only_what_is_before_them() -> None:
    """Each stage of recording rules reads series of earlier stages, or its own of another label."""
    recorded: set[str] = set()
    all_names = {rule["record"] for stage in stages() for rule in stage}
    for stage in stages():
        for rule in stage:
            used = {name for name in all_names if name in rule["expr"]}
            assert used <= recorded
        recorded |= {rule["record"] for rule in stage}
    assert "channel:intarget_judged:ratio" in recorded
