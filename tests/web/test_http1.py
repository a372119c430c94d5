"""Connections: the protocol on the wire, time limits, bounds, and that nothing is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import h11
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from exporter.web import http1
from exporter.web.http1 import Connections, _answer_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

DEADLINE = 60.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(request: Request) -> Response:
    """Answer with the request's method, path and query."""
    return PlainTextResponse(f"{request.method} {request.url.path} {request.url.query}")


HELLO = Starlette(routes=[Route("/{rest:path}", hello, methods=["GET", "POST"])])


@contextlib.asynccontextmanager
async def peers(connections: Connections, number: int = 1) -> AsyncIterator[list[socket.socket]]:
    """Yield the peers' ends of `number` connections."""
    ends: list[socket.socket] = []
    for _ in range(number):
        await connections.make_room()
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        theirs.settimeout(0)
        ends.append(theirs)
        connections.begin(ours, None)
        await asyncio.sleep(0)
    try:
        yield ends
    finally:
        await connections.close(DEADLINE)
        for end in ends:
            end.close()


async def until_end(peer: socket.socket) -> bytes:
    """Return everything up to the end of the connection."""
    received = b""
    async with asyncio.timeout(DEADLINE):
        while data := await asyncio.get_running_loop().sock_recv(peer, 65536):
            received += data
    return received


def exchange(sent: bytes, *, app: ASGIApp = HELLO) -> bytes:
    """Return what a peer gets that sends `sent` and no more."""

    async def main() -> bytes:
        async with peers(Connections(app, 9)) as (peer,):
            await asyncio.get_running_loop().sock_sendall(peer, sent)
            peer.shutdown(socket.SHUT_WR)
            return await until_end(peer)

    return asyncio.run(main())


def test_requests_in_one_go_are_answered_in_turn() -> None:
    """Pipelined requests get their answers in order, and HEAD gets no body."""
    head = GET.replace(b"GET /", b"HEAD /a")
    answer = exchange(GET + head + GET.replace(b"/", b"/b%20c?d", 1))
    assert [b"GET /", b"GET /b c d"] == [
        part.partition(b"HTTP/1.1")[0].rstrip()
        for part in answer.split(b"\r\n\r\n")[1:]
        if part.startswith(b"GET")
    ]
    assert 3 == answer.count(b"HTTP/1.1 200")


def test_a_body_is_not_read() -> None:
    """A small body is passed over, and the connection goes on; of a large one nothing more is taken."""
    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    assert 2 == exchange(post % 3 + b"abc" + GET).count(b"HTTP/1.1 200")
    assert 1 == exchange(post % 10**9 + b"abc" + GET).count(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000, b"431"),
        (b"PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    ],
)
def test_what_is_no_request(sent: bytes, status: bytes) -> None:
    """It is refused with its status, and the connection ends; so does the preface of HTTP/2."""
    answer = exchange(sent + GET)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert 1 == answer.count(b"HTTP/1.1")


def test_upgrades_are_passed_over() -> None:
    """A peer that would rather speak HTTP/2 or WebSocket gets an answer in HTTP/1.1."""
    upgrade = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n")
    assert exchange(upgrade).startswith(b"HTTP/1.1 200")


def test_http_1_0() -> None:
    """An old client gets one answer, and the end of the connection."""
    answer = exchange(b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost", GET])
def test_slow_peers_are_left(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that says nothing, half a request, or no further one is left after its time."""
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(http1, "IDLE_SECONDS", 0.05)

    async def main() -> bytes:
        async with peers(Connections(HELLO, 9)) as (peer,):
            await asyncio.get_running_loop().sock_sendall(peer, sent)
            return await until_end(peer)

    assert (sent == GET) == asyncio.run(main()).startswith(b"HTTP/1.1 200")


def test_dripped_heads_have_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come one by one don't prolong it."""
    monkeypatch.setattr(http1, "HEAD_SECONDS", 0.3)

    async def main() -> int:
        async with peers(Connections(HELLO, 9)) as (peer,):
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 1000:
                    await asyncio.get_running_loop().sock_sendall(peer, b"G")
                    sent += 1
                    await asyncio.sleep(0.02)
            return sent

    assert asyncio.run(main()) < 100


def test_a_peer_that_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer has a time limit, after which the connection ends short."""
    monkeypatch.setattr(http1, "ANSWER_SECONDS", 0.05)
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse(b"x" * (8 << 20)))])

    async def main() -> int:
        connections = Connections(app, 9)
        async with peers(connections) as (peer,):
            await asyncio.get_running_loop().sock_sendall(peer, GET)
            async with asyncio.timeout(DEADLINE):
                while len(connections) != 0:  # noqa: ASYNC110 - nothing tells of the end
                    await asyncio.sleep(0.01)
            return len(await until_end(peer))

    assert asyncio.run(main()) < 8 << 20


def test_one_connection_too_many_closes_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    """The one that was quiet longest makes room, said once; those that were asked something since stay."""

    async def main() -> list[bool]:
        connections = Connections(HELLO, 3)
        async with peers(connections, 3) as ends:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(ends[0], GET)
            assert await loop.sock_recv(ends[0], 65536)
            begun = loop.time()
            async with peers(connections, 2):
                await until_end(ends[1])
                await until_end(ends[2])
                await loop.sock_sendall(ends[0], GET)
                alive = bool(await loop.sock_recv(ends[0], 65536))
                return [alive, len(connections) == 3, loop.time() - begun >= http1.MOMENT / 2]

    assert [True, True, True] == asyncio.run(main())
    assert 1 == caplog.text.count("too many connections: 3 are open, closing the oldest")


def test_a_failure_of_the_application_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """What the application lets through is logged, and the connection closed."""

    async def fail(*_: object) -> None:
        raise ValueError("inner")

    assert b"" == exchange(GET, app=fail)
    assert "a connection failed" in caplog.text


def test_requests_of_a_peer_that_is_gone_are_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """Of many requests sent at once by a peer that then resets, the rest isn't answered, nor logged."""
    asked: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(1)
        with contextlib.suppress(ConnectionError):  # as the application does
            await HELLO(scope, receive, send)

    async def main() -> None:
        connections = Connections(app, 9)
        async with peers(connections) as (peer,):
            await asyncio.get_running_loop().sock_sendall(peer, GET * 300)
            peer.close()
            async with asyncio.timeout(DEADLINE):
                while len(connections) != 0:  # noqa: ASYNC110 - nothing tells of the end
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert len(asked) < 10
    assert "" == caplog.text


@pytest.mark.parametrize(
    ("patience", "seconds"), [("10", 60.0), ("120", 120.0), ("1e9", 600.0), ("nan", 60.0), ("x", 60.0)]
)
def test_time_limit_of_an_answer(patience: str, seconds: float) -> None:
    """A minute, or as long as Prometheus says that it waits, within bounds."""
    headers = [("Host", "x"), ("X-Prometheus-Scrape-Timeout-Seconds", patience)]
    assert seconds == _answer_seconds(h11.Request(method="GET", target="/", headers=headers))
