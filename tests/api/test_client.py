"""The API client against real sockets that misbehave, and its waits on a clock that only moves when told."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import threading
import time
import traceback
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import __version__
from exporter.api.client import ApiClient
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.api.limiter import RateLimiter
from exporter.api.model import Query
from exporter.api.transport import Answer as Received
from exporter.api.transport import Transport
from exporter.errors import (
    AuthError,
    BadResponseError,
    ClientError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    InternalError,
    PollError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    StoppedError,
    TooLargeError,
)
from tests._examples import examples
from tests._program import until
from tests._rawserver import RawServer, raw, reply
from tests.api._rig import (
    BASE,
    OK,
    QUERY,
    SLOW,
    TOKEN,
    Clock,
    Highest,
    Lowest,
    Rig,
    drip_body,
    drip_head,
    ended_when,
    hold,
    http_date,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests._rawserver import Answer, Peer

# What is sent


@pytest.mark.parametrize(
    ("resource", "path"),
    [(STATISTICS, "/rest/campaign/statistics"), (CONVERSIONS, "/rest/campaign/statistic-conversions")],
)
def test_request_line(make: Callable[..., Rig], resource: str, path: str) -> None:
    """Each resource has its path; a space is %20, and the token stands last."""
    rig = make()
    rig.get(resource=resource)
    assert (
        f"{path}?startFrom=2025-11-23%2000%3A00%3A00&startTo=2025-11-23%2023%3A59%3A59&perPage=500&access-token={TOKEN}"
    ) == rig.server.requests[0].target


def test_headers(make: Callable[..., Rig]) -> None:
    """The request asks for JSON, allows gzip, names the exporter with its version, and says no more."""
    rig = make()
    rig.get()
    assert {
        "host": f"127.0.0.1:{rig.server.port}",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": f"intarget-exporter/{__version__}",
    } == rig.server.requests[0].headers


def test_base_url_with_a_path(make: Callable[..., Rig]) -> None:
    """A base_url may have a path, with or without a slash at its end."""
    with RawServer() as server:
        rig = make(server=server, base_url=f"{server.url}/gateway/")
        rig.get()
        assert server.requests[0].path == "/gateway/rest/campaign/statistics"


@pytest.mark.parametrize(
    "query", [Query(), Query(start_from=1), Query(send_to=1), Query(start_from=1, send_to=2)]
)
def test_unfiltered_question_is_never_sent(make: Callable[..., Rig], query: Query) -> None:
    """A question without a whole filter is an internal error, before anything is sent."""
    rig = make()
    with pytest.raises(InternalError, match="without a filter"):
        rig.get(query)
    assert (rig.server.connections, rig.reported) == (0, [])


def test_unknown_endpoint(make: Callable[..., Rig]) -> None:
    """An resource that doesn't exist is an internal error, before anything is sent."""
    rig = make()
    with pytest.raises(InternalError, match="unknown resource"):
        rig.get(resource="campaigns")
    assert rig.server.connections == 0


SECONDS = st.integers(0, 253_402_300_799)  # to the end of the year 9999


