"""What a poller needs of whoever speaks HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from threading import Event

    from exporter.api.model import Query, Reply


class Client(Protocol):
    """Asks one account's API; from several threads."""

    def get(self, resource: str, query: Query, *, deadline: float) -> Reply:
        """Return the answer to one request. Raises PollError, StoppedError."""

    def close(self) -> None:
        """Let go of all connections."""


class Connect(Protocol):
    """Makes the client of one account.

    `stop` ends every request and wait; `on_request(resource, code, seconds)` is called for each HTTP attempt.
    """

    def __call__(self, *, stop: Event, on_request: Callable[[str, str, float], None]) -> Client:
        """Return the client."""
