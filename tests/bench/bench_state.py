"""What a poll costs between its answer and its publication: merge, changes, save, snapshot.

Run it as ``python -m tests.bench.bench_state [directory]``; the directory says which disk is measured.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

from exporter.api.model import MessageStats, TimeRange
from exporter.collect.model import Collected
from exporter.tracking.state_file import State
from exporter.tracking.window import Window, WindowSettings

CAMPAIGNS = 10_000
ROUNDS = 7
NOW = 1_000_000.0
SETTINGS = WindowSettings(14 * 86400.0, 1e9, 1e9, 60.0, CAMPAIGNS, per_message=False)
STEPS = ("merge", "changes", "save", "snapshot")


def rows(values: list[int]) -> tuple[MessageStats, ...]:
    """Return one row for each campaign."""
    return tuple(
        MessageStats(number, "email", NOW - number, f"Newsletter {number}", tuple([value] * 12))
        for number, value in enumerate(values)
    )


def measure(state: State, window: Window, values: list[int], changed: int) -> dict[str, float]:
    """Return the median seconds of each step over polls in which `changed` campaigns grew."""
    times: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(ROUNDS):
        for number in range(changed):
            values[number * len(values) // changed] += 1
        collected = Collected(rows(values), ranges=(TimeRange(0, 10**9),))
        marks = [time.perf_counter()]
        window.merge_statistics(collected, now=NOW, succeeded=True)
        marks.append(time.perf_counter())
        changes = window.changes()
        marks.append(time.perf_counter())
        state.save("main", changes)
        window.saved(changes)
        marks.append(time.perf_counter())
        window.snapshot(NOW)
        marks.append(time.perf_counter())
        for step, begin, end in zip(STEPS, marks, marks[1:], strict=False):
            times[step].append(end - begin)
    return {step: median(seconds) for step, seconds in times.items()}


def main() -> None:
    """Print the cost of a poll of 10,000 campaigns of which few, and of which all changed."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        path = Path(name) / "state.db"
        with closing(State.open(path, clock=time.time)) as state:
            window = Window("main", None, SETTINGS, saved=None, now=NOW)
            values = [1000] * CAMPAIGNS
            measure(state, window, values, 1)
            few = measure(state, window, values, 100)
            everything = measure(state, window, values, CAMPAIGNS)
            begin = time.perf_counter()
            state.load("main")
            load = time.perf_counter() - begin
        size = path.stat().st_size
    print(f"{CAMPAIGNS} campaigns, median of {ROUNDS} polls, milliseconds")
    print(f"{'':10}{'100 changed':>14}{'all changed':>14}{'ratio':>8}")
    for step in STEPS:
        ratio = everything[step] / few[step]
        print(f"{step:10}{few[step] * 1000:14.1f}{everything[step] * 1000:14.1f}{ratio:8.1f}")
    print(f"load {load * 1000:.0f} ms, file {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
