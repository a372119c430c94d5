"""The kustomize base and its components: valid for those who take them, and decided as they are on purpose."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from deploy.generator import prometheus_rules
from deploy.generator.__main__ import OUTPUT, RULES
from exporter import __version__
from tests._tools import tool
from tests.deploy._objects import (
    KUSTOMIZE,
    ROOT,
    as_text,
    checked_config,
    is_generated,
    kustomize,
    of_kind,
    overlay,
    the,
)

kubernetes_validate = pytest.importorskip("kubernetes_validate")  # of the extra "deploy"
operator = pytest.importorskip("cloudcoil.models.prometheus_operator.v1")

if TYPE_CHECKING:
    from tests.deploy._objects import Json

COMPONENTS = ("prometheus-operator", "grafana-dashboards", "sharded", "network-policy")
ANNOTATION_LIMIT = 262_144
"""Bytes of all annotations of an object; `kubectl apply` keeps the whole object in one."""
GOLDEN = Path(__file__).parent / "golden"
MODELS = {"ServiceMonitor": operator.ServiceMonitor, "PrometheusRule": operator.PrometheusRule}


@pytest.fixture(scope="module")
def base() -> list[Json]:
    """Render the base."""
    return kustomize(KUSTOMIZE / "base")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    """Render the base with all components but OpenShift's."""
    return overlay(tmp_path_factory.mktemp("everything"), *COMPONENTS)


@pytest.fixture(scope="module")
def example() -> list[Json]:
    """Render the example as it stands."""
    return kustomize(KUSTOMIZE / "example")


def pod(objects: list[Json]) -> Json:
    """Return the specification of the pods."""
    found: Json = the(objects, "StatefulSet")["spec"]["template"]["spec"]
    return found


def container(objects: list[Json]) -> Json:
    """Return the only container."""
    (found,) = pod(objects)["containers"]
    return dict(found)


# Valid


@pytest.mark.parametrize("name", ["base", "everything", "example"])
def test_objects_are_valid(name: str, request: pytest.FixtureRequest) -> None:
    """Kubernetes' schemas take every object, and none has a field that they don't know."""
    for one in request.getfixturevalue(name):
        if one["kind"] not in MODELS:
            kubernetes_validate.validate(one, "1.32", strict=True)


def test_operator_knows_every_field(everything: list[Json]) -> None:
    """The Prometheus operator's objects come back from its models as they went in."""
    seen = [one for one in everything if one["kind"] in MODELS]
    for one in seen:
        model = MODELS[one["kind"]].model_validate(one)
        assert one == json.loads(model.model_dump_json(by_alias=True, exclude_unset=True))
    assert {"ServiceMonitor", "PrometheusRule"} == {one["kind"] for one in seen}


