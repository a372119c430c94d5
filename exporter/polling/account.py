"""One account's polls: read what is due, merge, save, publish."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.errors import PollError, StoppedError
from exporter.exposition.writer import clean
from exporter.logs import fields
from exporter.polling.conversions import conversions
from exporter.polling.learned import describe
from exporter.polling.resource_poller import ResourcePoller, internal
from exporter.polling.statistics import statistics
from exporter.polling.store import AccountStore
from exporter.status import AccountStatus
from exporter.tracking.model import Moment, WindowSettings
from exporter.tracking.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Set as AbstractSet

    from exporter.api.model import Page, Query, R, Reply
    from exporter.collect.model import Collected
    from exporter.config.model import AccountConfig, Config, PollConfig
    from exporter.exposition.self_metrics import SelfMetrics
    from exporter.polling.client import Client, Connect
    from exporter.polling.resource import AnyResource, Resource
    from exporter.tracking.model import AccountSnapshot, SavedAccount
    from exporter.tracking.state_file import State
    from exporter.tracking.window import Merged

log = logging.getLogger(__name__)

_MOST_TOLD: Final = 200
_MOST_NAMED: Final = 20


def enabled(config: PollConfig) -> tuple[AnyResource, ...]:
    """Return the resources that are polled, as they are configured."""
    return tuple(resource for resource in (statistics(config), conversions(config)) if resource is not None)


class AccountPoller:
    """Polls one account. `poll` of different resources and `tick` may run at the same time; none raises.

    `publish` is called with the poller, in the poll's thread, whenever its snapshot may have changed. `wall`
    gives seconds since the epoch, `monotonic` any that never jump. `save` is False where nothing may be
    written. `connect` makes the API client. `next_event` is when `tick` has something to do, by `monotonic`.
    """

    def __init__(
        self,
        account: AccountConfig,
        config: Config,
        *,
        state: State,
        metrics: SelfMetrics,
        publish: Callable[[AccountPoller], None],
        wall: Callable[[], float],
        monotonic: Callable[[], float],
        save: bool = True,
        connect: Connect | None = None,
    ) -> None:
        self.account = account
        self.name = account.name
        self._config = config
        self._metrics = metrics
        self._publish = publish
        self._wall = wall
        self._monotonic = monotonic
        self._stop = threading.Event()
        resources = enabled(config.poll)
        stale_after = {resource.name: resource.stale_after for resource in resources}
        metrics.init_account(self.name, tuple(stale_after))
        metrics.settings(self.name, window=config.poll.window, stale_after=stale_after)
        make_client = self._connect if connect is None else connect
        self._client: Client = make_client(stop=self._stop, on_request=self._on_request)
        self._store = AccountStore(
            self.name,
            account.base_url,
            lambda saved: self._make_window(saved, resources),
            state=state,
            metrics=metrics,
            notes=[f"cap/{resource.name}" for resource in resources],
            writes=save,
        )
        self._window = self._store.window
        self._pollers = {resource.name: self._make_poller(resource) for resource in resources}
        self._told: frozenset[tuple[str, str]] = frozenset()
        self.snapshot = self._window.snapshot()
        self.next_event = self._window.next_event(self._now())
        self._report()

    def _connect(self, *, stop: threading.Event, on_request: Callable[[str, str, float], None]) -> Client:
        return ApiClient(
            ApiSettings.of(self.account, self._config.api),
            token=self.account.read_token,
            stop=stop,
            on_request=on_request,
            monotonic=self._monotonic,
        )

    def _make_window(self, saved: SavedAccount | None, resources: Iterable[AnyResource]) -> Window:
        stale_after = {resource.name: resource.stale_after for resource in resources}
        settings = WindowSettings(
            window=self._config.poll.window,
            stale_after=stale_after[STATISTICS],
            conversions_stale_after=stale_after.get(CONVERSIONS, math.inf),
            zero_hold=self._config.metrics.zero_hold,
            max_campaigns=self._config.metrics.max_campaigns,
            per_message=self._config.metrics.per_message,
        )
        return Window(self.name, self.account.currency, settings, saved=saved, now=self._now())

    def _make_poller(self, resource: Resource[R]) -> ResourcePoller[R]:
        poller = ResourcePoller(
            resource,
            account=self.name,
            client=self._client,
            store=self._store,
            window=self._config.poll.window,
            per_page=self._config.api.per_page,
            concurrency=self._config.api.concurrency,
            pages=self._config.api.page_parameter is not None,
            on_page=lambda page: self._on_page(resource.name, page),
        )
        poller.load_note(self._store.notes.get(poller.note_key))
        return poller

    # What the rest of the program asks

    @property
    def intervals(self) -> dict[str, float]:
        """How often each enabled resource is to be polled, in seconds."""
        return {name: poller.resource.interval for name, poller in self._pollers.items()}

    @property
    def succeeded(self) -> bool:
        """Whether the last poll of every enabled resource succeeded."""
        return all(poller.succeeded for poller in self._pollers.values())

    def stop(self) -> None:
        """End all requests and waits; a poll under way ends without a result. Nothing is saved afterwards."""
        self._stop.set()
        self._client.close()
        with self._store.lock:  # a save that has begun is finished
            pass

    @property
    def fresh(self) -> bool:
        """Whether there are data, and they aren't withdrawn."""
        return not self.snapshot.stale and self._window.last_success(STATISTICS) is not None

    def status(self) -> AccountStatus:
        """Say how the polling goes."""
        snapshot = self.snapshot
        begun = self.fresh or self._pollers[STATISTICS].failure is not None
        now = self._monotonic()
        return AccountStatus(
            account=self.name,
            base_url=self.account.base_url,
            resources=tuple(
                poller.status(last_success=self._window.last_success(name), now=now)
                for name, poller in self._pollers.items()
            ),
            campaigns=len({campaign.campaign_id for campaign in snapshot.campaigns}),
            dropped=snapshot.dropped,
            stale=snapshot.stale and self._window.last_success(STATISTICS) is not None,
            ready=begun,
            problem=None if begun else "waiting for the first poll to end",
            learned=tuple(describe(self._pollers[STATISTICS].collector.limits)),
        )

    def snapshot_without_holds(self) -> AccountSnapshot:
        """Return the snapshot as it is without any hold at 0: who asks only once sees no step."""
        with self._store.lock:
            return self._window.snapshot_without_holds()

    def ask(self, resource: str, query: Query) -> tuple[Reply, Page[Any]]:
        """Make one request outside of any poll; return the answer and what was read in it.

        Raises PollError. Nothing is learned from it.
        """
        return self._pollers[resource].ask(query, self._monotonic() + self._config.api.deadline)

    # Time

    def tick(self) -> None:
        """Do what time alone brings: ends of holds, staleness, campaigns that leave."""
        now = self._now()
        if now.steady < self.next_event:
            return
        with self._store.lock:
            if self._stop.is_set():
                return
            merged = self._window.tick(now)
            if merged is not None:
                self._save_and_publish(now)
                if merged.staleness:
                    log.warning(
                        "data are withdrawn: no poll has succeeded for too long",
                        extra=fields(account=self.name, campaigns=len(self.snapshot.campaigns)),
                    )
            else:
                self.next_event = self._window.next_event(now)

    def _now(self) -> Moment:
        return Moment(self._wall(), self._monotonic())

    @property
    def state_problem(self) -> str | None:
        """Why what is exported is not saved now, if so."""
        return self._store.problem

    def save_again(self) -> None:
        """Save what could not be saved, if anything."""
        if self._store.problem is None:
            return
        with self._store.lock:
            if not self._stop.is_set():
                self._store.save(self._notes(), self._now())

    def _notes(self) -> dict[str, str]:
        return {poller.note_key: poller.note() for poller in self._pollers.values()}

    # Polling

    def poll(self, resource: str) -> bool:
        """Poll one resource, and return whether that succeeded."""
        poller = self._pollers[resource]
        try:
            return self._poll(poller)
        except Exception as error:
            log.exception("what was polled could not be merged", extra=fields(account=self.name))
            failure = internal(error)
            poller.broke_down(failure, at=self._wall())
            self._metrics.poll_finished(self.name, resource, 0.0, failure.reason)
            self._metrics.up(self.name, False)  # noqa: FBT003 - the metric's value
        return False

    def _poll(self, poller: ResourcePoller[R]) -> bool:
        began, requests = self._monotonic(), poller.requests
        self._metrics.poll_started(self.name, poller.name)
        poll = poller.begin(now=self._wall(), began=began, deadline=began + self._config.api.deadline)
        failure: PollError | None = None
        try:
            poller.read(poll)
        except StoppedError:
            return False
        except PollError as error:
            failure = error
        except Exception as error:
            log.exception("the poll failed by a fault of the exporter", extra=fields(account=self.name))
            failure = internal(error)
        collected = poll.collected
        with self._store.lock:
            if self._stop.is_set():
                return False
            ended = self._now()
            merged = poller.resource.merge(self._store, poll, collected, now=ended, succeeded=failure is None)
            poller.ended(failure, at=ended.wall, seconds=self._monotonic() - began)
            self._save_and_publish(ended)
            self._count(poller)
        self._log(poller, poller.requests - requests, collected, merged)
        return failure is None

    def _save_and_publish(self, now: Moment) -> None:
        """Save, and only then publish: nothing that a crash could take back is ever served."""
        self._store.save(self._notes(), now)
        self.snapshot = self._window.snapshot()
        self.next_event = self._window.next_event(now)
        self._report()
        self._publish(self)

    # Status and log

    def _report(self) -> None:
        """Bring the exporter's own metrics up to date."""
        channels = Counter(campaign.channel for campaign in self.snapshot.campaigns)
        channels.update(dict.fromkeys((channel.channel for channel in self.snapshot.channels), 0))
        self._metrics.tracked(self.name, channels)
        self._metrics.dropped(self.name, self.snapshot.dropped)
        self._metrics.state_began(self.name, self.snapshot.since)
        for name in self._pollers:
            succeeded_at = self._window.last_success(name)
            if succeeded_at is not None:
                self._metrics.last_success(self.name, name, succeeded_at)

    def _count(self, poller: ResourcePoller[R]) -> None:
        failure = poller.failure
        reason = None if failure is None else failure.reason
        self._metrics.poll_finished(self.name, poller.name, poller.last_duration or 0.0, reason)
        if failure is None or poller.incomplete:  # a poll that failed has proven nothing
            self._metrics.incomplete(self.name, poller.name, poller.incomplete)
        self._metrics.up(self.name, self.succeeded)

    def _log(self, poller: ResourcePoller[R], requests: int, collected: Collected[R], merged: Merged) -> None:
        what = {
            "account": self.name,
            "resource": poller.name,
            "seconds": round(poller.last_duration or 0.0, 3),
            "requests": requests,
            "rows": len(collected.rows),
            "campaigns": len(self.snapshot.campaigns),
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

    def _on_request(self, resource: str, code: str, seconds: float) -> None:
        self._metrics.request(self.name, resource, code, seconds)
        self._pollers[resource].count_request(self._monotonic())

    def _on_page(self, resource: str, page: Page[R]) -> Page[R]:
        """Count what of an answer can't be used, and return the rest; log each kind once."""
        page, excess = self._window.bounded(page)
        self._metrics.excess_values(self.name, resource, excess)
        self._warn_once(
            resource,
            excess.keys(),
            "the API sends too many different values; messages in further channels are counted as other,"
            " conversions with further events or periods are left out",
        )
        self._metrics.invalid_values(self.name, resource, page.invalid)
        if page.size:
            self._metrics.unknown_fields(self.name, resource, len(page.unknown))
        self._warn_once(
            resource,
            page.unknown,
            "the API sends fields that its documentation doesn't have; they are not exported",
        )
        return page

    def _warn_once(self, resource: str, names: AbstractSet[str], message: str) -> None:
        """Log a message about fields that it wasn't logged for yet."""
        news = {(resource, name) for name in names} - self._told
        if not news or len(self._told) >= _MOST_TOLD:
            return
        shown = sorted(news)[:_MOST_NAMED]
        self._told |= news if len(news) <= _MOST_TOLD else set(shown)
        text = " ".join([clean(name) for _, name in shown])
        log.warning(message, extra=fields(account=self.name, resource=resource, names=text))
