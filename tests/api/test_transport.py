"""Every way to be slow, ended by the timeout, the poll's deadline and a stop."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import DeadlineError, RequestTimeoutError
from tests._rawserver import RawServer, reply
from tests.api._rig import (
    SLOW,
    Rig,
    drip_body,
    drip_chunk,
    drip_head,
    drip_open_body,
    ended_when,
    hold,
    interim,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests._rawserver import Answer, Peer

LIMIT = 0.3
"""Seconds after which a request shall have ended."""


@dataclass
class Stage:
    """What a fault is built of."""

    make: Callable[..., Rig]
    tls: Callable[..., RawServer]
    ca_file: str
    deaf: str
    monkeypatch: pytest.MonkeyPatch
    servers: list[RawServer]

    def server(self, *answers: Answer, **kwargs: Any) -> RawServer:  # noqa: ANN401 - handed through
        """Return a server that is closed after the test."""
        self.servers.append(RawServer(answers, **kwargs))
        return self.servers[-1]

    def tls_server(self, *answers: Answer) -> RawServer:
        """Return one with TLS."""
        self.servers.append(self.tls(*answers))
        return self.servers[-1]


@pytest.fixture
def stage(
    make: Callable[..., Rig],
    tls: Callable[..., RawServer],
    certificate: Path,
    deaf: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """Yield what faults are built of."""
    one = Stage(make, tls, str(certificate / "ca.pem"), deaf, monkeypatch, [])
    yield one
    for server in one.servers:
        server.close()


Scene = tuple[Rig, "Callable[[], object]"]
"""A client, and what holds once the fault has been met."""
Fault = "Callable[..., Scene]"


def served(answer: Answer) -> Fault:
    """Return the fault of a server that answers so."""

    def build(stage: Stage, **settings: object) -> Scene:
        rig = stage.make(answer, **settings)
        return rig, lambda: rig.server.requests

    return build


def served_with_tls(answer: Answer) -> Fault:
    """Return the same over TLS."""

    def build(stage: Stage, **settings: object) -> Scene:
        rig = stage.make(server=stage.tls_server(answer), ca_file=stage.ca_file, **settings)
        return rig, lambda: rig.server.requests

    return build


def silent_handshake(stage: Stage, **settings: object) -> Scene:
    """Accept the connection, and be silent in the TLS handshake."""
    server = stage.server(mute=True)
    rig = stage.make(base_url=f"https://127.0.0.1:{server.port}", **settings)
    return rig, lambda: server.connections


def full_backlog(stage: Stage, **settings: object) -> Scene:
    """Never accept the connection."""
    rig = stage.make(base_url=stage.deaf, **settings)
    return rig, rig.asked.is_set


def silent_name_server(stage: Stage, **settings: object) -> Scene:
    """Let the name server say nothing."""
    lookups, ended = [], threading.Event()

    def hang(*args: object, **_: object) -> list[object]:
        lookups.append(args)
        ended.wait(SLOW)
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    stage.monkeypatch.setattr(socket, "getaddrinfo", hang)
    rig = stage.make(base_url="http://api.invalid", **settings)
    rig.finish = ended.set
    return rig, lambda: lookups


def through(answer: Callable[[Stage], Answer], *, scheme: str = "https") -> Fault:
    """Return the fault of a proxy that answers so."""

    def build(stage: Stage, **settings: object) -> Scene:
        proxy = stage.server(answer(stage))
        rig = stage.make(
            base_url=f"{scheme}://127.0.0.1:9",
            proxy=f"http://127.0.0.1:{proxy.port}",
            ca_file=stage.ca_file,
            **settings,
        )
        return rig, lambda: proxy.requests

    return build


def tunnel_to_silence(stage: Stage) -> Answer:
    """Connect to a server that is silent in the TLS handshake."""
    server = stage.server(mute=True)
    return lambda peer: peer.tunnel(server.port)


def tunnel_to_drips(stage: Stage) -> Answer:
    """Connect to a server whose body drips."""
    server = stage.tls_server(drip_body)
    return lambda peer: peer.tunnel(server.port)


SERVED = {
    "headers drip": drip_head,
    "body drips": drip_body,
    "body without length drips": drip_open_body,
    "size of a chunk drips": drip_chunk,
    "interim answers without end": interim,
    "silence": hold,
}
FAULTS: dict[str, Fault] = {
    **{name: served(answer) for name, answer in SERVED.items()},
    **{f"{name}, TLS": served_with_tls(SERVED[name]) for name in ("headers drip", "body drips", "silence")},
    "TLS handshake": silent_handshake,
    "backlog is full": full_backlog,
    "name lookup": silent_name_server,
    "proxy is silent": through(lambda _: hold, scheme="http"),
    "proxy drips": through(lambda _: drip_body, scheme="http"),
    "CONNECT is silent": through(lambda _: hold),
    "CONNECT drips": through(lambda _: drip_head),
    "TLS handshake behind CONNECT": through(tunnel_to_silence),
    "body drips behind CONNECT": through(tunnel_to_drips),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_timeout_bounds_the_whole_request(stage: Stage, fault: Fault) -> None:
    """However a request is slowed down, it ends with its timeout, not earlier and not much later."""
    rig, _ = fault(stage, timeout=LIMIT)
    error, seconds = rig.fail()
    print(f"ended after {seconds:.3f} s")
    rig.finish()
    assert isinstance(error, RequestTimeoutError)
    assert "within 0.3 s" in str(error)
    assert rig.codes == ["timeout"]
    assert LIMIT <= seconds < SLOW


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_deadline_bounds_the_request(stage: Stage, fault: Fault) -> None:
    """A deadline before the timeout ends the request, and it is the deadline's error, without a retry."""
    rig, _ = fault(stage, timeout=30.0, retries=3)
    error, seconds = rig.fail(within=LIMIT)
    print(f"ended after {seconds:.3f} s")
    rig.finish()
    assert isinstance(error, DeadlineError)
    assert rig.codes == ["deadline"]
    assert LIMIT <= seconds < SLOW


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_stop_ends_the_request(stage: Stage, fault: Fault) -> None:
    """A stop request ends what is in flight at once."""
    rig, reached = fault(stage, timeout=60.0, retries=3)
    seconds = ended_when(rig, reached, rig.stop.set)
    print(f"ended after {seconds:.3f} s")
    rig.finish()
    assert seconds < SLOW
    assert rig.codes == ["stopped"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", SERVED.values(), ids=SERVED)
def test_kept_connection_is_bounded_too(stage: Stage, answer: Answer, scheme: str) -> None:
    """The second request on a connection is bounded as the first, and the connection isn't used again."""
    answers = (reply(), answer, reply(body=b"[3]"))
    server = stage.server(*answers) if scheme == "http" else stage.tls_server(*answers)
    rig = stage.make(server=server, ca_file=stage.ca_file, timeout=60.0)
    rig.get()
    error, seconds = rig.fail(within=LIMIT)
    print(f"ended after {seconds:.3f} s")
    assert isinstance(error, DeadlineError)
    assert LIMIT <= seconds < SLOW
    assert server.connections == 1
    assert rig.get().body == b"[3]"
    assert server.connections == 2


def test_hanging_lookup_leaves_one_thread(stage: Stage) -> None:
    """However often a name is asked for, one lookup hangs."""
    rig, lookups = silent_name_server(stage, timeout=0.1)
    for _ in range(3):
        rig.fail()
    assert 1 == len(lookups())
    rig.finish()


def test_slow_body_of_a_refusal_is_left(make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal whose body drips is told by its status, without waiting for the timeout."""
    monkeypatch.setattr("exporter.api.transport.REFUSAL_SECONDS", 0.1)

    def answer(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n")
        peer.drip(b" " * 500)

    error, seconds = make(answer, timeout=60.0).fail()
    assert error.status == 400
    assert seconds < SLOW


def test_answer_that_takes_several_slices(make: Callable[..., Rig]) -> None:
    """A wait that is longer than a slice isn't mistaken for the end of the time."""

    def answer(peer: Peer) -> None:
        peer.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"[:4], 0.15)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"[4:])

    assert make(answer).get().body == b"[]"
