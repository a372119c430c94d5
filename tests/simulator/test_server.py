"""The simulator over real HTTP."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

from exporter.simulator import (
    FAULT_KINDS,
    SCENARIOS,
    Fault,
    Looseness,
    RunningServer,
    Scenario,
    Simulator,
    demo,
    serve,
)
from tests.simulator._ask import NOW, Clock, fixed, target

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = target(ids=[7])


@pytest.fixture
def server() -> Iterator[RunningServer]:
    """Serve one campaign."""
    simulator = Simulator(1, Clock(), Scenario.fixed([fixed(7, NOW - 60)]))
    with serve(simulator) as running:
        yield running


def connect(server: RunningServer) -> http.client.HTTPConnection:
    """Open a connection."""
    return http.client.HTTPConnection(str(server.host), int(server.port), timeout=20)


def get(server: RunningServer, question: str = QUESTION, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask on a connection of its own."""
    connection = connect(server)
    try:
        connection.request("GET", question, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def test_smoke_with_urllib() -> None:
    """The demo answers both endpoints over HTTP."""
    with serve(demo(Clock())) as running:
        for endpoint in ("statistics", "conversions"):
            question = target(endpoint, startFrom=NOW - 14 * 86400, startTo=NOW, perPage=500)
            with urllib.request.urlopen(running.url + question) as response:
                assert len(json.load(response)["data"]) > 50
        assert {"statistics": 1, "conversions": 1} == dict(running.requests)
        assert ["statistics", "conversions"] == [asked.endpoint for asked in running.log]


def test_a_wrong_token_is_401(server: RunningServer) -> None:
    """The refusal is a JSON object, as the service's other errors are."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.url + target(token="wrong", ids=[7]))
    with caught.value as error:
        assert 401 == error.code
        assert "Unauthorized" == json.load(error)["name"]


def test_connections_are_kept(server: RunningServer) -> None:
    """Many requests, refused ones among them, go over one connection."""
    connection = connect(server)
    for question, status in [(QUESTION, 200), ("/", 404), (target(), 400), (QUESTION, 200)]:
        connection.request("GET", question)
        used = connection.sock
        response = connection.getresponse()
        response.read()
        assert status == response.status
        assert used is connection.sock
    connection.close()


def test_the_date_is_the_clocks(server: RunningServer) -> None:
    """The Date header tells the simulator's time."""
    _, headers, _ = get(server)
    assert parsedate_to_datetime(headers["Date"]).timestamp() == NOW


def test_gzip_for_those_who_accept_it(server: RunningServer) -> None:
    """With the option, a client that accepts gzip gets it, another one doesn't."""
    _, _, plain = get(server)
    server.simulator.looseness = Looseness(gzip=True)
    _, headers, body = get(server, **{"Accept-Encoding": "gzip"})
    assert "gzip" == headers["Content-Encoding"]
    assert plain == gzip.decompress(body)
    assert plain == get(server)[2]


def test_chunked(server: RunningServer) -> None:
    """With the option the answer has no length, and the same body."""
    _, _, plain = get(server)
    server.simulator.looseness = Looseness(chunked=True)
    _, headers, body = get(server)
    assert "Content-Length" not in headers
    assert plain == body


def outcome(server: RunningServer, fault: Fault) -> tuple[Any, float]:
    """Ask once with a fault; return the status and body, or the exception's type, and the seconds taken."""
    server.simulator.inject(fault)
    began = time.monotonic()
    try:
        status, headers, body = get(server)
    except (OSError, http.client.HTTPException) as error:
        return type(error), time.monotonic() - began
    return (status, headers, body), time.monotonic() - began


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("rate_limited", 429),
        ("server_error", 500),
        ("unauthorized", 401),
        ("forbidden", 403),
        ("redirect", 302),
        ("html200", 200),
        ("error200", 200),
        ("number200", 200),
        ("cut_json", 200),
        ("huge", 200),
        ("empty", 200),
        ("vanish", 200),
        ("slow", 200),
        ("drip", 200),
        ("drip_headers", 200),
        ("cut_body", http.client.IncompleteRead),
        ("reset", http.client.RemoteDisconnected),
        ("hang", http.client.RemoteDisconnected),
    ],
)
def test_every_fault_and_then_none(server: RunningServer, kind: Any, status: object) -> None:  # noqa: ANN401
    """Each fault shows over HTTP as it should, and the request after it is answered."""
    _, _, right = get(server)
    found, seconds = outcome(server, Fault(kind=kind, seconds=0.3, size=50_000))
    if isinstance(found, type):
        assert status == found
    else:
        assert status == found[0]
        body = found[2]
        if kind in ("slow", "drip", "drip_headers"):
            assert right == body
        else:
            assert right != body or kind == "vanish"
        if kind == "rate_limited":
            assert "1" == found[1]["Retry-After"]
        if kind == "redirect":
            assert "/login" == found[1]["Location"]
        if kind == "huge":
            assert len(body) > 50_000
        if kind in ("html200", "cut_json"):
            with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
                json.loads(body)
        if kind in ("error200", "number200", "empty"):
            assert {"error200": dict, "number200": int, "empty": dict}[kind] is type(json.loads(body))
    if kind in ("slow", "drip", "drip_headers", "hang"):
        assert seconds >= 0.25
    assert (200, right) == get(server)[::2]


