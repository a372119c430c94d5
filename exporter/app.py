"""Builds everything, runs the polls by schedule, serves, reloads and stops."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from exporter import __version__, simulator
from exporter.api.fields import COUNTER_FIELDS
from exporter.config.model import Config
from exporter.errors import ConfigError, StateError, StateLockedError
from exporter.exposition.exposition import Exposition, Response, SelfMetrics
from exporter.logs import fields
from exporter.poller import AccountPoller, Surroundings, together
from exporter.tracking.model import AccountSnapshot, Snapshot
from exporter.tracking.state_file import State
from exporter.web import Site, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from exporter.status import AccountStatus
    from exporter.tracking.model import CampaignSnapshot

log = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at what time alone brings (ends of holds, staleness)."""
PRUNING: Final = 86400.0
"""Seconds between two prunings of the archive."""
MOST_POLLS: Final = 1000
"""Polls that may run at once: each account's two, so that no account waits for another one."""


class Loader(Protocol):
    """Loads the configuration anew; raises ConfigError."""

    def __call__(self) -> Config:
        """Return the configuration."""


@dataclass(frozen=True, slots=True)
class Options:
    """The flags of the serving command."""

    listen_addresses: tuple[str, ...] = (":10095",)
    telemetry_path: str = "/metrics"
    web_config: Path | None = None
    lifecycle: bool = False
    shard: int = 0
    total_shards: int = 1


class App:
    """One running exporter. `load` is called once at the start and again by each reload."""

    def __init__(self, load: Loader, options: Options, *, wall: Callable[[], float] = time.time) -> None:
        self._load = load
        self._options = options
        self._wall = wall
        self._metrics = SelfMetrics()
        self._config = self._checked()
        self._exposition = self._new_exposition(self._config)
        self._stop = threading.Event()
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = State.open(None, clock=wall)
        self._pollers: dict[str, AccountPoller] = {}
        self._jobs: dict[str, list[Any]] = {}
        self._publishing = threading.Lock()
        self._reloading = threading.Lock()
        self._snapshot = Snapshot()
        self._series: Mapping[str, int] = {}
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(MOST_POLLS)},
            # Without a grace time a late run would be dropped after one second
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
            timezone=UTC,
        )

    def _checked(self) -> Config:
        """Return the configuration of this shard; raises ConfigError, also for tokens that can't be read."""
        config = self._load().shard(self._options.shard, self._options.total_shards)
        config.check_tokens()
        return config

    def _new_exposition(self, config: Config) -> Exposition:
        return Exposition(
            self._metrics,
            per_message=config.metrics.per_message,
            created_timestamps=config.metrics.created_timestamps,
        )

    def run(self) -> None:
        """Poll and serve until SIGTERM, SIGINT or a quit request.

        Raises ConfigError if the addresses or the web config file can't be used, StateLockedError if another
        process has the state file.
        """
        site = Site(
            exposition=self._respond,
            snapshot=lambda: self._snapshot,
            accounts=self._accounts,
            reload=self.reload,
            quit=self.stop,
            clock=self._wall,
            version=__version__,
            telemetry_path=self._options.telemetry_path,
            lifecycle=self._options.lifecycle,
        )
        server = WebServer(site, self._options.listen_addresses, self._options.web_config)
        with ExitStack() as stack:
            stack.callback(server.close)
            self._open_state()
            stack.callback(self._state.close)
            asyncio.run(self._serve(server))

    def _respond(self, accept: str | None, accept_encoding: str | None) -> Response:
        return self._exposition.respond(accept, accept_encoding)

    async def _serve(self, server: WebServer) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
        for warning in self._config.warnings:
            log.warning(warning)
        ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        await asyncio.to_thread(self._begin, self._config)
        self._scheduler.start()
        ticker.start()
        log.info("started", extra=fields(version=__version__, accounts=len(self._pollers)))
        try:
            await server.serve(self._stopping, lambda _addresses: None)
        finally:
            self._stop.set()
            await asyncio.to_thread(self._end)
            log.info("stopped")

    def _open_state(self) -> None:
        path = self._config.state.path
        try:
            self._state = State.open(path, clock=self._wall)
        except StateLockedError:
            raise
        except StateError as error:
            self._metrics.state_save_failed()
            log.error("polling without a state file", extra=fields(error=str(error)))  # noqa: TRY400 - says it all

    def stop(self) -> None:
        """Stop serving and polling; may be called from any thread."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def _end(self) -> None:
        for poller in self._pollers.values():
            poller.stop()
        self._scheduler.shutdown(wait=True)

    # Accounts

    def _begin(self, config: Config, exposition: Exposition | None = None) -> None:
        """Poll the accounts of `config`; those that poll already, with the same settings, go on undisturbed.

        A new `exposition` takes the place of the old one once it has everything.
        """
        kept, pollers = self._unchanged(config), {}
        stay = {account.name for account in config.accounts}
        same = (self._config.poll.conversions_every is None) == (config.poll.conversions_every is None)
        for name, poller in self._pollers.items():
            if name not in kept:
                self._unschedule(poller)
                poller.stop()
                if name not in stay or not same:  # what is said of the others goes on
                    self._metrics.remove_account(name)
        around = Surroundings(
            state=self._state,
            metrics=self._metrics,
            publish=self._publish,
            wall=self._wall,
            monotonic=time.monotonic,
        )
        for account in config.accounts:
            if account.name in kept:
                pollers[account.name] = self._pollers[account.name]
            else:
                pollers[account.name] = AccountPoller(account, config, around)
        self._pollers = pollers
        self._config = config
        for name, poller in pollers.items():
            if name not in kept:
                self._schedule(poller)
        self._publish(exposition)

    def _unchanged(self, config: Config) -> set[str]:
        old = self._config
        if (old.poll, old.api, old.metrics) != (config.poll, config.api, config.metrics):
            return set()
        accounts = {account.name: account for account in old.accounts}
        return {a.name for a in config.accounts if a.name in self._pollers and accounts.get(a.name) == a}

    def _schedule(self, poller: AccountPoller) -> None:
        # Without names of their own: under the same one, an earlier poller that ends would block this
        self._jobs[poller.name] = [
            self._scheduler.add_job(
                poller.poll, "interval", args=[resource], seconds=interval, next_run_time=datetime.now(UTC)
            )
            for resource, interval in poller.intervals.items()
        ]

    def _unschedule(self, poller: AccountPoller) -> None:
        for job in self._jobs.pop(poller.name):
            job.remove()

    def _publish(self, exposition: Exposition | None = None) -> None:
        with self._publishing:
            exposition = exposition or self._exposition
            pollers = tuple(self._pollers.values())
            self._snapshot = Snapshot(tuple(poller.snapshot for poller in pollers))
            exposition.publish(self._snapshot)
            # Renders here, in the poll's thread, and not in the first scrape
            self._series = exposition.series()
            self._exposition = exposition

    def _accounts(self) -> tuple[AccountStatus, ...]:
        """Return how all accounts go. If no account has fresh data, those that had some aren't ready."""
        accounts = tuple(
            replace(poller.status(), series=self._series.get(name, 0)) for name, poller in self._pollers.items()
        )
        if any(poller.fresh for poller in self._pollers.values()):
            return accounts
        return tuple(
            replace(account, ready=False, problem=_why_stale(account)) if account.stale else account
            for account in accounts
        )

    def _tick(self) -> None:
        pruned = self._wall()
        while not self._stop.wait(TICK):
            for poller in tuple(self._pollers.values()):
                try:
                    poller.tick()
                except Exception:
                    log.exception("holds and staleness were not looked after")
            if self._wall() >= pruned + PRUNING:
                pruned = self._wall()
                try:
                    self._state.prune(pruned)
                except StateError as error:
                    self._metrics.state_save_failed()
                    log.warning("the archive was not pruned", extra=fields(error=str(error)))

    # Reload

    def reload(self) -> None:
        """Load the configuration anew. Raises ConfigError if it can't be used; then nothing changes."""
        with self._reloading:
            try:
                config = self._checked()
            except ConfigError as error:
                self._metrics.config_reloaded(False, self._wall())  # noqa: FBT003 - the metric's value
                log.error("the configuration is as before", extra=fields(faults="; ".join(error.faults)))  # noqa: TRY400
                raise
            for warning in config.warnings:
                log.warning(warning)
            if config.state != self._config.state:
                log.warning("another state.path takes a restart; the old one is still used")
                config = config.model_copy(update={"state": self._config.state})
            changes = self._config.changes(config)
            same = config.metrics == self._config.metrics
            self._begin(config, None if same else self._new_exposition(config))
            self._metrics.config_reloaded(True, self._wall())  # noqa: FBT003 - the metric's value
            log.info("configuration loaded anew", extra=fields(changes=" ".join(changes) or "none"))

    def _reload_on_signal(self) -> None:
        def reload() -> None:
            try:
                self.reload()
            except ConfigError:
                return  # logged already
            except Exception:
                log.exception("reload failed")

        threading.Thread(target=reload, name="reload", daemon=True).start()  # must not delay the end


