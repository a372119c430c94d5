"""What a scrape gets: snapshots and the exporter's metrics about itself, as bytes.

A scrape has two parts. The *campaign part* changes with a publish only: the writer renders it once, on first
need, and for each account only if that account changed; gzip of it is kept too. The *live part*, the metrics
about the exporter itself, is written by prometheus-client for each scrape and appended; in gzip into the same
member, with a copy of the compressor that did the campaign part. Both show only families that have samples.
"""

from __future__ import annotations

import platform
import zlib
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter import __revision__, __version__
from exporter.api.fields import COUNTER_FIELDS, FIELDS
from exporter.errors import REASONS, InternalError
from exporter.exposition import catalogue
from exporter.exposition.negotiation import accepts_gzip, choose_format
from exporter.exposition.writer import clean, metadata, render_account
from exporter.tracking.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric as Family

    from exporter.exposition.catalogue import Metric
    from exporter.exposition.writer import RenderedAccount
    from exporter.tracking.model import AccountSnapshot

_POLL_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240, 600)
_REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OTHER_FIELD: Final = "other"
"""Value of the label ``field`` for what is no documented field, so that an answer can't invent label values."""

M = TypeVar("M", bound="MetricWrapperBase")


class SelfMetrics:
    """The exporter's metrics about itself, and those of its process, in a registry of their own.

    All methods may be called by any thread. Account and channel names are cleaned as in campaign series, so
    that both join. An account's series begin with `init_account`, at 0 where that is true, and end with
    `remove_account`; a poll that outlives its account leaves no trace.
    """

    def __init__(
        self,
        *,
        version: str = __version__,
        revision: str = __revision__,
        python_version: str = platform.python_version(),
        shard: int = 0,
        total_shards: int = 1,
    ) -> None:
        self._registry = CollectorRegistry()
        self._lock = Lock()
        self._removed: set[str] = set()
        self._channels: dict[str, set[str]] = {}
        self._children: dict[str, set[tuple[MetricWrapperBase, tuple[str, ...]]]] = {}

        self._up = self._gauge(catalogue.UP)
        self._last_success = self._gauge(catalogue.LAST_SUCCESS)
        self._polls = self._counter(catalogue.POLLS)
        self._poll_failures = self._counter(catalogue.POLL_FAILURES)
        self._poll_duration = self._histogram(catalogue.POLL_DURATION, _POLL_BUCKETS)
        self._requests = self._counter(catalogue.API_REQUESTS)
        self._request_duration = self._histogram(catalogue.API_REQUEST_DURATION, _REQUEST_BUCKETS)
        self._invalid_values = self._counter(catalogue.INVALID_VALUES)
        self._unknown_fields = self._gauge(catalogue.UNKNOWN_FIELDS)
        self._corrections = self._counter(catalogue.CORRECTIONS)
        self._tracked = self._gauge(catalogue.TRACKED_CAMPAIGNS)
        self._dropped = self._gauge(catalogue.DROPPED_CAMPAIGNS)
        self._incomplete = self._gauge(catalogue.RESULTS_INCOMPLETE)
        self._state_save_failures = self._counter(catalogue.STATE_SAVE_FAILURES)
        self._reload_successful = self._gauge(catalogue.RELOAD_SUCCESSFUL)
        self._reload_successful.set(1)
        self._reload_timestamp: Gauge | None = None
        self._gauge(catalogue.SHARD_ORDINAL).set(shard)
        self._gauge(catalogue.TOTAL_SHARDS).set(total_shards)
        build = Info(catalogue.BUILD_INFO.family, catalogue.BUILD_INFO.help, registry=self._registry)
        build.info({"version": version, "revision": clean(revision), "python_version": python_version})
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def init_account(self, account: str, resources: Iterable[str]) -> None:
        """Begin the series of `account`, which polls `resources`; what is known already keeps its value.

        Failures of every reason and invalid values of every documented field stand at 0; so does
        ``intarget_up``, until a first poll succeeded.
        """
        with self._lock:
            self._removed.discard(clean(account))
        self._child(self._up, account)
        for resource in resources:
            self._child(self._polls, account, resource)
            self._child(self._poll_duration, account, resource)
            self._child(self._request_duration, account, resource)
            for reason in REASONS:
                self._child(self._poll_failures, account, resource, reason)
            for name in FIELDS[resource]:
                self._child(self._invalid_values, account, resource, name)

    def remove_account(self, account: str) -> None:
        """Drop every series of `account`, for good until it is initialised again."""
        account = clean(account)
        with self._lock:
            self._removed.add(account)
            self._channels.pop(account, None)
            for metric, labels in self._children.pop(account, ()):
                metric.remove(*labels)

    def poll_started(self, account: str, resource: str) -> None:
        """Count a poll."""
        self._count(self._polls, 1, account, resource)

    def poll_finished(self, account: str, resource: str, seconds: float, reason: str | None = None) -> None:
        """Record how long a poll took and, if it failed, the reason (one of `errors.REASONS`)."""
        duration = self._child(self._poll_duration, account, resource)
        if duration is not None:
            duration.observe(seconds)
        if reason is not None:
            known = reason if reason in REASONS else InternalError.reason
            self._count(self._poll_failures, 1, account, resource, known)

    def request(self, account: str, resource: str, code: int | str, seconds: float) -> None:
        """Record one request to the API: its status code (or a word if there was none) and how long it took."""
        self._count(self._requests, 1, account, resource, str(code))
        duration = self._child(self._request_duration, account, resource)
        if duration is not None:
            duration.observe(seconds)

    def invalid_values(self, account: str, resource: str, invalid: Mapping[str, int]) -> None:
        """Count unusable values by the name of their API field."""
        for name, n in invalid.items():
            known = name if name in FIELDS[resource] else _OTHER_FIELD
            self._count(self._invalid_values, n, account, resource, known)

    def unknown_fields(self, account: str, resource: str, n: int) -> None:
        """Say how many undocumented fields the last answers had."""
        self._set(self._unknown_fields, n, account, resource)

    def correction(self, account: str, channel: str, api_field: str, n: int = 1) -> None:
        """Count downward steps of a counter that were held back."""
        self._count(self._corrections, n, account, channel, api_field)

    def tracked(self, account: str, campaigns: Mapping[str, int]) -> None:
        """Say how many campaigns are exported, by channel; channels known from before that are missing have 0.

        Corrections of every field of a new channel begin at 0.
        """
        counts: dict[str, int] = {}
        for channel, n in campaigns.items():
            counts[clean(channel)] = counts.get(clean(channel), 0) + n
        with self._lock:
            known = self._channels.setdefault(clean(account), set())
            new = counts.keys() - known
            known |= new
            gone = known - counts.keys()
        for channel in sorted(new):
            for name in COUNTER_FIELDS:
                self._child(self._corrections, account, channel, name)
        for channel, n in (*counts.items(), *dict.fromkeys(gone, 0).items()):
            self._set(self._tracked, n, account, channel)

    def dropped(self, account: str, n: int) -> None:
        """Say how many campaigns are not exported because of `metrics.max_campaigns`."""
        self._set(self._dropped, n, account)

    def incomplete(self, account: str, resource: str, incomplete: bool) -> None:  # noqa: FBT001 - a value
        """Say whether the last poll may have missed rows."""
        self._set(self._incomplete, incomplete, account, resource)

    def up(self, account: str, up: bool) -> None:  # noqa: FBT001 - a value
        """Say whether the last poll of every enabled resource succeeded."""
        self._set(self._up, up, account)

    def last_success(self, account: str, resource: str, timestamp: float) -> None:
        """Say when a poll last succeeded, in seconds since the epoch."""
        self._set(self._last_success, timestamp, account, resource)

    def state_save_failed(self) -> None:
        """Count a failed save."""
        self._state_save_failures.inc()

    def config_reloaded(self, ok: bool, at: float) -> None:  # noqa: FBT001 - a value
        """Say whether a reload of the configuration, at the time `at`, succeeded."""
        self._reload_successful.set(ok)
        if ok:
            with self._lock:
                if self._reload_timestamp is None:
                    self._reload_timestamp = self._gauge(catalogue.RELOAD_SUCCESS_TIMESTAMP)
            self._reload_timestamp.set(at)

    def render(self, *, openmetrics: bool) -> bytes:
        """Return all of it as of now; in OpenMetrics with the end mark."""
        if openmetrics:
            return generate_openmetrics(self)  # type: ignore[no-untyped-call,no-any-return]
        return generate_text(self)

    def collect(self) -> Iterator[Family]:
        """Yield the families that have samples, without the client library's own ``_created``."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if family.samples:
                yield family

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(metric.name, metric.help, metric.labels, registry=self._registry, buckets=buckets)

    def _child(self, metric: M, account: str, *labels: str) -> M | None:
        """Return the series of `metric` with these labels, or None if the account was removed."""
        account = clean(account)
        values = (account, *map(clean, labels))
        with self._lock:
            if account in self._removed:
                return None
            self._children.setdefault(account, set()).add((metric, values))
            return metric.labels(*values)

    def _count(self, metric: Counter, n: int, account: str, *labels: str) -> None:
        series = self._child(metric, account, *labels)
        if series is not None:
            series.inc(n)

    def _set(self, metric: Gauge, value: float, account: str, *labels: str) -> None:
        series = self._child(metric, account, *labels)
        if series is not None:
            series.set(value)


@dataclass(frozen=True, slots=True)
class Response:
    """What a scrape is answered with. `content_encoding` is ``gzip`` or None.

    `parts` make the body one after another; all but the last are shared by the scrapes of one publish.
    """

    parts: tuple[bytes, ...]
    content_type: str
    content_encoding: str | None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)


class Exposition:
    """Answers scrapes with what was published last, and with `metrics` as they are.

    All methods may be called by any thread. `publish` only assigns; the first scrape after it renders, at once
    with others that came meanwhile and that wait for it. Polls never wait.
    """

    def __init__(
        self, metrics: SelfMetrics, *, per_message: bool = False, created_timestamps: bool = False
    ) -> None:
        self._metrics = metrics
        self._per_message = per_message
        self._created = created_timestamps
        self._lock = Lock()
        self._rendered: dict[str, RenderedAccount] = {}
        self._published = _Published(Snapshot())

    def publish(self, snapshot: Snapshot) -> None:
        """Let every scrape from now on show `snapshot`.

        An account is rendered anew only if its `AccountSnapshot` is another object than before.
        """
        self._published = _Published(snapshot)

    def respond(self, accept: str | None, accept_encoding: str | None) -> Response:
        """Return the answer to a scrape with these values of ``Accept`` and ``Accept-Encoding``."""
        format_ = choose_format(accept)
        published = self._published
        if accepts_gzip(accept_encoding):
            prefix = self._compressed(published, openmetrics=format_.openmetrics)
            live = self._metrics.render(openmetrics=format_.openmetrics)
            return Response(prefix.complete(live), format_.content_type, "gzip")
        blocks = self._blocks(published, openmetrics=format_.openmetrics)
        live = self._metrics.render(openmetrics=format_.openmetrics)
        return Response((*blocks, live), format_.content_type, None)

    def series(self) -> Mapping[str, int]:
        """Return how many campaign and channel series each account has. Renders, if no scrape did yet."""
        accounts = self._accounts(self._published)
        return {name: account.series for name, account in accounts.items()}

    def _compressed(self, published: _Published, *, openmetrics: bool) -> _OpenMember:
        """Return the campaign part in gzip; made once for each publish and format."""
        member = published.compressed.get(openmetrics)
        if member is None:
            with published.lock:
                member = published.compressed.get(openmetrics)
                if member is None:
                    blocks = self._blocks(published, openmetrics=openmetrics)
                    member = published.compressed[openmetrics] = _OpenMember(blocks)
        return member

    def _blocks(self, published: _Published, *, openmetrics: bool) -> list[bytes]:
        """Return the campaign part, family by family: metadata, then each account's samples."""
        accounts = self._accounts(published).values()
        by_account = [account.openmetrics if openmetrics else account.text for account in accounts]
        blocks = []
        for position, metric in enumerate(catalogue.CAMPAIGN_METRICS):
            samples = [account[position] for account in by_account]
            if any(samples):
                blocks += [metadata(metric, openmetrics=openmetrics), *samples]
        return blocks

    def _accounts(self, published: _Published) -> Mapping[str, RenderedAccount]:
        """Return the rendered accounts by name; made once for each publish."""
        accounts = published.accounts
        if accounts is None:
            with self._lock:
                accounts = published.accounts
                if accounts is None:
                    accounts = published.accounts = {
                        account.account: self._account(account)
                        for account in _distinct(published.snapshot.accounts)
                    }
                    self._rendered = accounts
        return accounts

    def _account(self, account: AccountSnapshot) -> RenderedAccount:
        """Return `account` as it was rendered before, or rendered now if it changed."""
        before = self._rendered.get(account.account)
        if before is not None and before.snapshot is account:
            return before
        return render_account(account, before, per_message=self._per_message, created=self._created)


