"""The stack as files: compose.yaml, provisioning and configurations agree with each other."""

from __future__ import annotations

import posixpath
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests._program import run
from tests._tools import tool

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS = ROOT / "grafana" / "prometheus" / "prometheus.yml"
GRAFANA = ROOT / "grafana" / "provisioning"
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
"""A variable with the value that it has where it isn't set."""


def mounts(service: str) -> dict[str, Path]:
    """Return the mounted folders of the source tree by their place in the container."""
    found = {}
    for volume in SERVICES[service].get("volumes", ()):
        source, target, *_ = DEFAULT.sub(r"\1", volume).split(":")
        if source.startswith("."):
            found[target] = ROOT / source
    return found


def in_tree(service: str, path: str) -> Path:
    """Return where a container's file lies in the source tree."""
    for target, source in mounts(service).items():
        if path.startswith(f"{target}/"):
            return source / path[len(target) + 1 :]
    raise AssertionError(f"{service}: {path} isn't mounted")


def port(service: str) -> int:
    """Return the port on which a service listens."""
    (published,) = SERVICES[service]["ports"]
    return int(published.rpartition(":")[2])


@pytest.mark.parametrize("service", SERVICES)
def test_service_is_pinned_and_on_loopback(service: str) -> None:
    """Images have a full version, ports are this machine's only, and no service can gain privileges."""
    model = SERVICES[service]
    assert re.fullmatch(r"(prom|grafana)/\w+:v?\d+\.\d+\.\d+|intarget-exporter:local", model["image"])
    assert all(published.startswith("127.0.0.1:") for published in model["ports"])
    assert ["ALL"] == model["cap_drop"]
    assert ["no-new-privileges:true"] == model["security_opt"]


@pytest.mark.parametrize("service", SERVICES)
def test_service_has_a_health_check(service: str) -> None:
    """Each service says whether it is healthy, at the port it listens on; the exporter's image does itself."""
    if service == "exporter":
        assert "HEALTHCHECK" in (ROOT / "Dockerfile").read_text(encoding="utf-8")
        return
    assert f"127.0.0.1:{port(service)}/" in SERVICES[service]["healthcheck"]["test"][-1]


@pytest.mark.parametrize("service", SERVICES)
def test_mounts_exist(service: str) -> None:
    """What is mounted is in the tree, and read-only."""
    for source in mounts(service).values():
        assert source.is_dir()
    for volume in SERVICES[service].get("volumes", ()):
        if DEFAULT.sub(r"\1", volume).startswith("."):
            assert volume.endswith(":ro")
        else:
            assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_no_secret_is_written_down() -> None:
    """The token is passed on from the environment; nobody can log in to Grafana, so there is no password."""
    assert ["INTARGET_ACCESS_TOKEN"] == SERVICES["exporter"]["environment"]
    environment = SERVICES["grafana"]["environment"]
    assert not any("PASSWORD" in name for name in environment)
    assert "true" == environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"]
    assert "true" == environment["GF_AUTH_DISABLE_LOGIN_FORM"]
    assert "Viewer" == environment["GF_AUTH_ANONYMOUS_ORG_ROLE"]


def test_the_demo_is_the_default() -> None:
    """Without any variable the exporter polls its simulator; one variable replaces its flags."""
    assert "${INTARGET_EXPORTER_ARGS:---demo}" == SERVICES["exporter"]["command"]


def test_there_is_a_place_for_a_configuration(tmp_path: Path) -> None:
    """The file that the comment names is mounted, good, and keeps its state on the volume."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    (named,) = re.findall(r"EXPORTER_ARGS=--config\.file=(\S+)", text)
    file = in_tree("exporter", named)
    done = run("check-config", f"--config.file={file}", cwd=tmp_path, env={"INTARGET_ACCESS_TOKEN": "x" * 20})
    assert (0, "OK\n", "") == (done.returncode, done.stdout, done.stderr)
    state = Path(yaml.safe_load(file.read_text(encoding="utf-8"))["state"]["path"])
    assert f"exporter-state:{state.parent}" in SERVICES["exporter"]["volumes"]


@pytest.mark.parametrize("service", ["prometheus", "alertmanager"])
def test_config_is_mounted(service: str) -> None:
    """The configuration that a service is started with is there."""
    (path,) = [a.partition("=")[2] for a in SERVICES[service]["command"] if a.startswith("--config.file=")]
    assert in_tree(service, path).is_file()


def test_prometheus_reaches_the_others() -> None:
    """Targets are services of compose.yaml at their ports, and the rules are all of those shipped."""
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    (scrape,) = config["scrape_configs"]
    (alertmanager,) = config["alerting"]["alertmanagers"]
    for one, service in ((scrape, "exporter"), (alertmanager, "alertmanager")):
        assert [f"{service}:{port(service)}"] == one["static_configs"][0]["targets"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {port('exporter')}" in dockerfile
    (pattern,) = config["rule_files"]
    assert "/etc/intarget/rules/*.yaml" == posixpath.normpath(f"/etc/intarget/prometheus/{pattern}")
    assert "/etc/intarget/rules" in mounts("prometheus")


def test_scrapes_see_the_zero_hold() -> None:
    """Two scrapes fit into the shortest time that a new campaign stands at 0, less a quarter for delays."""
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    assert 15 >= int(config["global"]["scrape_interval"].removesuffix("s"))


def test_grafana_finds_everything() -> None:
    """The data source is the stack's Prometheus, with its scrape interval; dashboards are mounted."""
    (source,) = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert f"http://prometheus:{port('prometheus')}" == source["url"]
    scrape = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["global"]["scrape_interval"]
    assert scrape == source["jsonData"]["timeInterval"]
    (provider,) = yaml.safe_load((GRAFANA / "dashboards" / "intarget.yaml").read_text())["providers"]
    folder = mounts("grafana")[provider["options"]["path"]]
    assert 4 == len(list(folder.glob("*.json")))
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert in_tree("grafana", home).is_file()
    for folder in GRAFANA.iterdir():
        assert folder == mounts("grafana")[f"/etc/grafana/provisioning/{folder.name}"]


@pytest.mark.e2e
def test_promtool_accepts_the_configuration() -> None:
    """Prometheus' own tool accepts the configuration, and finds the three rule files from it."""
    done = subprocess.run(
        [tool("promtool"), "check", "config", PROMETHEUS], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "SUCCESS: 3 rule files found" in done.stdout


@pytest.mark.e2e
def test_amtool_accepts_the_configuration() -> None:
    """Alertmanager's own tool accepts its configuration."""
    (path,) = [a.partition("=")[2] for a in SERVICES["alertmanager"]["command"] if "--config.file=" in a]
    done = subprocess.run(
        [tool("amtool"), "check-config", in_tree("alertmanager", path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
