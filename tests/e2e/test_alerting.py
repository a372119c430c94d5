"""From counters to a notification: real Prometheus, shipped rules, real Alertmanager, shipped templates."""

from __future__ import annotations

import email
import email.policy
import json
import re
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest

from grafana.rules.analysis import notify
from grafana.rules.analysis.notify import Alert, notifications
from tests._tools import tool
from tests.rules.prometheus import Prometheus, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import EmailMessage

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
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


class _Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP as takes a message: keeps it in `received`."""

    received: ClassVar[list[EmailMessage]]

    def handle(self) -> None:
        """Talk until QUIT."""
        self.wfile.write(b"220 test\r\n")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                message = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                self.received.append(message)
            self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")
            if line == b"QUIT":
                return


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[str]:
    """Run a server on a port of the kernel's choice; yields its address."""
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _server(answer: Callable[[], str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a web server; yields its address and what was posted to it."""
    received: list[dict[str, Any]] = []
    handler = type("Handler", (_Handler,), {"answer": staticmethod(answer), "received": received})
    with _running(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        yield address, received


@contextmanager
def _mailbox() -> Iterator[tuple[str, list[EmailMessage]]]:
    """Run a mail server; yields its address and what was sent to it."""
    received: list[EmailMessage] = []
    handler = type("Mailbox", (_Mailbox,), {"received": received})
    with _running(socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)) as address:
        yield address, received


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
        success = 'account="main",resource="statistics"'
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


def _for_the_test(webhook: str, mail: str) -> str:
    """Return the shipped configuration with addresses of ours and short waits, and nothing else changed."""
    config = (RULES / "alertmanager.yml").read_text()
    for address, ours in (
        ("mail.example.com:587", f"{mail}\n  smtp_require_tls: false"),
        ("https://hooks.slack.com/services/replace/me/please", f"http://{webhook}/chat"),
        ("http://127.0.0.1:5001/log", f"http://{webhook}/log"),
    ):
        assert config.count(address) == 1
        config = config.replace(address, ours)
    return re.sub(r"(group_wait|group_interval): \d+[mh]", r"\1: 3s", config)


@contextmanager
def _alertmanager(folder: Path, config: str) -> Iterator[str]:
    """Run Alertmanager; yields its address."""
    executable = tool("prometheus-alertmanager")
    folder.mkdir()
    shutil.copytree(RULES / "templates", folder / "templates")
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
    mails: list[EmailMessage]
    chats: list[dict[str, Any]]

    def value(self, query: str) -> float | None:
        """Return the first value of a query, if there is one."""
        result = self.prometheus.get("query", query=query)["result"]
        return float(result[0]["value"][1]) if result else None


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Start exporter, receiver, Alertmanager and Prometheus, and wait until rules have seen a first scrape."""
    tool("prometheus")
    exporter = Exporter()
    with ExitStack() as running:
        target, _ = running.enter_context(_server(exporter.text))
        webhook, chats = running.enter_context(_server(lambda: ""))
        mail, mails = running.enter_context(_mailbox())
        alertmanager = running.enter_context(
            _alertmanager(tmp_path / "alertmanager", _for_the_test(webhook, mail))
        )
        rules = _compressed_rules(tmp_path / "rules")
        config = f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yaml"]
scrape_configs: [{{job_name: intarget, static_configs: [{{targets: ["{target}"]}}]}}]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
"""
        options = ("--rules.alert.resend-delay=1s",)
        prometheus = running.enter_context(Prometheus(tmp_path / "prometheus", config=config, options=options))
        all_ = Stack(exporter, prometheus, mails, chats)
        _until(
            lambda: (
                all_.value("intarget_channel_messages_sent_total") == 0
                and all_.value('intarget:limit:ratio{signal="bounce", severity="critical"}') == 0.05
            ),
            "the rules have been evaluated",
        )
        yield all_


def _plain(mail: EmailMessage) -> str:
    """Return a mail's text, as a telephone shows it in its list."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n").strip()


def _after_some_intervals(mails: list[EmailMessage]) -> list[str]:
    """Return the subjects received once some group intervals have passed, so that a repetition would show."""
    asked = time.monotonic()
    _until(lambda: time.monotonic() - asked > 12, "some group intervals have passed")
    return [str(mail["subject"]) for mail in mails]


@pytest.mark.e2e
def test_a_bad_campaign_is_one_readable_page_that_ends(stack: Stack) -> None:
    """A bad campaign in a healthy account pages once, with its name and numbers."""
    exporter, _, mails, chats = stack
    exporter.show(c110=(40_000, 200), c111=(400, 4))
    _until(
        lambda: (stack.value("channel:intarget_messages_sent:increase24h") or 0) >= 40_400,
        "the account has volume",
    )
    assert [] == mails
    exporter.show(c111=(600, 57))
    _until(lambda: mails, "the page has come")
    assert ["Critical: main · email · bounce"] == _after_some_intervals(mails)
    assert """\
Campaign 111 "Spring promo" (email, account main) has bounces of surely 6.067% or more, limit 5%.
57 bounces of 600 messages sent (9.5%).
Stop it now if it still sends; then drop the addresses that bounced, and find out where the list came from.
Ends by itself at most 12 h after it last sent.
http://localhost:3000/d/intarget-campaign?var-account=main&var-channel=email&var-campaign=111""" == _plain(
        mails[0]
    )
    html = mails[0].get_body(("html",))
    assert html is not None
    assert 'href="http://localhost:3000/d/intarget-campaign?' in html.get_content()
    exporter.end("111")
    _until(lambda: not stack.value('ALERTS{campaign_id="111"}'), "the alert has ended")
    _until(lambda: len(mails) > 1, "the end has been told")
    assert ["Critical: main · email · bounce", "Ended: main · email · bounce"] == _after_some_intervals(mails)
    assert all("Campaign 111" not in chat["attachments"][0]["text"] for chat in chats)


@pytest.mark.e2e
def test_an_account_over_the_limit_is_told_with_its_campaigns(stack: Stack) -> None:
    """The campaign and the account come in one page, and a warning goes to the chat, not to the pager."""
    exporter, _, mails, chats = stack
    exporter.show(c110=(300, 1), c111=(600, 57))
    _until(
        lambda: any("(2 alerts)" in str(mail["subject"]) for mail in mails),
        "the page has campaign and account",
    )
    text = _plain(mails[-1])
    assert "Bounces of email in account main are 6.444% in 24h, over the limit of 5%." in text
    assert '- campaign 111 "Spring promo": 27 bounces too many' in text
    assert "7d" not in text
    exporter.show(c112=(600, 42))
    _until(
        lambda: any("*Campaign 112" in chat["attachments"][0]["text"] for chat in chats),
        "the warning has come",
    )
    assert all("Campaign 112 " not in _plain(mail) for mail in mails)


def _alert(name: str, severity: str, since: int, until: int, **more: str) -> Alert:
    """Return an alert of account `a`, from minute to minute."""
    labels = {"alertname": f"InTarget{name}", "severity": severity, "signal": "bounce", "account": "a"}
    return Alert({**labels, "channel": "email", **more}, since * 60, until * 60)


STORY = (
    _alert("CampaignBounceRate", "warning", 0, 22, campaign_id="1"),
    _alert("CampaignBounceRate", "critical", 2, 22, campaign_id="1"),
    _alert("BounceSpike", "warning", 2, 6),
    _alert("AccountComplaintRate", "warning", 2, 44, signal="complaint", window="24h"),
    _alert("AccountBounceRate", "critical", 9, 33, window="24h"),
    _alert("AccountBounceRate", "critical", 10, 33, window="7d"),
    _alert("CampaignBounceRate", "critical", 14, 22, campaign_id="2"),
    _alert("CampaignBounceRate", "warning", 14, 38, campaign_id="2"),
)


def _post(address: str, alerts: list[dict[str, Any]]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}/api/v2/alerts", json.dumps(alerts).encode(), headers)
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.e2e
def test_the_model_notifies_as_alertmanager_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay's model and a real Alertmanager tell the same of one story; a minute takes a second here."""
    shipped = (RULES / "alertmanager.yml").read_text()
    example = tmp_path / "example.yml"
    example.write_text(shipped.replace("group_wait: 1h", "group_wait: 40m"))
    monkeypatch.setattr(notify, "CONFIG", example)
    notify.configuration.cache_clear()
    told = notifications(STORY)
    notify.configuration.cache_clear()
    names = [f"{a.labels['alertname']} {a.labels['severity']} {a.labels.get('campaign_id')}" for a in STORY]
    expected = sorted((n.receiver, sorted(names[i] for i in n.firing)) for n in told)
    config = example.read_text().split("\nreceivers:")[0]
    config = re.sub(r"(group_wait|group_interval): (\d+)m", r"\1: \2s", config)
    with ExitStack() as running:
        webhook, received = running.enter_context(_server(lambda: ""))
        hooks = "".join(
            f"\n  - name: {name}\n    webhook_configs: [{{url: 'http://{webhook}/', send_resolved: {tell}}}]"
            for name, tell in (("page", "true"), ("chat", "false"), ("log", "false"))
        )
        address = running.enter_context(
            _alertmanager(tmp_path / "alertmanager", f"{config}\nreceivers:{hooks}\n")
        )
        begun = time.time()
        stamp = "%Y-%m-%dT%H:%M:%S.000Z"

        def minute(at: int) -> None:
            _until(lambda: time.time() - begun >= at, f"minute {at}")
            now = [a for a in STORY if a.since <= at * 60]
            ends = {True: begun + at - 0.5, False: begun + 600}
            _post(
                address,
                [
                    {
                        "labels": dict(a.labels),
                        "startsAt": time.strftime(stamp, time.gmtime(begun + a.since // 60 - 1)),
                        "endsAt": time.strftime(stamp, time.gmtime(ends[a.until <= at * 60])),
                    }
                    for a in now
                ],
            )

        for at in range(45):
            minute(at)
    seen = sorted(
        (
            message["receiver"],
            sorted(
                f"{a['labels']['alertname']} {a['labels']['severity']} {a['labels'].get('campaign_id')}"
                for a in message["alerts"]
                if a["status"] == "firing"
            ),
        )
        for message in received
    )
    assert expected == seen
