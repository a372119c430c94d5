"""A real Prometheus that scrapes, relabels and evaluates what the ServiceMonitor and PrometheusRules say.

The operator isn't here. A file with the labels that Kubernetes' service discovery sets stands for it,
and the relabelings that the operator adds of its own are written down here.
"""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests._apiserver import STATISTICS, TOKEN, ApiServer, row
from tests._program import Program, until
from tests.dashboards._judge import MODELS, VERSIONS, Judge, bundle
from tests.deploy._objects import of_kind, overlay, the
from tests.rules.prometheus import Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deploy._objects import Json

pytestmark = pytest.mark.e2e

HOUR = 3600.0
SENT = "intarget_campaign_messages_sent_total"
TARGET_LABELS = {"container", "endpoint", "instance", "job", "namespace", "pod", "service"}
OPERATOR: list[Json] = [
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "service"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
    {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "job"},
    {"target_label": "endpoint", "replacement": "http"},
]
"""What the operator puts before the relabelings of a ServiceMonitor's endpoint."""


class Cluster:
    """One pod of the exporter, whose address changes with each restart, and the Prometheus that scrapes it."""

    def __init__(self, folder: Path, objects: list[Json], api: ApiServer) -> None:
        self._folder = folder
        self._targets = folder / "targets.json"
        self._move([])
        (self._folder / "config.yaml").write_text(
            yaml.safe_dump(
                {
                    "accounts": [{"name": "main", "access_token": TOKEN, "base_url": api.url}],
                    "poll": {
                        "refresh": [{"younger_than": "14d", "every": "500ms"}],
                        "conversions_every": None,
                        "still_sending": None,
                    },
                    "api": {"requests_per_second": 1000},
                    "metrics": {"zero_hold": "2s"},
                    "state": {"path": "state.db"},
                }
            )
        )
        (endpoint,) = the(objects, "ServiceMonitor")["spec"]["endpoints"]
        names = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
        relabelings = [{names[key]: value for key, value in one.items()} for one in endpoint["relabelings"]]
        for rule in of_kind(objects, "PrometheusRule"):
            for group in rule["spec"]["groups"]:
                group["interval"] = "1s"
            (folder / f"{rule['metadata']['name']}.rules").write_text(yaml.safe_dump(rule["spec"]))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": [str(folder / "*.rules")],
            "scrape_configs": [
                {
                    "job_name": "serviceMonitor/monitoring/intarget-exporter/0",
                    "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                    "relabel_configs": OPERATOR + relabelings,
                }
            ],
        }
        self.prometheus = Prometheus(folder / "prometheus", config=yaml.safe_dump(config))

    def _move(self, addresses: list[str]) -> None:
        labels = {
            "__meta_kubernetes_namespace": "monitoring",
            "__meta_kubernetes_service_name": "intarget-exporter",
            "__meta_kubernetes_pod_name": "intarget-exporter-0",
            "__meta_kubernetes_pod_container_name": "intarget-exporter",
        }
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": addresses, "labels": labels}]))
        new.replace(self._targets)

    def start_pod(self) -> Program:
        """Start the exporter, on a port that it never had, as a pod gets a new address."""
        pod = Program("--config.file=config.yaml", "--web.listen-address=127.0.0.1:0", cwd=self._folder)
        self._move([pod.url.removeprefix("http://")])
        return pod

    def value(self, query: str) -> float | None:
        """Return the one value of an instant query, or None."""
        result = self.prometheus.get("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """Serve an API with one campaign."""
    with ApiServer() as server:
        server.api.rows = {STATISTICS: [row(1, time.time() - HOUR, sent=1250)]}
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, api: ApiServer) -> Iterator[Cluster]:
    """Scrape a pod that was restarted once, at another address, while 100 messages were sent."""
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(folder, overlay(tmp_path_factory.mktemp("objects"), "prometheus-operator"), api)
    with made.prometheus:
        with made.start_pod() as pod:
            until(lambda: made.value(SENT) == 1250, "the pod is scraped")
            assert 0 == pod.stop()
        api.api.rows[STATISTICS][0]["sent"] = 1350
        with made.start_pod():
            until(lambda: made.value(SENT) == 1350, "the new pod is scraped")
            yield made


def test_a_restart_begins_no_new_series(cluster: Cluster) -> None:
    """Series go on at another address: one instance, one series, and the step between is counted."""
    assert 1 == cluster.value("count(count by (instance) (last_over_time(intarget_build_info[10m])))")
    assert 1 == cluster.value(f"count(count_over_time({SENT}[10m]))")
    assert 100 == cluster.value(f"max_over_time({SENT}[10m]) - min_over_time({SENT}[10m])")
    assert 100 <= (cluster.value(f"increase({SENT}[10m])") or 0)
    assert 1 == cluster.value('count(up{instance="intarget-exporter-0", job="intarget-exporter"})')


def test_no_label_is_renamed(cluster: Cluster) -> None:
    """None of the exporter's labels is one of the target's, which Prometheus would rename to exported_…."""
    names = set(cluster.prometheus.get("labels"))
    assert names >= TARGET_LABELS
    assert not {name for name in names if name.startswith("exported_")}


def test_every_rule_is_evaluated(cluster: Cluster) -> None:
    """The rules of the objects are loaded and evaluated without an error, and record something."""

    def rules() -> list[dict[str, Any]]:
        return [rule for group in cluster.prometheus.get("rules")["groups"] for rule in group["rules"]]

    until(lambda: all(rule["health"] != "unknown" for rule in rules()), "all are evaluated")
    assert {"ok"} == {rule["health"] for rule in rules()}
    until(lambda: cluster.value("campaign:intarget_messages_sent:max") == 1350, "the campaign is recorded")
    assert not [alert for alert in cluster.prometheus.get("alerts")["alerts"] if alert["state"] == "firing"]


def test_every_query_of_the_dashboards_is_answered(cluster: Cluster, tmp_path: Path) -> None:
    """With the target labels of a cluster no query fails, and there is something to show."""
    version = VERSIONS[-1]
    with Judge(version, bundle(version, "judge", tmp_path), cluster.prometheus.url, 15) as judge:

        def shows(uid: str) -> bool:
            now = time.time()
            chosen = {"campaign": "1"} if uid == "intarget-campaign" else {}
            shown = judge.show(uid, now - 1800, now, **chosen)
            assert {title: panel.error for title, panel in shown.panels.items() if panel.error} == {}
            return shown.empty != set(shown.panels)

        for uid in MODELS:
            if uid == "intarget-conversions":
                assert not shows(uid), "the API has no conversions"
            else:
                until(functools.partial(shows, uid), f"{uid} shows something")
