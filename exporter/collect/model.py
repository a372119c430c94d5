"""What several requests together brought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from exporter.api.model import R_co

if TYPE_CHECKING:
    from collections.abc import Hashable

    from exporter.api.model import TimeRange
    from exporter.errors import PollError


@dataclass(frozen=True, slots=True)
class Collected(Generic[R_co]):
    """What one or several questions together brought, each row once.

    `partial` holds the groups of which some rows may be missing (their sums are lower bounds); `ranges` the
    starts and `ids` the campaigns of which everything was read. `incomplete` is true where more rows may exist
    than could be read. `failure` is what ended the reading early, if anything did; all that was read until then
    is here.
    """

    rows: tuple[R_co, ...] = ()
    partial: frozenset[Hashable] = frozenset()
    ranges: tuple[TimeRange, ...] = ()
    ids: frozenset[int] = frozenset()
    incomplete: bool = False
    failure: PollError | None = None
