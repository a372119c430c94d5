"""How long a scrape of many campaigns takes, beside prometheus-client with a collector of the same samples.

Run: python tests/bench/bench_exposition.py [campaigns]
"""

from __future__ import annotations

import gzip
import statistics
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

sys.path.insert(0, str(Path(__file__).parents[2]))

from exporter.api.fields import COUNTER_FIELDS
from exporter.exposition import catalogue
from exporter.exposition.exposition import Exposition
from exporter.exposition.self_metrics import SelfMetrics
from exporter.tracking.model import AccountSnapshot, CampaignSnapshot, ConversionSnapshot, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric as Family

TEXT = "text/plain; version=0.0.4"


def make_snapshot(campaigns: int) -> Snapshot:
    """Return an account with `campaigns` campaigns, half of them with conversions."""
    random = Random(1)
    zeros = (0,) * len(COUNTER_FIELDS)
    made = []
    for i in range(campaigns):
        values = tuple(random.randrange(10 ** random.randrange(1, 6)) for _ in COUNTER_FIELDS)
        conversion = ConversionSnapshot("Opened", "1 day", i, Decimal(random.randrange(10**7)) / 100, i)
        made.append(
            CampaignSnapshot(
                campaign_id=100_000 + i,
                channel=random.choice(("email", "sms", "push")),
                start=1741944000.0 + i,
                stop=None,
                campaign_name=f"Campaign {i}",
                message_title=f"Title of {i}, 25 % Discount 🎉",
                values=values,
                vendor=values,
                corrections=zeros,
                conversions=(conversion,) * (i % 2),
            )
        )
    return Snapshot((AccountSnapshot("main", "EUR", 0.0, tuple(made)),))


class Collector:
    """The same samples, the way prometheus-client wants them."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Family]:
        """Yield every family of the snapshot's one account."""
        (account,) = self._snapshot.accounts
        keyed = [((account.account, str(c.campaign_id), c.channel), c) for c in account.campaigns]
        for index, name in enumerate(COUNTER_FIELDS):
            metric = catalogue.CAMPAIGN_COUNTERS[name]
            counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
            for key, campaign in keyed:
                counter.add_metric(key, campaign.values[index])
            yield counter
        for metric, attribute in zip(
            catalogue.CONVERSION_GAUGES, ("deposits", "amount", "converted_users"), strict=True
        ):
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for key, campaign in keyed:
                for conversion in campaign.conversions:
                    value = float(getattr(conversion, attribute))
                    gauge.add_metric((*key, conversion.event, conversion.period), value)
            yield gauge
        start = catalogue.CAMPAIGN_START
        gauge = GaugeMetricFamily(start.name, start.help, labels=start.labels)
        for key, campaign in keyed:
            gauge.add_metric(key, campaign.start)
        yield gauge
        names = catalogue.CAMPAIGN_INFO
        info = InfoMetricFamily(names.family, names.help, labels=names.labels[:3])
        for key, campaign in keyed:
            title = {"campaign_name": campaign.campaign_name, "message_title": campaign.message_title}
            info.add_metric(key, title)
        yield info


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the median processor time of `call`: other work on the machine must not count."""
    taken = []
    for _ in range(times):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


def main(campaigns: int) -> None:
    """Measure and print."""
    snapshot = make_snapshot(campaigns)
    metrics = SelfMetrics()
    metrics.init_account("main", ["statistics", "conversions"])
    target = Exposition(metrics)

    def first(encoding: str | None) -> Callable[[], object]:
        def publish_and_scrape() -> None:
            # New objects, as a poll that changed every campaign makes them.
            changed = [replace(account) for account in snapshot.accounts]
            target.publish(Snapshot(tuple(changed)))
            target.respond(TEXT, encoding)

        return publish_and_scrape

    def later(encoding: str | None) -> Callable[[], object]:
        return lambda: target.respond(TEXT, encoding)

    registry = CollectorRegistry()
    registry.register(Collector(snapshot))
    ours = {
        "publish and first scrape, plain": seconds(first(None), 5),
        "publish and first scrape, gzip": seconds(first("gzip"), 5),
        "later scrape, plain": seconds(later(None), 30),
        "later scrape, gzip": seconds(later("gzip"), 30),
    }
    theirs = {
        "plain": seconds(lambda: generate_latest(registry), 3),
        "gzip": seconds(lambda: gzip.compress(generate_latest(registry)), 3),
    }
    plain, packed = target.respond(TEXT, None).body, target.respond(TEXT, "gzip").body
    print(f"{campaigns} campaigns, {sum(target.series().values())} series")
    print(f"{len(plain) / 1e6:.1f} MB, {len(packed) / 1e6:.2f} MB in gzip")
    for name, value in theirs.items():
        print(f"prometheus-client, {name:<33} {value * 1e3:10.2f} ms")
    for name, value in ours.items():
        ratio = theirs["gzip" if name.endswith("gzip") else "plain"] / value
        print(f"exporter, {name:<42} {value * 1e3:10.2f} ms  {ratio:10.1f} times faster")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
