"""The Helm chart: accepted by Helm, valid for Kubernetes, and by default what kustomize's base is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from exporter import __version__
from tests.deploy._objects import (
    KUSTOMIZE,
    ROOT,
    checked_config,
    is_generated,
    kustomize,
    of_kind,
    overlay,
    the,
)
from tests.deploy.test_kubernetes import MODELS

kubernetes_validate = pytest.importorskip("kubernetes_validate")  # of the extra "deploy"
helm = pytest.importorskip("helm_python.chart")
HelmError = pytest.importorskip("helm_python.errors").HelmError

if TYPE_CHECKING:
    from pathlib import Path

CHART = ROOT / "deploy" / "helm" / "intarget-exporter"
OURS = {"app.kubernetes.io/name"}
"""Labels that base and chart have in common; Helm's own come on top."""
EVERYTHING = {
    "shards": 2,
    **{name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards", "networkPolicy")},
}

Json = dict[str, Any]


def render(name: str = "intarget-exporter", **values: object) -> list[Json]:
    """Return the chart's objects with these values."""
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name=name, namespace="monitoring")
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def comparable(one: Any) -> Any:  # noqa: ANN401 - any part of an object
    """Return a part of an object without what differs on purpose between base and chart."""
    if isinstance(one, list):
        return [comparable(part) for part in one]
    if not isinstance(one, dict):
        return one
    kept = {}
    for key, value in one.items():
        if key in ("labels", "matchLabels", "selector") and isinstance(value, dict):
            names = {name: label for name, label in value.items() if name in OURS}
            kept[key] = names or comparable(value)
        elif key == "config.yaml":
            kept[key] = yaml.safe_load(value)
        elif key not in ("annotations", "imagePullPolicy"):
            kept[key] = comparable(value)
    return kept


def by_kind(objects: list[Json]) -> dict[str, Json]:
    """Return comparable objects by kind, without those made of rules and dashboards."""
    text = json.dumps([comparable(one) for one in objects if not is_generated(one)])
    for config in of_kind(objects, "ConfigMap"):
        if "config.yaml" in config["data"]:
            text = text.replace(config["metadata"]["name"], "intarget-exporter")
    return {one["kind"]: one for one in json.loads(text)}


def test_helm_finds_no_fault() -> None:
    """Helm's linter has nothing to say, beyond that an icon would be nice."""
    assert ["icon is recommended"] == [one["error"] for one in helm.lint(CHART, strict=True)["messages"]]
    assert [] == helm.lint(CHART, EVERYTHING, strict=True)["errors"]


def test_defaults_are_the_base() -> None:
    """What the chart makes by default is what kustomize's base makes."""
    assert by_kind(kustomize(KUSTOMIZE / "base")) == by_kind(render())


def test_everything_is_the_components(tmp_path: Path) -> None:
    """With everything switched on it is the base with its components."""
    components = overlay(tmp_path, "prometheus-operator", "grafana-dashboards", "sharded", "network-policy")
    assert by_kind(components) == by_kind(render(**EVERYTHING))


def test_rules_and_dashboards_are_those_shipped() -> None:
    """Every rule and every dashboard is in an object, unchanged."""
    objects = render(**EVERYTHING)
    rules = [one["spec"] for one in of_kind(objects, "PrometheusRule")]
    files = sorted((ROOT / "grafana" / "rules").glob("*.yaml"))
    assert rules == [yaml.safe_load(path.read_text(encoding="utf-8")) for path in files]
    found = {name: text for one in objects if is_generated(one) for name, text in one.get("data", {}).items()}
    folder = ROOT / "grafana" / "dashboards"
    assert found == {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}


def test_objects_are_valid() -> None:
    """Kubernetes' schemas and the operator's models know every field."""
    for one in render(**EVERYTHING):
        if model := MODELS.get(one["kind"]):
            assert one == json.loads(
                model.model_validate(one).model_dump_json(by_alias=True, exclude_unset=True)
            )
        else:
            kubernetes_validate.validate(one, "1.32", strict=True)


