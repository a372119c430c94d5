"""The exporter's metrics about itself, kept by the client library of Prometheus.

Each account has a registry of its own, and only those are rendered again in which something has changed.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeAlias

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
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric as Family

    from exporter.exposition.catalogue import Metric

_BUCKETS: Final = {
    catalogue.POLL_DURATION.name: (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 240, 600),
    catalogue.API_REQUEST_DURATION.name: (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
}
_OTHER_FIELD: Final = "other"
"""Value of the label ``field`` for what is no documented field, so that an answer can't invent label values."""

END: Final = b"# EOF\n"
"""The end mark of OpenMetrics."""

_ORDER: Final = {
    name.encode(): position
    for position, metric in enumerate(catalogue.SELF_METRICS)
    for name in (metric.name, metric.family)
}
_HEAD: Final = re.compile(rb"^# HELP .*\n# TYPE .*\n", re.MULTILINE)

Blocks: TypeAlias = "tuple[tuple[bytes, bytes], ...]"
"""Families: the lines HELP and TYPE, and the samples."""


class SelfMetrics:
    """The exporter's metrics about itself, and those of its process.

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
        self._lock = Lock()
        self._changes = 0
        self._rendered: dict[bool, RenderedMetrics] = {}
        self._accounts: dict[str, _Part] = {}
        self._removed: set[str] = set()
        self._channels: dict[str, set[str]] = {}
        self._unusable_states: set[str] = set()
        self._own = _Part(changed=self._change)
        self._own.begin(catalogue.STATE_SAVE_FAILURES)
        self._own.set(catalogue.RELOAD_SUCCESSFUL, 1)
        self._own.set(catalogue.SHARD_ORDINAL, shard)
        self._own.set(catalogue.TOTAL_SHARDS, total_shards)
        build = Info(catalogue.BUILD_INFO.family, catalogue.BUILD_INFO.help, registry=self._own.registry)
        build.info({"version": version, "revision": clean(revision), "python_version": python_version})
        self._process = CollectorRegistry()
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
        part = self._of(account)
        part.begin(catalogue.UP)
        for resource in resources:
            part.begin(catalogue.POLLS, resource)
            part.begin(catalogue.POLL_DURATION, resource)
            part.begin(catalogue.API_REQUEST_DURATION, resource)
            for reason in REASONS:
                part.begin(catalogue.POLL_FAILURES, resource, reason)
            for name in FIELDS[resource]:
                part.begin(catalogue.INVALID_VALUES, resource, name)
            for name in [field for field in FIELDS[resource] if field in LABEL_LIMITS]:
                part.begin(catalogue.EXCESS_VALUES, resource, name)

    def remove_account(self, account: str) -> None:
        """Drop every series of `account`, for good until it is initialised again."""
        with self._lock:
            self._removed.add(clean(account))
            self._accounts.pop(clean(account), None)
            self._channels.pop(clean(account), None)
            was_unusable = clean(account) in self._unusable_states
        if was_unusable:
            self.state_usable(usable=True, account=account)
        self._change()

    def poll_started(self, account: str, resource: str) -> None:
        """Count a poll."""
        self._of(account).count(catalogue.POLLS, 1, resource)

    def poll_finished(self, account: str, resource: str, seconds: float, reason: str | None = None) -> None:
        """Record how long a poll took and, if it failed, the reason (one of `errors.REASONS`)."""
        self._of(account).observe(catalogue.POLL_DURATION, seconds, resource)
        if reason is not None:
            known = reason if reason in REASONS else InternalError.reason
            self._of(account).count(catalogue.POLL_FAILURES, 1, resource, known)

    def request(self, account: str, resource: str, code: int | str, seconds: float) -> None:
        """Record one request to the API: its status code (or a word if there was none) and how long it took."""
        self._of(account).count(catalogue.API_REQUESTS, 1, resource, str(code))
        self._of(account).observe(catalogue.API_REQUEST_DURATION, seconds, resource)

    def invalid_values(self, account: str, resource: str, invalid: Mapping[str, int]) -> None:
        """Count unusable values by the name of their API field."""
        for name, n in invalid.items():
            known = name if name in FIELDS[resource] else _OTHER_FIELD
            self._of(account).count(catalogue.INVALID_VALUES, n, resource, known)

    def excess_values(self, account: str, resource: str, excess: Mapping[str, int]) -> None:
        """Count values that were one too many for their label, by the name of their API field."""
        for name, n in excess.items():
            self._of(account).count(catalogue.EXCESS_VALUES, n, resource, name)

    def unknown_fields(self, account: str, resource: str, n: int) -> None:
        """Say how many undocumented fields the last answers had."""
        self._of(account).set(catalogue.UNKNOWN_FIELDS, n, resource)

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
            self._of(account).set(catalogue.TRACKED_CAMPAIGNS, n, channel)

    def dropped(self, account: str, n: int) -> None:
        """Say how many campaigns are not exported because of `metrics.max_campaigns`."""
        self._of(account).set(catalogue.DROPPED_CAMPAIGNS, n)

    def incomplete(self, account: str, resource: str, incomplete: bool) -> None:  # noqa: FBT001 - a value
        """Say whether the last poll may have missed rows."""
        self._of(account).set(catalogue.RESULTS_INCOMPLETE, incomplete, resource)

    def up(self, account: str, up: bool) -> None:  # noqa: FBT001 - a value
        """Say whether the last poll of every enabled resource succeeded."""
        self._of(account).set(catalogue.UP, up)

    def last_success(self, account: str, resource: str, timestamp: float) -> None:
        """Say when a poll last succeeded, in seconds since the epoch."""
        self._of(account).set(catalogue.LAST_SUCCESS, timestamp, resource)

    def state_save_failed(self) -> None:
        """Count a failed save."""
        self._own.count(catalogue.STATE_SAVE_FAILURES, 1)

    def state_usable(self, usable: bool, account: str = "") -> None:  # noqa: FBT001 - a value
        """Say whether the state file can be used: for an account, or for all (no name)."""
        with self._lock:
            if usable:
                self._unusable_states.discard(clean(account))
            else:
                self._unusable_states.add(clean(account))
            is_persistent = not self._unusable_states
        self._own.set(catalogue.STATE_PERSISTENT, is_persistent)

    def state_began(self, account: str, at: float) -> None:
        """Say since when the state of the account counts."""
        self._of(account).set(catalogue.STATE_START, at)

    def settings(self, account: str, *, window: float, stale_after: Mapping[str, float]) -> None:
        """Say how long campaigns are tracked, and by resource how long data are shown without a success."""
        self._of(account).set(catalogue.WINDOW, window)
        for resource, seconds in stale_after.items():
            self._of(account).set(catalogue.STALE_AFTER, seconds, resource)

    def config_reloaded(self, ok: bool, at: float) -> None:  # noqa: FBT001 - a value
        """Say whether a reload of the configuration, at the time `at`, succeeded."""
        self._own.set(catalogue.RELOAD_SUCCESSFUL, ok)
        if ok:
            self._own.set(catalogue.RELOAD_SUCCESS_TIMESTAMP, at)

    @property
    def changes(self) -> int:
        """How often a value has changed, those of the process apart."""
        return self._changes

    def render(self, *, openmetrics: bool) -> RenderedMetrics:
        """Return all but the metrics of the process; the same object as before while nothing has changed."""
        rendered = self._rendered.get(openmetrics)
        if rendered is None or rendered.changes != self._changes:
            changes = self._changes
            with self._lock:
                parts = (self._own, *self._accounts.values())
            families: dict[bytes, list[bytes]] = {}
            for part in parts:
                for head, samples in part.blocks(openmetrics=openmetrics):
                    families.setdefault(head, [head]).append(samples)
            ordered = sorted(families.values(), key=lambda family: _ORDER[family[0].split(b" ", 3)[2]])
            rendered = RenderedMetrics(changes, tuple([b"".join(family) for family in ordered]))
            self._rendered[openmetrics] = rendered
        return rendered

    def render_process(self, *, openmetrics: bool) -> bytes:
        """Return the metrics of the process and the interpreter as of now."""
        return _generate(self._process, openmetrics=openmetrics)

    def _of(self, account: str) -> _Part:
        """Return the metrics of an account; of one that was removed, some that nobody sees."""
        account = clean(account)
        with self._lock:
            part = self._accounts.get(account)
            if part is None:
                if account in self._removed:
                    return _Part(account)
                part = self._accounts[account] = _Part(account, changed=self._change)
            return part

    def _change(self) -> None:
        """Note that a value has changed, once it has: what is rendered from now on is new."""
        with self._lock:
            self._changes += 1


@dataclass(frozen=True, slots=True)
class RenderedMetrics:
    """What was rendered after so many `changes`, family by family."""

    changes: int
    families: tuple[bytes, ...]


class _Part:
    """Metrics that are rendered together. Their first labels are `labels`."""

    def __init__(self, *labels: str, changed: Callable[[], None] = lambda: None) -> None:
        self.registry = CollectorRegistry()
        self._labels = labels
        self._changed = changed
        self._lock = Lock()
        self._changes = 0
        self._metrics: dict[str, MetricWrapperBase] = {}
        self._rendered: dict[bool, tuple[int, Blocks]] = {}

    def begin(self, metric: Metric, *labels: str) -> None:
        """Let a series stand at 0."""
        self._series(metric, labels)
        self._change()

    def count(self, metric: Metric, n: int, *labels: str) -> None:
        """Add to a counter."""
        self._series(metric, labels).inc(n)
        self._change()

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Set a gauge."""
        self._series(metric, labels).set(value)
        self._change()

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Add to a histogram."""
        self._series(metric, labels).observe(value)
        self._change()

    def blocks(self, *, openmetrics: bool) -> Blocks:
        """Return the families, the same object as before while nothing has changed."""
        changes, blocks = self._rendered.get(openmetrics, (-1, ()))
        if changes != self._changes:
            changes = self._changes
            text = _generate(self.registry, openmetrics=openmetrics)
            heads = list(_HEAD.finditer(text))
            ends = [head.start() for head in heads[1:]] + [len(text)]
            blocks = tuple((head[0], text[head.end() : end]) for head, end in zip(heads, ends, strict=True))
            self._rendered[openmetrics] = (changes, blocks)
        return blocks

    def _series(self, metric: Metric, labels: tuple[str, ...]) -> Any:  # noqa: ANN401 - of the metric's type
        with self._lock:
            family = self._metrics.get(metric.name)
            if family is None:
                family = self._metrics[metric.name] = _new(metric, self.registry)
        return family.labels(*self._labels, *map(clean, labels)) if metric.labels else family

    def _change(self) -> None:
        with self._lock:
            self._changes += 1
        self._changed()


def _new(metric: Metric, registry: CollectorRegistry) -> MetricWrapperBase:
    if metric.type == "histogram":
        return Histogram(
            metric.name, metric.help, metric.labels, registry=registry, buckets=_BUCKETS[metric.name]
        )
    kind = Counter if metric.type == "counter" else Gauge
    return kind(metric.name, metric.help, metric.labels, registry=registry)


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
