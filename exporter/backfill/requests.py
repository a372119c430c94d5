"""Requests of one account's backfill, and how their answers come into its journal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from exporter.api.model import Query, R, TimeRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.api.model import Page
    from exporter.backfill.resource_history import ResourceHistory
    from exporter.backfill.span import Span
    from exporter.collect.collector import Poll
    from exporter.config.model import ApiConfig
    from exporter.polling.client import Client


class Requests:
    """Asks the API within the limits of the configuration; `made` counts the requests."""

    def __init__(
        self,
        client: Client,
        config: ApiConfig,
        span: Span,
        *,
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.wall = wall
        self._client = client
        self._config = config
        self._span = span
        self._monotonic = monotonic
        self._made: list[str] = []  # several threads add to it

    @property
    def made(self) -> int:
        """How many requests were made."""
        return len(self._made)

    def ask(self, history: ResourceHistory[R], query: Query) -> Page[R]:
        """Make one request. Raises PollError, StoppedError."""
        self._made.append(history.name)
        # Each request has the time of a poll: how long all of them take together is nobody's concern
        deadline = self._monotonic() + self._config.deadline
        return history.read(self._client.get(history.name, query, deadline=deadline))

    def poll(self, history: ResourceHistory[R], send: TimeRange | None = None) -> Poll[R]:
        """Return a poll, whose jobs read whole answers; with `send`, those by campaign have a send filter."""

        def ask(query: Query) -> Page[R]:
            if send is not None and query.campaign_ids:
                query = replace(query, send_from=send.first, send_to=send.last)
            return self.ask(history, query)

        whole = TimeRange(self._span.first, self._span.last)
        return history.collector(self._config).poll(ask, now=self.wall(), whole=whole)
