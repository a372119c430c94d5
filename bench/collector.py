"""A collector of prometheus-client with the samples of a file: ``python -m bench.collector FILE PORT``."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Iterator


class Samples:
    """Makes the families anew for each scrape, as a collector does."""

    def __init__(self, text: str) -> None:
        self._families = tuple(text_string_to_metric_families(text))

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        for known in self._families:
            family = Metric(known.name, known.documentation, known.type)
            for sample in known.samples:
                family.add_sample(sample.name, dict(sample.labels), sample.value)
            yield family


if __name__ == "__main__":
    registry = CollectorRegistry()
    registry.register(Samples(Path(sys.argv[1]).read_text()))
    start_http_server(int(sys.argv[2]), "127.0.0.1", registry)
    threading.Event().wait()
