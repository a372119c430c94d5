"""The replay's arrays against Prometheus' own evaluation of the shipped rules."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from grafana.rules.analysis.compare import unit_test
from grafana.rules.analysis.evaluate import Evaluation
from grafana.rules.analysis.worlds import DAY, LATE, clip, draw
from tests._tools import tool

RULES = Path(__file__).parents[2] / "grafana" / "rules"


@pytest.mark.e2e
def test_arrays_and_prometheus_find_the_same(tmp_path: Path) -> None:
    """Two days around an incident: at every half hour the same alerts fire."""
    promtool = tool("promtool")
    whole = draw(60_001, "recurring goes bad, bounces", LATE, 3)
    world = clip(whole, whole.onset - DAY, whole.onset + DAY)
    found = {(f.alert, f.severity) for f in Evaluation(world).firings}
    assert ("InTargetCampaignBounceRate", "critical") in found
    files = [str(RULES / name) for name in ("limits.yaml", "recording.yaml", "alerts.yaml")]
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(unit_test(world, files), width=10**9))
    run = subprocess.run(
        [promtool, "test", "rules", "world.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
