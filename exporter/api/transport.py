"""One GET over HTTP with one time budget for everything and one byte budget.

The timeouts of requests and urllib3 bound a single read. Here every call that may wait for the network (name
lookup, connect, TLS, send, receive) waits in short slices: each slice looks at what is left of the budget and
whether a stop was requested. So a dripping answer, a silent TLS peer or a proxy that hangs end in time, without
a thread that watches over them.

A lane is the connection that one request at a time uses; `Transport` lends each request a free one.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import http
import socket
import ssl
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
from urllib3.util.ssl_ import create_urllib3_context
from urllib3.util.wait import wait_for_write

from exporter import __version__
from exporter.errors import BadResponseError, ConnectionFailedError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from typing_extensions import Buffer

HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"intarget-exporter/{__version__}",
}
CUT_TEXT: Final = "the connection was closed before the answer was complete"
SLICE: Final = 0.1
"""Seconds after which a wait for the network looks for a stop request."""
IDLE_LIMIT: Final = 60.0
"""Seconds after which an idle connection isn't used again: it may have been dropped without a word."""
REFUSAL_BYTES: Final = 65_536
REFUSAL_SECONDS: Final = 2.0
"""What is read of the body of a refusal; it only explains."""

_READ_SIZE: Final = 65_536
_MOST_DIGITS: Final = 18  # of a Content-Length; an exabyte
_Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]
T = TypeVar("T")


@dataclass(slots=True)
class Budget:
    """The time of a request: it ends at `expires` (monotonic clock), or when `stopping` becomes true."""

    expires: float
    stopping: Callable[[], bool]
    monotonic: Callable[[], float]

    def slice(self) -> float:
        """Return how long to wait before asking again. Raises TimeoutError when the budget is used up."""
        left = self.expires - self.monotonic()
        if left <= 0 or self.stopping():
            raise TimeoutError
        return min(left, SLICE)

    def part(self, share: float) -> Budget:
        """Return a budget of this share of what is left."""
        now = self.monotonic()
        return Budget(now + max(0.0, self.expires - now) * share, self.stopping, self.monotonic)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `headers` with lower-case names, the body decompressed.

    Of a refusal (400 to 599) the body is the beginning of what came, if any; of other statuses it isn't read.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Transport:
    """Sends GETs. Safe to use from several threads; each request has a connection for itself."""

    def __init__(
        self,
        *,
        max_response_bytes: int,
        proxy: str | None,
        ca_file: str | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._max_response_bytes = max_response_bytes
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        self._verify = ca_file or True
        self._monotonic = monotonic
        self._resolver = _Resolver()
        self._lock = threading.Lock()
        self._free: list[_Lane] = []
        self._closed = False

    def get(self, url: str, budget: Budget) -> Answer:
        """Send one GET and read the answer. Raises PollErrors, and whatever the libraries raise."""
        with self._lane(budget) as lane:
            response = lane.adapter.send(
                requests.Request("GET", url, headers=HEADERS).prepare(),
                stream=True,
                timeout=max(0.001, budget.expires - self._monotonic()),
                verify=self._verify,
                proxies=self._proxies,
            )
            raw = response.raw
            body = None
            try:
                headers = {name.lower(): value for name, value in raw.headers.items()}
                if response.status_code == http.HTTPStatus.OK:
                    body = self._read(raw, headers, self._max_response_bytes)
                else:
                    body = self._read_refusal(response.status_code, raw, headers, lane)
            finally:
                if body is None:
                    raw.close()  # what is left of the answer must not meet the next request
                raw.release_conn()
            return Answer(response.status_code, headers, body or b"")

    def close(self) -> None:
        """Close every idle connection; one in use is closed after it."""
        with self._lock:
            self._closed = True
            for lane in self._free:
                lane.close()

    @contextlib.contextmanager
    def _lane(self, budget: Budget) -> Iterator[_Lane]:
        """Lend a lane; its connection isn't kept after a failure."""
        with self._lock:
            lane = self._free.pop() if self._free else _Lane(self._resolver)
        if self._monotonic() - lane.last_used > IDLE_LIMIT:
            lane.close()
        lane.budget = budget
        try:
            yield lane
        except BaseException:
            lane.close()
            raise
        finally:
            lane.last_used = self._monotonic()
            with self._lock:
                self._free.append(lane)
                if self._closed:
                    lane.close()

    @staticmethod
    def _read(raw: urllib3.BaseHTTPResponse, headers: Mapping[str, str], limit: int) -> bytes:
        """Read and decompress the body within the byte budget."""
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > _MOST_DIGITS or int(length) > limit):
            raise _too_large(limit)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            raise BadResponseError(
                "the answer has a content encoding that wasn't asked for; is base_url the API?"
            )
        body = _Body(limit, gzip=encoding.endswith("gzip"))
        # read1 returns what is there, so that a slow body is counted byte by byte
        while chunk := raw.read1(_READ_SIZE, decode_content=False):
            body.feed(chunk)
        return body.finish()

    def _read_refusal(
        self, status: int, raw: urllib3.BaseHTTPResponse, headers: Mapping[str, str], lane: _Lane
    ) -> bytes | None:
        """Return the body of a refusal, or None if it isn't one, or is too long or too slow."""
        if status < http.HTTPStatus.BAD_REQUEST:
            return None
        expires = min(lane.budget.expires, self._monotonic() + REFUSAL_SECONDS)
        lane.budget = Budget(expires, lane.budget.stopping, lane.budget.monotonic)
        try:
            return self._read(raw, headers, REFUSAL_BYTES)
        except Exception:  # noqa: BLE001 - the status says what matters
            return None


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"the answer has more than {limit} bytes; raise api.max_response_bytes or lower api.per_page"
    )


