"""The server itself, over real sockets: TLS, passwords, silent and slow peers, shutdown."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import logging
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

import bcrypt
import pytest

from exporter.errors import ConfigError
from exporter.web.server import WebServer
from tests._certificates import Certificate, authority, leaf
from tests._websites import EXPOSITION, Exposed, site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from exporter.web.site import Site

DEADLINE = 60.0
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
RIGHT = "Basic " + base64.b64encode(b"alice:right").decode()
WRONG = "Basic " + base64.b64encode(b"alice:wrong").decode()


class Running:
    """A server in a thread of its own, at `port` of 127.0.0.1."""

    def __init__(self, site_: Site, web_config: Path | None) -> None:
        self._server = WebServer(site_, ["127.0.0.1:0"], web_config)
        self.port = int(self._server.addresses[0].rpartition(":")[2])
        self.started: list[Sequence[str]] = []
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(DEADLINE)

    def _run(self) -> None:
        with contextlib.closing(self._loop), asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._server.serve(self._stop, self._note))

    def _note(self, addresses: Sequence[str]) -> None:
        self.started.append(addresses)
        self._up.set()

    @property
    def answering(self) -> int:
        """How many answers are under way."""
        return self._server._connections.answering

    def stop(self) -> float:
        """Stop it, and return how many seconds that took."""
        begun = time.monotonic()
        with contextlib.suppress(RuntimeError):  # it has ended by itself, and its loop is closed
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()
        return time.monotonic() - begun


@contextlib.contextmanager
def running(site_: Site | None = None, web_config: Path | None = None) -> Iterator[Running]:
    """Run a server for the time of the block."""
    server = Running(site() if site_ is None else site_, web_config)
    try:
        yield server
    finally:
        server.stop()


def get(
    port: int,
    path: str = "/-/healthy",
    context: ssl.SSLContext | None = None,
    authorization: str | None = None,
) -> tuple[int, bytes]:
    """Return status and body."""
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=DEADLINE, context=context)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Authorization": authorization} if authorization else {})
        response = connection.getresponse()
        return response.status, response.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, a server's certificate, and clients' certificates."""
    made = tmp_path_factory.mktemp("certificates")
    signer = authority(made, "ca")
    leaf(made, "server", signer, "DNS:localhost,IP:127.0.0.1")
    leaf(made, "client", signer, "DNS:prometheus.example")
    leaf(made, "stranger", signer, "DNS:else.example")
    return made


def configured(folder: Path, text: str = "") -> Path:
    """Return a web configuration with TLS and `text`."""
    path = folder / "web.yml"
    path.write_text(f"tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n{text}")
    return path


