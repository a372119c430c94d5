"""Finds out how a server reads what the vendor's page leaves open, by asking it.

Every probe makes a few small requests and compares what comes back with rows that are known; together they make
at most `MOST_REQUESTS`. Nothing is concluded where no row could tell the readings apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from exporter.doctor import filters, pages, sizes
from exporter.doctor.asker import MOST_REQUESTS, SpentError
from exporter.doctor.report import UNKNOWN, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.doctor.asker import Asker

PROBES: Final[Mapping[str, Callable[[Asker], Reading]]] = {
    "largest_per_page": sizes.largest_per_page,
    "longest_range": sizes.longest_range,
    "start_to_in_future": sizes.start_to_in_future,
    "zone": filters.zone,
    "bounds": filters.bounds,
    "per_page_counts": sizes.per_page_counts,
    "page_cap": sizes.page_cap,
    "page_cap_by_ids": sizes.page_cap_by_ids,
    "page_cap_by_send": sizes.page_cap_by_send,
    "send_filter": filters.send_filter,
    "filters_combined": filters.filters_combined,
    "total_header": pages.total_header,
    "page_parameter": pages.page_parameter,
    "order": pages.order,
    "latency": pages.latency,
}
"""By point, in the order in which they build on one another."""


def read_server(asker: Asker) -> tuple[Reading, ...]:
    """Try everything. Raises StoppedError."""
    return tuple(_try(point, probe, asker) for point, probe in PROBES.items())


def _try(point: str, probe: Callable[[Asker], Reading], asker: Asker) -> Reading:
    try:
        return probe(asker)
    except SpentError:
        return Reading(point, UNKNOWN, f"not tried: {MOST_REQUESTS} requests were used up")