class _Body:
    """Collects a body of at most `limit` bytes, after decompression."""

    def __init__(self, limit: int, *, gzip: bool) -> None:
        self._limit = limit
        self._gzip = gzip
        self._parts: list[bytes] = []
        self._size = 0
        self._member: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> None:
        """Add what came over the wire. Raises TooLargeError, BadResponseError."""
        if not self._gzip:
            self._add(chunk)
            return
        while chunk:
            if self._member is None:
                self._member = zlib.decompressobj(wbits=31)
            try:
                # One byte more than may come, so that a bomb is noticed before it is inflated.
                data = self._member.decompress(chunk, self._limit - self._size + 1)
            except zlib.error:
                data = None
            if data is None:
                raise BadResponseError("the answer says it is gzip but isn't; is base_url the API?")
            self._add(data)
            chunk = self._member.unconsumed_tail
            if self._member.eof:
                chunk = self._member.unused_data
                self._member = None

    def finish(self) -> bytes:
        """Return the body. Raises ConnectionFailedError if compressed data stopped in the middle."""
        if self._member is not None:
            raise ConnectionFailedError(CUT_TEXT)
        return b"".join(self._parts)

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._parts.append(data)


class _Lane:
    """A connection, kept alive between requests, and the budget of the request that uses it."""

    budget: Budget

    def __init__(self, resolver: _Resolver) -> None:
        self.resolver = resolver
        self.last_used = float("-inf")
        # An adapter without a Session: a Session keeps cookies, reads .netrc, the environment's proxies and, of
        # a redirect it shall not follow, the whole body.
        self.adapter = _Adapter(self)

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        self.adapter.close()

    def connect(self, host: str, port: int, options: Sequence[Any]) -> socket.socket:
        """Return a connected socket. Every address gets a fair share of the time that is left."""
        addresses = self.resolver.look_up(host.strip("[]"), port, self.budget)
        fault: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            share = self.budget.part(1 / (len(addresses) - number))
            try:
                sock = _Socket(family, kind, protocol)
            except OSError as error:
                fault = error  # a family that this machine doesn't have
                continue
            sock.lane = self
            try:
                for option in options:
                    sock.setsockopt(*option)
                _connect(sock, address, share)
            except OSError as error:
                fault = error
                sock.close()
            else:
                return sock
        raise fault or TimeoutError


