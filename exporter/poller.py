"""One account's polls: ask what is due, fetch, parse, merge, save, publish.

The polls of the two resources run in threads of their own and share one limiter and one window. Publishing is
handed in; so are the clocks. A poll never raises: what goes wrong is counted, logged and shown.
"""

from __future__ import annotations

import json
import logging
import math
import threading
from collections import Counter, defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Generic

from exporter.api import parse
from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import CONVERSIONS, STATISTICS
from exporter.api.model import Page, R, TimeRange
from exporter.collect.collector import Collector
from exporter.collect.evidence import DOCUMENTED_DEFAULT, Evidence, RowMap
from exporter.collect.model import Collected
from exporter.collect.ranges import subtract, union
from exporter.collect.refresh_plan import AHEAD, Rounds, Tier
from exporter.errors import InternalError, PollError, StateError, StateLostError, StoppedError
from exporter.logs import fields
from exporter.status import AccountStatus, ResourceStatus
from exporter.tracking.model import AccountSnapshot, Changes
from exporter.tracking.state_file import State
from exporter.tracking.window import Window, WindowSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from exporter.api.model import Conversion, MessageStats, Query, Reply
    from exporter.collect.ranges import Ranges
    from exporter.config.model import AccountConfig, Config
    from exporter.exposition.exposition import SelfMetrics
    from exporter.tracking.model import SavedAccount, SavedCampaign
    from exporter.tracking.window import Merged

log = logging.getLogger(__name__)

HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a poller is handed: where state is kept, who counts, whom it tells, and the clocks.

    `publish` is called, in the poll's thread, whenever the account's snapshot has changed. `wall` gives seconds
    since the epoch, `monotonic` any that never jump. `save` is False where nothing may be written.
    """

    state: State
    metrics: SelfMetrics
    publish: Callable[[], None]
    wall: Callable[[], float]
    monotonic: Callable[[], float]
    save: bool = True


@dataclass(slots=True)
class _Resource(Generic[R]):
    """How one resource is polled, and how that goes."""

    name: str
    read: Callable[[Reply], Page[R]]
    rounds: Rounds
    interval: float
    evidence: Evidence = field(default_factory=Evidence)
    rows: RowMap = field(default_factory=RowMap)
    unproven: Ranges = ()
    unproven_ids: frozenset[int] = frozenset()
    unproven_senders: bool = False
    told: frozenset[str] = frozenset()
    polls: int = 0
    last_poll: float | None = None
    last_duration: float | None = None
    failure: PollError | None = None
    requests: deque[float] = field(default_factory=deque)
    attempts: int = 0
    requesting: threading.Lock = field(default_factory=threading.Lock)

    @property
    def incomplete(self) -> bool:
        """Whether rows may exist, anywhere in the window, that could not be read."""
        return bool(self.unproven or self.unproven_ids or self.unproven_senders)

    def together(self, starts: Iterable[float]) -> Ranges:
        """Return what to read for these starts: their seconds, or all between if that takes fewer questions."""
        seconds = union(TimeRange(math.floor(start), math.floor(start)) for start in starts)
        whole = TimeRange(seconds[0].first, seconds[-1].last)
        within = self.rows.rows(whole) / max(DOCUMENTED_DEFAULT, self.evidence.most)
        return (whole,) if within < len(seconds) else seconds

    def memory(self) -> str:
        """Return what to remember of the server over a restart."""
        return json.dumps([self.evidence.since, self.evidence.most, self.evidence.cut])

    def recollect(self, text: str | None) -> None:
        """Take back what was remembered."""
        if text is not None:
            self.evidence.since, self.evidence.most, self.evidence.cut = json.loads(text)


@dataclass(slots=True)
class _Reading(Generic[R]):
    """What one poll has read so far; it stands also if the poll then fails.

    `spawn` returns a collector that puts its questions within the poll's deadline; `attempts` counts the
    resource's requests before the poll.
    """

    spawn: Callable[[], Collector[R]]
    now: float
    attempts: int
    discovered: frozenset[int] | None = None
    collectors: list[Collector[R]] = field(default_factory=list)

    def collector(self) -> Collector[R]:
        """Return a collector whose rows replace those of earlier ones for the campaigns it reads by id."""
        collector = self.spawn()
        self.collectors.append(collector)
        return collector

    @property
    def collected(self) -> Collected[R]:
        """Everything read. What a later collector has read whole stands for all that was read of it before."""
        best: dict[Hashable, list[R]] = {}
        partial: set[Hashable] = set()
        ranges: Ranges = ()
        ids: frozenset[int] = frozenset()
        incomplete = False
        for collector in self.collectors:
            part = collector.collected
            groups: defaultdict[Hashable, list[R]] = defaultdict(list)
            for row in part.rows:
                groups[row.group].append(row)
            for group, (row, *_) in list(best.items()):
                if row.campaign_id in part.ids or any(row.start in one for one in part.ranges):
                    del best[group]
                    partial.discard(group)
            for group, rows in groups.items():
                known = len(best.get(group, ()))
                if len(rows) < known:
                    continue
                if group not in part.partial:
                    partial.discard(group)
                elif not known or group in partial or len(rows) > known:
                    partial.add(group)
                best[group] = rows
            ranges, ids = (*ranges, *part.ranges), ids | part.ids
            incomplete = incomplete or part.incomplete
        return Collected(
            rows=tuple(row for rows in best.values() for row in rows),
            partial=frozenset(partial),
            ranges=ranges,
            ids=ids,
            incomplete=incomplete,
        )


class AccountPoller:
    """Polls one account. `poll` of different resources and `tick` may run at the same time."""

    def __init__(self, account: AccountConfig, config: Config, around: Surroundings) -> None:
        self.account = account
        self.name = account.name
        self._config = config
        self._around = around
        self._lock = threading.Lock()  # one merge, save and publish at a time
        self._stop = threading.Event()
        self._state = around.state
        self._statistics: _Resource[MessageStats] = _Resource(
            STATISTICS,
            parse.statistics_reader(),
            Rounds(
                [Tier(tier.younger_than, tier.every) for tier in config.poll.refresh],
                config.poll.window,
                self._statistics_interval(),
            ),
            self._statistics_interval(),
        )
        self._conversions: _Resource[Conversion] | None = None
        every = config.poll.conversions_every
        if every is not None:
            rounds = Rounds([Tier(config.poll.window, every)], config.poll.window, every)
            self._conversions = _Resource(CONVERSIONS, parse.conversions_reader(), rounds, every)
        self._resources: dict[str, _Resource[MessageStats] | _Resource[Conversion]] = {
            resource.name: resource for resource in (self._statistics, self._conversions) if resource
        }
        self._discovered_at = -math.inf
        self._remembered: dict[str, str] = {}
        self._api = ApiClient(
            ApiSettings.of(account, config.api),
            token=account.read_token,
            stop=self._stop,
            on_request=self._on_request,
            monotonic=around.monotonic,
        )
        around.metrics.init_account(self.name, tuple(self._resources))
        now = around.wall()
        self._window = Window(
            self.name,
            account.currency,
            WindowSettings(
                window=config.poll.window,
                stale_after=config.poll.stale_after,
                conversions_stale_after=max(config.poll.stale_after, 2 * every if every else math.inf),
                zero_hold=config.metrics.zero_hold,
                max_campaigns=config.metrics.max_campaigns,
                per_message=config.metrics.per_message,
            ),
            saved=self._load(),
            now=now,
        )
        self.snapshot = self._window.snapshot(now)
        self._next_event = self._window.next_event() or math.inf
        self._report()

    def _statistics_interval(self) -> float:
        """Return how often statistics are polled: what isn't due then costs nothing."""
        poll = self._config.poll
        intervals = [tier.every for tier in poll.refresh]
        if poll.still_sending is not None:
            intervals.append(poll.still_sending.every)
        return min(intervals)

    def _load(self) -> SavedAccount | None:
        try:
            saved = self._state.load(self.name)
            for resource in self._resources.values():
                resource.recollect(self._state.recollect(self.name, f"cap/{resource.name}"))
        except StateError as error:
            self._count_state_error(error)
            # What can't be read must not be overwritten either
            self._state = State.open(None, clock=self._around.wall)
            return None
        return saved

    # What the rest of the program asks

    @property
    def intervals(self) -> dict[str, float]:
        """How often each enabled resource is to be polled, in seconds."""
        return {name: resource.interval for name, resource in self._resources.items()}

    @property
    def succeeded(self) -> bool:
        """Whether the last poll of every enabled resource succeeded."""
        return all(resource.polls and resource.failure is None for resource in self._resources.values())

    def stop(self) -> None:
        """End all requests and waits; a poll under way ends without a result. Nothing is saved afterwards."""
        self._stop.set()
        self._api.close()
        with self._lock:  # a save that has begun is finished
            pass

    @property
    def fresh(self) -> bool:
        """Whether there are data, and they aren't withdrawn."""
        return not self.snapshot.stale and self._window.last_success(STATISTICS) is not None

    def status(self) -> AccountStatus:
        """Say how the polling goes."""
        snapshot = self.snapshot
        begun = self.fresh or self._statistics.failure is not None
        return AccountStatus(
            account=self.name,
            base_url=self.account.base_url,
            resources=tuple(self._resource_status(resource) for resource in self._resources.values()),
            campaigns=len({campaign.campaign_id for campaign in snapshot.campaigns}),
            dropped=snapshot.dropped,
            stale=snapshot.stale and self._window.last_success(STATISTICS) is not None,
            ready=begun,
            problem=None if begun else "waiting for the first poll to end",
        )

    def _resource_status(self, resource: _Resource[MessageStats] | _Resource[Conversion]) -> ResourceStatus:
        now = self._around.wall()
        failure = resource.failure
        return ResourceStatus(
            resource=resource.name,
            interval=resource.interval,
            polls=resource.polls,
            last_poll=resource.last_poll,
            last_success=self._window.last_success(resource.name),
            last_duration=resource.last_duration,
            error=None if failure is None else str(failure),
            reason=None if failure is None else failure.reason,
            incomplete=resource.incomplete,
            requests_per_hour=float(sum(1 for at in tuple(resource.requests) if at > now - HOUR)),
            page_cap=resource.evidence.cap(self._config.api.per_page),
        )

    def tick(self) -> None:
        """Do what time alone brings: ends of holds, staleness, campaigns that leave."""
        now = self._around.wall()
        if now < self._next_event:
            return
        with self._lock:
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
                self._next_event = self._window.next_event() or math.inf

    def unheld(self) -> AccountSnapshot:
        """Return the snapshot as it is without any hold at 0: who asks only once sees no step."""
        with self._lock:
            return self._window.snapshot(self._around.wall(), hold=False)

    def ask(self, name: str, query: Query) -> tuple[Reply, Page[MessageStats] | Page[Conversion]]:
        """Put one question to an resource outside of any poll; return the answer and what was read in it.

        Raises PollError. Nothing is learned from it.
        """
        deadline = self._around.monotonic() + self._config.api.deadline
        reply = self._api.get(name, query, deadline=deadline)
        return reply, self._resources[name].read(reply)

    # Polling

    def poll(self, name: str) -> bool:
        """Poll one resource, and return whether that succeeded."""
        try:
            if name == STATISTICS:
                return self._poll(self._statistics, self._read_statistics, self._merge_statistics)
            if self._conversions is not None:
                return self._poll(self._conversions, self._read_conversions, self._merge_conversions)
        except Exception as error:
            log.exception("what was polled could not be merged", extra=fields(account=self.name))
            resource = self._resources[name]
            resource.rounds.restart()
            resource.evidence.unfinished.clear()
            self._discovered_at = -math.inf
            resource.polls += 1
            resource.last_poll, resource.failure = self._around.wall(), _own_fault(error)
            self._around.metrics.poll_finished(self.name, name, 0.0, resource.failure.reason)
            self._around.metrics.up(self.name, False)  # noqa: FBT003 - the metric's value
        return False

    def _poll(
        self,
        resource: _Resource[R],
        read: Callable[[_Reading[R]], None],
        merge: Callable[[Collected[R], _Reading[R], float, bool], Merged],
    ) -> bool:
        began, now = self._around.monotonic(), self._around.wall()
        metrics = self._around.metrics
        metrics.poll_started(self.name, resource.name)
        deadline = began + self._config.api.deadline
        reading = _Reading(lambda: self._spawn(resource, now, deadline), now, resource.attempts)
        failure: PollError | None = None
        try:
            with self._lock:
                old = self._window.old_campaigns(now)
            resource.rows.forget_before(resource.rounds.whole(now).first, old)
            read(reading)
        except StoppedError:
            return False
        except PollError as error:
            failure = error
        except Exception as error:
            log.exception("the poll failed by a fault of the exporter", extra=fields(account=self.name))
            failure = _own_fault(error)
        collected = reading.collected
        with self._lock:
            if self._stop.is_set():
                return False
            ended = self._around.wall()
            merged = merge(collected, reading, ended, failure is None)
            resource.polls += 1
            resource.last_poll, resource.failure = ended, failure
            resource.last_duration = self._around.monotonic() - began
            self._save_and_publish(ended)
            self._count(resource, merged)
        self._log(resource, reading, collected, merged)
        return failure is None

    def _spawn(self, resource: _Resource[R], now: float, deadline: float) -> Collector[R]:
        metrics = self._around.metrics

        def ask(query: Query) -> Page[R]:
            page = resource.read(self._api.get(resource.name, query, deadline=deadline))
            metrics.invalid_values(self.name, resource.name, page.invalid)
            if page.size:
                metrics.unknown_fields(self.name, resource.name, len(page.unknown))
            self._tell_unknown(resource, page.unknown)
            return page

        others = [other for name, other in self._resources.items() if name != resource.name]
        return Collector(
            ask,
            resource.evidence,
            resource.rows,
            now=now,
            per_page=self._config.api.per_page,
            concurrency=self._config.api.concurrency,
            shared_most=lambda: max((other.evidence.most for other in others), default=0),
        )

    def _tell_unknown(self, resource: _Resource[R], names: frozenset[str]) -> None:
        """Name undocumented fields in the log, each once."""
        news = names - resource.told
        if news:
            resource.told |= names
            log.warning(
                "the API sends fields that its documentation doesn't have; they are not exported",
                extra=fields(account=self.name, resource=resource.name, names=" ".join(sorted(news)[:20])),
            )

    def _read_statistics(self, reading: _Reading[MessageStats]) -> None:
        resource = self._statistics
        collector = reading.collector()
        _read_by_start(resource, collector, reading.now)
        self._read_still_sending(collector, reading)
        self._read_moved(resource, collector, reading)

    def _read_conversions(self, reading: _Reading[Conversion]) -> None:
        resource = self._conversions
        assert resource is not None  # noqa: S101 - poll() has checked it
        collector = reading.collector()
        _read_by_start(resource, collector, reading.now)
        with self._lock:
            old = self._window.old_campaigns(reading.now)
        _read_by_ids(resource, collector, old)
        self._read_moved(resource, collector, reading)

    def _read_moved(self, resource: _Resource[R], collector: Collector[R], reading: _Reading[R]) -> None:
        """Read campaigns again whose start was changed: under both starts they would count twice."""
        rows = collector.collected.rows
        recalled: Iterable[SavedCampaign] = ()
        with self._lock:
            if resource.name == STATISTICS:
                with suppress(StateError):  # the merge asks again, and tells
                    recalled = self._state.recall(self.name, self._window.unknown(rows))
            moved = self._window.moved(resource.name, rows, recalled)
        if not moved:
            return
        again = reading.collector()
        again.by_ids(moved)
        unsure = moved - again.collected.ids
        if unsure:  # more rows than can be proven by the id: what is at each of their starts now?
            with self._lock:
                starts = self._window.starts(resource.name, unsure)
            starts |= {row.start for row in rows if row.campaign_id in unsure}
            reading.collector().by_start(resource.together(starts))

    def _read_still_sending(self, collector: Collector[MessageStats], reading: _Reading[MessageStats]) -> None:
        """Find campaigns that started before the window and still send, and read their totals by their ids."""
        settings, resource, now = self._config.poll.still_sending, self._statistics, reading.now
        if settings is None or 0 <= now - self._discovered_at < settings.every - resource.interval / 2:
            return
        finder = reading.spawn()
        sent = TimeRange(math.floor(now - settings.lookback), math.floor(now) + AHEAD)
        found = finder.senders(sent, resource.rounds.whole(now).first)
        if found is None:
            log.warning(
                "the API ignores send filters, so campaigns older than poll.window can't be found",
                extra=fields(account=self.name),
            )
        with self._lock:
            old = self._window.old_campaigns(now) | (found or frozenset())
        _read_by_ids(resource, collector, old)
        reading.discovered = found
        resource.unproven_senders = finder.collected.incomplete
        self._discovered_at = now

    # Merging, saving, publishing; all under the lock

    def _merge_statistics(
        self,
        collected: Collected[MessageStats],
        reading: _Reading[MessageStats],
        now: float,
        succeeded: bool,  # noqa: FBT001 - as poll() hands it over
    ) -> Merged:
        recalled: Iterable[SavedCampaign] = ()
        try:
            recalled = self._state.recall(self.name, self._window.unknown(collected.rows))
        except StateError as error:
            self._count_state_error(error)
        return self._window.merge_statistics(
            collected, now=now, succeeded=succeeded, discovered=reading.discovered, recalled=recalled
        )

    def _merge_conversions(
        self,
        collected: Collected[Conversion],
        _reading: _Reading[Conversion],
        now: float,
        succeeded: bool,  # noqa: FBT001 - as poll() hands it over
    ) -> Merged:
        return self._window.merge_conversions(collected, now=now, succeeded=succeeded)

    def _save_and_publish(self, now: float) -> None:
        """Save, and only then publish: nothing that a crash could take back is ever served."""
        if self._around.save:
            self._save()
        self.snapshot = self._window.snapshot(now)
        self._next_event = self._window.next_event() or math.inf
        self._report()
        self._around.publish()

    def _save(self) -> None:
        notes = {f"cap/{name}": resource.memory() for name, resource in self._resources.items()}
        news = {key: note for key, note in notes.items() if self._remembered.get(key) != note}
        for whole in (False, True):
            changes = self._window.changes(whole=whole)
            if changes == Changes(changes.since) and not news:
                return
            try:
                self._state.save(self.name, replace(changes, memory=notes if whole else news))
            except StateLostError as error:
                self._count_state_error(error)
                continue  # a new file was begun: everything has to go into it
            except StateError as error:
                self._count_state_error(error)
                return
            self._window.saved(changes)
            self._remembered = notes
            return

    def _count_state_error(self, error: StateError) -> None:
        self._around.metrics.state_save_failed()
        log.error("state not saved", extra=fields(account=self.name, error=str(error)))

    def _report(self) -> None:
        """Bring the exporter's own metrics up to date."""
        metrics = self._around.metrics
        channels = Counter(campaign.channel for campaign in self.snapshot.campaigns)
        channels.update(dict.fromkeys((channel.channel for channel in self.snapshot.channels), 0))
        metrics.tracked(self.name, channels)
        metrics.dropped(self.name, self.snapshot.dropped)
        for name in self._resources:
            succeeded_at = self._window.last_success(name)
            if succeeded_at is not None:
                metrics.last_success(self.name, name, succeeded_at)

    def _count(self, resource: _Resource[R], merged: Merged) -> None:
        metrics = self._around.metrics
        reason = None if resource.failure is None else resource.failure.reason
        metrics.poll_finished(self.name, resource.name, resource.last_duration or 0.0, reason)
        if resource.failure is None or resource.incomplete:  # a poll that failed has proven nothing
            metrics.incomplete(self.name, resource.name, resource.incomplete)
        metrics.up(self.name, self.succeeded)
        for (channel, name), steps in merged.corrections.items():
            metrics.correction(self.name, channel, name, steps)

    def _log(
        self, resource: _Resource[R], reading: _Reading[R], collected: Collected[R], merged: Merged
    ) -> None:
        what = {
            "account": self.name,
            "resource": resource.name,
            "seconds": round(resource.last_duration or 0.0, 3),
            "requests": resource.attempts - reading.attempts,
            "rows": len(collected.rows),
            "campaigns": len(self.snapshot.campaigns),
            "new": merged.new,
            "found": merged.found,
            "changed": merged.changed,
            "gone": merged.gone,
            "corrections": sum(merged.corrections.values()),
            "resets": merged.resets,
            "incomplete": resource.incomplete,
        }
        if resource.failure is None:
            log.info("poll done", extra=fields(**what))
        else:
            why = {"reason": resource.failure.reason, "error": str(resource.failure)}
            log.warning("poll failed", extra=fields(**what, **why))

    def _on_request(self, resource: str, code: str, seconds: float) -> None:
        self._around.metrics.request(self.name, resource, code, seconds)
        asked, now = self._resources[resource], self._around.wall()
        with asked.requesting:  # several threads ask
            asked.attempts += 1
            asked.requests.append(now)
            while asked.requests[0] < now - HOUR:
                asked.requests.popleft()


def together(calls: Iterable[Callable[[], object]]) -> None:
    """Make all calls at the same time, each in a thread of its own, and return once all have ended."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _own_fault(error: Exception) -> InternalError:
    return InternalError(f"a fault of the exporter ({type(error).__name__}); its log says more")


def _read_by_start(resource: _Resource[R], collector: Collector[R], now: float) -> None:
    """Read what is due; what was read stands also if that fails."""
    due = resource.rounds.due(now)
    try:
        collector.by_start(due)
    except BaseException:
        proven = collector.collected.ranges
        resource.rounds.read(proven)
        resource.unproven = subtract(resource.unproven, proven)
        raise
    resource.rounds.read(due)
    unproven = union([*subtract(resource.unproven, due), *subtract(due, collector.collected.ranges)])
    resource.unproven = subtract(unproven, [TimeRange(0, resource.rounds.whole(now).first - 1)])


def _read_by_ids(resource: _Resource[R], collector: Collector[R], ids: frozenset[int]) -> None:
    """Read the campaigns that started before the window."""
    collector.by_ids(ids)
    resource.unproven_ids = ids - collector.collected.ids
