"""How many requests may start, and when."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

from exporter.errors import DeadlineError, RateLimitedError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_TEXT: Final = (
    "the poll's time was up before the answer was complete; raise api.deadline or api.requests_per_second"
)
STOPPED_TEXT: Final = "stopped while waiting for the API"


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
            raise DeadlineError(DEADLINE_TEXT)
        try:
            while (delay := self._check(deadline, take=True)) > 0:
                if self._wait(delay):
                    raise StoppedError(STOPPED_TEXT)
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
            raise StoppedError(STOPPED_TEXT)
        with self._lock:
            now = self._monotonic()
            start = max(now, self._next_start, self._held_until)
            held = self._held_until > now and self._held_until >= deadline
            if take and start <= now < deadline:
                self._next_start = now + self._spacing
        if held:
            raise RateLimitedError(
                "the API asks for a longer pause than this poll may last; lower api.requests_per_second"
            )
        if start >= deadline:
            raise DeadlineError(DEADLINE_TEXT)
        return start - now
