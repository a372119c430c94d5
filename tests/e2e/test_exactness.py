"""Counters that Prometheus can trust: the real exporter, killed and failed, seen by a real Prometheus."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests._tools import tool
from tests.e2e._debian import from_testing
from tests.e2e._exactness import FROM_START, Run, increase, steps_down
from tests.e2e._running import Exporter, raw, scraping, until
from tests.e2e._scripted import METRICS, Campaign, ScriptedApi

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.rules.prometheus import Prometheus

pytestmark = pytest.mark.e2e

CONFIG = """
accounts: [{{name: main, access_token: made-up, base_url: "{url}"}}]
poll:
  refresh: [{{younger_than: 14d, every: 1s}}]
  still_sending: null
  conversions_every: null
  stale_after: {stale}
api: {{timeout: 1s, deadline: 3s, retries: 0, requests_per_second: 1000}}
metrics: {{zero_hold: 3s, created_timestamps: {created}}}
state: {{path: {state}}}
"""
SENT = "intarget_campaign_messages_sent_total"
CHANNEL_SENT = "intarget_channel_messages_sent_total"


def config(api: ScriptedApi, *, state: str = "state.db", stale: str = "30s", created: str = "false") -> str:
    """Return a configuration that polls the API every second."""
    return CONFIG.format(url=api.url, state=state, stale=stale, created=created)


def campaign(number: int, sent: int, *, start: float, known: bool = True) -> Campaign:
    """Return a campaign of which only `sent` has a value."""
    return Campaign(number, "Email", int(start), [{"sent": sent}], known=known)


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    """Serve two campaigns that have been there for some time."""
    with ScriptedApi() as server:
        server.campaigns += [campaign(n, 500 * n, start=time.time() - 86400 * n) for n in (1, 2)]
        yield server


@pytest.fixture
def exporter(tmp_path: Path, api: ScriptedApi) -> Iterator[Exporter]:
    """Run the exporter, with what is most usual; tests may write another configuration and start it again."""
    with Exporter(tmp_path / "exporter", config(api)) as process:
        yield process


@pytest.fixture
def prometheus(tmp_path: Path, exporter: Exporter) -> Iterator[Prometheus]:
    """Run Prometheus, which scrapes the exporter every second."""
    tool(os.environ.get("PROMETHEUS", "prometheus"))
    with scraping(tmp_path / "prometheus", exporter) as server:
        yield server


def latest(prometheus: Prometheus, query: str) -> list[float]:
    """Return the values of a query as of now."""
    return sorted(float(one["value"][1]) for one in prometheus.get("query", query=query)["result"])


@pytest.mark.parametrize("version", ["installed", "3"])
def test_increases_are_exact(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over kills, faults, corrections and comings and goings every counter has grown by exactly the truth.

    With the installed Prometheus, and with a 3.x where Debian's archive has one. Raw samples are compared for
    equality, and for steps down where there must be none; what Prometheus makes of them is a little more, since
    it extrapolates to the ends of the range.
    """
    if version == "3":
        monkeypatch.setenv("PROMETHEUS", str(from_testing("prometheus")))
    tool(os.environ.get("PROMETHEUS", "prometheus"))
    report = Run(tmp_path, seconds=50, kills=20, seed=int(time.time()))()
    print(report.text())
    assert [] == report.faults
    assert report.truth == report.raw
    assert report.kills >= 20
    assert report.falls > 0
    assert report.deviation(*FROM_START) < 0.1


def test_an_outage_ends_campaign_series(api: ScriptedApi, exporter: Exporter, prometheus: Prometheus) -> None:
    """After stale_after without a success campaign series end, and go on where they were when that is over."""
    (exporter.folder / "config.yaml").write_text(config(api, stale="4s"))
    exporter.serve()
    until(lambda: latest(prometheus, SENT) == [500, 1000], "campaigns are seen")
    api.fault = "500"
    until(lambda: latest(prometheus, SENT) == [], "campaign series have ended")
    assert [] == latest(prometheus, "intarget_campaign_info")
    assert [0] == latest(prometheus, "intarget_up")
    (success,) = latest(prometheus, "intarget_last_success_timestamp_seconds")
    assert 4 <= time.time() - success < 60
    status, body = exporter.get("/-/ready")
    assert 503 == status
    assert re.search(r"\bmain\b.*stale.*500", body), body
    with api.lock:
        for one in api.campaigns:
            one.add("sent", 10 * one.number)
        api.campaigns.append(campaign(3, 70, start=time.time(), known=False))
    exporter.kill()  # a restart in an outage changes nothing
    exporter.serve()
    until(lambda: latest(prometheus, "intarget_up") == [0], "the outage goes on")
    assert [success] == latest(prometheus, "intarget_last_success_timestamp_seconds")
    assert [] == latest(prometheus, SENT)
    assert 503 == exporter.get("/-/ready")[0]
    api.fault = None
    until(lambda: latest(prometheus, SENT) == [70, 510, 1020], "campaigns are back")
    until(lambda: latest(prometheus, CHANNEL_SENT) == [100], "the channel has it all")
    assert 200 == exporter.get("/-/ready")[0]
    samples = {
        (labels["__name__"], labels.get("campaign_id")): [value for _, value in values]
        for labels, values in raw(prometheus, f"{SENT}|{CHANNEL_SENT}", 300)
    }
    assert {
        (SENT, "1"): (500, 10, []),
        (SENT, "2"): (1000, 20, []),
        (SENT, "3"): (0, 70, []),
        (CHANNEL_SENT, None): (0, 100, []),
    } == {key: (values[0], increase(values), steps_down(values)) for key, values in samples.items()}