@pytest.mark.e2e
def test_promtool_accepts_the_rules(everything: list[Json], tmp_path: Path) -> None:
    """Prometheus' own tool accepts the rules as they stand in the objects; all shipped rules are there."""
    count = 0
    for rule in of_kind(everything, "PrometheusRule"):
        path = tmp_path / f"{rule['metadata']['name']}.yaml"
        path.write_text(yaml.safe_dump(rule["spec"]))
        done = subprocess.run(
            [tool("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        count += sum(len(group["rules"]) for group in rule["spec"]["groups"])
    shipped = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES.glob("*.yaml")]
    assert count == sum(len(group["rules"]) for file in shipped for group in file["groups"])


def test_rules_are_current() -> None:
    """The rules' objects are what the generator makes of the rule files."""
    assert prometheus_rules(RULES.glob("*.yaml")) == OUTPUT.read_text(encoding="utf-8")


def test_every_dashboard_is_there(everything: list[Json]) -> None:
    """Each dashboard is in a ConfigMap of its own, unchanged, labelled for Grafana's sidecar."""
    found = {}
    for one in of_kind(everything, "ConfigMap"):
        if is_generated(one):
            found |= one["data"]
            assert 1 == len(one["data"])
    folder = ROOT / "grafana" / "dashboards"
    assert found == {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}


def test_objects_fit_into_an_annotation(everything: list[Json]) -> None:
    """No object is too large for `kubectl apply`."""
    assert all(len(json.dumps(one).encode()) < ANNOTATION_LIMIT for one in everything)


@pytest.mark.parametrize("name", ["base", "everything"])
def test_rendered_output(name: str, request: pytest.FixtureRequest) -> None:
    """What is rendered is what was looked at; with UPDATE_GOLDEN=1 the kept files are written anew."""
    text = as_text(one for one in request.getfixturevalue(name) if not is_generated(one))
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


# Decided


def test_one_pod_without_a_budget(base: list[Json]) -> None:
    """One pod per set of accounts; pods don't wait for each other; no budget that would block a drain."""
    spec = the(base, "StatefulSet")["spec"]
    assert (1, "Parallel") == (spec["replicas"], spec["podManagementPolicy"])
    assert [] == of_kind(base, "PodDisruptionBudget")
    assert "None" == the(base, "Service")["spec"]["clusterIP"]


def test_pod_has_no_token_of_kubernetes(base: list[Json]) -> None:
    """Neither the account nor the pod gets a token."""
    assert the(base, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod(base)["automountServiceAccountToken"] is False


def test_pod_is_restricted(base: list[Json]) -> None:
    """No root, no capability, nothing to write to but the state and /tmp; the "restricted" standard."""
    context = pod(base)["securityContext"]
    assert context["runAsNonRoot"] is True
    assert {"type": "RuntimeDefault"} == context["seccompProfile"]
    own = container(base)["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert ["ALL"] == own["capabilities"]["drop"]
    mounts = container(base)["volumeMounts"]
    assert {"state", "tmp"} == {mount["name"] for mount in mounts if not mount.get("readOnly")}


def test_user_is_the_image_s_and_may_write_the_state(base: list[Json]) -> None:
    """The user is the image's; the group owns the volume, without which there would silently be no state."""
    context = pod(base)["securityContext"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"USER {context['runAsUser']}:" in dockerfile
    assert context["runAsGroup"] == context["fsGroup"] == context["runAsUser"]


def test_state_is_on_the_volume(base: list[Json], tmp_path: Path) -> None:
    """The configuration is good, and its state path absolute and below the volume's mount."""
    config = checked_config(base, tmp_path)
    mounts = {mount["name"]: mount["mountPath"] for mount in container(base)["volumeMounts"]}
    assert mounts["state"] == str(Path(config["state"]["path"]).parent)
    assert all(one["access_token_file"].startswith(mounts["tokens"] + "/") for one in config["accounts"])
    assert f"--config.file={mounts['config']}/config.yaml" in container(base)["args"]


def test_tokens_are_read_by_the_group(base: list[Json]) -> None:
    """The Secret's files belong to root and fsGroup: readable by the group, and by nobody else."""
    volumes = {volume["name"]: volume for volume in pod(base)["volumes"]}
    assert 0o440 == volumes["tokens"]["secret"]["defaultMode"]


def test_probes_don_t_depend_on_intarget(base: list[Json]) -> None:
    """Startup and liveness ask for /-/healthy; no readiness probe blocks a rollout while InTarget is down."""
    found = container(base)
    for probe in ("startupProbe", "livenessProbe"):
        assert {"path": "/-/healthy", "port": "http"} == found[probe]["httpGet"]
    assert "readinessProbe" not in found


def test_instance_is_the_pod_s_name(everything: list[Json]) -> None:
    """`instance` survives restarts, and scrapes see the zero hold twice."""
    (endpoint,) = the(everything, "ServiceMonitor")["spec"]["endpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"} == relabeling
    assert "15s" == endpoint["interval"]
    labels = the(everything, "Service")["metadata"]["labels"]
    assert the(everything, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_shards_share_the_accounts(everything: list[Json]) -> None:
    """Each pod's shard is its index, their number is that of the pods, and only here is a budget."""
    env = {one["name"]: one for one in container(everything)["env"]}
    index = env["INTARGET_EXPORTER_SHARD"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert "metadata.labels['apps.kubernetes.io/pod-index']" == index
    replicas = the(everything, "StatefulSet")["spec"]["replicas"]
    assert str(replicas) == env["INTARGET_EXPORTER_TOTAL_SHARDS"]["value"]
    assert 1 == the(everything, "PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_shards_of_the_example(tmp_path: Path) -> None:
    """The example's patch changes both numbers to the same."""
    patch = yaml.safe_load((KUSTOMIZE / "example" / "shards.yaml").read_text(encoding="utf-8"))
    objects = overlay(tmp_path, "sharded", patches=[patch])
    env = {one["name"]: one for one in container(objects)["env"]}
    assert 3 == the(objects, "StatefulSet")["spec"]["replicas"]
    assert "3" == env["INTARGET_EXPORTER_TOTAL_SHARDS"]["value"]
    assert "INTARGET_EXPORTER_SHARD" in env


def test_openshift_chooses_the_user(tmp_path: Path) -> None:
    """With its component no user or group is asked for, and all else stays."""
    context = pod(overlay(tmp_path, "openshift"))["securityContext"]
    assert context["runAsNonRoot"] is True
    assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()


def test_network_policy(everything: list[Json]) -> None:
    """Prometheus' namespace may come in, at the exporter's port; names and HTTPS may go out."""
    spec = the(everything, "NetworkPolicy")["spec"]
    assert ["Ingress", "Egress"] == spec["policyTypes"]
    assert [10095] == [port["port"] for rule in spec["ingress"] for port in rule["ports"]]
    assert [53, 53, 443] == [port["port"] for rule in spec["egress"] for port in rule["ports"]]
    assert all(rule["from"] for rule in spec["ingress"])


def test_example_has_a_token_for_every_account(example: list[Json], tmp_path: Path) -> None:
    """The example's Secret has the file of each account that its configuration names."""
    accounts = checked_config(example, tmp_path)["accounts"]
    names = {Path(account["access_token_file"]).name for account in accounts}
    assert the(example, "Secret")["data"].keys() == names
    assert {"monitoring"} == {one["metadata"]["namespace"] for one in example}


def test_images_have_the_version(base: list[Json], example: list[Json]) -> None:
    """Base and example name this version's image."""
    assert f"intarget-exporter:{__version__}" == container(base)["image"]
    assert container(example)["image"].endswith(f"/intarget-exporter:{__version__}")