@examples(100)
@given(
    query=st.builds(
        Query,
        start_from=SECONDS,
        start_to=SECONDS,
        send_from=st.none() | SECONDS,
        send_to=st.none() | SECONDS,
        campaign_ids=st.lists(st.integers(0, 2**63), max_size=5).map(tuple),
        per_page=st.integers(1, 10_000),
    ),
    token=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_query_string_round_trip(query: Query, token: str) -> None:
    """Whatever is asked, a standard parser reads back exactly the documented parameters, and the token."""
    client = ApiClient(replace(BASE, base_url="http://x"), token=lambda: token, stop=threading.Event())
    sent: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "get", lambda _, url, __: sent.append(url) or Received(200, {}, b"[]"))
        client.get(STATISTICS, query, deadline=time.monotonic() + 60)
    expected = [
        (name, datetime.fromtimestamp(second, tz=UTC).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0"))
        for name, second in [
            ("startFrom", query.start_from),
            ("startTo", query.start_to),
            ("sendFrom", query.send_from),
            ("sendTo", query.send_to),
        ]
        if second is not None
    ]
    expected += [("campaignIds[]", str(number)) for number in query.campaign_ids]
    expected += [("perPage", str(query.per_page)), ("access-token", token)]
    assert expected == parse_qsl(urlsplit(sent[0]).query, keep_blank_values=True, strict_parsing=True)
    assert "+" not in sent[0]
    assert sent[0].isascii()


def test_token_is_read_for_every_attempt(make: Callable[..., Rig]) -> None:
    """A token that was rotated between two attempts is taken up by the second."""
    tokens = iter(["old", "new"])
    clock = Clock()
    rig = make(reply(503), reply(), token=lambda: next(tokens), clock=clock, retries=1)
    rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert [one.parameters[-1] for one in rig.server.requests] == [
        ("access-token", "old"),
        ("access-token", "new"),
    ]


@pytest.mark.parametrize("error", [FileNotFoundError(TOKEN), UnicodeError(TOKEN), ConfigError([TOKEN]), None])
def test_unreadable_token(make: Callable[..., Rig], error: Exception | None) -> None:
    """A token that can't be read or is empty is an `auth` failure; nothing is sent."""

    def token() -> str:
        if error is None:
            return ""
        raise error

    rig = make(token=token)
    with pytest.raises(AuthError, match="check where it is configured") as caught:
        rig.get()
    assert_says_nothing(caught.value)
    assert (rig.server.connections, rig.reported) == (0, [])


# What comes back


def test_reply(make: Callable[..., Rig]) -> None:
    """A reply has the body, the headers in lower case and the duration; the attempt is reported."""
    rig = make(reply(body=b'{"a": 1}', headers={"X-Pagination-Total-Count": "7"}))
    answer = rig.get()
    assert (answer.body, answer.headers["x-pagination-total-count"]) == (b'{"a": 1}', "7")
    ((resource, code, seconds),) = rig.reported
    assert (resource, code) == (STATISTICS, "200")
    assert 0 < answer.seconds <= seconds < SLOW


def chunked(*parts: bytes) -> bytes:
    """Return the chunks without the last, empty one."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


PACKED = gzip.compress(b"[1, 2]", mtime=0)
WHOLE = {
    "length": OK + b"Content-Length: 6\r\n\r\n[1, 2]",
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"[1,", b" 2]") + b"0\r\n\r\n",
    "closed at the end": b"HTTP/1.0 200 OK\r\n\r\n[1, 2]",
    "gzip": OK + b"Content-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n" % len(PACKED) + PACKED,
    "gzip, chunked by the byte": OK
    + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunked(*(bytes([byte]) for byte in PACKED))
    + b"0\r\n\r\n",
    "gzip of two members": OK
    + b"Content-Encoding: x-gzip\r\n\r\n"
    + gzip.compress(b"[1, ")
    + gzip.compress(b"2]"),
    "after an interim answer": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 6\r\n\r\n[1, 2]",
}


@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_framings(make: Callable[..., Rig], data: bytes) -> None:
    """Every way to frame and to compress a body gives the same body."""
    assert make(raw(data)).get().body == b"[1, 2]"


CUT = {
    "before the status": b"",
    "in the status": b"HTTP/1.1 2",
    "length": OK + b"Content-Length: 7\r\n\r\n[1, 2]",
    "in a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1,",
    "between chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(b"[1,"),
    "in gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % (len(PACKED) - 4) + PACKED[:-4],
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "endless header": OK + b"X: " + b"x" * 70_000,
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_cut_answer_is_retried(make: Callable[..., Rig], data: bytes) -> None:
    """An answer that breaks off is a connection failure, and asked for again."""
    clock = Clock()
    rig = make(raw(data), reply(body=b"[3]"), clock=clock, retries=1)
    assert rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60).body == b"[3]"
    assert rig.codes == ["connection", "200"]


def test_retry_after_a_fault_takes_a_new_connection(make: Callable[..., Rig]) -> None:
    """After a connection fault idle connections aren't trusted, though they look alive."""
    body = PACKED[:-4]
    rig = make(reply(body=body, headers={"Content-Encoding": "gzip"}), reply(), retries=1, rng=Lowest())
    rig.get()
    assert rig.server.connections == 2


def test_cut_answer_fails_in_the_end(make: Callable[..., Rig]) -> None:
    """A connection that always breaks is a connection failure, which says how often it was tried."""
    clock = Clock()
    rig = make(raw(CUT["length"]), clock=clock, retries=2)
    with pytest.raises(
        ConnectionFailedError, match=r"closed before the answer was complete \(after 3 attempts\)"
    ):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert rig.codes == ["connection"] * 3


def test_refused_connection(make: Callable[..., Rig]) -> None:
    """Nobody listening is a connection failure that says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error, _ = make(base_url=f"http://127.0.0.1:{port}").fail()
    assert isinstance(error, ConnectionFailedError)
    assert "Connection refused" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (201, BadResponseError, 1),
        (204, BadResponseError, 1),
        (301, ClientError, 1),
        (302, ClientError, 1),
        (304, ClientError, 1),
        (400, ClientError, 1),
        (401, AuthError, 1),
        (404, ClientError, 1),
        (408, ClientError, 1),
        (429, RateLimitedError, 3),
        (500, ServerError, 3),
        (503, ServerError, 3),
        (599, ServerError, 3),
    ],
)
def test_statuses(make: Callable[..., Rig], status: int, kind: type[PollError], attempts: int) -> None:
    """Each status has its error and names itself; only 429 and 5xx are tried again."""
    clock = Clock()
    rig = make(reply(status), clock=clock, retries=2)
    with pytest.raises(kind, match=str(status)) as caught:
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 600)
    assert kind is type(caught.value)
    assert [str(status)] * attempts == rig.codes


def test_impossible_status(make: Callable[..., Rig]) -> None:
    """A status that HTTP doesn't have can't make a label value of its own."""
    rig = make(reply(987))
    error, _ = rig.fail()
    assert isinstance(error, BadResponseError)
    assert rig.codes == ["other"]


def test_redirect_is_refused(make: Callable[..., Rig]) -> None:
    """A redirect is not followed, and neither its location nor its body is read."""
    with RawServer() as other:
        rig = make(reply(302, headers={"Location": f"{other.url}/elsewhere", "Content-Length": "99999999999"}))
        error, seconds = rig.fail()
        assert other.connections == 0
    assert isinstance(error, ClientError)
    assert "base_url redirects" in str(error)
    assert "elsewhere" not in str(error)
    assert seconds < SLOW


def test_connection_is_reused(make: Callable[..., Rig]) -> None:
    """Several requests use one connection, while the server keeps it open."""
    rig = make()
    for _ in range(3):
        rig.get()
    assert (len(rig.server.requests), rig.server.connections) == (3, 1)


def test_answer_after_a_refusal_is_not_mixed_up(make: Callable[..., Rig]) -> None:
    """What is left of an unread error page never becomes the next answer."""
    rig = make(reply(404, body=OK + b"Content-Length: 5\r\n\r\nwrong"), reply(body=b"right"))
    rig.fail()
    assert rig.get().body == b"right"


def test_long_idle_connection_is_not_trusted(make: Callable[..., Rig]) -> None:
    """A connection that was idle for over a minute is not used again."""
    clock = Clock()
    rig = make(clock=clock)
    for pause in (59.0, 61.0, 0.0):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
        clock.now += pause
    assert (len(rig.server.requests), rig.server.connections) == (3, 2)


def test_cookies_are_not_kept(make: Callable[..., Rig]) -> None:
    """A cookie is not sent back."""
    rig = make(reply(headers={"Set-Cookie": "id=1; Path=/"}))
    rig.get()
    rig.get()
    assert "cookie" not in rig.server.requests[1].headers


def test_environment_is_ignored(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither proxy variables nor .netrc nor CA variables change a request."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    rig = make()
    rig.get()
    assert "authorization" not in rig.server.requests[0].headers


# Proxy


def test_proxy(make: Callable[..., Rig]) -> None:
    """The proxy of the settings gets the request, with its password."""
    with RawServer() as proxy:
        rig = make(proxy=f"http://user:pass@127.0.0.1:{proxy.port}")
        rig.get()
        assert f"{rig.server.url}/rest/campaign/statistics" == proxy.requests[0].target.partition("?")[0]
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
        assert rig.server.connections == 0


def test_proxy_that_refuses(make: Callable[..., Rig]) -> None:
    """A tunnel refused by the proxy names the proxy and the status, not its password."""
    with RawServer([reply(407)]) as proxy:
        rig = make(base_url="https://api.invalid", proxy=f"http://user:hush@127.0.0.1:{proxy.port}")
        error, _ = rig.fail()
        assert proxy.requests[0].method == "CONNECT"
    assert isinstance(error, ConnectionFailedError)
    assert "the proxy refused the connection (HTTP 407)" in str(error)
    assert "hush" not in str(error)


def test_settings_hide_the_proxy() -> None:
    """The proxy's password stands in no repr."""
    assert "hush" not in repr(replace(BASE, proxy="http://user:hush@proxy"))


# Time


def test_unknown_host(make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that doesn't exist is a connection failure that says so."""

    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error, _ = make(base_url="http://api.invalid").fail()
    assert isinstance(error, ConnectionFailedError)
    assert "can't be looked up" in str(error)


def test_every_address_gets_a_share(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch, deaf: str
) -> None:
    """A host's dead first address doesn't use up the time for the second."""
    rig = make(timeout=1.0, base_url="http://api.invalid")
    ports = [int(deaf.rpartition(":")[2]), rig.server.port]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert rig.get().body == b"[]"


def test_slow_but_whole_answer_is_taken(make: Callable[..., Rig]) -> None:
    """Slowness within the timeout is no fault."""

    def answer(peer: Peer) -> None:
        peer.drip(OK + b"Content-Length: 2\r\n\r\n[]", 0.002)

    assert make(answer).get().body == b"[]"


def test_deadline_that_has_passed(make: Callable[..., Rig]) -> None:
    """After the deadline nothing is sent."""
    rig = make()
    error, _ = rig.fail(within=-1.0)
    assert isinstance(error, DeadlineError)
    assert rig.server.connections == 0


def test_stop_before_the_request(make: Callable[..., Rig]) -> None:
    """After a stop nothing is sent."""
    rig = make()
    rig.stop.set()
    error, _ = rig.fail()
    assert isinstance(error, StoppedError)
    assert rig.server.connections == 0


def test_close(make: Callable[..., Rig]) -> None:
    """Closing ends what is in flight, and nothing can be asked afterwards."""
    rig = make(hold, timeout=30.0)
    assert ended_when(rig, lambda: rig.server.requests, rig.client.close) < SLOW
    assert isinstance(rig.fail()[0], StoppedError)
    assert rig.server.connections == 1


def test_no_descriptor_is_left(make: Callable[..., Rig]) -> None:
    """After successes, refusals and timeouts no more descriptors are open than one idle connection needs."""
    descriptors = "/proc/self/fd"
    if not os.path.isdir(descriptors):  # noqa: PTH112
        pytest.skip("needs /proc")
    with RawServer([reply(), reply(500), drip_head, reply(), raw(b""), reply()]) as server:
        rig = make(server=server, timeout=0.2)
        before = len(os.listdir(descriptors))  # noqa: PTH208
        for _ in range(6):
            with contextlib.suppress(PollError):
                rig.get()
        rig.client.close()
        server.close()
        assert len(os.listdir(descriptors)) <= before  # noqa: PTH208


# Bytes


def test_length_over_the_budget_is_refused_early(make: Callable[..., Rig]) -> None:
    """A Content-Length over the budget is refused before the body has come, and not tried again."""

    def answer(peer: Peer) -> None:
        peer.send(OK + b"Content-Length: 1000001\r\n\r\n")
        peer.hold()

    rig = make(answer, retries=3)
    error, seconds = rig.fail()
    assert isinstance(error, TooLargeError)
    assert "api.max_response_bytes" in str(error)
    assert rig.codes == ["too_large"]
    assert seconds < SLOW


@pytest.mark.parametrize("size", [999_999, 1_000_000, 1_000_001])
@pytest.mark.parametrize("framing", ["length", "closed", "gzip"])
def test_budget_is_exact(make: Callable[..., Rig], size: int, framing: str) -> None:
    """A body of exactly the budget is taken, one byte more is not, compressed or not."""
    body = b"x" * size
    answers = {
        "length": reply(body=body),
        "closed": raw(OK + b"Connection: close\r\n\r\n" + body),
        "gzip": reply(body=gzip.compress(body), headers={"Content-Encoding": "gzip"}),
    }
    rig = make(answers[framing])
    if size <= 1_000_000:
        assert size == len(rig.get().body)
    else:
        assert isinstance(rig.fail()[0], TooLargeError)


def test_endless_body_is_left(make: Callable[..., Rig]) -> None:
    """A body without an end is left as soon as it exceeds the budget."""
    sent = []

    def answer(peer: Peer) -> None:
        peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            peer.send(chunked(b" " * 50_000))
            sent.append(50_000)

    assert isinstance(make(answer).fail()[0], TooLargeError)
    assert sum(sent) < 20_000_000


def test_bomb_is_not_inflated(make: Callable[..., Rig]) -> None:
    """A gzip bomb is left at the budget: a chunk of it is never inflated whole."""
    rig = make(reply(body=gzip.compress(bytes(100_000_000)), headers={"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        error, _ = rig.fail()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, TooLargeError)
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", b"[1, 2]"), ("gzip", PACKED + b"garbage"), ("br", b"x"), ("deflate", b"x")]
)
def test_wrong_encoding(make: Callable[..., Rig], encoding: str, body: bytes) -> None:
    """A body that isn't encoded as it says, or in a way that wasn't asked for, is a bad response."""
    rig = make(reply(body=body, headers={"Content-Encoding": encoding}), retries=3)
    assert isinstance(rig.fail()[0], BadResponseError)
    assert rig.codes == ["bad_response"]


def test_empty_gzip_body(make: Callable[..., Rig]) -> None:
    """An empty body is handed on as it is, whatever its encoding says."""
    assert make(reply(body=b"", headers={"Content-Encoding": "gzip"})).get().body == b""


# Retries


def test_backoff_doubles_to_its_cap(make: Callable[..., Rig]) -> None:
    """The waits are drawn from 0 to a bound that doubles from 0.5 s up to 30 s."""
    clock = Clock()
    rig = make(reply(500), clock=clock, rng=Highest(), retries=8)
    with pytest.raises(ServerError, match="after 9 attempts"):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 6000)
    assert [wait for wait in clock.waits if wait >= 0.5] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_is_full(make: Callable[..., Rig]) -> None:
    """The waits start at 0."""
    clock = Clock()
    rig = make(reply(500), clock=clock, rng=Lowest(), retries=3)
    with pytest.raises(ServerError):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert sum(clock.waits) < 0.01


def test_retry_brings_the_answer(make: Callable[..., Rig]) -> None:
    """An answer after faults of every kind that is tried again is the answer."""
    clock = Clock()
    rig = make(reply(500), raw(b""), reply(429), reply(body=b"[9]"), clock=clock, retries=3)
    assert rig.client.get(STATISTICS, QUERY, deadline=clock.now + 600).body == b"[9]"
    assert rig.codes == ["500", "connection", "429", "200"]


def test_timeout_is_retried(make: Callable[..., Rig]) -> None:
    """A request that timed out is made again, on a new connection."""
    rig = make(hold, reply(body=b"[9]"), timeout=1.5, retries=1, rng=Lowest())
    assert rig.get().body == b"[9]"
    assert (rig.codes, rig.server.connections) == (["timeout", "200"], 2)


DATE = 1_763_900_000


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 0012 "}, 12.0),
        ({"Retry-After": http_date(DATE + 9), "Date": http_date(DATE)}, 9.0),
        ({"Retry-After": http_date(DATE + 9)}, 4.0),
        ({"Retry-After": http_date(DATE + 9), "Date": "yesterday"}, 4.0),
        ({"Retry-After": http_date(DATE - 9), "Date": http_date(DATE)}, 0.0),
        ({"Retry-After": "-5"}, 0.0),
        ({"Retry-After": "1.5"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "\u00b2"}, 0.0),
        ({"Retry-After": "Mon, 99 Foo 2025 99:99:99 GMT"}, 0.0),
        ({"Retry-After": ""}, 0.0),
        ({}, 0.0),
    ],
)
def test_retry_after(make: Callable[..., Rig], status: int, headers: dict[str, str], expected: float) -> None:
    """Retry-After, in seconds or as a date by the server's own clock, is the shortest wait."""
    clock = Clock()
    rig = make(
        reply(status, headers=headers),
        reply(),
        clock=clock,
        rng=Lowest(),
        retries=1,
        wall_clock=lambda: DATE + 5.0,
    )
    rig.client.get(STATISTICS, QUERY, deadline=clock.now + 600)
    assert expected == pytest.approx(clock.now - 1000.0, abs=0.01)


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitedError), (503, ServerError)])
@pytest.mark.parametrize(
    "value", ["61", "86401", "9" * 5000, http_date(DATE + 10**9)], ids=["minute", "day", "digits", "date"]
)
def test_retry_after_that_does_not_fit(
    make: Callable[..., Rig], status: int, kind: type[PollError], value: str
) -> None:
    """A wait that would end after the deadline is not begun: the status' own error comes at once."""
    clock = Clock()
    rig = make(reply(status, headers={"Retry-After": value, "Date": http_date(DATE)}), clock=clock, retries=3)
    with pytest.raises(kind, match=str(status)):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert (clock.waits, len(rig.server.requests)) == ([], 1)


