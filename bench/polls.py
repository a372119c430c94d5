"""The poll side: what a poll costs, beside reading and decoding the same bytes."""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import change, fake_api, memory
from exporter import interpreter
from exporter.api.client import ApiClient, ApiSettings
from exporter.config.model import Config
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.polling.account import AccountPoller
from exporter.tracking.model import Snapshot
from exporter.tracking.state_file import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.api.model import Query, Reply

TEXT = "text/plain; version=0.0.4"
INTERVAL = 900.0
"""Seconds that the poller's clocks are put forward before each poll, so that everything is due."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians over some polls: CPU seconds of the process; seconds from the last answer to the new bytes."""

    cpu: float
    publish: float
    requests: int


class Recorder:
    """The API client of the exporter, which notes its requests and when the last answer came."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.asked: list[tuple[str, Query]] = []
        self.answered = 0.0

    def get(self, resource: str, query: Query, *, deadline: float) -> Reply:
        """Ask."""
        self.asked.append((resource, query))
        reply = self._client.get(resource, query, deadline=deadline)
        self.answered = time.perf_counter()
        return reply

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()


class Bench:
    """One account that polls the API at `url`, with a state file and both formats asked for."""

    def __init__(self, url: str, folder: Path, max_campaigns: int) -> None:
        config = Config.model_validate(
            {
                "accounts": [{"name": "main", "access_token": "bench-token-0123456789", "base_url": url}],
                "poll": {"refresh": [{"younger_than": "14d", "every": "15m"}], "still_sending": None},
                "api": {"requests_per_second": 100_000, "retries": 0, "concurrency": 1},
                # Without holds, which would publish every round twice
                "metrics": {"zero_hold": "0s", "max_campaigns": max_campaigns},
            }
        )
        account = config.accounts[0]
        self.state = State.open(folder / "state.db", clock=time.time)
        self.metrics = SelfMetrics()
        self.exposition = Exposition(self.metrics)
        for accept in (TEXT, "application/openmetrics-text"):
            self.exposition.respond(accept, "gzip")
        client = ApiClient(
            ApiSettings.of(account, config.api), token=account.read_token, stop=threading.Event()
        )
        self.recorder = Recorder(client)
        self.published = 0.0
        self._ahead = 0.0
        self.poller = AccountPoller(
            account,
            config,
            state=self.state,
            metrics=self.metrics,
            publish=self._publish,
            wall=lambda: time.time() + self._ahead,
            monotonic=lambda: time.monotonic() + self._ahead,
            connect=lambda **_: self.recorder,
        )

    def _publish(self, poller: AccountPoller) -> None:
        self.exposition.publish(Snapshot((poller.snapshot,)))
        self.published = time.perf_counter()

    def poll(self) -> None:
        """Poll both resources, as after a while."""
        self._ahead += INTERVAL
        for resource in self.poller.intervals:
            if not self.poller.poll(resource):
                raise RuntimeError(f"poll of {resource} failed: {self.poller.status()}")

    def close(self) -> None:
        """Let go of everything."""
        self.poller.stop()
        self.state.close()


@contextmanager
def bench(url: str, *, max_campaigns: int = 20_000) -> Iterator[Bench]:
    """Return an account that polls, with a state file for as long; the interpreter is set as the exporter's."""
    interpreter.tune()
    with tempfile.TemporaryDirectory() as folder, closing(Bench(url, Path(folder), max_campaigns)) as one:
        yield one


def cost(one: Bench, url: str, share: float, rounds: int) -> Cost:
    """Return what polls cost if a share of the campaigns has changed before each."""
    cpu, publish, requests = [], [], []
    for _ in range(rounds):
        if share:
            change(url, share)
        one.recorder.asked.clear()
        one.published = 0.0
        began = time.process_time()
        one.poll()
        cpu.append(time.process_time() - began)
        publish.append(max(0.0, one.published - one.recorder.answered))
        requests.append(len(one.recorder.asked))
    return Cost(statistics.median(cpu), statistics.median(publish), round(statistics.median(requests)))


def baseline(one: Bench, rounds: int) -> float:
    """Return the CPU seconds of the last poll's requests alone, with `json.loads` of their bodies."""
    asked = tuple(one.recorder.asked)
    cpu = []
    for _ in range(rounds):
        began = time.process_time()
        for resource, query in asked:
            json.loads(one.recorder.get(resource, query, deadline=time.monotonic() + 60).body)
        cpu.append(time.process_time() - began)
    return statistics.median(cpu)


def measure(campaigns: int, rounds: int) -> dict[str, float]:
    """Return the figures of the poll side."""
    with fake_api(campaigns) as url, bench(url) as one:
        began = time.process_time()
        one.poll()
        cold = time.process_time() - began
        one.poll()
        same = cost(one, url, 0.0, rounds)
        reading = baseline(one, rounds)
        few = cost(one, url, 0.01, rounds)
        everything = cost(one, url, 1.0, rounds)
        interpreter.give_memory_back()  # as the exporter does once a minute
        return {
            "campaigns": campaigns,
            "series": sum(one.exposition.series().values()),
            "requests of a poll": same.requests,
            "cold, CPU s": cold,
            "reading and json.loads, CPU s": reading,
            "unchanged, CPU s": same.cpu,
            "1 % changed, CPU s": few.cpu,
            "all changed, CPU s": everything.cpu,
            "unchanged / reading": same.cpu / reading,
            "1 % changed / unchanged": few.cpu / same.cpu,
            "all changed / unchanged": everything.cpu / same.cpu,
            "all changed / reading": everything.cpu / reading,
            "1 % changed, answer to bytes, s": few.publish,
            "all changed, answer to bytes, s": everything.publish,
            "RSS, MB": memory("self")["VmRSS"],
        }
