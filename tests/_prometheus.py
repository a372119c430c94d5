"""How Prometheus sees a counter; shares no code with the exporter."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def increase(samples: Sequence[int]) -> int:
    """Return what Prometheus counts over all samples of a series: every step down is a reset to 0."""
    return sum(after - before if after >= before else after for before, after in pairwise(samples))
