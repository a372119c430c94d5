"""From counters to a notification: real Prometheus, shipped rules, real Alertmanager, shipped configuration."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest

from tests.rules.prometheus import Prometheus, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RULES = Path(__file__).parents[2] / "grafana" / "rules"
DEADLINE = 150


class _Handler(BaseHTTPRequestHandler):
    """Serves what `answer` returns to a GET, and keeps the bodies of POSTs in `received`."""

    answer: ClassVar[Callable[[], str]]
    received: ClassVar[list[dict[str, Any]]]

    def do_GET(self) -> None:
        """Answer a scrape."""
        body = self.answer().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Take a notification."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def _server(answer: Callable[[], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a server on a port of the kernel's choice; yields its address and what was posted to it."""
    received: list[dict[str, Any]] = []
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer), "received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", received
        finally:
            server.shutdown()
            thread.join()


class Exporter:
    """An exposition as the exporter's. `campaigns` has messages sent and bounced by id; all may be changed."""

    def __init__(self) -> None:
        self.campaigns = {"110": (0, 0), "111": (0, 0)}
        self.total = (0, 0)
        self.started = int(time.time()) - 3600

    def show(self, **campaigns: tuple[int, int]) -> None:
        """Let campaigns have sent and bounced so many; names are ``c`` and the id."""
        self.campaigns |= {name[1:]: counts for name, counts in campaigns.items()}
        self.total = (
            sum(sent for sent, _ in self.campaigns.values()),
            sum(bounced for _, bounced in self.campaigns.values()),
        )

    def end(self, number: str) -> None:
        """Withdraw a campaign; channel counters keep what it added."""
        del self.campaigns[number]

    def text(self) -> str:
        """Return the exposition as of now."""
        channel = 'account="main",channel="email"'
        success = 'account="main",endpoint="statistics"'
        sent, bounced = self.total
        lines = [
            'intarget_build_info{version="0"} 1',
            'intarget_up{account="main"} 1',
            f"intarget_last_success_timestamp_seconds{{{success}}} {time.time():.0f}",
            f"intarget_channel_messages_sent_total{{{channel}}} {sent}",
            f"intarget_channel_messages_delivered_total{{{channel}}} {sent - bounced}",
            f"intarget_channel_messages_bounced_total{{{channel}}} {bounced}",
            f"intarget_channel_complaints_total{{{channel}}} 0",
        ]
        for number, (n, k) in list(self.campaigns.items()):
            labels = f'{channel},campaign_id="{number}"'
            lines += [
                f"intarget_campaign_messages_sent_total{{{labels}}} {n}",
                f"intarget_campaign_messages_delivered_total{{{labels}}} {n - k}",
                f"intarget_campaign_messages_bounced_total{{{labels}}} {k}",
                f"intarget_campaign_complaints_total{{{labels}}} 0",
                f"intarget_campaign_start_timestamp_seconds{{{labels}}} {self.started}",
                f'intarget_campaign_info{{{labels},campaign_name="Spring promo",message_title="Hello"}} 1',
            ]
        return "\n".join(lines) + "\n"


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    return found


def _compressed_rules(folder: Path) -> Path:
    """Copy the rules with time sixty times as fast where it is only waited for.

    A minute of `interval`, `for` and `keep_firing_for` becomes a second, and none is longer than 20 s; ranges
    in expressions and all thresholds stay.
    """
    folder.mkdir()
    for file in ("limits.yaml", "recording.yaml", "alerts.yaml"):
        text = (RULES / file).read_text()
        faster = re.sub(
            r"^( +(?:interval|for|keep_firing_for): )(\d+)([mh])$",
            lambda m: f"{m[1]}{min(20, int(m[2]) * (60 if m[3] == 'h' else 1))}s",
            text,
            flags=re.MULTILINE,
        )
        assert faster != text
        (folder / file).write_text(faster)
    return folder


@contextmanager
def _alertmanager(folder: Path, webhook: str) -> Iterator[str]:
    """Run Alertmanager with the shipped configuration; receivers and waits are replaced, nothing else."""
    executable = _tool("prometheus-alertmanager")
    config = (RULES / "alertmanager.yml").read_text()
    assert config.count("http://127.0.0.1:5001/") == 2
    config = config.replace("127.0.0.1:5001", webhook)
    config = re.sub(r"(group_wait|group_interval): \d+[mh]", r"\1: 3s", config)
    folder.mkdir()
    (folder / "alertmanager.yml").write_text(config)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                executable,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            _until(lambda: _answers(f"http://127.0.0.1:{port}/-/ready"), "Alertmanager is ready")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE} s: {what}"
        time.sleep(0.1)


