"""The accounts that are polled: their schedules, and what is published of them together."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from exporter.logs import fields
from exporter.polling.account import AccountPoller
from exporter.tracking.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config.model import AccountConfig, Config
    from exporter.exposition.exposition import Exposition
    from exporter.exposition.self_metrics import SelfMetrics
    from exporter.schedule import Schedule
    from exporter.status import AccountStatus
    from exporter.tracking.state_file import State

log = logging.getLogger(__name__)

_LONGEST_WAIT: Final = 86_400.0
"""Seconds after which to look what time has brought where nothing is due (infinity), or only in ages."""
_AFTER_FAULT: Final = 60.0
"""Seconds after which to look again where a fault of the exporter was in the way."""


class Accounts:
    """Polls the accounts of a configuration by `schedule`, and publishes to `exposition` what they find.

    `wall` gives seconds since the epoch, `steady` any that never jump.
    """

    def __init__(
        self,
        config: Config,
        *,
        state: State,
        exposition: Exposition,
        metrics: SelfMetrics,
        schedule: Schedule,
        wall: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self.config = config
        self.exposition = exposition
        self.snapshot = Snapshot()
        self._state = state
        self._metrics = metrics
        self._schedule = schedule
        self._wall = wall
        self._steady = steady
        self._pollers: dict[str, AccountPoller] = {}
        self._jobs: dict[str, list[Any]] = {}
        self._publishing = threading.Lock()
        self._series: Mapping[str, int] = {}

    def __getitem__(self, name: str) -> AccountPoller:
        return self._pollers[name]

    def __len__(self) -> int:
        return len(self._pollers)

    def poll(self, config: Config, exposition: Exposition) -> None:
        """Poll the accounts of `config`; those that poll already, with the same settings, go on undisturbed.

        Another `exposition` takes the place of the old one once it has everything.
        """
        kept, pollers = self._unchanged(config), {}
        self._end(set(self._pollers) - kept, config)
        for account in config.accounts:
            old = self._pollers.get(account.name)
            pollers[account.name] = old if old and account.name in kept else self._poller(account, config)
        self._pollers = pollers
        self.config = config
        for name, poller in pollers.items():
            if name not in kept:
                self._begin(poller)
        self._publish(exposition)

    def _unchanged(self, config: Config) -> set[str]:
        old = self.config
        if (old.poll, old.api, old.metrics) != (config.poll, config.api, config.metrics):
            return set()
        accounts = {account.name: account for account in old.accounts}
        return {a.name for a in config.accounts if a.name in self._pollers and accounts.get(a.name) == a}

    def _end(self, names: set[str], config: Config) -> None:
        """End the polls of some accounts; what is counted of those that `config` has, too, goes on."""
        stay = {account.name for account in config.accounts}
        same = (self.config.poll.conversions_every is None) == (config.poll.conversions_every is None)
        for name in names:
            for job in self._jobs.pop(name):
                job.remove()
            self._pollers[name].stop()
            self._schedule.cancel(_tick_key(name))  # it would keep all that the poller knows
            if name not in stay or not same:
                self._metrics.remove_account(name)

    def _poller(self, account: AccountConfig, config: Config) -> AccountPoller:
        return AccountPoller(
            account,
            config,
            state=self._state,
            metrics=self._metrics,
            publish=self._on_change,
            wall=self._wall,
            monotonic=self._steady,
        )

    def _begin(self, poller: AccountPoller) -> None:
        self._jobs[poller.name] = [
            self._schedule.every(
                interval, partial(poller.poll, resource), f"poll of {resource} of account {poller.name}"
            )
            for resource, interval in poller.intervals.items()
        ]
        self._schedule_tick(poller)

    # What time brings

    def _schedule_tick(self, poller: AccountPoller, *, least: float = 0.0) -> None:
        wait = min(max(poller.next_event - self._steady(), least), _LONGEST_WAIT)
        self._schedule.once(wait, partial(self._tick, poller), _tick_key(poller.name))

    def _tick(self, poller: AccountPoller) -> None:
        least = 0.0
        try:
            poller.tick()
        except Exception:
            log.exception("holds and staleness were not updated", extra=fields(account=poller.name))
            least = _AFTER_FAULT
        if self._pollers.get(poller.name) is poller:
            self._schedule_tick(poller, least=least)

    def tick(self) -> None:
        """Look at once, for every account, what time has brought: the clock has jumped."""
        for poller in tuple(self._pollers.values()):
            self._schedule.once(0.0, partial(self._tick, poller), f"clock change of account {poller.name}")

    # What they found

    def _on_change(self, poller: AccountPoller) -> None:
        if self._pollers.get(poller.name) is poller:
            self._schedule_tick(poller)
        self._publish()

    def _publish(self, exposition: Exposition | None = None) -> None:
        """Publish to `exposition`, which replaces the one there is, or else to that."""
        with self._publishing:
            exposition = exposition or self.exposition
            self.snapshot = Snapshot(tuple(poller.snapshot for poller in self._pollers.values()))
            exposition.publish(self.snapshot)
            # Renders here, in the poll's thread, and not in the first scrape
            self._series = exposition.series()
            self.exposition = exposition

    def statuses(self) -> tuple[AccountStatus, ...]:
        """Return how all accounts go. If no account has fresh data, those that had some aren't ready."""
        statuses = tuple(
            replace(poller.status(), series=self._series.get(name, 0)) for name, poller in self._pollers.items()
        )
        if any(poller.fresh for poller in self._pollers.values()):
            return statuses
        return tuple(
            replace(status, ready=False, problem=_why_stale(status)) if status.stale else status
            for status in statuses
        )

    @property
    def state_problem(self) -> str | None:
        """Why what is exported is not saved now, if so."""
        problems = (poller.state_problem for poller in tuple(self._pollers.values()))
        return next((problem for problem in problems if problem is not None), None)

    def save_again(self) -> None:
        """Save what could not be saved, if anything."""
        for poller in tuple(self._pollers.values()):
            poller.save_again()

    def stop(self) -> None:
        """End all requests and waits; nothing is saved or published afterwards."""
        for poller in self._pollers.values():
            poller.stop()


def _tick_key(account: str) -> str:
    return f"holds and staleness of account {account}"


def _why_stale(account: AccountStatus) -> str:
    errors = [f"{one.resource}: {one.error}" for one in account.resources if one.error is not None]
    return "its data are stale; " + ("; ".join(errors) or "no poll has ended for too long")