class _Published:
    """One published snapshot, and what scrapes made of it so far."""

    __slots__ = ("accounts", "compressed", "lock", "snapshot")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.accounts: dict[str, RenderedAccount] | None = None
        self.compressed: dict[bool, _OpenMember] = {}
        self.lock = Lock()


class _OpenMember:
    """A gzip member that lacks its end."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        compressor = zlib.compressobj(wbits=31)
        parts = [compressor.compress(block) for block in blocks]
        # Flushed, so that a copy of the compressor has nothing of this left to do.
        self._head = b"".join((*parts, compressor.flush(zlib.Z_SYNC_FLUSH)))
        self._compressor = compressor

    def complete(self, live: bytes) -> tuple[bytes, bytes]:
        """Return the whole member, in two parts, with `live` at the end of its content."""
        compressor = self._compressor.copy()
        return self._head, compressor.compress(live) + compressor.flush()


def _distinct(accounts: Iterable[AccountSnapshot]) -> Iterable[AccountSnapshot]:
    """Return `accounts`, those with the same label value as one."""
    found: dict[str, AccountSnapshot] = {}
    for account in accounts:
        name = clean(account.account)
        first = found.get(name)
        found[name] = (
            account
            if first is None
            else replace(
                first,
                campaigns=first.campaigns + account.campaigns,
                channels=first.channels + account.channels,
            )
        )
    return found.values()