def test_all_faults_are_covered() -> None:
    """The test above knows every kind there is."""
    marks = test_every_fault_and_then_none.pytestmark
    assert set(FAULT_KINDS) == {case[0] for mark in marks for case in mark.args[1]}


def test_closing_ends_hanging_requests() -> None:
    """Close returns at once though a request hangs and another connection idles; twice does no harm."""
    simulator = Simulator(1, Clock(), Scenario.fixed([fixed(7, NOW - 60)]))
    running = serve(simulator)
    idle = socket.create_connection((str(running.host), int(running.port)))
    failures: list[type[Exception]] = []
    simulator.inject(Fault(kind="hang", seconds=600))

    def hang() -> None:
        try:
            get(running)
        except (OSError, http.client.HTTPException) as error:
            failures.append(type(error))

    thread = threading.Thread(target=hang)
    thread.start()
    deadline = time.monotonic() + 20
    while not simulator.log and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    running.close()
    running.close()
    assert time.monotonic() - began < 5
    thread.join(20)
    assert [http.client.RemoteDisconnected] == failures
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        get(running)


def test_clients_that_leave_do_no_harm(server: RunningServer) -> None:
    """A client that goes away in mid-answer, or sends nonsense, leaves the server serving."""
    server.simulator.inject(Fault(kind="huge", size=20_000_000))
    for data in (f"GET {QUESTION} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"\x00\xff nonsense\r\n\r\n", b""):
        client = socket.create_connection((str(server.host), int(server.port)))
        client.sendall(data)
        client.close()
    assert 200 == get(server)[0]


def test_many_clients_at_once() -> None:
    """Requests in parallel are all answered and counted."""
    with serve(Simulator(1, Clock(), SCENARIOS["calm"])) as running:
        question = target(startFrom=NOW - 14 * 86400, startTo=NOW, perPage=500)
        bodies: list[bytes] = []
        threads = [threading.Thread(target=lambda: bodies.append(get(running, question)[2])) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (1, 16, 16) == (len(set(bodies)), len(bodies), running.requests["statistics"])


def test_a_port_in_use_raises(server: RunningServer) -> None:
    """The address of another server can't be had."""
    with pytest.raises(OSError, match="in use"):
        serve(server.simulator, port=int(server.port))


def test_hostile_titles_survive_the_wire() -> None:
    """Titles with HTML, newlines, controls and lone surrogates arrive as they are."""
    hostile = 'a "b" \\ <script>\n\u202e\x01 \ud83d 🏳️‍🌈'
    simulator = Simulator(1, Clock(), Scenario.fixed([fixed(7, NOW - 60)]))
    simulator.campaigns()[0].messages[0].title = hostile
    with serve(simulator) as running:
        assert hostile == json.loads(get(running)[2])["data"][0]["message_title"]