class Stack(NamedTuple):
    """Everything that runs."""

    exporter: Exporter
    prometheus: Prometheus
    received: list[dict[str, Any]]

    def value(self, query: str) -> float | None:
        """Return the first value of a query, if there is one."""
        result = self.prometheus.get("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Start exporter, receiver, Alertmanager and Prometheus, and wait until rules have seen a first scrape."""
    _tool("prometheus")
    exporter = Exporter()
    with ExitStack() as running:
        target, _ = running.enter_context(_server(exporter.text))
        webhook, received = running.enter_context(_server(lambda: ""))
        alertmanager = running.enter_context(_alertmanager(tmp_path / "alertmanager", webhook))
        rules = _compressed_rules(tmp_path / "rules")
        config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yaml"]
scrape_configs: [{{job_name: intarget, static_configs: [{{targets: ["{target}"]}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
"""
        options = ("--rules.alert.resend-delay=1s",)
        prometheus = running.enter_context(Prometheus(tmp_path / "prometheus", config=config, options=options))
        all_ = Stack(exporter, prometheus, received)
        _until(
            lambda: (
                all_.value("intarget_channel_messages_sent_total") == 0
                and all_.value('intarget:limit:ratio{signal="bounce", severity="critical"}') == 0.05
            ),
            "the rules have been evaluated",
        )
        yield all_


def _quietly(received: list[dict[str, Any]], groups: int = 4) -> list[str]:
    """Return the statuses received once some group intervals have passed, so that a repetition would show."""
    asked = time.monotonic()
    _until(lambda: time.monotonic() - asked > 3 * groups, "some group intervals have passed")
    return [message["status"] for message in received]


@pytest.mark.e2e
def test_a_bad_campaign_is_one_readable_notification_that_resolves(stack: Stack) -> None:
    """A bad campaign in a healthy account notifies once, with its name and numbers, and resolves when gone."""
    exporter, _, received = stack
    exporter.show(c110=(40_000, 200), c111=(400, 4))
    _until(
        lambda: (stack.value("channel:intarget_messages_sent:increase24h") or 0) >= 40_400,
        "the account has volume",
    )
    assert [] == received
    exporter.show(c111=(600, 57))
    _until(lambda: received, "the notification has come")
    assert ["firing"] == _quietly(received)
    firing = received[0]
    assert {"account": "main", "channel": "email", "signal": "bounce"} == firing["groupLabels"]
    (alert,) = firing["alerts"]
    assert ("InTargetCampaignBounceRate", "critical", "111") == tuple(
        alert["labels"][name] for name in ("alertname", "severity", "campaign_id")
    )
    assert alert["annotations"]["description"] == (
        '"Spring promo": 57 bounces among 600 messages sent, 9.5%; allowing for chance it is at least 5.702%, '
        "and InTarget's limit is 5%. Stop this campaign in InTarget now if it still sends; then drop the "
        "addresses that bounced and find out where the list came from."
    )
    exporter.end("111")
    _until(lambda: received[-1]["status"] == "resolved", "the notification has resolved")
    assert ["firing", "resolved"] == [message["status"] for message in received]


@pytest.mark.e2e
def test_an_account_over_the_limit_speaks_for_its_campaign(stack: Stack) -> None:
    """When the account is over the limit, its alerts come alone, once, and name the campaign that drives it."""
    exporter, _, received = stack
    exporter.show(c110=(300, 1), c111=(600, 57))
    _until(lambda: received, "the notification has come")
    assert ["firing"] == _quietly(received)
    alerts = received[0]["alerts"]
    assert {("InTargetAccountBounceRate", "critical", window) for window in ("24h", "7d")} == {
        tuple(alert["labels"][name] for name in ("alertname", "severity", "window")) for alert in alerts
    }
    assert 'campaign 111 "Spring promo" (57 bounces)' in alerts[0]["annotations"]["description"]
    state = stack.value(
        'ALERTS{alertname="InTargetCampaignBounceRate", severity="critical", alertstate="firing"}'
    )
    assert state == 1