def test_values_reach_the_pod(tmp_path: Path) -> None:
    """Image, flags, storage, labels, secret and configuration are as asked for."""
    config = {"accounts": [{"name": "shop", "access_token_file": "/run/secrets/intarget-exporter/shop"}]}
    objects = render(
        "shop",
        image={"repository": "registry.example.com/intarget-exporter", "tag": "1.2.3"},
        extraArgs=["--log.format=json"],
        persistence={"size": "5Gi", "storageClassName": "fast"},
        tokensSecret="tokens",
        podAnnotations={"a": "b"},
        config=config,
    )
    spec = the(objects, "StatefulSet")["spec"]
    pod = spec["template"]["spec"]
    assert "registry.example.com/intarget-exporter:1.2.3" == pod["containers"][0]["image"]
    assert "--log.format=json" == pod["containers"][0]["args"][-1]
    assert "fast" == spec["volumeClaimTemplates"][0]["spec"]["storageClassName"]
    assert "5Gi" == spec["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert "tokens" == next(one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one)
    assert "b" == spec["template"]["metadata"]["annotations"]["a"]
    assert {"shop"} == {one["metadata"]["name"] for one in objects}
    assert config["accounts"] == checked_config(objects, tmp_path)["accounts"]


def test_tls_and_basic_auth() -> None:
    """The web configuration can be mounted, and probes and scrapes told how to get in."""
    header = {"name": "Authorization", "value": "Basic eDp5"}
    objects = render(
        extraArgs=["--web.config.file=/etc/web/web.yaml"],
        extraVolumes=[{"name": "web", "secret": {"secretName": "web", "defaultMode": 0o440}}],
        extraVolumeMounts=[{"name": "web", "mountPath": "/etc/web", "readOnly": True}],
        probe={"scheme": "HTTPS", "httpHeaders": [header]},
        serviceMonitor={"enabled": True, "endpoint": {"scheme": "https"}},
    )
    stateful = the(objects, "StatefulSet")
    kubernetes_validate.validate(stateful, "1.32", strict=True)
    pod = stateful["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "livenessProbe"):
        assert ("HTTPS", [header]) == (
            container[probe]["httpGet"]["scheme"],
            container[probe]["httpGet"]["httpHeaders"],
        )
    assert "web" in {volume["name"] for volume in pod["volumes"]}
    assert "/etc/web" in {mount["mountPath"] for mount in container["volumeMounts"]}
    (endpoint,) = the(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert ("https", "15s") == (endpoint["scheme"], endpoint["interval"])


def test_openshift_chooses_the_user() -> None:
    """Null takes a default away."""
    nothing = dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"))
    pod = the(render(podSecurityContext=nothing), "StatefulSet")["spec"]["template"]["spec"]
    assert {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"} == pod["securityContext"].keys()


def test_changed_configuration_rolls_the_pods() -> None:
    """The pods' annotations differ with the configuration, and with nothing else."""

    def checksum(**values: object) -> str:
        template = the(render(**values), "StatefulSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum() == checksum(extraArgs=["--log.format=json"])
    assert checksum() != checksum(config={"poll": {"window": "7d"}})


@pytest.mark.parametrize(
    "values",
    [
        {"shard": 2},
        {"shards": 0},
        {"shards": "2"},
        {"serviceMonitor": {"enable": True}},
        {"config": {"accounts": []}},
        {"config": {"state": {"path": "relative.db"}}},
        {"extraArgs": "--log.format=json"},
    ],
)
def test_wrong_values_are_refused(values: Json) -> None:
    """The schema finds misspelt names, wrong types, and a state that would not be on the volume."""
    with helm.Chart.load(CHART) as chart, pytest.raises(HelmError):
        chart.validate_schema(chart.merge_values(values))


def test_version_is_the_exporter_s() -> None:
    """Chart and image have the version of the exporter."""
    with helm.Chart.load(CHART) as chart:
        assert (__version__, __version__) == (chart.metadata["version"], chart.metadata["appVersion"])


def test_package_is_complete(tmp_path: Path) -> None:
    """The packed chart has rules and dashboards in it, which are links in the source tree."""
    packed = helm.package(CHART, destination=tmp_path)
    with helm.Chart.load(packed) as chart:
        names = {file["name"] for file in chart.files}
    assert {"files/rules/alerts.yaml", "files/dashboards/intarget-overview.json"} <= names