def test_backoff_that_does_not_fit(make: Callable[..., Rig]) -> None:
    """A backoff that would end after the deadline isn't begun either."""
    clock = Clock()
    rig = make(reply(500), clock=clock, rng=Highest(), retries=9)
    with pytest.raises(ServerError, match="after 2 attempts"):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 1.2)
    assert clock.now == pytest.approx(1000.5, abs=0.01)


def test_rate_limit_holds_back_all_requests(make: Callable[..., Rig]) -> None:
    """After a 429 with Retry-After the other resource waits too."""
    clock = Clock()
    rig = make(reply(429, headers={"Retry-After": "20"}), reply(), clock=clock)
    with pytest.raises(RateLimitedError):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    rig.client.get(CONVERSIONS, QUERY, deadline=clock.now + 60)
    assert clock.now == pytest.approx(1020.0, abs=0.01)


def test_rate_limit_fails_at_once_what_can_not_wait(make: Callable[..., Rig]) -> None:
    """During a pause that outlasts its deadline a request fails as rate limited, without waiting."""
    clock = Clock()
    rig = make(reply(429, headers={"Retry-After": "20"}), reply(), clock=clock)
    with pytest.raises(RateLimitedError):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    with pytest.raises(RateLimitedError, match="longer pause"):
        rig.client.get(CONVERSIONS, QUERY, deadline=clock.now + 10)
    assert (clock.waits, len(rig.server.requests)) == ([], 1)


