"""The exporter's metrics about itself, kept by the client library of Prometheus."""

from __future__ import annotations

import platform
from dataclasses import dataclass
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
from exporter.api.fields import FIELDS, LABEL_LIMITS
from exporter.errors import REASONS, InternalError
from exporter.exposition import catalogue
from exporter.exposition.writer import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric as Family

    from exporter.exposition.catalogue import Metric

_POLL_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240, 600)
_REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OTHER_FIELD: Final = "other"
"""Value of the label ``field`` for what is no documented field, so that an answer can't invent label values."""

END: Final = b"# EOF\n"
"""The end mark of OpenMetrics."""

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
        self._process = CollectorRegistry()
        self._lock = Lock()
        self._changes = 0
        self._rendered: dict[bool, RenderedMetrics] = {}
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
        self._excess_values = self._counter(catalogue.EXCESS_VALUES)
        self._unknown_fields = self._gauge(catalogue.UNKNOWN_FIELDS)
        self._tracked = self._gauge(catalogue.TRACKED_CAMPAIGNS)
        self._dropped = self._gauge(catalogue.DROPPED_CAMPAIGNS)
        self._incomplete = self._gauge(catalogue.RESULTS_INCOMPLETE)
        self._state_save_failures = self._counter(catalogue.STATE_SAVE_FAILURES)
        self._state_persistent: Gauge | None = None
        self._unusable_states: set[str] = set()
        self._state_start = self._gauge(catalogue.STATE_START)
        self._window = self._gauge(catalogue.WINDOW)
        self._stale_after = self._gauge(catalogue.STALE_AFTER)
        self._reload_successful = self._gauge(catalogue.RELOAD_SUCCESSFUL)
        self._reload_successful.set(1)
        self._reload_timestamp: Gauge | None = None
        self._gauge(catalogue.SHARD_ORDINAL).set(shard)
        self._gauge(catalogue.TOTAL_SHARDS).set(total_shards)
        build = Info(catalogue.BUILD_INFO.family, catalogue.BUILD_INFO.help, registry=self._registry)
        build.info({"version": version, "revision": clean(revision), "python_version": python_version})
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)

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
            for name in [field for field in FIELDS[resource] if field in LABEL_LIMITS]:
                self._child(self._excess_values, account, resource, name)
        self._change()

    def remove_account(self, account: str) -> None:
        """Drop every series of `account`, for good until it is initialised again."""
        account = clean(account)
        with self._lock:
            self._removed.add(account)
            self._channels.pop(account, None)
            self._unusable_states.discard(account)
            if self._state_persistent is not None:
                self._state_persistent.set(not self._unusable_states)
            for metric, labels in self._children.pop(account, ()):
                metric.remove(*labels)
            self._changes += 1

    def poll_started(self, account: str, resource: str) -> None:
        """Count a poll."""
        self._count(self._polls, 1, account, resource)

    def poll_finished(self, account: str, resource: str, seconds: float, reason: str | None = None) -> None:
        """Record how long a poll took and, if it failed, the reason (one of `errors.REASONS`)."""
        self._observe(self._poll_duration, seconds, account, resource)
        if reason is not None:
            known = reason if reason in REASONS else InternalError.reason
            self._count(self._poll_failures, 1, account, resource, known)

    def request(self, account: str, resource: str, code: int | str, seconds: float) -> None:
        """Record one request to the API: its status code (or a word if there was none) and how long it took."""
        self._count(self._requests, 1, account, resource, str(code))
        self._observe(self._request_duration, seconds, account, resource)

    def invalid_values(self, account: str, resource: str, invalid: Mapping[str, int]) -> None:
        """Count unusable values by the name of their API field."""
        for name, n in invalid.items():
            known = name if name in FIELDS[resource] else _OTHER_FIELD
            self._count(self._invalid_values, n, account, resource, known)

    def excess_values(self, account: str, resource: str, excess: Mapping[str, int]) -> None:
        """Count values that were one too many for their label, by the name of their API field."""
        for name, n in excess.items():
            self._count(self._excess_values, n, account, resource, name)

    def unknown_fields(self, account: str, resource: str, n: int) -> None:
        """Say how many undocumented fields the last answers had."""
        self._set(self._unknown_fields, n, account, resource)

    def tracked(self, account: str, campaigns: Mapping[str, int]) -> None:
        """Say how many campaigns are exported, by channel; known channels that are missing have 0."""
        counts: dict[str, int] = {}
        for channel, n in campaigns.items():
            counts[clean(channel)] = counts.get(clean(channel), 0) + n
        with self._lock:
            known = self._channels.setdefault(clean(account), set())
            known.update(counts)
            gone = known - counts.keys()
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
        self._change()

    def state_usable(self, usable: bool, account: str = "") -> None:  # noqa: FBT001 - a value
        """Say whether the state file can be used: for an account, or for all (no name)."""
        with self._lock:
            if self._state_persistent is None:
                self._state_persistent = self._gauge(catalogue.STATE_PERSISTENT)
            if usable:
                self._unusable_states.discard(clean(account))
            else:
                self._unusable_states.add(clean(account))
            self._state_persistent.set(not self._unusable_states)
        self._change()

    def state_began(self, account: str, at: float) -> None:
        """Say since when the state of the account counts."""
        self._set(self._state_start, at, account)

    def settings(self, account: str, *, window: float, stale_after: Mapping[str, float]) -> None:
        """Say how long campaigns are tracked, and by resource how long data are shown without a success."""
        self._set(self._window, window, account)
        for resource, seconds in stale_after.items():
            self._set(self._stale_after, seconds, account, resource)

    def config_reloaded(self, ok: bool, at: float) -> None:  # noqa: FBT001 - a value
        """Say whether a reload of the configuration, at the time `at`, succeeded."""
        self._reload_successful.set(ok)
        if ok:
            with self._lock:
                if self._reload_timestamp is None:
                    self._reload_timestamp = self._gauge(catalogue.RELOAD_SUCCESS_TIMESTAMP)
            self._reload_timestamp.set(at)
        self._change()

    @property
    def changes(self) -> int:
        """How often a value has changed, those of the process apart."""
        return self._changes

    def render(self, *, openmetrics: bool) -> RenderedMetrics:
        """Return all but the metrics of the process; the same object as before while nothing has changed."""
        rendered = self._rendered.get(openmetrics)
        if rendered is None or rendered.changes != self._changes:
            changes = self._changes
            body = _generate(self._registry, openmetrics=openmetrics)
            rendered = self._rendered[openmetrics] = RenderedMetrics(changes, body)
        return rendered

    def render_process(self, *, openmetrics: bool) -> bytes:
        """Return the metrics of the process and the interpreter as of now."""
        return _generate(self._process, openmetrics=openmetrics)

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
            self._change()

    def _set(self, metric: Gauge, value: float, account: str, *labels: str) -> None:
        series = self._child(metric, account, *labels)
        if series is not None:
            series.set(value)
            self._change()

    def _observe(self, metric: Histogram, value: float, account: str, *labels: str) -> None:
        series = self._child(metric, account, *labels)
        if series is not None:
            series.observe(value)
            self._change()

    def _change(self) -> None:
        """Note that a value has changed, once it has: what is rendered from now on is new."""
        with self._lock:
            self._changes += 1


@dataclass(frozen=True, slots=True)
class RenderedMetrics:
    """What was rendered after so many `changes`."""

    changes: int
    body: bytes


class _WithSamples:
    """A registry without empty families and without the client library's own ``_created``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Family]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            if family.samples:
                yield family


def _generate(registry: CollectorRegistry, *, openmetrics: bool) -> bytes:
    """Return the metrics of `registry`, in OpenMetrics without the end mark."""
    families = _WithSamples(registry)
    if openmetrics:
        body: bytes = generate_openmetrics(families)  # type: ignore[no-untyped-call] # has no types
        return body.removesuffix(END)
    return generate_text(families)
