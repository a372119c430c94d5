"""What was learned of a server, in words for the status page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.collect.server_limits import MOST_IDS
from exporter.config.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.collect.server_limits import ServerLimits

_MINUTES = 60


def describe(limits: ServerLimits) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of what is known."""
    if limits.filters is not None:
        yield "Start filters", _zone(limits.zone) if limits.filters else "don't select what starts then"
    if limits.per_page is not None:
        yield "Largest perPage", f"{limits.per_page:,}"
    if limits.longest is not None:
        yield "Longest range of starts", format_duration(limits.longest)
    if limits.ids < MOST_IDS:
        yield "Most ids in a request", str(limits.ids)
    if limits.send_filter is not None:
        yield "Send filters", "select" if limits.send_filter else "are ignored"
    if limits.totals:
        yield "Total-count header", f"counts {' or '.join(limits.totals)}"
    if limits.pages is not None:
        yield "Page parameter", "pages" if limits.pages else "is ignored"


def _zone(seconds: int) -> str:
    """Return ``in UTC`` or ``in UTC+03:00``."""
    if not seconds:
        return "in UTC"
    hours, minutes = divmod(abs(seconds) // _MINUTES, _MINUTES)
    return f"in UTC{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"