def test_rate_limit_pause_is_capped_by_the_deadline(make: Callable[..., Rig]) -> None:
    """A Retry-After of years stops nothing for longer than the poll that met it may last."""
    clock = Clock()
    rig = make(reply(429, headers={"Retry-After": "999999999"}), reply(), clock=clock, retries=3)
    with pytest.raises(RateLimitedError):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    clock.now += 60.0
    rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert clock.waits == []


def test_stop_ends_a_backoff(make: Callable[..., Rig]) -> None:
    """A stop request ends the wait before a retry."""
    rig = make(reply(503, headers={"Retry-After": "30"}), retries=1)
    assert ended_when(rig, lambda: rig.codes, rig.stop.set) < SLOW
    assert rig.codes == ["503"]


# Limiter


def limiter(clock: Clock, stop: threading.Event | None = None, **changes: float) -> RateLimiter:
    """Build a limiter of 2 requests/s, 2 in flight."""
    options = {"requests_per_second": 2.0, "concurrency": 2} | changes
    stop = threading.Event() if stop is None else stop
    return RateLimiter(**options, stopping=stop.is_set, wait=clock.wait, monotonic=clock)


def test_limiter_spaces_evenly() -> None:
    """Starts are never closer than one spacing, and an idle time saves up no burst."""
    clock, starts = Clock(), []
    limit = limiter(clock)
    for pause in (0.0, 0.0, 0.2, 10.0, 0.0, 0.0):
        clock.now += pause
        with limit.slot(clock.now + 60):
            starts.append(clock.now - 1000.0)
    assert pytest.approx(starts) == [0.0, 0.5, 1.0, 11.0, 11.5, 12.0]


