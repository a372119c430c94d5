"""How one account's polls go, as the exporter's own metrics and as log lines."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exporter.exposition.writer import clean
from exporter.logs import fields

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Page
    from exporter.errors import PollError
    from exporter.exposition.self_metrics import SelfMetrics
    from exporter.polling.resource_poller import ResourcePoller
    from exporter.tracking.model import AccountSnapshot
    from exporter.tracking.window import Merged

log = logging.getLogger(__name__)

_MOST_LOGGED: Final = 200
_MOST_NAMED: Final = 20


class Reporter:
    """Reports on one account. `answer` may be called from several threads.

    `window` and `stale_after`, by resource, are the configuration, in seconds.
    """

    def __init__(
        self, account: str, metrics: SelfMetrics, *, window: float, stale_after: Mapping[str, float]
    ) -> None:
        self._account = account
        self._metrics = metrics
        self._logged: frozenset[tuple[str, str]] = frozenset()
        metrics.init_account(account, tuple(stale_after))
        metrics.settings(account, window=window, stale_after=stale_after)

    def exported(self, snapshot: AccountSnapshot, successes: Mapping[str, float | None]) -> None:
        """Report what is exported, and when each resource was last polled with success."""
        channels = Counter(campaign.channel for campaign in snapshot.campaigns)
        channels.update(dict.fromkeys((channel.channel for channel in snapshot.channels), 0))
        self._metrics.tracked(self._account, channels)
        self._metrics.dropped(self._account, snapshot.dropped)
        self._metrics.state_began(self._account, snapshot.since)
        for resource, succeeded_at in successes.items():
            if succeeded_at is not None:
                self._metrics.last_success(self._account, resource, succeeded_at)

    # Polls

    def poll_ended(self, poller: ResourcePoller[Any], *, all_succeeded: bool) -> None:
        """Count a poll; `all_succeeded`: so did the last one of every other resource."""
        failure = poller.failure
        reason = None if failure is None else failure.reason
        self._metrics.poll_finished(self._account, poller.name, poller.last_duration or 0.0, reason)
        if failure is None or poller.incomplete:  # a poll that failed has proven nothing
            self._metrics.incomplete(self._account, poller.name, poller.incomplete)
        self._metrics.up(self._account, all_succeeded)

    def poll_broke_down(self, resource: str, failure: PollError) -> None:
        """Count a poll of which nothing could be used."""
        self._metrics.poll_finished(self._account, resource, 0.0, failure.reason)
        self._metrics.up(self._account, False)  # noqa: FBT003 - the metric's value

    def log_poll(
        self, poller: ResourcePoller[Any], merged: Merged, *, requests: int, rows: int, campaigns: int
    ) -> None:
        """Log what a poll cost and brought."""
        what = {
            "account": self._account,
            "resource": poller.name,
            "seconds": round(poller.last_duration or 0.0, 3),
            "requests": requests,
            "rows": rows,
            "campaigns": campaigns,
            "new": merged.new,
            "found": merged.found,
            "changed": merged.changed,
            "gone": merged.gone,
            "incomplete": poller.incomplete,
        }
        lacking = "; ".join(poller.lacking)
        if lacking:
            what["lacking"] = lacking
        if poller.failure is None:
            log.info("poll done", extra=fields(**what))
        else:
            why = {"reason": poller.failure.reason, "error": str(poller.failure)}
            log.warning("poll failed", extra=fields(**what, **why))

    # Answers

    def answer(self, resource: str, page: Page[Any], excess: Mapping[str, int]) -> None:
        """Count what of an answer can't be used (`excess`: values beyond a limit); log each kind once."""
        self._metrics.excess_values(self._account, resource, excess)
        self._warn_once(
            resource,
            excess.keys(),
            "the API sends too many different values; messages in further channels are counted as other,"
            " conversions with further events or periods are left out",
        )
        self._metrics.invalid_values(self._account, resource, page.invalid)
        if page.size:
            self._metrics.unknown_fields(self._account, resource, len(page.unknown))
        self._warn_once(
            resource,
            page.unknown,
            "the API sends fields that its documentation doesn't have; they are not exported",
        )

    def _warn_once(self, resource: str, names: AbstractSet[str], message: str) -> None:
        """Log a message about fields that it wasn't logged for yet."""
        news = {(resource, name) for name in names} - self._logged
        if not news or len(self._logged) >= _MOST_LOGGED:
            return
        shown = sorted(news)[:_MOST_NAMED]
        self._logged |= news if len(news) <= _MOST_LOGGED else set(shown)
        text = " ".join([clean(name) for _, name in shown])
        log.warning(message, extra=fields(account=self._account, resource=resource, names=text))
