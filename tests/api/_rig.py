"""A client, a server that misbehaves, and what became of its requests."""

from __future__ import annotations

import random
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import STATISTICS
from exporter.api.model import Query, Reply
from exporter.errors import ExporterError, StoppedError
from tests._program import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests._rawserver import Peer, RawServer

TOKEN = "canary-7f3a9c"
QUERY = Query(start_from=1_763_856_000, start_to=1_763_942_399, per_page=500)
OK = b"HTTP/1.1 200 OK\r\n"
SLOW = 8.0  # upper bound for what takes a fraction of a second, on a busy machine


class Clock:
    """Monotonic clock that moves by waiting. `stop_at` is when a stop request comes."""

    def __init__(self, stop: threading.Event | None = None, stop_at: float = float("inf")) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self._stop = stop
        self._stop_at = stop_at

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def wait(self, seconds: float) -> bool:
        """Move on; stop where told to."""
        self.waits.append(seconds)
        if self.now + seconds >= self._stop_at and self._stop is not None:
            self._stop.set()
            return True
        self.now += seconds
        return False


class Highest(random.Random):
    """Draws the upper end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the larger bound."""
        return max(a, b)


class Lowest(random.Random):
    """Draws the lower end of every interval."""

    def uniform(self, a: float, b: float) -> float:
        """Return the smaller bound."""
        return min(a, b)


class Rig:
    """A client, the server it talks to, and what it reported."""

    def __init__(
        self, client: ApiClient, server: RawServer, stop: threading.Event, asked: threading.Event
    ) -> None:
        self.client = client
        self.asked = asked  # set once a request has begun
        self.server = server
        self.stop = stop
        self.finish: Callable[[], object] = lambda: None  # ends what the test has begun
        self.reported: list[tuple[str, str, float]] = []

    @property
    def codes(self) -> list[str]:
        """The code of every attempt."""
        return [code for _, code, _ in self.reported]

    def get(self, query: Query = QUERY, *, within: float = 60.0, resource: str = STATISTICS) -> Reply:
        """Ask on the real clock."""
        return self.client.get(resource, query, deadline=time.monotonic() + within)

    def fail(self, **kwargs: float) -> tuple[ExporterError, float]:
        """Ask, and return the error and after how many seconds it came."""
        begun = time.monotonic()
        with pytest.raises(ExporterError) as caught:
            self.get(**kwargs)
        return caught.value, time.monotonic() - begun


BASE = ApiSettings(
    base_url="",
    timeout=10.0,
    retries=0,
    concurrency=2,
    requests_per_second=10_000.0,
    max_response_bytes=1_000_000,
)


def drip_head(peer: Peer) -> None:
    """Drip the status line and headers."""
    peer.drip(OK + b"Content-Type: application/json\r\nX-Padding: " + b"x" * 100)


def drip_body(peer: Peer) -> None:
    """Drip a body of known length."""
    peer.send(OK + b"Content-Length: 100\r\n\r\n")
    peer.drip(b" " * 100)


def drip_open_body(peer: Peer) -> None:
    """Drip a body that would end when the connection does."""
    peer.send(OK + b"Connection: close\r\n\r\n[]")
    peer.drip(b" " * 100)


def drip_chunk(peer: Peer) -> None:
    """Drip the size of a chunk."""
    peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    peer.drip(b"0" * 100)


def interim(peer: Peer) -> None:
    """Send interim answers without end."""
    for _ in range(100):
        peer.drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01)


def hold(peer: Peer) -> None:
    """Say nothing."""
    peer.hold()


def ended_when(rig: Rig, reached: Callable[[], object], end: Callable[[], object]) -> float:
    """Ask, and call `end` as soon as `reached` holds; return how long after that the client gave up."""
    moments: list[float] = []

    def wait() -> None:
        until(reached, "the request in flight")
        moments.append(time.monotonic())
        end()

    waiting = threading.Thread(target=wait)
    waiting.start()
    error, _ = rig.fail()
    ended = time.monotonic()
    waiting.join()
    assert isinstance(error, StoppedError)
    return ended - moments[0]


def http_date(second: float) -> str:
    """Return an HTTP date."""
    return datetime.fromtimestamp(second, tz=UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