def test_limiter_counts_retries(make: Callable[..., Rig]) -> None:
    """Retries and both resources share the spacing."""
    clock = Clock()
    rig = make(reply(500), reply(500), reply(), clock=clock, rng=Lowest(), retries=2, requests_per_second=0.5)
    rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    rig.client.get(CONVERSIONS, QUERY, deadline=clock.now + 60)
    assert clock.now == pytest.approx(1006.0)


def test_limiter_deadline() -> None:
    """A turn that can't come before the deadline fails at once, and isn't used up."""
    clock = Clock()
    limit = limiter(clock)
    with limit.slot(clock.now + 1):
        pass
    with pytest.raises(DeadlineError), limit.slot(clock.now + 0.5):
        pass
    with limit.slot(clock.now + 0.6):
        assert clock.now == pytest.approx(1000.5)


def test_limiter_stop() -> None:
    """A stop request ends the wait for a turn."""
    stop = threading.Event()
    clock = Clock(stop, stop_at=1000.3)
    limit = limiter(clock, stop)
    with limit.slot(clock.now + 60):
        pass
    with pytest.raises(StoppedError), limit.slot(clock.now + 60):
        pass


def test_concurrency_is_bounded(make: Callable[..., Rig]) -> None:
    """No more requests are in flight than `concurrency`, and so many are."""
    lock, both = threading.Lock(), threading.Event()
    flying, most = 0, 0

    def answer(peer: Peer) -> None:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
            if flying == 2:
                both.set()
        both.wait(10)
        time.sleep(0.01)  # gives a third request the chance to be wrong
        with lock:
            flying -= 1
        reply()(peer)

    rig = make(answer)
    threads = [threading.Thread(target=rig.get) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most, rig.codes) == (2, ["200"] * 6)


