"""What a poll reads besides the window; every job is a function of the poller and the poll."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.polling.resource import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.model import R, Row
    from exporter.polling.poll import Poll
    from exporter.polling.resource_poller import ResourcePoller
    from exporter.polling.store import AccountStore
    from exporter.tracking.model import CampaignRecord


def _read_old(poller: ResourcePoller[Any], poll: Poll[Any]) -> bool:
    with poller.store.lock:
        old = poller.store.window.known.old_campaigns(poll.now)
    poller.read_by_ids(poll, old)
    return True


OLD: Job[Any] = Job("old campaigns", _read_old)
"""Reads the tracked campaigns that started before the window, by their identifiers."""


def _nothing_archived(_store: AccountStore, _rows: Iterable[Row]) -> Iterable[CampaignRecord]:
    return ()


class MovedCampaigns:
    """Reads campaigns again whose start was changed: under both starts they would count twice.

    `archived` returns what the archive has of the campaigns of some rows.
    """

    def __init__(
        self, archived: Callable[[AccountStore, Iterable[Row]], Iterable[CampaignRecord]] = _nothing_archived
    ) -> None:
        self._archived = archived

    def __call__(self, poller: ResourcePoller[R], poll: Poll[R]) -> bool:
        """Find and read them."""
        rows = poll.collected.rows
        store = poller.store
        with store.lock:
            moved = store.window.known.moved(poller.name, rows, self._archived(store, rows))
        if not moved:
            return True
        poll.unsettled = moved
        with store.lock:
            starts = {number: store.window.known.starts(poller.name, {number}) for number in moved}
        for row in rows:
            if row.campaign_id in moved:
                starts[row.campaign_id].add(row.start)
        read = poll.requests.moved(moved, {start for some in starts.values() for start in some})
        poll.unsettled = frozenset(
            number
            for number in moved - read.ids
            if not all(any(start in part for part in read.ranges) for start in starts[number])
        )
        if read.failure is not None:
            raise read.failure
        return True
