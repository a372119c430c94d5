"""The resource ``statistics``: the cumulative counts of each message."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING

from exporter.api import parse
from exporter.api.fields import STATISTICS
from exporter.api.model import MessageStats, TimeRange
from exporter.collect.refresh_plan import Tier
from exporter.logs import fields
from exporter.polling.jobs import MovedCampaigns
from exporter.polling.resource import Job, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.api.model import Row
    from exporter.collect.model import Collected
    from exporter.config.model import PollConfig, StillSending
    from exporter.polling.poll import Poll
    from exporter.polling.resource_poller import ResourcePoller
    from exporter.polling.store import AccountStore
    from exporter.tracking.model import CampaignRecord, Moment
    from exporter.tracking.window import Merged

log = logging.getLogger(__name__)


def statistics(config: PollConfig) -> Resource[MessageStats]:
    """Return the resource as it is configured."""
    intervals = [tier.every for tier in config.refresh]
    jobs: list[Job[MessageStats]] = []
    if config.still_sending is not None:
        intervals.append(config.still_sending.every)
        read = partial(_read_still_sending, config.still_sending)
        jobs.append(Job("still sending", read, config.still_sending.every))
    jobs.append(Job("moved campaigns", MovedCampaigns(lambda store, rows: _archived(store, rows) or ())))
    return Resource(
        name=STATISTICS,
        parse=parse.statistics_reader(),
        tiers=tuple(Tier(tier.younger_than, tier.every) for tier in config.refresh),
        interval=min(intervals),
        stale_after=config.stale_after,
        jobs=tuple(jobs),
        merge=_merge,
    )


def _read_still_sending(
    settings: StillSending, poller: ResourcePoller[MessageStats], poll: Poll[MessageStats]
) -> bool:
    """Find campaigns that started before the window and still send, and read their totals by their ids."""
    sent = TimeRange(math.floor(poll.now - settings.lookback), math.floor(poll.now))
    senders = poll.requests.senders(sent, poller.window(poll.now).first)
    if senders.ignored:
        log.warning(
            "the API ignores send filters, so campaigns older than poll.window can't be found",
            extra=fields(account=poller.account),
        )
    with poller.store.lock:
        old = poller.store.window.known.old_campaigns(poll.now)
    poller.read_by_ids(poll, old | senders.ids)
    poll.discovered = None if senders.ignored else senders.ids
    if senders.failure is not None:
        raise senders.failure
    return not senders.goes_on


def _archived(store: AccountStore, rows: Iterable[Row]) -> list[CampaignRecord] | None:
    return store.archived(store.window.unknown(rows))


def _merge(
    store: AccountStore,
    poll: Poll[MessageStats],
    collected: Collected[MessageStats],
    *,
    now: Moment,
    succeeded: bool,
) -> Merged:
    return store.window.merge_statistics(
        collected,
        now=now,
        succeeded=succeeded,
        discovered=poll.discovered,
        loaded=_archived(store, collected.rows),
    )
