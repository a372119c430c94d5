"""What the figures should be, as ratios of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, and the most it should be."""

    figure: str
    most: float


GOALS: Final = (
    Goal("polls: unchanged / reading", 4),
    Goal("polls: 1 % changed / unchanged", 1.3),
    Goal("polls: all changed / unchanged", 10),
    Goal("polls: 1 % changed, answer to bytes, s", 0.15),
    Goal("polls: all changed, answer to bytes, s", 0.8),
    Goal("scrapes: gzip, exporter / nginx", 5),
    Goal("scrapes: gzip p95 while polls publish, s", 0.02),
    Goal("scrapes: 8 gzip scrapers, nginx / exporter", 3),
    Goal("scrapes: Prometheus, exporter / nginx", 1.1),
    Goal("scrapes: Prometheus over TLS, exporter / nginx", 1.1),
    Goal("scrapes: RSS, MB", 150),
    Goal("scrapes: start to first metrics, s", 1.5),
    Goal("scrapes: idle CPU, % of a core", 0.3),
    Goal("scale: exponent of CPU of a poll", 1.05),
    Goal("scale: exponent of answer to bytes", 1.05),
    Goal("scale: exponent of RSS", 1.05),
    Goal("scale: exponent of a scrape", 1.05),
)


def table(figures: Mapping[str, float], before: Mapping[str, float] | None = None) -> str:
    """Return all figures, with their goals, and beside those of an earlier run if there is one."""
    goals = {goal.figure: goal.most for goal in GOALS}
    head: tuple[str, ...] = ("figure", "value", "goal", "", *(("before", "ratio") if before else ()))
    rows: list[tuple[str, ...]] = [head]
    for name, value in figures.items():
        goal = goals.get(name)
        verdict = "" if goal is None else "reached" if value <= goal else "missed"
        row: tuple[str, ...] = (name, _number(value), "" if goal is None else f"<= {goal:g}", verdict)
        if before:
            old = before.get(name)
            row += ("", "") if not old else (_number(old), f"{value / old:.2f}")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:.4g}"