def client(folder: Path, name: str | None = None, alpn: str | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts our authority, with a certificate if named."""
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if name is not None:
        context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


def test_serves_and_reports_its_port(caplog: pytest.LogCaptureFixture) -> None:
    """Port 0 is chosen by the kernel, reported and logged."""
    caplog.set_level(logging.INFO)
    with running() as server:
        assert (200, EXPOSITION) == get(server.port, "/metrics")
        assert [(f"127.0.0.1:{server.port}",)] == server.started
    assert f"listening on http://127.0.0.1:{server.port}" in caplog.text


def test_keep_alive() -> None:
    """Scrapes share a connection."""
    with running() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert EXPOSITION == connection.getresponse().read()
        connection.close()


def test_head_over_the_wire() -> None:
    """HEAD leaves the connection in order for the next request."""
    with running() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        connection.request("HEAD", "/metrics")
        response = connection.getresponse()
        assert (str(len(EXPOSITION)), b"") == (response.headers["content-length"], response.read())
        connection.request("GET", "/-/healthy")
        assert b"ok\n" == connection.getresponse().read()
        connection.close()


def test_port_in_use() -> None:
    """A second server on the port is refused when it is built."""
    with running() as server, pytest.raises(ConfigError, match="already in use"):
        WebServer(site(), [f"127.0.0.1:{server.port}"], None)


def test_close_without_serving() -> None:
    """A server that never served lets go of its port."""
    server = WebServer(site(), ["127.0.0.1:0"], None)
    (address,) = server.addresses
    server.close()
    WebServer(site(), [address], None).close()


def test_a_bad_web_config_is_known_at_once(tmp_path: Path) -> None:
    """The file's faults come before anything is bound."""
    path = tmp_path / "web.yml"
    path.write_text("tls: {}")
    with pytest.raises(ConfigError, match="unknown key"):
        WebServer(site(), ["127.0.0.1:0"], path)


@pytest.mark.parametrize("alpn", ["http/1.1", None])
def test_tls(folder: Path, alpn: str | None) -> None:
    """With a certificate it speaks TLS; plain HTTP gets nothing."""
    with running(web_config=configured(folder)) as server:
        assert (200, b"ok\n") == get(server.port, context=client(folder, alpn=alpn))
        with pytest.raises((http.client.HTTPException, OSError)):
            get(server.port)


@pytest.mark.parametrize("text", ["", "http_server_config: {http2: true}\n"])
def test_http2_is_not_offered(folder: Path, text: str) -> None:
    """A client that would like HTTP/2 gets HTTP/1.1, whatever the file says."""
    with (
        running(web_config=configured(folder, text)) as server,
        socket.create_connection(("127.0.0.1", server.port), DEADLINE) as raw,
        client(folder, alpn="h2").wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        assert None is wrapped.selected_alpn_protocol()


def test_a_silent_tls_peer_blocks_nobody(folder: Path) -> None:
    """Peers that connect and say nothing, before or within the handshake, don't hold up a scrape or the end."""
    server = Running(site(), configured(folder))
    silent = [socket.create_connection(("127.0.0.1", server.port), DEADLINE) for _ in range(50)]
    for peer in silent[::2]:
        peer.sendall(b"\x16\x03\x01")
    assert (200, EXPOSITION) == get(server.port, "/metrics", client(folder))
    assert server.stop() < 2
    for peer in silent:
        peer.close()


CLIENT_AUTH = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"


def test_client_certificates(folder: Path) -> None:
    """Only a client with a certificate of our authority gets in."""
    with running(web_config=configured(folder, CLIENT_AUTH)) as server:
        assert (200, b"ok\n") == get(server.port, context=client(folder, "client"))
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            get(server.port, context=client(folder))


def test_client_certificate_names(folder: Path) -> None:
    """Of those, only the names in client_allowed_sans."""
    text = CLIENT_AUTH + "  client_allowed_sans: [prometheus.example]\n"
    with running(web_config=configured(folder, text)) as server:
        assert (200, b"ok\n") == get(server.port, context=client(folder, "client"))
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            get(server.port, context=client(folder, "stranger"))


def test_new_certificates_without_a_restart(folder: Path, tmp_path: Path) -> None:
    """A renewed certificate is served to the next connection, and so is a new authority for clients."""
    signer = Certificate(folder / "ca.pem", folder / "ca.key")
    for name in ("server.pem", "server.key", "ca.pem"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())

    def serial() -> str:
        with (
            socket.create_connection(("127.0.0.1", server.port), DEADLINE) as raw,
            client(folder, "client").wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            return str((wrapped.getpeercert() or {})["serialNumber"])

    with running(web_config=configured(tmp_path, CLIENT_AUTH)) as server:
        before = serial()
        assert before == serial()
        renewed = leaf(tmp_path, "renewed", signer, "DNS:localhost,IP:127.0.0.1")
        renewed.key.replace(tmp_path / "server.key")
        renewed.cert.replace(tmp_path / "server.pem")
        assert before != serial()
        other = authority(tmp_path, "other")
        other.cert.replace(tmp_path / "ca.pem")
        with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
            get(server.port, context=client(folder, "client"))


def test_passwords(tmp_path: Path) -> None:
    """Basic authentication guards everything, and a changed file takes effect at once."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    with running(web_config=path) as server:
        statuses = [get(server.port, authorization=header)[0] for header in (None, WRONG, RIGHT, RIGHT)]
        assert [401, 401, 200, 200] == statuses
        path.write_text(f"basic_auth_users: {{bob: {HASH}}}\n")
        assert 401 == get(server.port, authorization=RIGHT)[0]


def test_half_requests_block_nobody() -> None:
    """Peers that drip their headers don't hold up others, nor the end."""
    server = Running(site(), None)
    peers = [socket.create_connection(("127.0.0.1", server.port), DEADLINE) for _ in range(100)]
    for peer in peers:
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert (200, EXPOSITION) == get(server.port, "/metrics")
    assert server.stop() < 2
    for peer in peers:
        peer.close()


def test_a_peer_that_does_not_read_blocks_nobody() -> None:
    """A large exposition that nobody takes doesn't hold up others, nor the end."""
    server = Running(site(exposition=lambda *_: Exposed((bytes(64 << 20),))), None)
    peers = [socket.create_connection(("127.0.0.1", server.port), DEADLINE) for _ in range(5)]
    for peer in peers:
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert peer.recv(10)
    assert (200, b"ok\n") == get(server.port)
    assert server.stop() < 2
    for peer in peers:
        peer.close()


def test_a_peer_that_leaves_in_mid_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Its answer is given up, without a line in the log."""
    with running(site(exposition=lambda *_: Exposed((bytes(64 << 20),)))) as server:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as peer:
                peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                assert peer.recv(100)
        deadline = time.monotonic() + DEADLINE
        while server.answering:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_answer_under_way_is_finished() -> None:
    """A scrape that is being rendered when the stop comes still gets its answer."""
    begun = threading.Event()
    go_on = threading.Event()

    def exposition(*_: object) -> Exposed:
        begun.set()
        assert go_on.wait(DEADLINE)
        return Exposed()

    with running(site(exposition=exposition)) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
        connection.request("GET", "/metrics")
        assert begun.wait(DEADLINE)
        server._loop.call_soon_threadsafe(server._stop.set)
        server._loop.call_soon_threadsafe(go_on.set)
        assert EXPOSITION == connection.getresponse().read()
        connection.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
def test_oversized_or_senseless_requests(request_: bytes) -> None:
    """Headers without end and what isn't HTTP are refused with a 4xx."""
    with running() as server, socket.create_connection(("127.0.0.1", server.port), DEADLINE) as peer:
        with contextlib.suppress(OSError):
            peer.sendall(request_)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(12) in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")
        assert 200 == get(server.port)[0]


def test_a_body_is_not_waited_for() -> None:
    """An endless upload is answered at once and cut off."""
    with running() as server, socket.create_connection(("127.0.0.1", server.port), DEADLINE) as peer:
        peer.sendall(b"POST /-/quit HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nabc")
        assert b"HTTP/1.1 403" == peer.recv(12)
        with contextlib.suppress(OSError):
            while peer.recv(65536):
                pass


def test_rude_clients_leave_no_trace_in_the_log(caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    """Port scans, resets and failed handshakes aren't errors of ours."""
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    with running(web_config=configured(folder)) as server:
        for data in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00"):
            with socket.create_connection(("127.0.0.1", server.port), DEADLINE) as peer:
                peer.sendall(data)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with pytest.raises(ssl.SSLError):
            get(server.port, context=ssl.create_default_context())
        with (
            socket.create_connection(("127.0.0.1", server.port), DEADLINE) as raw,
            client(folder).wrap_socket(raw, server_hostname="localhost") as peer,
        ):
            peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        assert 200 == get(server.port, context=client(folder))[0]
    assert [] == [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_stopped_server_ends_soon() -> None:
    """With idle connections open, the end takes no time."""
    server = Running(site(), None)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    connection.request("GET", "/metrics")
    connection.getresponse().read()
    assert server.stop() < 2
    connection.close()