def test_without_state_only_the_time_down_is_lost(
    api: ScriptedApi, exporter: Exporter, prometheus: Prometheus
) -> None:
    """With state.path: null a channel lacks what happened while the exporter was down, and nothing else."""
    (exporter.folder / "config.yaml").write_text(config(api, state="null"))
    exporter.serve()
    until(lambda: latest(prometheus, SENT) == [500, 1000], "campaigns are seen")
    with api.lock:
        api.campaigns[0].add("sent", 40)
        api.campaigns.append(campaign(3, 70, start=time.time(), known=False))
    until(lambda: latest(prometheus, SENT) == [70, 540, 1000], "growth is seen")
    until(lambda: latest(prometheus, CHANNEL_SENT) == [110], "the channel's growth is seen")
    exporter.kill()
    with api.lock:
        api.campaigns[0].add("sent", 5)
        api.campaigns.append(campaign(4, 900, start=time.time(), known=False))
    exporter.serve()
    until(lambda: latest(prometheus, SENT) == [70, 545, 900, 1000], "campaigns are back")
    with api.lock:
        api.campaigns[1].add("sent", 7)
        api.campaigns.append(campaign(5, 30, start=time.time(), known=False))
    until(lambda: latest(prometheus, SENT) == [30, 70, 545, 900, 1007], "more growth is seen")
    until(lambda: latest(prometheus, CHANNEL_SENT) == [37], "the channel's growth is seen")
    assert [] == list(exporter.folder.glob("*.db*"))
    samples = {
        labels.get("campaign_id", "channel"): [value for _, value in values]
        for labels, values in raw(prometheus, f"{SENT}|{CHANNEL_SENT}", 300)
    }
    # Campaign 4 began while nobody looked: as in the first poll of any state it is no increase
    assert {"1": 45, "2": 7, "3": 70, "4": 0, "5": 30, "channel": 110 + 37} == {
        key: increase(values) for key, values in samples.items()
    }
    assert {"channel": [(110, 0)]} == {
        key: steps for key, values in samples.items() if (steps := steps_down(values))
    }


def test_created_timestamps_are_those_of_campaign_and_state(api: ScriptedApi, exporter: Exporter) -> None:
    """OpenMetrics carries `_created`: a campaign's start, and for channels when the state began, for good."""
    (exporter.folder / "config.yaml").write_text(config(api, created="true"))
    began = time.time()
    exporter.serve()
    until(lambda: SENT in exporter.get("/metrics")[1], "campaigns are exported")
    first = created(exporter)
    exporter.kill()
    exporter.serve()
    until(lambda: SENT in exporter.get("/metrics")[1], "campaigns are exported")
    for one in api.campaigns:
        assert one.start == first[f'{SENT}{{account="main",campaign_id="{one.number}",channel="email"}}']
    assert began <= first[f'{CHANNEL_SENT}{{account="main",channel="email"}}'] <= time.time()
    assert first == created(exporter)
    assert "_created" not in "".join(line for line in exporter.samples() if line.startswith("intarget_c"))


def created(exporter: Exporter) -> dict[str, float]:
    """Return the `_created` of the counters of campaigns and channels, by their names and labels."""
    body = exporter.get("/metrics", "application/openmetrics-text; version=1.0.0")[1]
    kinds = "|".join(name.removesuffix("_total") for name in METRICS.values())
    found = re.findall(rf"^(intarget_(?:campaign|channel)_(?:{kinds}))_created(\S+) (\S+)$", body, re.MULTILINE)
    return {f"{name}_total{labels}": float(value) for name, labels, value in found}
