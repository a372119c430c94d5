"""How cost grows from 1,000 to 1,000,000 samples, as the exponent of a power of their number."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench.polls import TEXT, bench, cost
from bench.processes import fake_api, memory

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES_PER_CAMPAIGN = 16.7
SIZES = (1_000, 10_000, 100_000, 1_000_000)
_FITTED = {
    "exponent of CPU of a poll": "CPU s",
    "exponent of answer to bytes": "bytes s",
    "exponent of RSS": "RSS MB",
    "exponent of a scrape": "scrape s",
}


def one_size(samples: int, rounds: int) -> dict[str, float]:
    """Return the figures for so many samples; all campaigns change before each poll."""
    empty = memory_now()
    with fake_api(round(samples / SAMPLES_PER_CAMPAIGN)) as url, bench(url, max_campaigns=100_000) as one:
        one.poll()
        changed = cost(one, url, 1.0, rounds)
        same = cost(one, url, 0.0, rounds)
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            one.exposition.respond(TEXT, "gzip")
            seconds.append(time.perf_counter() - began)
        return {
            "samples": sum(one.exposition.series().values()),
            "CPU s": changed.cpu,
            "unchanged CPU s": same.cpu,
            "bytes s": changed.publish,
            "RSS MB": memory_now() - empty,
            "scrape s": sorted(seconds)[len(seconds) // 2],
        }


def memory_now() -> float:
    """Return this process' memory in MB."""
    return memory("self")["VmRSS"]


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of a line through the logarithms, by least squares."""
    xs, ys = zip(*((math.log(x), math.log(max(y, 1e-9))) for x, y in points), strict=True)
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys, strict=True))
    return float(above / sum((x - middle_x) ** 2 for x in xs))


def measure(sizes: Sequence[int], rounds: int) -> dict[str, float]:
    """Return figures by size, each measured in a process of its own, and the exponents over the largest."""
    found = []
    for size in sizes:
        command = [sys.executable, "-m", "bench.scale", str(size), str(rounds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    figures = {
        f"{one['samples']} samples, {name}": value
        for one in found
        for name, value in one.items()
        if name != "samples"
    }
    for name, measured in _FITTED.items():
        figures[name] = exponent([(one["samples"], one[measured]) for one in found])
    return figures


if __name__ == "__main__":
    print(json.dumps(one_size(int(sys.argv[1]), int(sys.argv[2]))))
