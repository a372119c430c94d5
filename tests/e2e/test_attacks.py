"""The web server under attack from outside: what a well-behaved scraper waits, and what is left afterwards.

Each attack goes on for some seconds (``ATTACK_SECONDS``, 4); with ``ATTACK_REPORT=FILE`` a line for each is
appended there, as docs/security.md has them.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import bcrypt
import pytest

from tests._certificates import authority, leaf
from tests.e2e._attacks import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.e2e

SECONDS = float(os.environ.get("ATTACK_SECONDS", "4"))
PATIENCE = 30.0
FOLDER = Path(__file__).parent
OVER_TLS = ("settings", "handshakes", "ping")
PASSWORD = "Basic " + base64.b64encode(b"alice:right").decode()


class Server:
    """The attacked server as a program of its own; a context manager."""

    def __init__(self, web_config: Path | None, *, collect: bool = False) -> None:
        arguments = [] if web_config is None else [str(web_config)]
        self._process = subprocess.Popen(
            [sys.executable, str(FOLDER / "_attacked.py"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | ({"COLLECT": "1"} if collect else {}),
        )
        self.port = int(self._line().rpartition(":")[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> list[str]:
        """End it, and return the lines that it logged."""
        self._process.kill()
        return self._process.communicate()[1].splitlines()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def costs(self) -> dict[str, int]:
        """Return memory in MiB, descriptors, threads and tasks at the moment."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: dict[str, int] = json.loads(self._line())
        return found


@dataclass(frozen=True)
class Waits:
    """How long scrapes took, in seconds; `failed` are those that got no answer."""

    seconds: Sequence[float]
    failed: int

    def share(self, part: float) -> float:
        """Return how long the fastest `part` of them took at most."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(part * len(self.seconds)))]


def scrape(port: int, context: ssl.SSLContext | None) -> float:
    """Scrape once over a new connection, and return how long that took."""
    begun = time.monotonic()
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip", "Authorization": PASSWORD})
        answer = connection.getresponse()
        assert (200, True) == (answer.status, len(answer.read()) > 1000)
    finally:
        connection.close()
    return time.monotonic() - begun


def waits(port: int, context: ssl.SSLContext | None, seconds: float) -> Waits:
    """Scrape over and over for so long."""
    took: list[float] = []
    failed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            took.append(scrape(port, context))
        except (OSError, http.client.HTTPException):
            failed += 1
        time.sleep(0.02)
    return Waits(took, failed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with certificates and web configurations."""
    made = tmp_path_factory.mktemp("attacked")
    signer = authority(made, "ca")
    leaf(made, "server", signer, "DNS:localhost,IP:127.0.0.1")
    leaf(made, "client", signer, "DNS:prometheus.example")
    leaf(made, "stranger", authority(made, "other"), "DNS:else.example")
    pair = "cert_file: server.pem, key_file: server.key"
    clients = "client_ca_file: ca.pem, client_auth_type: VerifyClientCertIfGiven"
    (made / "tls.yml").write_text(f"tls_server_config: {{{pair}, {clients}}}\n")
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(8)).decode()
    (made / "passwords.yml").write_text(f"basic_auth_users: {{alice: {hashed}}}\n")
    return made


def report(kind: str, done: int, quiet: Waits, during: Waits, costs: Sequence[dict[str, Any]]) -> str:
    """Return a row of the table in docs/security.md."""
    milliseconds = [f"{1000 * waits.share(part):.0f}" for waits in (quiet, during) for part in (0.5, 0.99, 1.0)]
    before, at_most, after = costs
    numbers = (f"{before[name]} / {at_most[name]} / {after[name]}" for name in ("rss", "descriptors", "tasks"))
    return f"| {kind} | {done:,} | {' / '.join(milliseconds[3:])} | {' | '.join(numbers)} |"


@pytest.mark.parametrize("kind", KINDS)
def test_scrapes_go_on_and_nothing_is_left(folder: Path, kind: str) -> None:
    """Of 100 scrapes 99 wait a second more at most, memory grows by half at most; all is given back."""
    tls = kind in OVER_TLS
    name = "tls.yml" if tls else "passwords.yml" if kind == "passwords" else None
    context = ssl.create_default_context(cafile=folder / "ca.pem") if tls else None
    with Server(folder / name if name else None, collect=kind == "pages") as server:
        quiet = waits(server.port, context, 1.5)
        before = server.costs()
        command = [sys.executable, str(FOLDER / "_attacks.py"), kind, str(server.port), str(SECONDS)]
        if tls:
            command.append(str(folder / "ca.pem"))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attack:
            during = waits(server.port, context, SECONDS - 0.5)
            at_most = server.costs()
            done = int(attack.communicate()[0])
        after = settled(server, before)
        logged = server.end()
    line = report(kind, done, quiet, during, (before, at_most, after))
    if path := os.environ.get("ATTACK_REPORT"):
        with Path(path).open("a") as file:
            file.write(line + "\n")
    assert done > 0, line
    assert 0 == quiet.failed + during.failed, line
    assert during.share(0.99) <= 1.0 + 4 * quiet.share(0.99), line
    assert at_most["rss"] <= 1.5 * before["rss"], line
    assert after["rss"] <= 1.4 * before["rss"], line
    assert len(logged) <= 1, logged[:9]
    assert (before["descriptors"], before["tasks"]) == (after["descriptors"], after["tasks"]), line


def settled(server: Server, before: dict[str, int]) -> dict[str, int]:
    """Return the costs once they are as `before`, or after some seconds."""
    end = time.monotonic() + PATIENCE
    while True:
        found = server.costs()
        same = all(found[name] <= before[name] for name in ("descriptors", "tasks"))
        if same or time.monotonic() > end:
            return found
        time.sleep(0.1)


def test_a_small_answer_does_not_wait() -> None:
    """On a kept connection a small answer comes without the 40 ms of a delayed acknowledgement."""
    with Server(None) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        took: list[float] = []
        for _ in range(50):
            begun = time.monotonic()
            connection.request("GET", "/-/healthy")
            assert b"ok\n" == connection.getresponse().read()
            took.append(time.monotonic() - begun)
        connection.close()
    assert sorted(took)[5] < 0.02, sorted(took)


def test_slow_readers_share_the_bytes() -> None:
    """A hundred readers of 33 MB that stop reading cost less than one more copy."""
    with Server(None) as server:
        assert scrape(server.port, None) > 0
        before = server.costs()
        readers = []
        for _ in range(100):
            reader = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
            reader.request("GET", "/metrics")
            readers.append(reader)
        answers = [reader.getresponse() for reader in readers]
        assert {200} == {answer.status for answer in answers}
        assert server.costs()["rss"] <= before["rss"] + 33
        for reader in readers:
            reader.close()
