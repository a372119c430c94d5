"""Requests of one account's backfill, and how their answers come into its journal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.api.model import Query, R, TimeRange
from exporter.collect.collector import Collector
from exporter.collect.evidence import DOCUMENTED_DEFAULT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from exporter.api.model import Page
    from exporter.backfill.resource_history import ResourceHistory
    from exporter.backfill.span import Span
    from exporter.config.model import ApiConfig
    from exporter.polling.client import Client


class Requests:
    """Asks the API within the limits of the configuration; `made` counts the requests.

    `histories` are the account's, which learn of the server together.
    """

    def __init__(
        self,
        client: Client,
        config: ApiConfig,
        span: Span,
        *,
        histories: Collection[ResourceHistory[Any]],
        wall: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.wall = wall
        self._client = client
        self._config = config
        self._span = span
        self._histories = histories
        self._monotonic = monotonic
        self._made: list[str] = []  # several threads add to it
        self._cap_learned: dict[str, float] = {}

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

    def collector(self, history: ResourceHistory[R], send: TimeRange | None = None) -> Collector[R]:
        """Return a collector; with `send`, its requests by campaign have a send filter."""

        def ask(query: Query) -> Page[R]:
            if send is not None and query.campaign_ids:
                query = replace(query, send_from=send.first, send_to=send.last)
            return self.ask(history, query)

        return Collector(
            ask,
            history.evidence,
            history.map,
            now=self.wall(),
            per_page=self._config.per_page,
            concurrency=self._config.concurrency,
            shared_most=lambda: max(
                (other.evidence.most for other in self._histories if other is not history), default=0
            ),
        )

    def learn_cap(self, history: ResourceHistory[Any], ids: Collection[int]) -> None:
        """See how long an answer can be, where that isn't known (any more): it decides how many are needed."""
        evidence = history.evidence
        evidence.expire(self.wall())
        known = sum(history.map.ids[number] for number in ids)
        tried = self._cap_learned.get(history.name) == evidence.since
        if tried or evidence.most >= min(known, self._config.per_page):
            return
        self._cap_learned[history.name] = evidence.since
        if known >= DOCUMENTED_DEFAULT:
            span, per_page = self._span, self._config.per_page
            query = Query(start_from=span.first, start_to=span.last, per_page=per_page)
            evidence.observe(self.ask(history, query).size)
