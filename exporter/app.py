"""The running exporter: builds everything, serves, reloads and stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from exporter import __version__, clocks, interpreter
from exporter.accounts import Accounts
from exporter.errors import ConfigError, StateError, StateLockedError
from exporter.exposition.exposition import Exposition, Response
from exporter.exposition.self_metrics import SelfMetrics
from exporter.logs import fields
from exporter.schedule import Schedule
from exporter.status import ExporterStatus
from exporter.tracking.state_file import State
from exporter.web.server import WebServer
from exporter.web.site import Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.config.model import Config

log = logging.getLogger(__name__)

PRUNING: Final = 86400.0
"""Seconds between two prunings of the archive."""
STATE_RETRY: Final = 60.0
"""Seconds between two tries of a state file that can't be used."""
GIVING_BACK: Final = 60.0
"""Seconds between two times that free memory is given back."""
CLOCK_CHECK: Final = 1.0
"""Seconds between two looks whether the wall clock was set."""


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

    `load` returns the configuration or raises ConfigError; it is called at the start and by each reload. `wall`
    gives seconds since the epoch, `steady` any that never jump.
    """

    def __init__(
        self,
        load: Callable[[], Config],
        options: Options,
        *,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = clocks.steady,
    ) -> None:
        self._load = load
        self._options = options
        self._wall = wall
        self._steady = steady
        self._metrics = SelfMetrics(shard=options.shard, total_shards=options.total_shards)
        self._config = self._checked()
        self._schedule = Schedule(wall=wall, steady=steady)
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reloading = threading.Lock()
        self._state_problem: str | None = None
        self._reload_problem: str | None = None

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
        interpreter.tune()
        with ExitStack() as stack:
            self.open()
            stack.callback(self.close)
            site = Site(
                exposition=self.respond,
                exposition_at_hand=self._at_hand,
                snapshot=lambda: self.accounts.snapshot,
                accounts=self.accounts.statuses,
                reload=self.reload,
                quit=self.stop,
                clock=self._wall,
                version=__version__,
                telemetry_path=self._options.telemetry_path,
                lifecycle=self._options.lifecycle,
                status=self.status,
                configuration=lambda: self._config.masked(),  # noqa: PLW0108 - of the moment
            )
            server = WebServer(site, self._options.listen_addresses, self._options.web_config)
            stack.callback(server.close)
            asyncio.run(self._serve(server))

    def open(self) -> None:
        """Open the state, and have `accounts` that are ready to be polled. Raises StateLockedError."""
        self._state = self._open_state()
        self.accounts = Accounts(
            self._config,
            state=self._state,
            exposition=self._new_exposition(self._config),
            metrics=self._metrics,
            schedule=self._schedule,
            wall=self._wall,
            steady=self._steady,
        )

    def close(self) -> None:
        """Close the state."""
        self._state.close()

    def _open_state(self) -> State:
        """Open the state file; one that can't be opened is tried again. Raises StateLockedError."""
        path = self._config.state.path
        try:
            state = State.open(path, clock=self._wall)
        except StateLockedError:
            raise
        except StateError as error:
            self._state_problem = str(error)
            self._metrics.state_save_failed()
            log.error("polling without a state file", extra=fields(error=str(error)))  # noqa: TRY400 - says it all
            state = State(path, clock=self._wall)
        if path is not None:
            self._metrics.state_usable(self._state_problem is None)
        return state

    def retry_state(self) -> None:
        """Try a state file again that couldn't be opened or saved to."""
        if self._state_problem is not None:
            try:
                self._state.prune(self._wall())
            except StateError as error:
                self._state_problem = str(error)
                return
            self._state_problem = None
            self._metrics.state_usable(True)  # noqa: FBT003 - the metric's value
        self.accounts.save_again()

    def status(self) -> ExporterStatus:
        """Say how the exporter goes, apart from its accounts."""
        path = self._config.state.path
        return ExporterStatus(
            state_path=None if path is None else str(path),
            state_problem=self._state_problem or self.accounts.state_problem,
            reload_problem=self._reload_problem,
            shard=self._options.shard,
            total_shards=self._options.total_shards,
        )

    def respond(self, accept: str | None, accept_encoding: str | None, now: float) -> Response:
        """Return the answer to a scrape, as of `Exposition.respond`."""
        return self.accounts.exposition.respond(accept, accept_encoding, now)

    def _at_hand(self, accept: str | None, accept_encoding: str | None, now: float) -> Response | None:
        return self.accounts.exposition.at_hand(accept, accept_encoding, now)

    async def _serve(self, server: WebServer) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload_on_signal)
        for warning in self._config.warnings:
            log.warning(warning)
        await asyncio.to_thread(self.begin)
        clock = asyncio.create_task(self._follow_clock())
        log.info("started", extra=fields(version=__version__, accounts=len(self.accounts)))
        try:
            await server.serve(self._stopping, lambda _addresses: None)
        finally:
            clock.cancel()
            await asyncio.to_thread(self.end)
            log.info("stopped")

    def begin(self) -> None:
        """Begin to poll."""
        self.accounts.poll(self._config, self.accounts.exposition)
        self._schedule.every(PRUNING, self._prune, "pruning of the archive")
        self._schedule.every(STATE_RETRY, self.retry_state, "state file that couldn't be used")
        self._schedule.every(GIVING_BACK, interpreter.give_memory_back, "memory that is free")
        self._schedule.start()

    def end(self) -> None:
        """End all polls, and return once none is under way."""
        self.accounts.stop()
        self._schedule.shutdown()

    def stop(self) -> None:
        """Stop serving and polling; may be called from any thread."""
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _follow_clock(self) -> None:
        while True:
            await asyncio.sleep(CLOCK_CHECK)
            if self._schedule.follow_clock():
                log.warning("the system's clock was set; intervals go on as they were")
                self.accounts.tick()

    def _prune(self) -> None:
        try:
            self._state.prune(self._wall())
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
                self._reload_problem = "; ".join(error.faults)
                self._metrics.config_reloaded(False, self._wall())  # noqa: FBT003 - the metric's value
                message = "configuration reload failed, keeping the previous one"
                log.error(message, extra=fields(faults=self._reload_problem))  # noqa: TRY400 - says it all
                raise
            for warning in config.warnings:
                log.warning(warning)
            if config.state != self._config.state:
                log.warning("a change of state.path needs a restart; the old one is still used")
                config = config.model_copy(update={"state": self._config.state})
            changes = self._config.changes(config)
            same = config.metrics == self._config.metrics
            self.accounts.poll(config, self.accounts.exposition if same else self._new_exposition(config))
            self._config = config
            self._reload_problem = None
            self._metrics.config_reloaded(True, self._wall())  # noqa: FBT003 - the metric's value
            log.info("configuration reloaded", extra=fields(changes=" ".join(changes) or "none"))

    def _reload_on_signal(self) -> None:
        def reload() -> None:
            try:
                with suppress(ConfigError):  # logged already
                    self.reload()
            except Exception:
                log.exception("configuration reload failed")

        threading.Thread(target=reload, name="reload", daemon=True).start()  # must not delay the end
