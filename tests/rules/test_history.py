"""Recording rules for the past: ``promtool tsdb create-blocks-from rules``, as after a backfill."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from exporter.exposition.catalogue import CAMPAIGN_COUNTERS, CHANNEL_COUNTERS
from tests._tools import tool
from tests.rules.prometheus import Prometheus, import_openmetrics

RULES = Path(__file__).parents[2] / "grafana" / "rules"
MINUTES = 26 * 60
"""Of raw counters; recorded are the last twenty."""
PASSES = 9
"""From counters to what alerts fire on: each pass reads only what the one before has recorded."""
CHANNEL = 'account="a",channel="email"'
CAMPAIGN = f'{CHANNEL},campaign_id="1"'


def _write(path: Path, start: int) -> None:
    """Write one bad campaign and its channel as two replicas show them; the second lost its state half way."""
    with path.open("w") as out:

        def series(name: str, labels: str, *, by: int, total: int = 0, lost: bool = False) -> None:
            for minute in range(0, MINUTES, 5):
                value = total or by * (minute - (MINUTES - 60) if lost and minute > MINUTES - 60 else minute)
                out.write(f"{name}{{{labels}}} {value} {start + minute * 60}\n")

        for instance in ("1", "2"):
            target = f'job="j",instance="{instance}"'
            series("intarget_up", f'account="a",{target}', by=0, total=1)
            series("intarget_campaign_start_timestamp_seconds", f"{CAMPAIGN},{target}", by=0, total=start)
            for field in CHANNEL_COUNTERS:
                by = 100 if field in {"sent", "delivered"} else 10
                series(CAMPAIGN_COUNTERS[field].name, f"{CAMPAIGN},{target}", by=by)
                series(CHANNEL_COUNTERS[field].name, f"{CHANNEL},{target}", by=by, lost=instance == "2")
                overcount = f'{CHANNEL},field="{field}",{target}'
                series("intarget_channel_overcount", overcount, by=0)
            series("intarget_campaign_overcount", f'{CAMPAIGN},field="bounced",{target}', by=1)
        out.write("# EOF\n")


@pytest.mark.e2e
def test_rules_can_be_recorded_for_the_past(tmp_path: Path) -> None:
    """No rule makes promtool stumble, and in the end there is what the campaign's alert fires on."""
    promtool = tool("promtool")
    end = int(time.time()) // 3600 * 3600 - 4 * 3600
    data = tmp_path / "data"
    data.mkdir()
    _write(tmp_path / "raw.om", end - MINUTES * 60)
    import_openmetrics(tmp_path / "raw.om", data)
    prometheus = Prometheus(tmp_path)
    for _ in range(PASSES):
        with prometheus:
            command = [promtool, "tsdb", "create-blocks-from", "rules", f"--url={prometheus.url}"]
            command += [
                f"--start={end - 1200}",
                f"--end={end - 60}",
                f"--output-dir={data}",
                "--eval-interval=5m",
            ]
            run = subprocess.run(
                [*command, str(RULES / "limits.yaml"), str(RULES / "recording.yaml")],
                capture_output=True,
                text=True,
                check=False,
            )
            assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
            assert "err" not in run.stderr.lower(), run.stderr[-4000:]
    with prometheus:
        found = prometheus.get("query", query="campaign:intarget_active:lower", time=end - 60)["result"]
    assert {sample["metric"]["campaign_id"] for sample in found} == {"1"}
