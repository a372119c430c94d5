"""The only outbound HTTP: questions to the two statistics endpoints of InTarget.

A request has one time budget for everything (name lookup, connect, TLS, headers, body, however they drip) and
one byte budget. The timeouts of requests and urllib3 bound a single read, so a watchdog thread shuts the socket
of a request whose time is up, or whose client is told to stop; the thread exists only while something is in
flight. The access token is part of every URL: nothing that is raised here holds a URL, a header, a piece of a
body, or another library's exception.

Sources: the vendor's page on the campaign statistics API (parameters, default of perPage); RFC 9110, sections
10.2.3 (Retry-After) and 6.6.1 (Date); "Exponential Backoff And Jitter", AWS Architecture Blog (full jitter).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import email.utils
import http
import http.client
import os
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, urlencode

import requests
import requests.adapters
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from exporter import __version__
from exporter.api.fields import PATHS
from exporter.api.model import Query, Reply
from exporter.errors import (
    AuthError,
    BadResponseError,
    ClientError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    ExporterError,
    InternalError,
    PollError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    StoppedError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from exporter.config.model import AccountConfig, ApiConfig

_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": f"intarget-exporter/{__version__}",
}
_BACKOFF_BASE: Final = 0.5
_BACKOFF_CAP: Final = 30.0
_LONGEST_RETRY_AFTER: Final = 86_400.0  # longer than any poll: all that matters is that it doesn't fit
_TICK: Final = 0.05  # how late a stop request may be noticed while a request is in flight
_READ_SIZE: Final = 65_536
_IDLE_LIMIT: Final = 60.0  # an older idle connection may have been dropped on the way without a word

_Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """How one account's API is asked.

    `timeout` is for one request in total, in seconds; `retries` come on top of the first attempt; `concurrency`
    and `requests_per_second` hold for all requests of the client together, retries included;
    `max_response_bytes` bounds one decompressed body. `ca_file` replaces the public certificate authorities.
    """

    base_url: str
    timeout: float
    retries: int
    concurrency: int
    requests_per_second: float
    max_response_bytes: int
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @classmethod
    def of(cls, account: AccountConfig, api: ApiConfig) -> ApiSettings:
        """Return the settings of one account as they are configured."""
        return cls(
            base_url=account.base_url,
            timeout=api.timeout,
            retries=api.retries,
            concurrency=api.concurrency,
            requests_per_second=api.requests_per_second,
            max_response_bytes=api.max_response_bytes,
            proxy=None if api.proxy is None else api.proxy.get_secret_value(),
            ca_file=None if api.ca_file is None else str(api.ca_file),
        )


class RateLimiter:
    """Spaces requests evenly, bounds how many are in flight, and holds all of them back when told to.

    There are no bursts: the starts of two requests are at least 1/requests_per_second apart. `wait` sleeps for
    some seconds and returns true at once when a stop is requested; `stopping` says whether it is.
    """

    def __init__(
        self,
        *,
        requests_per_second: float,
        concurrency: int,
        stopping: Callable[[], bool],
        wait: Callable[[float], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._spacing = 1.0 / requests_per_second
        self._stopping = stopping
        self._wait = wait
        self._monotonic = monotonic
        self._permits = threading.Semaphore(concurrency)
        self._lock = threading.Lock()
        self._next_start = float("-inf")
        self._held_until = float("-inf")

    @contextlib.contextmanager
    def slot(self, deadline: float) -> Iterator[None]:
        """Wait for the turn of one request, and count it as in flight until the block ends.

        Raises at once, without waiting, when the turn can't come before `deadline` (monotonic clock):
        RateLimitedError if the API has asked for a longer pause, else DeadlineError. StoppedError on a stop.
        """
        self._check(deadline)
        left = min(deadline - self._monotonic(), threading.TIMEOUT_MAX)
        # A stop ends the requests in flight, so it ends this wait too.
        if not self._permits.acquire(timeout=max(0.0, left)):
            raise DeadlineError(_DEADLINE_TEXT)
        try:
            while (delay := self._check(deadline, take=True)) > 0:
                if self._wait(delay):
                    raise StoppedError(_STOPPED_TEXT)
            yield
        finally:
            self._permits.release()

    def hold(self, until: float) -> None:
        """Let no request start before `until` (monotonic clock)."""
        with self._lock:
            self._held_until = max(self._held_until, until)

    def _check(self, deadline: float, *, take: bool = False) -> float:
        """Return the seconds until a request may start, at least 0; with `take`, 0 takes the turn."""
        if self._stopping():
            raise StoppedError(_STOPPED_TEXT)
        with self._lock:
            now = self._monotonic()
            start = max(now, self._next_start, self._held_until)
            held = self._held_until > now and self._held_until >= deadline
            if take and start <= now < deadline:
                self._next_start = now + self._spacing
        if held:
            raise RateLimitedError(
                "the API asks for a longer pause than this poll may last (HTTP 429); "
                "lower api.requests_per_second"
            )
        if start >= deadline:
            raise DeadlineError(_DEADLINE_TEXT)
        return start - now


class ApiClient:
    """Asks one account's API. Safe to use from several threads.

    `token` is called for every attempt, so that a rotated token is taken up. `stop` ends every wait and every
    request in flight within a fraction of a second. `on_request(resource, code, seconds)` is called once per
    HTTP attempt: `code` is the status, or, where no whole answer came, one of ``timeout``, ``deadline``,
    ``connection``, ``too_large``, ``bad_response``, ``stopped``, ``internal``, ``other`` (a status outside
    100 to 599). `wall_clock` (seconds since the epoch) is only for a Retry-After date in an answer without a
    Date.
    """

    def __init__(
        self,
        settings: ApiSettings,
        *,
        token: Callable[[], str],
        stop: threading.Event,
        on_request: Callable[[str, str, float], None] = lambda _resource, _code, _seconds: None,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
        random: Random | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._token = token
        self._stop = stop
        self._on_request = on_request
        self._monotonic = monotonic
        self._wait = stop.wait if wait is None else wait
        self._random = Random() if random is None else random  # noqa: S311 - jitter is no secret
        self._wall_clock = wall_clock
        self._closed = False
        self._limiter = RateLimiter(
            requests_per_second=settings.requests_per_second,
            concurrency=settings.concurrency,
            stopping=self._stopping,
            wait=self._wait,
            monotonic=monotonic,
        )
        self._watchdog = _Watchdog(self._stopping, monotonic)
        self._resolver = _Resolver()
        # An adapter without a Session: a Session keeps cookies, reads .netrc, the environment's proxies and, of
        # a redirect it shall not follow, the whole body.
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=settings.concurrency, max_retries=0)
        self._pool_lock = threading.Lock()
        self._in_flight = 0
        self._suspect = False
        self._last_used = monotonic()

    def get(self, resource: str, query: Query, *, deadline: float) -> Reply:
        """Ask `resource` (``statistics`` or ``conversions``) and return the whole answer, status 200.

        Connection faults, timeouts, 429 and 5xx are tried again, as long as that fits before `deadline`
        (monotonic clock). A 429 with Retry-After holds back all requests of this client for that long, at most
        until `deadline`. Raises StoppedError, or the PollError that fits.
        """
        address = self._address(resource, query)
        attempts = self._settings.retries + 1
        for attempt in range(1, attempts + 1):
            with self._limiter.slot(deadline):
                outcome = self._attempt(resource, address, deadline)
                if isinstance(outcome, Reply):
                    return outcome
                failure = outcome
                if failure.kind is RateLimitedError and failure.retry_after > 0:
                    self._limiter.hold(min(self._monotonic() + failure.retry_after, deadline))
            if not failure.retry or attempt == attempts:
                break
            ceiling = min(_BACKOFF_CAP, _BACKOFF_BASE * 2 ** min(attempt - 1, 10))
            pause = max(failure.retry_after, self._random.uniform(0, ceiling))
            if self._monotonic() + pause >= deadline:
                break
            if self._wait(pause):
                raise StoppedError(_STOPPED_TEXT)
        raise failure.kind(failure.text if attempt == 1 else f"{failure.text} (after {attempt} attempts)")

    def close(self) -> None:
        """Close every connection and end what is in flight; `get` raises StoppedError from now on."""
        self._closed = True
        self._watchdog.notice()
        self._adapter.close()

    def _stopping(self) -> bool:
        return self._closed or self._stop.is_set()

    def _address(self, resource: str, query: Query) -> str:
        """Return the URL without the token; it ends where the token's value goes."""
        if resource not in PATHS:
            raise InternalError("a request to an unknown resource was refused; please report this")
        if not query.filtered:
            raise InternalError(
                "a request without a filter was refused, the vendor forbids them; please report this"
            )
        parameters = [*_parameters(query), ("access-token", "")]
        return (
            f"{self._settings.base_url.rstrip('/')}{PATHS[resource]}?{urlencode(parameters, quote_via=quote)}"
        )

    def _attempt(self, resource: str, address: str, deadline: float) -> Reply | _Failure:
        """Make one request, report it to `on_request`, and return the answer or what became of it."""
        token = self._read_token()
        if token is None:
            return _Failure(
                AuthError, "the access token can't be read, or is empty; check where it is configured"
            )
        begun = self._monotonic()
        expires = min(begun + self._settings.timeout, deadline)
        exchange = _Exchange(expires, self._resolver, self._monotonic)
        outcome: Reply | _Failure
        with self._watchdog.watch(exchange), self._pooled():
            try:
                outcome = self._send(address + quote(token, safe=""), exchange)
            except PollError as error:
                outcome = _Failure(type(error), str(error), retry=isinstance(error, ConnectionFailedError))
            except Exception as error:  # noqa: BLE001 - whatever it is, its text and frames may hold the URL
                outcome = self._explain(error)
        if exchange.over or (isinstance(outcome, _Failure) and outcome.kind is RequestTimeoutError):
            if self._stopping():
                outcome = _Failure(StoppedError, _STOPPED_TEXT)
            elif expires >= deadline:
                outcome = _Failure(DeadlineError, _DEADLINE_TEXT)
            else:
                outcome = _Failure(
                    RequestTimeoutError,
                    f"no complete answer within {self._settings.timeout:g} s; "
                    "check the network, or raise api.timeout",
                    retry=True,
                )
        if isinstance(outcome, _Failure) and outcome.kind in {ConnectionFailedError, RequestTimeoutError}:
            self._suspect = True
        seconds = self._monotonic() - begun
        self._on_request(resource, "200" if isinstance(outcome, Reply) else outcome.code, seconds)
        return outcome

    def _read_token(self) -> str | None:
        try:
            return self._token() or None
        except (OSError, ValueError, ConfigError):
            return None

    @contextlib.contextmanager
    def _pooled(self) -> Iterator[None]:
        """Count the request; drop idle connections that may be dead: old ones, and all after a fault."""
        with self._pool_lock:
            if not self._in_flight and (self._suspect or self._monotonic() - self._last_used > _IDLE_LIMIT):
                self._adapter.close()
                self._suspect = False
            self._in_flight += 1
        try:
            yield
        finally:
            with self._pool_lock:
                self._in_flight -= 1
                self._last_used = self._monotonic()

    def _send(self, url: str, exchange: _Exchange) -> Reply | _Failure:
        """Send one GET and read the answer. Raises PollErrors, and whatever the libraries raise."""
        settings = self._settings
        begun = self._monotonic()
        _current.exchange = exchange
        response = self._adapter.send(
            requests.Request("GET", url, headers=_HEADERS).prepare(),
            stream=True,
            timeout=exchange.left(),
            verify=settings.ca_file or True,
            proxies={"http": settings.proxy, "https": settings.proxy} if settings.proxy else None,
        )
        raw = response.raw
        body = None
        try:
            headers = {name.lower(): value for name, value in raw.headers.items()}
            if response.status_code != http.HTTPStatus.OK:
                return self._refusal(response.status_code, headers)
            body = self._read(raw, headers)
        finally:
            if body is None:
                raw.close()  # what is left of the answer must not meet the next request
            raw.release_conn()
        return Reply(body=body, headers=headers, seconds=self._monotonic() - begun)

    def _read(self, raw: urllib3.BaseHTTPResponse, headers: Mapping[str, str]) -> bytes:
        """Read and decompress the body within the byte budget."""
        limit = self._settings.max_response_bytes
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > limit):  # noqa: PLR2004 - digits of an exabyte
            raise _too_large(limit)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip"}:
            raise BadResponseError(
                "the answer has a content encoding that wasn't asked for; is base_url the API?"
            )
        body = _Body(limit, gzip=encoding.endswith("gzip"))
        # read1 returns what is there: a slow body is counted, and its timeout noticed, byte by byte.
        while chunk := raw.read1(_READ_SIZE, decode_content=False):
            body.feed(chunk)
        return body.finish()

    def _refusal(self, status: int, headers: Mapping[str, str]) -> _Failure:
        """Say what a status other than 200 means."""
        known = 100 <= status < 600  # noqa: PLR2004 - the classes that HTTP has
        code = str(status) if known else "other"
        if status in {401, 403}:
            return _Failure(
                AuthError, f"the API refused the access token (HTTP {status}); check the token", code=code
            )
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            text = "the API asks for fewer requests (HTTP 429); lower api.requests_per_second"
            return _Failure(
                RateLimitedError, text, code=code, retry=True, retry_after=self._retry_after(headers)
            )
        hundreds = status // 100
        if hundreds == 5:  # noqa: PLR2004
            text = f"the API failed (HTTP {status}); if this lasts, ask InTarget's support"
            return _Failure(ServerError, text, code=code, retry=True, retry_after=self._retry_after(headers))
        if hundreds == 4:  # noqa: PLR2004
            return _Failure(
                ClientError, f"the API rejected the request (HTTP {status}); check base_url", code=code
            )
        if hundreds == 3:  # noqa: PLR2004
            text = (
                f"base_url redirects (HTTP {status}), which is not followed; set base_url to the final address"
            )
            return _Failure(ClientError, text, code=code)
        return _Failure(BadResponseError, f"status {status} instead of 200; is base_url the API?", code=code)

    def _retry_after(self, headers: Mapping[str, str]) -> float:
        """Return the seconds of Retry-After; 0 if there is none, or none that can be read."""
        value = headers.get("retry-after", "").strip()
        if re.fullmatch("[0-9]+", value):
            return min(float(value[:20]), _LONGEST_RETRY_AFTER)
        until = http_date(value)
        if until is None:
            return 0.0
        now = http_date(headers.get("date", ""))
        return min(max(0.0, until - (self._wall_clock() if now is None else now)), _LONGEST_RETRY_AFTER)

    def _explain(self, error: Exception) -> _Failure:
        """Turn a library's exception into words of our own."""
        chain = list(_chain(error))
        if any(
            isinstance(one, TimeoutError | urllib3.exceptions.TimeoutError | requests.Timeout) for one in chain
        ):
            return _Failure(RequestTimeoutError, "")  # the caller knows whose time was up
        for one in chain:
            if (told := self._explain_one(one)) is not None:
                return _Failure(ConnectionFailedError, told, retry=True)
        ca_file = self._settings.ca_file
        if ca_file is not None and not Path(ca_file).exists():
            return _Failure(ConnectionFailedError, "the file of ca_file doesn't exist", retry=True)
        if isinstance(error, requests.RequestException | urllib3.exceptions.HTTPError | OSError):
            text = f"the request failed ({type(error).__name__}); check base_url, the proxy and the network"
            return _Failure(ConnectionFailedError, text, retry=True)
        return _Failure(InternalError, f"{type(error).__name__} at {_origin(error)}; please report this")

    def _explain_one(self, error: BaseException) -> str | None:
        """Say what one exception of a chain means, or None if it says nothing by itself."""
        told = None
        if isinstance(error, ssl.SSLCertVerificationError):
            told = (
                f"the server's certificate isn't trusted ({error.verify_message}); check base_url and ca_file"
            )
        elif isinstance(error, ssl.SSLError):
            told = f"TLS failed ({error.reason or 'connection closed'}); check base_url, ca_file and the proxy"
        elif isinstance(error, socket.gaierror | UnicodeError):
            told = "the host name can't be looked up; check base_url, the proxy and the name server"
        elif isinstance(error, http.client.IncompleteRead | http.client.RemoteDisconnected):
            told = _CUT_TEXT
        elif isinstance(error, http.client.HTTPException):
            told = "the answer isn't HTTP; check base_url and the proxy"
        elif isinstance(error, OSError) and error.errno is not None:
            told = (
                f"the connection failed ({os.strerror(error.errno)}); check base_url, the proxy and the network"
            )
        elif refused := re.match(r"Tunnel connection failed: ([1-5][0-9][0-9])\b", str(error)):
            told = f"the proxy refused the connection (HTTP {refused[1]}); check the proxy and its password"
        return told


