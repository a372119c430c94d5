"""The stack of compose.yaml without containers: the same files, real programs, the exporter's demo.

Files and arguments are compose.yaml's own. What has to differ on one machine is changed by `_rewritten` and
`_arguments`, and by nothing else: names of services become 127.0.0.1 with free ports, mounted folders those of
the source tree, volumes temporary folders.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests._tools import tool
from tests.dashboards._judge import MODELS, VERSIONS, Judge, bundle
from tests.rules.prometheus import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
DEADLINE = 120.0
PATIENCE = 420.0
"""Seconds until the demo must have sent enough, in a channel of each account, for every rate."""
TREE = {"/etc/intarget/prometheus": "grafana/prometheus", "/etc/intarget/rules": "grafana/rules"}


def get(url: str) -> str | None:
    """Return the body of an answer with status 200, or None."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()
    return None


def wait_for(condition: Any, what: str, *processes: subprocess.Popen[bytes]) -> None:  # noqa: ANN401
    """Poll until the condition is true; fail if it isn't in time, or one of the processes ended."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        for process in processes:
            assert process.poll() is None, f"{what}: it ended with {process.returncode}"
        time.sleep(0.1)


def _rewritten(text: str, ports: Mapping[str, int]) -> str:
    """Put 127.0.0.1 and a free port for each ``service:port`` of a configuration."""
    for service, port in ports.items():
        text = re.sub(rf"\b{service}:\d+\b", f"127.0.0.1:{port}", text)
    return text


def _often(rules: str) -> str:
    """Let groups of minutes be evaluated every few seconds: a first evaluation comes within one interval."""
    return re.sub(r"^( +interval: )\d+m$", r"\g<1>5s", rules, flags=re.MULTILINE)


def _arguments(service: str, folder: Path) -> list[str]:
    """Return a service's arguments with the source tree for mounts, and a temporary folder for volumes."""
    found = []
    for argument in COMPOSE[service]["command"]:
        name, _, value = argument.partition("=")
        for target, source in TREE.items():
            value = value.replace(target, str(folder / source))
        if name in ("--storage.tsdb.path", "--storage.path"):
            value = str(folder / f"{service}-data")
        found.append(f"{name}={value}")
    return found


@dataclass(frozen=True, slots=True)
class Stack:
    """Where each service answers."""

    urls: Mapping[str, str]

    def ask(self, path: str, **parameters: str | float) -> Any:  # noqa: ANN401
        """Return the data of a call of Prometheus' API."""
        query = urllib.parse.urlencode(parameters)
        body = get(f"{self.urls['prometheus']}/api/v1/{path}?{query}")
        return None if body is None else json.loads(body)["data"]

    def value(self, expr: str) -> float | None:
        """Return the one value of an instant query, or None."""
        result = (self.ask("query", query=expr) or {"result": []})["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start exporter, Alertmanager and Prometheus from the files of the stack."""
    folder = tmp_path_factory.mktemp("stack")
    ports = {service: free_port() for service in COMPOSE}
    for source in TREE.values():
        (folder / source).mkdir(parents=True)
        for file in (ROOT / source).iterdir():
            if file.suffix in (".yml", ".yaml"):
                text = file.read_text(encoding="utf-8")
                changed = _rewritten(text, ports) if file.suffix == ".yml" else _often(text)
                (folder / source / file.name).write_text(changed, encoding="utf-8")
    listen = {service: f"--web.listen-address=127.0.0.1:{port}" for service, port in ports.items()}
    commands = {
        "exporter": [sys.executable, "-m", "exporter.cli", "--demo", listen["exporter"]],
        "alertmanager": [
            tool("prometheus-alertmanager"),
            *_arguments("alertmanager", folder),
            listen["alertmanager"],
            "--cluster.listen-address=",
        ],
        "prometheus": [tool("prometheus"), *_arguments("prometheus", folder), listen["prometheus"]],
    }
    with ExitStack() as stopping:
        processes = []
        for service, command in commands.items():
            log = stopping.enter_context((folder / f"{service}.log").open("wb"))
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            stopping.callback(process.wait, 60)
            stopping.callback(process.terminate)
            processes.append(process)
        urls = {service: f"http://127.0.0.1:{ports[service]}" for service in commands}
        ready = {"exporter": "/-/ready", "alertmanager": "/-/ready", "prometheus": "/-/ready"}
        for service, path in ready.items():
            url = urls[service] + path
            wait_for(lambda url=url: get(url) is not None, f"{service} isn't ready", *processes)
        yield Stack(urls)


def test_prometheus_scrapes_the_exporter(stack: Stack) -> None:
    """The only target is up, and its campaigns are there."""
    wait_for(lambda: stack.value("min(up)") == 1, "the exporter isn't scraped")
    wait_for(lambda: (stack.value("count(intarget_campaign_info)") or 0) > 10, "there are no campaigns")


def test_prometheus_finds_alertmanager(stack: Stack) -> None:
    """Alerts would be sent to the stack's Alertmanager."""
    wait_for(lambda: (stack.ask("alertmanagers") or {}).get("activeAlertmanagers"), "no Alertmanager is found")
    (found,) = stack.ask("alertmanagers")["activeAlertmanagers"]
    assert found["url"].startswith(stack.urls["alertmanager"])


def test_every_rule_is_healthy(stack: Stack) -> None:
    """All rule groups are loaded, and evaluated without an error."""

    def evaluated() -> bool:
        groups = stack.ask("rules")["groups"]
        return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])

    wait_for(evaluated, "rules were not evaluated")
    rules = [rule for group in stack.ask("rules")["groups"] for rule in group["rules"]]
    assert {"ok"} == {rule["health"] for rule in rules}
    shipped = (ROOT / "grafana" / "rules").glob("*.yaml")
    assert len(rules) == sum(
        len(group["rules"]) for path in shipped for group in yaml.safe_load(path.read_text())["groups"]
    )


def test_dashboards_show_the_demo(stack: Stack, tmp_path: Path) -> None:
    """No panel of any dashboard fails, and soon each dashboard has something to show."""
    deadline = time.monotonic() + PATIENCE
    version = VERSIONS[-1]
    with Judge(version, bundle(version, "judge", tmp_path), stack.urls["prometheus"], 15) as judge:

        def shows(uid: str) -> bool:
            now = time.time()
            shown = judge.show(uid, now - 1800, now)
            assert {title: panel.error for title, panel in shown.panels.items() if panel.error} == {}
            return shown.empty < set(shown.panels)

        for uid in MODELS:
            while not shows(uid):
                assert time.monotonic() < deadline, uid
                time.sleep(2)


def test_alertmanager_has_the_shipped_routes(stack: Stack) -> None:
    """Alertmanager runs with the configuration of the tree."""
    status = json.loads(get(f"{stack.urls['alertmanager']}/api/v2/status") or "{}")
    assert "InTargetExporterAbsent" in status["config"]["original"]
