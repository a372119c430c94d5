"""One account's polls: read what is due, merge, save, publish."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Any

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.errors import PollError, StoppedError
from exporter.logs import fields
from exporter.polling.conversions import conversions
from exporter.polling.learned import describe
from exporter.polling.reporter import Reporter
from exporter.polling.resource_poller import ResourcePoller, internal
from exporter.polling.statistics import statistics
from exporter.polling.store import AccountStore
from exporter.status import AccountStatus
from exporter.tracking.model import Moment, WindowSettings
from exporter.tracking.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.api.model import Page, Query, R, Reply
    from exporter.config.model import AccountConfig, Config, PollConfig
    from exporter.exposition.self_metrics import SelfMetrics
    from exporter.polling.client import Client, Connect
    from exporter.polling.resource import AnyResource, Resource
    from exporter.tracking.model import AccountSnapshot, SavedAccount
    from exporter.tracking.state_file import State

log = logging.getLogger(__name__)


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
        self._reporter = Reporter(self.name, metrics, window=config.poll.window, stale_after=stale_after)
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
        self.snapshot = self._window.snapshot()
        self.next_event = self._window.next_event(self._now())
        self._reporter.exported(self.snapshot, self._successes())

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
            self._reporter.poll_broke_down(resource, failure)
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
            self._reporter.poll_ended(poller, all_succeeded=self.succeeded)
        self._reporter.log_poll(
            poller,
            merged,
            requests=poller.requests - requests,
            rows=len(collected.rows),
            campaigns=len(self.snapshot.campaigns),
        )
        return failure is None

    def _save_and_publish(self, now: Moment) -> None:
        """Save, and only then publish: nothing that a crash could take back is ever served."""
        self._store.save(self._notes(), now)
        self.snapshot = self._window.snapshot()
        self.next_event = self._window.next_event(now)
        self._reporter.exported(self.snapshot, self._successes())
        self._publish(self)

    def _successes(self) -> dict[str, float | None]:
        return {name: self._window.last_success(name) for name in self._pollers}

    def _on_request(self, resource: str, code: str, seconds: float) -> None:
        self._metrics.request(self.name, resource, code, seconds)
        self._pollers[resource].count_request(self._monotonic())

    def _on_page(self, resource: str, page: Page[R]) -> Page[R]:
        """Return what of an answer is used."""
        page, excess = self._window.bounded(page)
        self._reporter.answer(resource, page, excess)
        return page
