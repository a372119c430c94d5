"""Builds everything, runs the polls by schedule, serves, reloads and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

from exporter import __version__
from exporter.errors import ConfigError, StateError, StateLockedError
from exporter.exposition.exposition import Exposition, Response, SelfMetrics
from exporter.logs import fields
from exporter.polling.account import AccountPoller
from exporter.tracking.model import Snapshot
from exporter.tracking.state_file import State
from exporter.web import Site, WebServer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from exporter.config.model import Config
    from exporter.status import AccountStatus

log = logging.getLogger(__name__)

TICK: Final = 0.25
"""Seconds between two looks at what time alone brings (ends of holds, staleness)."""
PRUNING: Final = 86400.0
"""Seconds between two prunings of the archive."""
MOST_POLLS: Final = 1000
"""Polls that may run at once: each account's two, so that no account waits for another one."""


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
    """One running exporter.

    `load` returns the configuration or raises ConfigError; it is called at the start and by each reload.
    """

    def __init__(
        self, load: Callable[[], Config], options: Options, *, wall: Callable[[], float] = time.time
    ) -> None:
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
        for account in config.accounts:
            if account.name in kept:
                pollers[account.name] = self._pollers[account.name]
            else:
                pollers[account.name] = AccountPoller(
                    account,
                    config,
                    state=self._state,
                    metrics=self._metrics,
                    publish=self._publish,
                    wall=self._wall,
                    monotonic=time.monotonic,
                )
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
