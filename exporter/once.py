"""One poll of every account, as text for Prometheus or as a comparison for people."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from exporter.api.fields import COUNTER_FIELDS
from exporter.errors import StateError
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.logs import fields
from exporter.polling.account import AccountPoller
from exporter.polling.threads import run_concurrently
from exporter.tracking.model import Snapshot
from exporter.tracking.state_file import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.config.model import Config
    from exporter.status import AccountStatus
    from exporter.tracking.model import AccountSnapshot, CampaignSnapshot

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Once:
    """What one poll of every account brought; `failed` names the accounts of which one didn't succeed."""

    exposition: str
    reconciliation: str
    failed: tuple[str, ...]


def poll_once(config: Config) -> Once:
    """Poll every account once, all at the same time; the state is read, not written. Raises ConfigError."""
    config.check_tokens()
    metrics = SelfMetrics()
    try:
        state = State.open_readonly(config.state.path, clock=time.time)
    except StateError as error:
        log.warning("polling without the state file", extra=fields(error=str(error)))
        state = State.open(None, clock=time.time)
    pollers = [
        AccountPoller(
            account,
            config,
            state=state,
            metrics=metrics,
            publish=lambda _: None,
            wall=time.time,
            monotonic=time.monotonic,
            save=False,
        )
        for account in config.accounts
    ]
    run_concurrently(partial(poller.poll, resource) for poller in pollers for resource in poller.intervals)
    snapshot = Snapshot(tuple(poller.snapshot_without_holds() for poller in pollers))
    exposition = Exposition(
        metrics,
        per_message=config.metrics.per_message,
        created_timestamps=config.metrics.created_timestamps,
    )
    exposition.publish(snapshot)
    for poller in pollers:
        poller.stop()
    state.close()
    return Once(
        exposition=exposition.respond(None, None).body.decode(),
        reconciliation=_reconciliation(snapshot, [poller.status() for poller in pollers]),
        failed=tuple(poller.name for poller in pollers if not poller.succeeded),
    )


def _reconciliation(snapshot: Snapshot, statuses: Sequence[AccountStatus]) -> str:
    """Return vendor and exported values of every campaign as JSON."""
    accounts = [
        _reconciled_account(account, status)
        for account, status in zip(snapshot.accounts, statuses, strict=True)
    ]
    return json.dumps({"accounts": accounts}, ensure_ascii=False, indent=2) + "\n"


def _reconciled_account(account: AccountSnapshot, status: AccountStatus) -> dict[str, Any]:
    return {
        "account": account.account,
        "currency": account.currency,
        "resources": {
            resource.resource: {
                "success": resource.error is None,
                "error": resource.error,
                "reason": resource.reason,
                "incomplete": resource.incomplete,
            }
            for resource in status.resources
        },
        "campaigns": [_reconciled_campaign(campaign) for campaign in account.campaigns],
        "channels": {
            channel.channel: dict(zip(COUNTER_FIELDS, channel.values, strict=True))
            for channel in account.channels
        },
    }


def _reconciled_campaign(campaign: CampaignSnapshot) -> dict[str, Any]:
    counters = {
        name: {
            "vendor": vendor,
            "exported": exported,
            "overcount": overcount,
        }
        for name, vendor, exported, overcount in zip(
            COUNTER_FIELDS, campaign.vendor, campaign.values, campaign.overcount, strict=True
        )
        if vendor is not None or exported is not None
    }
    return {
        "campaign_id": campaign.campaign_id,
        "channel": campaign.channel,
        "start": datetime.fromtimestamp(campaign.start, UTC).isoformat(),
        "campaign_name": campaign.campaign_name,
        "message_title": campaign.message_title,
        "counters": counters,
        "conversions": [
            {
                "event": one.event,
                "period": one.period,
                "deposits": one.deposits,
                "amount": None if one.amount is None else str(one.amount),
                "converted_users": one.converted_users,
            }
            for one in campaign.conversions
        ],
    }
