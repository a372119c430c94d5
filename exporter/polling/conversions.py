"""The resource ``conversions``: deposits and converted users of each message, by event and period."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.api import parse
from exporter.api.fields import CONVERSIONS
from exporter.collect.refresh_plan import Tier
from exporter.polling.jobs import OLD, MovedCampaigns
from exporter.polling.resource import Job, Resource

if TYPE_CHECKING:
    from exporter.api.model import Conversion
    from exporter.collect.model import Collected
    from exporter.config.model import PollConfig
    from exporter.polling.poll import Poll
    from exporter.polling.store import AccountStore
    from exporter.tracking.model import Moment
    from exporter.tracking.window import Merged


def conversions(config: PollConfig) -> Resource[Conversion] | None:
    """Return the resource as it is configured; None: it is off."""
    every = config.conversions_every
    if every is None:
        return None
    return Resource(
        name=CONVERSIONS,
        parse=parse.conversions_reader(),
        tiers=(Tier(config.window, every),),
        interval=every,
        stale_after=max(config.stale_after, 2 * every),
        jobs=(OLD, Job("moved campaigns", MovedCampaigns())),
        merge=_merge,
    )


def _merge(
    store: AccountStore,
    _poll: Poll[Conversion],
    collected: Collected[Conversion],
    *,
    now: Moment,
    succeeded: bool,
) -> Merged:
    return store.window.merge_conversions(collected, now=now, succeeded=succeeded)
