"""One page of an answer: what `perPage` counts, and what the rows are wrapped in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from exporter.simulator.scenarios import Envelope, Unit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cut(Generic[T]):
    """The lines of one page, how many units these are, and how many there are on all pages."""

    lines: list[T]
    units: int
    total: int


def page_size(per_page: int, cap: int | None) -> int:
    """Return how many units a page has."""
    return per_page if cap is None else min(per_page, cap)


def cut(lines: Sequence[T], *, unit: Unit, size: int, page: int, key: Callable[[T], tuple[int, str]]) -> Cut[T]:
    """Return page number `page`, from 1, of `size` units; `key` gives campaign and channel of a line."""

    def unit_of(number: int, line: T) -> Hashable:
        campaign_id, channel = key(line)
        return {"rows": number, "campaigns": campaign_id, "channels": (campaign_id, channel)}[unit]

    units = [unit_of(number, line) for number, line in enumerate(lines)]
    order = list(dict.fromkeys(units))
    chosen = set(order[(page - 1) * size : page * size])
    kept = [line for line, one in zip(lines, units, strict=True) if one in chosen]
    return Cut(kept, len(chosen), len(order))


def wrap(rows: list[dict[str, object]], envelope: Envelope) -> object:
    """Return the document that rows are served in."""
    match envelope:
        case "data":
            return {"data": rows}
        case "items":
            return {"items": rows, "_meta": {"currentPage": 1, "perPage": len(rows)}}
        case "nested":
            return {"data": {"items": rows, "total": len(rows)}}
        case "keyed" if rows:
            return {str(2 * number): row for number, row in enumerate(rows)}
        case "object" if len(rows) == 1:
            return rows[0]
    return rows