_STOPPED_TEXT: Final = "stopped while waiting for the API"
_CUT_TEXT: Final = "the connection was closed before the answer was complete"
_DEADLINE_TEXT: Final = (
    "the poll's time was up before the answer was complete; raise api.deadline or api.requests_per_second"
)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What became of an attempt that brought no answer. `retry_after` is the server's wish, in seconds."""

    kind: type[ExporterError]
    text: str
    code: str = ""
    retry: bool = False
    retry_after: float = 0.0

    def __post_init__(self) -> None:
        if not self.code:
            word = self.kind.reason if issubclass(self.kind, PollError) else "stopped"
            object.__setattr__(self, "code", word)


def _parameters(query: Query) -> list[tuple[str, str]]:
    """Return the documented parameters of `query`, in a fixed order."""
    bounds = (
        ("startFrom", query.start_from),
        ("startTo", query.start_to),
        ("sendFrom", query.send_from),
        ("sendTo", query.send_to),
    )
    pairs = [(name, _utc(second)) for name, second in bounds if second is not None]
    pairs += [("campaignIds[]", str(number)) for number in query.campaign_ids]
    return [*pairs, ("perPage", str(query.per_page))]


def _utc(second: int) -> str:
    """Return ``YYYY-MM-DD HH:MM:SS`` in UTC."""
    return datetime.fromtimestamp(second, tz=UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


def http_date(value: str) -> float | None:
    """Return seconds since the epoch of an HTTP date, or None if it isn't one."""
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        # HTTP dates are in GMT; Python reads one without a zone, or with -0000, as local time.
        return (parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(
        f"the answer has more than {limit} bytes; raise api.max_response_bytes or lower api.per_page"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything it was made from, each once, outermost first."""
    queue, seen = [error], {id(error)}
    while queue:
        one = queue.pop(0)
        yield one
        for inner in (*one.args, getattr(one, "reason", None), one.__cause__, one.__context__):
            if isinstance(inner, BaseException) and id(inner) not in seen:
                seen.add(id(inner))
                queue.append(inner)


def _origin(error: BaseException) -> str:
    """Return ``file.py:line`` of the frame that raised."""
    place, trace = "unknown", error.__traceback__
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


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
            raise ConnectionFailedError(_CUT_TEXT)
        return b"".join(self._parts)

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._limit:
            raise _too_large(self._limit)
        self._parts.append(data)


class _Exchange:
    """One request and its answer, as the watchdog sees it: a handle on its socket, and when its time is up.

    The handle is a second descriptor of the same socket: TLS takes the first one over and isn't made for two
    threads, while shutting down any descriptor ends the connection for all.
    """

    def __init__(self, expires: float, resolver: _Resolver, monotonic: Callable[[], float]) -> None:
        self.expires = expires
        self.over = False
        self._resolver = resolver
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None

    def left(self) -> float:
        """Return the seconds left; always above 0, as urllib3 demands."""
        return max(0.001, self.expires - self._monotonic())

    def abort(self) -> None:
        """End it: whatever waits for the network comes back. Called again until it has come back."""
        with self._lock:
            self.over = True
            if self._handle is not None:
                with contextlib.suppress(OSError):  # not connected yet, or no longer
                    self._handle.shutdown(socket.SHUT_RDWR)

    def attach(self, descriptor: int) -> None:
        """Watch over this socket from now on."""
        self.detach()
        with self._lock:
            self._handle = socket.socket(fileno=os.dup(descriptor))

    def detach(self) -> None:
        """Let go of the socket, so that it is closed when its connection is."""
        with self._lock:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def connect(self, host: str, port: int, options: list[Any]) -> socket.socket:
        """Return a connected socket. Every address gets a fair share of the time that is left."""
        addresses = self._resolve(host.strip("[]"), port)
        fault: OSError | None = None
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            if self.over:
                break
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:
                fault = error  # a family that this machine doesn't have
                continue
            try:
                for option in options:
                    sock.setsockopt(*option)
                sock.settimeout(self.left() / (len(addresses) - number))
                self.attach(sock.fileno())
                sock.connect(address)
                sock.settimeout(self.left())
            except OSError as error:
                fault = error
                sock.close()
            else:
                return sock
        raise fault or TimeoutError

    def _resolve(self, host: str, port: int) -> _Addresses:
        lookup = self._resolver.start(host, port)
        while not self.over and not lookup.done():
            concurrent.futures.wait([lookup], timeout=_TICK)
        if self.over:
            raise TimeoutError
        return lookup.result()


class _Resolver:
    """Looks names up in threads, since getaddrinfo can't be interrupted, only left behind.

    While a lookup hangs, further requests for the same name wait for the same thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], concurrent.futures.Future[_Addresses]] = {}

    def start(self, host: str, port: int) -> concurrent.futures.Future[_Addresses]:
        """Return the coming addresses of `host`."""
        with self._lock:
            lookup = self._running.get((host, port))
            if lookup is None:
                lookup = concurrent.futures.Future()
                work = threading.Thread(
                    target=self._run, args=(host, port, lookup), name="intarget-lookup", daemon=True
                )
                work.start()
                self._running[host, port] = lookup
        return lookup

    def _run(self, host: str, port: int, lookup: concurrent.futures.Future[_Addresses]) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            lookup.set_exception(error)
        else:
            lookup.set_result(found)
        with self._lock:
            del self._running[host, port]


class _Watchdog:
    """Aborts exchanges whose time is up, and all of them on a stop. Its thread lives while there are any."""

    def __init__(self, stopping: Callable[[], bool], monotonic: Callable[[], float]) -> None:
        self._stopping = stopping
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._watched: set[_Exchange] = set()
        self._running = False

    @contextlib.contextmanager
    def watch(self, exchange: _Exchange) -> Iterator[None]:
        """Watch over `exchange` until the block ends."""
        with self._changed:
            self._watched.add(exchange)
            if not self._running:
                threading.Thread(target=self._run, name="intarget-watchdog", daemon=True).start()
                self._running = True
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._watched.discard(exchange)
            exchange.detach()

    def notice(self) -> None:
        """Look again at once."""
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while self._watched:
                stopping, now = self._stopping(), self._monotonic()
                for exchange in self._watched:
                    if stopping or exchange.expires <= now:
                        exchange.abort()
                # The stop event can't wake this thread, so it looks. Aborts are repeated: one may come between
                # the making of a socket and its connect.
                coming = [exchange.expires - now for exchange in self._watched if not exchange.over]
                self._changed.wait(min([_TICK, *coming]))
            self._running = False


class _Current(threading.local):
    """The exchange that the current thread is in; how a connection finds it."""

    exchange: _Exchange


_current = _Current()


class _HTTPConnection(urllib3.connection.HTTPConnection):
    """A connection whose socket the watchdog can reach from before it is connected."""

    def _new_conn(self) -> socket.socket:
        return _current.exchange.connect(self._dns_host, self.port, self.socket_options or [])

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        if self.sock is not None:
            _current.exchange.attach(self.sock.fileno())
        super().request(*args, **kwargs)


class _HTTPSConnection(urllib3.connection.HTTPSConnection):
    """As _HTTPConnection, with TLS."""

    def _new_conn(self) -> socket.socket:
        return _current.exchange.connect(self._dns_host, self.port, self.socket_options or [])

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        if self.sock is not None:
            _current.exchange.attach(self.sock.fileno())
        super().request(*args, **kwargs)


class _HTTPPool(urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """An adapter that makes our connections, directly and through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed through
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - handed through
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
        return manager