def _connect(sock: socket.socket, address: Any, budget: Budget) -> None:  # noqa: ANN401 - as getaddrinfo says
    sock.settimeout(0)
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        while not wait_for_write(sock, budget.slice()):
            pass
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, "connect failed")
    sock.settimeout(SLICE)  # ssl refuses to make a handshake on a socket without


class _Resolver:
    """Looks names up in threads, since getaddrinfo can't be interrupted, only left behind.

    While a lookup hangs, further requests for the same name wait for the same thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], concurrent.futures.Future[_Addresses]] = {}

    def look_up(self, host: str, port: int, budget: Budget) -> _Addresses:
        """Return the addresses of `host`. Raises OSError, UnicodeError, TimeoutError."""
        with self._lock:
            lookup = self._running.get((host, port))
            if lookup is None:
                lookup = self._running[host, port] = concurrent.futures.Future()
                threading.Thread(
                    target=self._run, args=(host, port, lookup), name="intarget-lookup", daemon=True
                ).start()
        while not concurrent.futures.wait([lookup], timeout=budget.slice()).done:
            pass
        return lookup.result()

    def _run(self, host: str, port: int, lookup: concurrent.futures.Future[_Addresses]) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            lookup.set_exception(error)
        else:
            lookup.set_result(found)
        with self._lock:
            del self._running[host, port]


def _in_slices(sock: _Socket | _TLSSocket, call: Callable[[], T]) -> T:
    """Make a call that waits for the network, until it is done or the budget is used up."""
    while True:
        sock.settimeout(sock.lane.budget.slice())
        with contextlib.suppress(TimeoutError):
            return call()


class _Socket(socket.socket):
    """A socket whose every wait is bounded by the budget of its lane."""

    lane: _Lane

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return _in_slices(self, partial(super().recv, bufsize, flags))

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0, /) -> int:
        return _in_slices(self, partial(super().recv_into, buffer, nbytes, flags))

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        return _in_slices(self, partial(super().send, data, flags))

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.send(rest, flags) :]


class _TLSSocket(ssl.SSLSocket):
    """As `_Socket`, with TLS, the handshake included. Each lane has a subclass, since ssl makes the objects."""

    lane: _Lane

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - ssl's own signature
        _in_slices(self, partial(super().do_handshake, block))

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return _in_slices(self, partial(super().recv, buflen, flags))

    def recv_into(self, buffer: Buffer, nbytes: int | None = None, flags: int = 0) -> int:
        return _in_slices(self, partial(super().recv_into, buffer, nbytes, flags))

    def send(self, data: Buffer, flags: int = 0) -> int:  # sendall calls it
        return _in_slices(self, partial(super().send, data, flags))


class _HTTPConnection(urllib3.connection.HTTPConnection):
    def __init__(self, *args: Any, lane: _Lane, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        super().__init__(*args, **kwargs)
        self._lane = lane

    def _new_conn(self) -> socket.socket:
        return self._lane.connect(self._dns_host, self.port, self.socket_options or ())


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    def __init__(self, *args: Any, lane: _Lane, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        super().__init__(*args, **kwargs)
        self._lane = lane

    def _new_conn(self) -> socket.socket:
        return self._lane.connect(self._dns_host, self.port, self.socket_options or ())


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """An adapter that makes the connections of one lane, directly and through a proxy."""

    def __init__(self, lane: _Lane) -> None:
        self._context = create_urllib3_context()
        self._context.sslsocket_class = type("_LaneTLSSocket", (_TLSSocket,), {"lane": lane})
        # A pool hands what it doesn't know itself to its connections
        self._pools = {"http": partial(_HTTPPool, lane=lane), "https": partial(_HTTPSPool, lane=lane)}
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - handed through
        kwargs |= {"ssl_context": self._context, "proxy_ssl_context": self._context}
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