def _why_stale(account: AccountStatus) -> str:
    errors = [f"{one.resource}: {one.error}" for one in account.resources if one.error is not None]
    return "its data are stale; " + ("; ".join(errors) or "no poll has ended for too long")


# Demo


def run_demo(scenario: str, options: Options) -> None:
    """Poll and serve the bundled simulator, with nothing on disk. Raises as `App.run`."""
    with simulator.serve(simulator.demo(time.time, scenario)) as server:
        App(lambda: demo_config(server.url), options).run()


def demo_config(base_url: str) -> Config:
    """Return the configuration of the demo, whose campaigns take minutes instead of days."""
    return Config.model_validate(
        {
            "accounts": [
                {
                    "name": "demo",
                    "access_token": simulator.DEMO_TOKEN,
                    "base_url": base_url,
                    "currency": "EUR",
                }
            ],
            "poll": {
                "refresh": [
                    {"younger_than": "1d", "every": "5s"},
                    {"younger_than": "14d", "every": "1m"},
                ],
                "still_sending": {"lookback": "1d", "every": "30s"},
                "conversions_every": "15s",
                "stale_after": "2m",
            },
            "api": {"requests_per_second": 20.0, "timeout": "5s", "deadline": "30s"},
            "metrics": {"zero_hold": "20s"},
            "state": {"path": None},
        }
    )


def wait_for_signal() -> None:
    """Return once SIGTERM or SIGINT has come."""
    came = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: came.set())
    came.wait()


# Once


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
    around = Surroundings(
        state=state,
        metrics=metrics,
        publish=lambda: None,
        wall=time.time,
        monotonic=time.monotonic,
        save=False,
    )
    pollers = [AccountPoller(account, config, around) for account in config.accounts]
    together(partial(poller.poll, resource) for poller in pollers for resource in poller.intervals)
    snapshot = Snapshot(tuple(poller.unheld() for poller in pollers))
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
            "held": None if exported is None or vendor is None else max(0, exported - vendor),
            "corrections": steps,
        }
        for name, vendor, exported, steps in zip(
            COUNTER_FIELDS, campaign.vendor, campaign.values, campaign.corrections, strict=True
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
