"""The picture for the docs: how long Prometheus takes for a scrape, and what a poll costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def draw(figures: Mapping[str, float], caption: str, folder: Path) -> None:
    """Write ``benchmarks.png`` and ``benchmarks.svg``."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    prefix = "scrapes: Prometheus, s, "
    _bars(
        left,
        {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)},
        "scrape_duration_seconds in Prometheus (median)",
    )
    polls = ("reading and json.loads", "unchanged", "1 % changed", "all changed")
    _bars(right, {name: figures[f"polls: {name}, CPU s"] for name in polls}, "CPU seconds of a poll (median)")
    figure.text(0.01, -0.01, caption, fontsize=7, va="top")
    for ending in ("png", "svg"):
        figure.savefig(folder / f"benchmarks.{ending}", dpi=144, bbox_inches="tight")


def _bars(axes: Any, values: Mapping[str, float], title: str) -> None:  # noqa: ANN401 - matplotlib
    names = list(values)[::-1]
    bars = axes.barh(names, [values[name] for name in names], color="#3b6ea5")
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