def test_wait_for_a_free_place_ends_with_the_deadline(make: Callable[..., Rig]) -> None:
    """A request that finds no free place before its deadline fails with the deadline."""
    rig = make(hold, timeout=30.0, concurrency=1)
    first = threading.Thread(target=rig.fail)
    first.start()
    until(lambda: rig.server.requests, "the first request")
    error, seconds = rig.fail(within=0.2)
    assert isinstance(error, DeadlineError)
    assert seconds < SLOW
    rig.stop.set()
    first.join(10)


def test_stop_ends_the_wait_for_a_free_place(make: Callable[..., Rig]) -> None:
    """A stop request ends the waits of all, in flight or not."""
    rig = make(hold, timeout=30.0, concurrency=1)
    first = threading.Thread(target=rig.fail)
    first.start()
    until(lambda: rig.server.requests, "the first request")
    rig.asked.clear()
    assert ended_when(rig, lambda: threading.active_count() > 2, rig.stop.set) < SLOW
    first.join(10)
    assert len(rig.server.requests) == 1


def test_one_client_in_many_threads(make: Callable[..., Rig]) -> None:
    """Threads that share a client never get each other's answers."""

    def echo(peer: Peer) -> None:
        reply(body=dict(peer.request.parameters)["campaignIds[]"].encode())(peer)

    rig = make(echo, concurrency=4)
    got: dict[int, bytes] = {}

    def ask(numbers: range) -> None:
        for number in numbers:
            got[number] = rig.get(Query(campaign_ids=(number,))).body

    threads = [threading.Thread(target=ask, args=(range(first, 80, 8),)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {number: str(number).encode() for number in range(80)} == got
    assert rig.server.connections <= 8


# TLS


def test_tls_with_ca_file(make: Callable[..., Rig], tls: Callable[..., RawServer], certificate: Path) -> None:
    """A server whose authority is in ca_file is trusted, and its connection reused."""
    rig = make(server=tls(reply(body=b"[5]")), ca_file=str(certificate / "ca.pem"))
    assert [rig.get().body, rig.get().body] == [b"[5]", b"[5]"]
    assert rig.server.connections == 1


def test_tls_without_ca_file(make: Callable[..., Rig], tls: Callable[..., RawServer]) -> None:
    """A server with an unknown certificate gets no request."""
    rig = make(server=tls(reply()))
    error, _ = rig.fail()
    assert isinstance(error, ConnectionFailedError)
    assert "certificate isn't trusted" in str(error)
    assert rig.server.requests == []


def test_tls_through_a_proxy(
    make: Callable[..., Rig], tls: Callable[..., RawServer], certificate: Path
) -> None:
    """Through a tunnel the API's own certificate counts, and the timeout holds; the proxy sees no path."""
    server = tls(reply(body=b"[6]"), drip_body)
    with RawServer([lambda peer: peer.tunnel(server.port)]) as proxy:
        ca_file = str(certificate / "ca.pem")
        rig = make(server=server, ca_file=ca_file, proxy=f"http://127.0.0.1:{proxy.port}", timeout=2.0)
        assert rig.get().body == b"[6]"
        error, seconds = rig.fail()
        assert isinstance(error, RequestTimeoutError)
        assert seconds < SLOW
        assert [one.target for one in proxy.requests] == [f"127.0.0.1:{server.port}"]


def test_ca_file_that_does_not_exist(make: Callable[..., Rig]) -> None:
    """A missing ca_file is named as the cause."""
    error, _ = make(base_url="https://127.0.0.1:1", ca_file="/nonexistent/ca.pem").fail()
    assert isinstance(error, ConnectionFailedError)
    assert "ca_file" in str(error)


def test_plain_server_asked_with_tls(make: Callable[..., Rig]) -> None:
    """A server without TLS behind an https base_url is a connection failure that names TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(4096)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        rig = make(base_url=f"https://127.0.0.1:{listener.getsockname()[1]}")
        error, _ = rig.fail()
        thread.join(10)
    assert isinstance(error, ConnectionFailedError)
    assert "TLS failed" in str(error)


# Blame


def test_refusals_carry_their_status(make: Callable[..., Rig]) -> None:
    """The status of a refusal is at hand for whoever asks again with less; without an answer it is None."""
    for status in (400, 404, 413, 414, 422, 504):
        error, _ = make(reply(status)).fail()
        assert status == error.status
    assert None is make(raw(b"")).fail()[0].status


def test_what_was_rejected_is_reported(make: Callable[..., Rig]) -> None:
    """A rejected request is described, with the API's own message; the address isn't blamed."""
    body = b'{"name": "Bad Request", "message": "perPage must be no greater than 100."}'
    error, _ = make(reply(400, body=body)).fail()
    assert str(error) == (
        "the API rejected a request for starts from 2025-11-23 00:00:00 to 2025-11-23 23:59:59, perPage 500"
        " (HTTP 400); the API says: perPage must be no greater than 100."
    )


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_own_message_is_reported(make: Callable[..., Rig], status: int) -> None:
    """So is the message of every other refusal, compressed or not."""
    body = gzip.compress(b'{"message": "come back on Monday"}')
    error, _ = make(reply(status, body=body, headers={"Content-Encoding": "gzip"})).fail()
    assert "; the API says: come back on Monday" in str(error)


def test_connection_survives_a_refusal(make: Callable[..., Rig]) -> None:
    """A refusal whose body was read whole costs no connection."""
    rig = make(reply(400, body=b"{}"), reply())
    rig.fail()
    rig.get()
    assert rig.server.connections == 1


def test_firewall_is_not_blamed_on_the_token(make: Callable[..., Rig]) -> None:
    """403 with a web page is a client error that names the firewall."""
    rig = make(reply(403, body=b"<html>Access denied</html>", headers={"Content-Type": "text/html"}), retries=2)
    error, _ = rig.fail()
    assert (ClientError, 403, ["403"]) == (type(error), error.status, rig.codes)
    assert "firewall" in str(error)


def test_forbidden_with_retry_after_is_a_rate_limit(make: Callable[..., Rig]) -> None:
    """403 with Retry-After is waited for as 429 is."""
    clock = Clock()
    rig = make(reply(403, headers={"Retry-After": "7"}), reply(), clock=clock, rng=Lowest(), retries=1)
    rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60)
    assert clock.now == pytest.approx(1007.0, abs=0.01)
    assert rig.codes == ["403", "200"]


def forbids(path: str) -> Answer:
    """Answer with 403 at one path, with rows at others."""
    return lambda peer: (reply(403) if peer.request.path.endswith(path) else reply())(peer)


def test_forbidden_everywhere_is_the_token(make: Callable[..., Rig]) -> None:
    """403 is about the token where the other resource refuses it, too; that is asked once."""
    rig = make(reply(403))
    error, _ = rig.fail()
    assert (AuthError, 403) == (type(error), error.status)
    assert [(STATISTICS, "403"), (CONVERSIONS, "403")] == [report[:2] for report in rig.reported]


def test_forbidden_resource_is_not_the_token(make: Callable[..., Rig]) -> None:
    """403 from one resource alone is a client error; what the other said within a minute needn't be asked."""
    clock = Clock()
    rig = make(forbids("statistic-conversions"), clock=clock)

    def fail() -> PollError:
        with pytest.raises(PollError) as caught:
            rig.client.get(CONVERSIONS, QUERY, deadline=clock.now + 60)
        return caught.value

    for _ in range(2):
        error = fail()
        assert (ClientError, 403) == (type(error), error.status)
        assert "forbids the conversions" in str(error)
    assert rig.codes == ["403", "200", "403"]
    clock.now += 61.0
    fail()
    assert rig.codes[3:] == ["403", "200"]


def test_unused_proxy_is_mentioned(make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a connection a proxy of the environment is mentioned, unless it isn't meant for this host."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@127.0.0.1:1")
    note = "HTTPS_PROXY in the environment is not used: if the API is behind a proxy, set api.proxy"
    error, _ = make(base_url="https://127.0.0.1:1").fail()
    assert note in str(error)
    assert "hush" not in str(error)
    for changes in ({"base_url": "http://127.0.0.1:1"}, {"proxy": "http://127.0.0.1:1"}):
        assert note not in str(make(**({"base_url": "https://127.0.0.1:1"} | changes)).fail()[0])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert note not in str(make(base_url="https://127.0.0.1:1").fail()[0])


def test_fewer_retries_on_request(make: Callable[..., Rig]) -> None:
    """Whoever has another way to ask can do without retries."""
    clock = Clock()
    rig = make(reply(504), clock=clock, retries=3)
    with pytest.raises(ServerError):
        rig.client.get(STATISTICS, QUERY, deadline=clock.now + 60, retries=0)
    assert rig.codes == ["504"]


def test_page_is_asked_for_by_its_parameter(make: Callable[..., Rig]) -> None:
    """A page has the configured name, and isn't mentioned unless it is asked for."""
    rig = make(page_parameter="seite")
    rig.get(replace(QUERY, page=3))
    rig.get()
    assert ("seite", "3") in rig.server.requests[0].parameters
    assert "seite" not in dict(rig.server.requests[1].parameters)


# Secrets


def assert_says_nothing(error: BaseException) -> None:
    """Assert that an error, its chain and its traceback hold neither token nor address nor query."""
    assert (error.__cause__, error.__context__) == (None, None)
    told = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    for text in told:
        assert TOKEN not in text
        assert "startFrom" not in text
        assert "127.0.0.1" not in text
        assert "secret-body" not in text
        assert "elsewhere" not in text


def echo(template: bytes) -> Answer:
    """Answer with the request's own target wherever the template has TARGET."""

    def answer(peer: Peer) -> None:
        peer.send(template.replace(b"TARGET", peer.request.target.encode()))
        peer.close()

    return answer


HOSTILE = {
    "status line": echo(b"HTTP/1.1 500 TARGET\r\nContent-Length: 0\r\n\r\n"),
    "bad status": echo(b"HTTP/1.1 TARGET\r\n\r\n"),
    "no HTTP": echo(b"TARGET\r\n\r\n"),
    "location": echo(b"HTTP/1.1 302 Found\r\nLocation: http://elsewhereTARGET\r\nContent-Length: 0\r\n\r\n"),
    "auth": echo(b"HTTP/1.1 401 TARGET\r\nWWW-Authenticate: TARGET\r\nContent-Length: 11\r\n\r\nsecret-body"),
    "client error": echo(b"HTTP/1.1 422 TARGET\r\nContent-Length: 11\r\n\r\nsecret-body"),
    "too many": echo(b"HTTP/1.1 429 TARGET\r\nRetry-After: TARGET\r\n\r\nsecret-body"),
    "length": echo(OK + b"Content-Length: TARGET\r\nX: 1\r\n\r\n" + b"x" * 1_000_001),
    "two lengths": echo(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nTARGET"),
    "chunk size": echo(OK + b"Transfer-Encoding: chunked\r\n\r\nTARGET\r\n\r\n"),
    "short": echo(OK + b"Content-Length: 9999\r\n\r\nTARGET secret-body"),
    "encoding": echo(OK + b"Content-Encoding: TARGET\r\n\r\nsecret-body"),
    "gzip": echo(OK + b"Content-Encoding: gzip\r\n\r\nTARGET secret-body"),
    "headers": echo(OK + b"TARGET: x\r\n" * 200 + b"\r\n"),
    "long header": echo(OK + b"X: TARGET" + b"x" * 70_000 + b"\r\n\r\n"),
    "status 204": echo(b"HTTP/1.1 204 TARGET\r\n\r\n"),
    "timeout": hold,
}


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_no_error_tells_a_secret(make: Callable[..., Rig], answer: Answer, retries: int) -> None:
    """Whatever a server sends back, the error holds no token, address, query or piece of an answer."""
    rig = make(answer, timeout=0.3, retries=retries, rng=Lowest())
    error, _ = rig.fail()
    assert isinstance(error, PollError)
    assert_says_nothing(error)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:1", "https://127.0.0.1:1", "http://a..b", "gopher://x", ""]
)
def test_no_connection_error_tells_a_secret(make: Callable[..., Rig], base_url: str) -> None:
    """Faults before anything is sent tell no secret either."""
    error, _ = make(base_url=base_url).fail()
    assert isinstance(error, ConnectionFailedError)
    assert_says_nothing(error)


def test_unforeseen_error_tells_no_secret(make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """A library's bug becomes an internal error that names the place, not the text."""
    rig = make(retries=3)

    def broken(*_: object, **__: object) -> None:
        raise LookupError(TOKEN)

    monkeypatch.setattr(Transport, "get", broken)
    error, _ = rig.fail()
    assert isinstance(error, InternalError)
    assert "LookupError at test_client.py:" in str(error)
    assert_says_nothing(error)
    assert rig.codes == ["internal"]


def test_deadline_in_mid_request_tells_no_secret(make: Callable[..., Rig]) -> None:
    """The error of a deadline holds no library's exception either."""
    error, _ = make(hold, timeout=30.0).fail(within=0.3)
    assert isinstance(error, DeadlineError)
    assert_says_nothing(error)


def test_stop_in_mid_request_tells_no_secret(make: Callable[..., Rig]) -> None:
    """Neither does that of a stop."""

    def stop(peer: Peer) -> None:
        rig.stop.set()
        peer.hold()

    rig = make(stop, timeout=30.0)
    error, _ = rig.fail()
    assert isinstance(error, StoppedError)
    assert_says_nothing(error)


def test_reply_repr_hides_the_answer(make: Callable[..., Rig]) -> None:
    """A reply's repr has neither body nor headers."""
    text = repr(make(reply(body=b"secret-body", headers={"X-Canary": TOKEN})).get())
    assert "secret-body" not in text
    assert TOKEN not in text
