"""An account that is polled on a simulated server and a simulated clock, and what becomes of it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from exporter.api.client import ApiClient, ApiSettings
from exporter.api.fields import RESOURCES, STATISTICS
from exporter.api.transport import Answer
from exporter.config.model import Config
from exporter.errors import TooLargeError
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.polling.account import AccountPoller
from exporter.simulator import DEMO_TOKEN, Fault, Faults, Looseness, Scenario, Simulator
from exporter.tracking.model import Snapshot
from exporter.tracking.state_file import State
from tests._program import Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from exporter.api.transport import Budget
    from exporter.simulator import FaultKind

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
NOW: Final = 1_795_440_000.0
EVERY: Final = 5 * MINUTE
WINDOW: Final = 14 * DAY
LARGEST_BODY: Final = 1_000_000
_SLOW: Final = frozenset({"hang", "slow", "drip", "drip_headers"})


class Clock:
    """Wall clock and monotonic clock in one; it moves by waiting."""

    def __init__(self) -> None:
        self.now = NOW
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        """Let time pass; nobody requests a stop."""
        with self._lock:
            self.now += seconds
        return False


class Wire:
    """In place of the network: each request takes as long as the fault says, or a moment."""

    def __init__(self, simulator: Simulator, clock: Clock) -> None:
        self.simulator = simulator
        self.clock = clock
        self.breaks_with: bytes | None = None
        self.broken = 0

    def get(self, url: str, budget: Budget) -> Answer:
        """Answer as `Transport.get` does, transport faults included."""
        parts = urlsplit(url)
        answer = self.simulator.answer(f"{parts.path}?{parts.query}")
        kind = answer.fault.kind if answer.fault else None
        seconds = answer.fault.seconds if answer.fault and kind in _SLOW else 0.02
        if self.clock.now + seconds >= budget.expires:
            self.clock.now = max(self.clock.now, budget.expires)
            raise TimeoutError
        self.clock.wait(seconds)
        if self.breaks_with is not None and self.breaks_with in answer.body:
            self.broken += 1
            raise ConnectionResetError(104, "reset")
        if kind in ("reset", "hang", "cut_body"):
            raise ConnectionResetError(104, "reset")
        if len(answer.body) > LARGEST_BODY:
            raise TooLargeError(f"the answer has more than {LARGEST_BODY} bytes; raise api.max_response_bytes")
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers}, answer.body)

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Seen:
    """What a poll left: `share` of the true counts that are exported, and what is told of the poll."""

    share: float
    up: bool
    incomplete: bool
    reason: str | None
    requests: int
    log: str

    @property
    def data(self) -> str:
        """`whole`, `part` or `none`."""
        return "whole" if self.share >= 1 else "part" if self.share > 0 else "none"


class World:
    """One account of about eighty campaigns a fortnight; faults hit `resource`, limits both."""

    def __init__(self, resource: str, caplog: pytest.LogCaptureFixture, **settings: Any) -> None:  # noqa: ANN401
        self.resource = resource
        self.clock = Clock()
        self.caplog = caplog
        caplog.set_level(logging.INFO)
        self.simulator = Simulator(
            7, self.clock, Scenario(name="matrix", description="x", history_days=18, recurring=1, diurnal=False)
        )
        self.metrics = SelfMetrics()
        self.exposition = Exposition(self.metrics)
        self.config = Config.model_validate(
            {
                "accounts": [{"name": "main", "access_token": DEMO_TOKEN, "base_url": "http://api.invalid"}],
                "poll": {
                    "refresh": [{"younger_than": "14d", "every": "5m"}],
                    "conversions_every": "5m",
                    "stale_after": "30m",
                },
                "api": {"concurrency": 1, "requests_per_second": 50, "retries": 1, "deadline": "4m"} | settings,
                "metrics": {"zero_hold": "0s"},
            }
        )
        self.state = State.open(None, clock=self.clock)
        self.poller = AccountPoller(
            self.config.accounts[0],
            self.config,
            state=self.state,
            metrics=self.metrics,
            publish=lambda _: None,
            wall=self.clock,
            monotonic=self.clock,
            connect=self._connect,
        )

    def _connect(self, *, stop: threading.Event, on_request: Callable[[str, str, float], None]) -> ApiClient:
        client = ApiClient(
            ApiSettings.of(self.config.accounts[0], self.config.api),
            token=lambda: DEMO_TOKEN,
            stop=stop,
            on_request=on_request,
            monotonic=self.clock,
            wait=self.clock.wait,
            wall_clock=self.clock,
        )
        self.wire = Wire(self.simulator, self.clock)
        client._transport = self.wire
        return client

    def limit(self, **dials: Any) -> None:  # noqa: ANN401 - fields of Looseness
        """Let the server read and refuse as these dials say."""
        self.simulator.looseness = Looseness(**dials)

    def fail(self, kind: FaultKind | None, **fields: Any) -> None:  # noqa: ANN401 - fields of Fault
        """Let every request for the resource have this fault; None: none any more."""
        faults = () if kind is None else (Fault(kind=kind, endpoint=self.resource, **fields),)
        self.simulator.faults = Faults(requests=faults)

    def break_answers_with(self, campaign_id: str) -> None:
        """Let the connection break in every answer that has this campaign."""
        self.wire.breaks_with = campaign_id.encode()

    def campaigns(self) -> list[str]:
        """Return the campaigns that have conversions, the newest first."""
        return [str(one.campaign_id) for one in self.poller.snapshot.campaigns if one.conversions]

    def poll(self, polls: int = 1) -> Seen:
        """Poll both resources so many times, five minutes apart, and say what the last poll left."""
        for _ in range(polls):
            begun = self.clock.now
            for name in sorted(RESOURCES, key=self.resource.__eq__):  # the one in question is the last
                self.caplog.clear()
                before = self.simulator.requests[name]
                self.poller.poll(name)
            ended, self.clock.now = self.clock.now, max(self.clock.now, begun + EVERY)
            self.poller.tick()
        return self._seen(self.simulator.requests[self.resource] - before, ended)

    def _seen(self, requests: int, now: float) -> Seen:
        self.exposition.publish(Snapshot((self.poller.snapshot,)))
        samples = Samples(self.exposition.respond(None, None).body.decode())
        status = next(one for one in self.poller.status().resources if one.resource == self.resource)
        warnings = [
            f"{record.getMessage()} {getattr(record, 'fields', {})}"
            for record in self.caplog.records
            if record.levelno >= logging.WARNING
        ]
        return Seen(
            share=self._share(samples, now),
            up=status.error is None,
            incomplete=samples.value("intarget_results_incomplete", resource=self.resource) == 1,
            reason=status.reason,
            requests=requests,
            log="\n".join(warnings),
        )

    def _share(self, samples: Samples, now: float) -> float:
        """Return which part of the campaigns older than half an hour has at least the figures of then."""
        earlier, first = now - HOUR / 2, now - WINDOW + HOUR
        if self.resource == STATISTICS:
            least = {key: got["sent"] for key, got in self.simulator.truth(earlier, first=first).items()}
            most = {key: got["sent"] for key, got in self.simulator.truth(now, first=first).items()}
            labels, metric = ("campaign_id", "channel"), "intarget_campaign_messages_sent_total"
        else:
            least = {key: got[0] for key, got in self.simulator.truth_conversions(earlier, first=first).items()}
            most = {key: got[0] for key, got in self.simulator.truth_conversions(now, first=first).items()}
            labels = ("campaign_id", "channel", "conversion_event", "conversion_period")
            metric = "intarget_campaign_deposits"
        series = samples.series(metric)
        told = {tuple(dict(pairs)[name] for name in labels): value for pairs, value in series.items()}
        right = [
            low <= told.get((str(key[0]), *key[1:]), -1.0) <= most[key] for key, low in least.items() if low
        ]
        return sum(right) / max(1, len(right))
